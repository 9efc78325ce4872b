"""Copies: digests that tell equal texts, and MinHash that finds nearly equal ones.

Two texts are nearly the same if the Jaccard similarity of their shingles (runs of five words) reaches a threshold. Candidates for that are found
with MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4), then verified on
the shingles themselves, so nothing is called a copy that is none; what is missed is bounded by `bands_for`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..records import Turn
from .rules import folded

COPY_CHARS = 300  # two questions may well have the same short answer; the same long one is a copy of the same post
SHINGLE = 5  # words
VALUES = 128  # of a signature: the similarity it estimates has a standard error of sqrt(J (1 - J) / 128), at most 0.045
MISS = 0.01  # the chance that the bands miss a pair exactly at the threshold is below this

Hashes = NDArray[np.uint64]

# what stands round a word and is not part of it; "c++", "c#" and "-1" are words
_ROUND = ".,;:!?…\"'`´“”‘’„«»()[]{}<>*_|~"
# written without spaces: each character counts as a word (kana and Han; Hangul has spaces)
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
_ODD = np.uint64(0x9E3779B97F4A7C15)  # what a run's hash is multiplied by for each further word; any large odd number serves


def digest(text: str) -> bytes:
    """16 bytes that equal texts share and others do not; texts are equal that `rules.folded` makes so."""
    return digest_folded(folded(text))


def digest_folded(seen: str) -> bytes:
    """The same of a text that is folded already."""
    return blake2b(seen.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Prints:
    """Digests (16 bytes each) of one example or prompt.

    `prompt`: of all that the user says, in order. `turns`: of each user turn. `responses`: of each assistant turn of at least COPY_CHARS
    folded characters.
    """

    prompt: bytes
    turns: tuple[bytes, ...]
    responses: tuple[bytes, ...]


def fingerprint(turns: Sequence[Turn]) -> Prints:
    """The digests of a dialogue."""
    said = [folded(turn.text) for turn in turns if turn.role == "user"]
    answers = [folded(turn.text) for turn in turns if turn.role == "assistant"]
    whole = "\n".join(said)  # no folded text has a line feed in it
    long = tuple(digest_folded(text) for text in answers if len(text) >= COPY_CHARS)
    return Prints(digest_folded(whole), tuple(digest_folded(text) for text in said), long)


def words(text: str) -> list[str]:
    """The words of a text: folded, without the punctuation round them. A text of punctuation alone is one word."""
    return words_folded(folded(text))


def words_folded(seen: str) -> list[str]:
    """The same of a text that is folded already."""
    if not seen.isascii():
        seen = _UNSPACED.sub(r" \1 ", seen)
    found = [word for word in (word.strip(_ROUND) for word in seen.split()) if word]
    return found or ([seen] if seen else [])


class _Hashed(dict[str, bytes]):
    """word -> its hash, 8 bytes; what is known is forgotten when there is too much of it (some 25 MB)."""

    def __missing__(self, word: str) -> bytes:
        if len(self) >= 1 << 17:
            self.clear()
        self[word] = found = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return found


_HASHED = _Hashed()


def word_hashes(found: Sequence[str]) -> Hashes:
    """[n] A hash of each word, the same on every machine."""
    return np.frombuffer(b"".join(map(_HASHED.__getitem__, found)), "<u8").astype(np.uint64, copy=False)


def longer_runs(runs: Hashes, hashes: Hashes) -> Hashes:
    """[m - 1] The hashes of all runs of w + 1 words from those of all runs of w words ([m]) and those of the words ([m + w - 1])."""
    return runs[:-1] * _ODD + hashes[len(hashes) - len(runs) + 1 :]


def shingles(text: str) -> Hashes:
    """[s] The hashes of the different runs of five words of a text, ascending; of a shorter text the one run that it is; none of ""."""
    return shingles_words(word_hashes(words(text)))


def shingles_words(hashes: Hashes) -> Hashes:
    """The same from the hashes of a text's words, [n]."""
    runs = hashes
    for _ in range(min(SHINGLE, len(hashes)) - 1):
        runs = longer_runs(runs, hashes)
    return np.unique(runs)


def jaccard(a: Hashes, b: Hashes) -> float:
    """|A and B| / |A or B| of two ascending arrays without repeats; 0 where both are empty."""
    if not len(a) or not len(b):
        return 0.0
    both = np.concatenate((a, b))
    both.sort(kind="stable")
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def _constants() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """[128, 1] each: factors (odd, so that each map of the 32-bit numbers is a permutation) and summands, out of BLAKE2b."""
    drawn = b"".join(blake2b(f"limakit minhash {i}".encode(), digest_size=8).digest() for i in range(VALUES))
    pairs = np.frombuffer(drawn, "<u4").reshape(VALUES, 2).astype(np.uint32)
    return pairs[:, :1] | np.uint32(1), pairs[:, 1:].copy()


