"""Documents through a model, kept as they are measured: a killed run goes on, and the same question is computed once.

The documents are put in an order of their own, longest first, equals once, and cut into batches and chunks in that order. So the numbers do not
depend on the order of the pool, on the seed or on where a run was killed: every batch is the same batch, to the bit on one machine.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import Progress
from ..workspace import atomic_file, sha256_json
from .rows import Floats

CHUNK_TOKENS = 100_000  # measured between two files: a kill loses no more


@dataclass(frozen=True, eq=False)
class Document:
    """Token `ids`, int32 [L]; what is measured are those from `start` on."""

    ids: np.ndarray
    start: int

    @property
    def content(self) -> str:
        return sha256(self.start.to_bytes(4, "big") + self.ids.tobytes()).hexdigest()


def measure(
    documents: Sequence[Document],
    of_batch: Callable[[Sequence[Document]], Floats],
    *,
    batch_tokens: int,
    key: Any,
    folder: Path,
    label: str,
) -> Floats:
    """What `of_batch` says of each document ([batch, columns]), in the order of `documents`; float [n, columns].

    A batch has at most `batch_tokens` tokens with its padding, or one document. Chunks are kept in `folder` under a hash of `key` and of their
    documents; one that is damaged is measured again.
    """
    contents = [document.content for document in documents]
    unique = dict(zip(contents, documents, strict=True))
    queue = sorted(unique, key=lambda content: (-len(unique[content].ids), content))
    found: dict[str, np.ndarray] = {}
    with Progress(label, sum(len(document.ids) for document in unique.values()), "tokens") as bar:
        for chunk in _chunks(queue, unique):
            path = folder / f"{sha256_json([key, chunk])[:40]}.npy"
            tokens = sum(len(unique[content].ids) for content in chunk)
            values = _kept(path, len(chunk))
            if values is None:
                parts = []
                for batch in _batches(chunk, unique, batch_tokens):
                    parts.append(of_batch([unique[content] for content in batch]))
                    bar.advance(sum(len(unique[content].ids) for content in batch))
                values = np.concatenate(parts)
                with atomic_file(path) as file:
                    np.save(file, values, allow_pickle=False)
            else:
                bar.skip(tokens)
            found |= zip(chunk, values, strict=True)
    return np.stack([found[content] for content in contents])


def _chunks(queue: Sequence[str], documents: dict[str, Document]) -> list[list[str]]:
    chunks: list[list[str]] = []
    room = 0
    for content in queue:
        if room <= 0:
            chunks.append([])
            room = CHUNK_TOKENS
        chunks[-1].append(content)
        room -= len(documents[content].ids)
    return chunks


def _batches(chunk: Sequence[str], documents: dict[str, Document], batch_tokens: int) -> list[list[str]]:
    """Consecutive documents, longest first, so a batch is as long as its first."""
    batches: list[list[str]] = []
    for content in chunk:
        if not batches or (len(batches[-1]) + 1) * len(documents[batches[-1][0]].ids) > batch_tokens:
            batches.append([])
        batches[-1].append(content)
    return batches


def _kept(path: Path, n: int) -> Floats | None:
    try:
        values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.ndim == 2 and len(values) == n and values.dtype.kind == "f" else None
