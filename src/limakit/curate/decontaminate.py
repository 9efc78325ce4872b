"""Decontamination: nothing is trained on that a model is later tested with.

What is held out are the dev and test prompts of the set and the rows of other files (`against`). A candidate is dropped if it asks the same
(word for word, or nearly), shares a long run of words with a held prompt (as Brown et al. 2020, appendix C, look for benchmarks in
pretraining data, with 13 words), or gives the answer that the judges have as a reference.

- **Prompts** are compared turn by turn, and all that the user says in order. A turn of a longer dialogue counts if it has at least six words:
  many dialogues come to a "Why?" or "Thank you".
- **Short prompts**: one other word among forty breaks five of the runs of five words that are compared, so prompts of 6 to 40 different words are nearly
  the same, too, if the sets of their words are.
- **Runs**: any `ngram` words in a row of a held prompt, in any turn of the candidate, the response included (a response may quote a prompt). A
  prompt of fewer words is looked for as a whole if it has at least six: "How do I learn French?" stands in many texts that do not leak it.
- **References** and other assistant turns that are held: equal or nearly equal responses only, from 300 folded characters on, as for
  duplicates. Runs are not looked for there: texts of one tone share stock sentences, above all refusals, and a quoted licence or a piece of
  code is no leak of the answer. So an answer that is partly copied, or short, is not found.

Dev prompts are compared with test prompts only: the files of `against` may well hold the dev prompts themselves. Held-out examples are chosen
last and compared with both and with what is trained on: so they change nothing of the training set and have nothing of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..recipe_sources import Split
from ..records import Prompt, Turn
from .duplicates import (
    COPY_CHARS,
    Hashes,
    NearIndex,
    Sketch,
    digest_folded,
    longer_runs,
    signature,
    sketch_words,
    word_hashes,
    words_folded,
)
from .rules import folded
from .stats import read_rows

Held = Literal["test", "dev", "against", "train"]
_LOOKED_AT: dict[Split, tuple[Held, ...]] = {
    "train": ("test", "dev", "against"),
    "held_out": ("test", "dev", "train"),
    "dev": ("test",),
    "test": (),
}
WHOLE = 6  # words from which a prompt shorter than a run is looked for as a whole
SHORT = 40  # different words up to which prompts are compared as sets of words, too


@dataclass
class _Texts:
    """What is held of one split."""

    near: NearIndex
    near_words: NearIndex
    near_references: NearIndex
    prompts: dict[bytes, str] = field(default_factory=dict)  # digest -> id
    references: dict[bytes, str] = field(default_factory=dict)


class Guard:
    """The held out prompts and references, and what a candidate has of them.

    `near` is the Jaccard similarity of shingles from which two texts are nearly the same (1: only equal texts are told); `ngram` the words of
    a run (0: none is looked for). Memory is bounded by what is held: of 500 words about 35 kB. Raises UsageError where `near` is too little to
    tell anything by.
    """

    def __init__(self, *, near: float, ngram: int):
        self._nearly = near < 1
        self._held: dict[Held, _Texts] = {held: _Texts(NearIndex(near), NearIndex(near), NearIndex(near)) for held in get_args(Held)}
        self._runs = _Runs(ngram)

    def add(self, held: Held, id: str, turns: Sequence[Turn], reference: str | None = None) -> None:
        """Hold out a prompt (or an example of another set); `id` is what `problem` will name."""
        texts = self._held[held]
        said = [_said(turn.text) for turn in turns if turn.role == "user"]
        for text in _asked(said, at_least=WHOLE):
            texts.prompts.setdefault(text.digest, id)
            if self._nearly:
                texts.near.add(id, text.sketch())
                texts.near_words.add(id, text.word_sketch())
        for text in said:
            self._runs.add(held, id, text.hashes)
        answers = [turn.text for turn in turns if turn.role == "assistant"] + ([reference] if reference else [])
        for text in _long([_said(answer) for answer in answers]):
            texts.references.setdefault(text.digest, id)
            if self._nearly:
                texts.near_references.add(id, text.sketch())

    def add_file(self, path: Path) -> int:
        """Hold out the rows of a file of ours or in the published format; returns how many. Raises LimakitError naming file and row."""
        rows = read_rows(path)
        for row in rows:
            self.add("against", f"{path.name}: {row.id}", row.turns, row.reference if isinstance(row, Prompt) else None)
        return len(rows)

    def problem(self, turns: Sequence[Turn], split: Split = "train") -> tuple[str, str] | None:
        """Why a candidate for this split must go, as (reason, detail), or None.

        Reasons, the plainest first: "prompt_in_test", "near_test", "reference_in_test", "ngram_in_test", and the same of dev and against. The
        detail names the held prompt by its id, and how near it is or the words that are shared.
        """
        held = {name: self._held[name] for name in _LOOKED_AT[split] if self._held[name].prompts}
        if not held:
            return None
        said = [_said(turn.text) for turn in turns]
        asked = _asked([text for text, turn in zip(said, turns, strict=True) if turn.role == "user"])
        for text in asked:
            for name, texts in held.items():
                if id := texts.prompts.get(text.digest):
                    return f"prompt_in_{name}", id
        for text in asked:
            if near := _nearest(text.sketch(), {name: texts.near for name, texts in held.items()}):
                return f"near_{near[0]}", near[1]
            if near := _nearest(text.word_sketch(), {name: texts.near_words for name, texts in held.items()}):
                return f"near_{near[0]}", near[1]
        for text in _long([text for text, turn in zip(said, turns, strict=True) if turn.role == "assistant"]):
            for name, texts in held.items():
                if id := texts.references.get(text.digest):
                    return f"reference_in_{name}", id
            if near := _nearest(text.sketch(), {name: texts.near_references for name, texts in held.items()}):
                return f"reference_in_{near[0]}", near[1]
        if shared := self._runs.find([text.hashes for text in said], held):
            place, turn, at, n = shared
            return f"ngram_in_{place[0]}", f'{place[1]}: "{" ".join(said[turn].words[at : at + n])}"'
        return None


@dataclass(frozen=True, slots=True)
class _Said:
    """A text as it is compared: `hashes` are those of its words."""

    folded: str
    words: list[str]
    hashes: Hashes

    @property
    def digest(self) -> bytes:
        return digest_folded(self.folded)

    def sketch(self) -> Sketch:
        return sketch_words(self.hashes)

    def word_sketch(self) -> Sketch:
        """The set of its words, if there are WHOLE to SHORT of them; else nothing, which is like no other."""
        found = np.unique(self.hashes)
        found = found if WHOLE <= len(found) <= SHORT else found[:0]
        return Sketch(found, signature(found))


def _said(text: str) -> _Said:
    seen = folded(text)
    found = words_folded(seen)
    return _Said(seen, found, word_hashes(found))


def _asked(said: Sequence[_Said], at_least: int = 0) -> list[_Said]:
    """All that the user says, then each turn where there are several, without those of fewer words than `at_least`."""
    if len(said) == 1:
        return list(said)
    whole = _Said("\n".join(s.folded for s in said), [w for s in said for w in s.words], np.concatenate([s.hashes for s in said]))
    return [whole, *(text for text in said if len(text.words) >= at_least)]


def _long(texts: Sequence[_Said]) -> Iterator[_Said]:
    return (text for text in texts if len(text.folded) >= COPY_CHARS)


def _nearest(asked: Sketch, indexes: Mapping[Held, NearIndex]) -> tuple[Held, str] | None:
    """(which, detail) of the first index that has a text near to this one."""
    for held, index in indexes.items():
        if near := index.near(asked):
            return held, f"{near.id}, similarity {near.jaccard:.2f}"
    return None


class _Runs:
    """Runs of words of held prompts, to be found in other texts.

    Most texts share none: a table of bits says so for nearly all their runs at once. What may be shared is looked up and compared word by word.
    """

    def __init__(self, ngram: int):
        self._ngram = ngram
        self._places: list[tuple[Held, str]] = []
        self._texts: list[Hashes] = []
        self._widths: set[int] = set()
        self._table: tuple[Hashes, NDArray[np.uint32], NDArray[np.uint32]] | None = None  # runs ascending, their text, their start in it
        self._maybe = np.zeros(1, bool)  # by the first bits of a run: whether any held run begins with them

    def add(self, held: Held, id: str, hashes: Hashes) -> None:
        if width := self._width(hashes):
            self._places.append((held, id))
            self._texts.append(hashes)
            self._widths.add(width)
            self._table = None

    def _width(self, hashes: Hashes) -> int:
        """Words of the runs that are looked for of a text; 0: none."""
        return min(self._ngram, len(hashes)) if len(hashes) >= min(self._ngram, WHOLE) else 0

    def find(self, texts: Sequence[Hashes], looked_at: Container[Held]) -> tuple[tuple[Held, str], int, int, int] | None:
        """((which, id), text, place in it, words) of a run of held words in some texts: of the least width, the first; or None."""
        if not self._widths:
            return None
        runs, owners, starts = self._table or self._build()
        mine = [
            (n, width, found) for n, text in enumerate(texts) for width, found in _widths(text, max(self._widths)) if width in self._widths
        ]
        mine.sort(key=lambda one: one[1])
        every = np.concatenate([found for _, _, found in mine]) if mine else runs[:0]
        maybe = np.flatnonzero(self._maybe[every >> np.uint64(64 - len(self._maybe).bit_length() + 1)])
        rows = np.searchsorted(runs, every[maybe])
        same = runs[np.minimum(rows, len(runs) - 1)] == every[maybe]
        ends = np.cumsum([len(found) for _, _, found in mine])
        for place, first in zip(maybe[same].tolist(), rows[same].tolist(), strict=True):
            which = int(np.searchsorted(ends, place, side="right"))
            n, width, found = mine[which]
            at = place - int(ends[which]) + len(found)
            for row in range(first, len(runs)):
                if runs[row] != every[place]:
                    break
                owner = owners[row]
                known = self._texts[owner][starts[row] : starts[row] + width]
                if self._places[owner][0] in looked_at and np.array_equal(known, texts[n][at : at + width]):
                    return self._places[owner], n, at, width
        return None

    def _build(self) -> tuple[Hashes, NDArray[np.uint32], NDArray[np.uint32]]:
        of_each = [list(_widths(text, self._width(text)))[-1][1] for text in self._texts]
        lengths = [len(found) for found in of_each]
        runs = np.concatenate(of_each)
        owners = np.repeat(np.arange(len(of_each), dtype=np.uint32), lengths)
        starts = np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths])
        order = np.argsort(runs, kind="stable")  # of equal runs, that of the text that was added first comes first
        bits = max((32 * len(runs)).bit_length(), 12)  # at most one run in 32 seems to be held and is not
        self._maybe = np.zeros(1 << bits, bool)
        self._maybe[runs >> np.uint64(64 - bits)] = True
        self._table = runs[order], owners[order], starts[order]
        return self._table


def _widths(hashes: Hashes, longest: int) -> Iterator[tuple[int, Hashes]]:
    """(w, hashes of all runs of w words) for w from 1 to `longest`, as far as the text has so many."""
    runs = hashes
    for width in range(1, min(longest, len(hashes)) + 1):
        if width > 1:
            runs = longer_runs(runs, hashes)
        yield width, runs