_FACTORS, _SUMMANDS = _constants()
_BLOCK = 2048  # shingles at a time: 1 MB of products, which stay in the processor's cache


def signature(shingles_: Hashes) -> NDArray[np.uint32]:
    """[128] The least value of the shingles under each of 128 permutations; all ones where there are none.

    Two texts agree in each value with a probability that is their Jaccard similarity.
    """
    least = np.full(VALUES, 0xFFFFFFFF, np.uint32)
    short = (shingles_ >> np.uint64(32)).astype(np.uint32)
    for at in range(0, len(short), _BLOCK):
        products = short[at : at + _BLOCK] * _FACTORS
        products += _SUMMANDS
        np.minimum(least, products.min(axis=1), out=least)
    return least


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows) of 128 values: the most rows in a band that miss a pair exactly at the threshold with a probability below 1 %.

    A pair of similarity J meets in some band with probability 1 - (1 - J^rows)^bands. At 0.8 that is 21 bands of 6 rows: 0.8 is missed with
    0.2 %, 0.9 once in 8 million, and pairs of 0.3 or less meet in 1.5 % at the most. Raises UsageError below 0.04, where 128 values do not suffice.
    """
    for rows in range(VALUES, 0, -1):
        if (1 - threshold**rows) ** (VALUES // rows) < MISS:
            return VALUES // rows, rows
    raise UsageError(f"near = {threshold:g} is too little to tell copies by", remedy="0.8 is usual; texts below 0.5 have little in common")


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is compared of a text: its shingles ([s], ascending) and their signature ([128])."""

    shingles: Hashes
    signature: NDArray[np.uint32]


def sketch(text: str) -> Sketch:
    """The shingles of a text and their signature."""
    return sketch_words(word_hashes(words(text)))


def sketch_words(hashes: Hashes) -> Sketch:
    """The same from the hashes of a text's words, [n]."""
    found = shingles_words(hashes)
    return Sketch(found, signature(found))


class Near(NamedTuple):
    """The most similar text that an index knows, and how similar."""

    id: str
    jaccard: float


class NearIndex:
    """Texts to compare others with. An entry of 500 words holds about 7 kB: 8 bytes a shingle, and some 120 bytes for each of the bands.

    What `near` answers depends on the texts that were added, not on their order.
    """

    def __init__(self, threshold: float):
        self.threshold = threshold
        self._bands, self._rows = bands_for(threshold)
        self._ids: list[str] = []
        self._shingles: list[Hashes] = []
        # of each band: its values -> where the texts are that have them, mostly one
        self._places: list[dict[bytes, int | list[int]]] = [{} for _ in range(self._bands)]

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, text: Sketch) -> None:
        """A text without a single shingle is like no other and not kept."""
        if not len(text.shingles):
            return
        at = len(self._ids)
        self._ids.append(id)
        self._shingles.append(text.shingles)
        for places, values in zip(self._places, self._cut(text), strict=True):
            here = places.setdefault(values, at)
            if isinstance(here, list):
                here.append(at)
            elif here != at:
                places[values] = [here, at]

    def near(self, text: Sketch) -> Near | None:
        """The most similar text whose Jaccard similarity reaches the threshold, of equal ones the least id; or None."""
        if not len(text.shingles):
            return None
        met: set[int] = set()
        for places, values in zip(self._places, self._cut(text), strict=True):
            here = places.get(values)
            if isinstance(here, list):
                met.update(here)
            elif here is not None:
                met.add(here)
        found = [Near(self._ids[at], jaccard(self._shingles[at], text.shingles)) for at in met if self._alike(at, text)]
        return min((near for near in found if near.jaccard >= self.threshold), key=lambda near: (-near.jaccard, near.id), default=None)

    def _alike(self, at: int, text: Sketch) -> bool:
        """Whether sizes alone allow it: J is at most the lesser size by the larger."""
        sizes = len(self._shingles[at]), len(text.shingles)
        return min(sizes) >= self.threshold * max(sizes)

    def _cut(self, text: Sketch) -> list[bytes]:
        """The values of each band."""
        data, width = text.signature.tobytes(), 4 * self._rows
        return [data[at : at + width] for at in range(0, self._bands * width, width)]
