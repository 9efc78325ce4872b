"""The planner: which examples a step takes, and how they are packed into rows.

A step is exactly `batch_examples` examples however they are packed; the last step of an epoch is smaller. The order of an epoch depends
on (seed, epoch) alone, so a run can go on anywhere without a saved random state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LimakitError, UsageError
from ..model.chat import ChatFormat
from ..records import Example


@dataclass(frozen=True)
class Document:
    """Token ids to train on and, for each, whether the loss is taken on predicting it (never the first)."""

    id: str
    ids: tuple[int, ...]
    target: tuple[bool, ...]

    @property
    def target_tokens(self) -> int:
        return sum(self.target[1:])


@dataclass(frozen=True)
class Step:
    """One optimiser step as one rank takes it: numbered from 1 over the whole run; rows of indices into the documents."""

    number: int
    epoch: int
    last_of_epoch: bool
    rows: tuple[tuple[int, ...], ...]
    elsewhere: tuple[int, ...] = ()  # the step's examples that other ranks have
    idle: int = 0  # rows that this rank has fewer than the rank with the most: all have to run equally many

    @property
    def examples(self) -> list[int]:
        """All of the step, on whichever rank."""
        return sorted([*(i for row in self.rows for i in row), *self.elsewhere])


@dataclass(frozen=True)
class Prepared:
    """The training set as documents, and the ids of the examples that were cut."""

    documents: list[Document]
    trimmed: list[str]


def prepare(examples: Sequence[Example], chat: ChatFormat, max_tokens: int, loss_on: str, context: int | None) -> Prepared:
    """Encode the examples; one longer than max_tokens is cut there, so a cut response has no EOT (paper: open).

    Raises UsageError if max_tokens exceeds the model's context, LimakitError if the set is empty or a cut leaves nothing to learn.
    """
    if context is not None and max_tokens > context:
        raise UsageError(
            f"max_tokens is {max_tokens}, but the model has positions for {context} tokens only",
            where="[train]",
            remedy=f"set max_tokens = {context} or less under [train]; longer examples are cut, counted and named",
        )
    if not examples:
        raise LimakitError("the training set is empty", where="data/train.jsonl", remedy="run limakit curate, and look at its drop counts")
    documents, trimmed = [], []
    for example in examples:
        encoded = chat.encode(example.turns, "all" if loss_on == "all" else "response")
        document = Document(example.id, tuple(encoded.ids[:max_tokens]), tuple(encoded.target[:max_tokens]))
        if len(encoded.ids) > max_tokens:
            trimmed.append(example.id)
        if not document.target_tokens:
            raise LimakitError(
                f"cut to {max_tokens} tokens it has no response token left to learn (its prompt alone is that long)",
                where=f"example {example.id!r}",
                remedy="shorten its prompt, leave it out, or raise max_tokens under [train]",
            )
        documents.append(document)
    return Prepared(documents, trimmed)


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """A permutation of range(n) from (seed, epoch): by hash, so it is the same under every version of every library."""
    return sorted(range(n), key=lambda i: hashlib.sha256(f"{seed}/{epoch}/{i}".encode()).digest())


def pack_rows(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `lengths` in rows of at most `budget` tokens: first fit, longest first. What exceeds the budget gets a row of its own."""
    rows: list[list[int]] = []
    space: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        row = next((r for r, left in enumerate(space) if lengths[i] <= left), None)
        if row is None:
            rows.append([])
            space.append(budget)
            row = len(rows) - 1
        rows[row].append(i)
        space[row] -= lengths[i]
    return rows


def share(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of `lengths` for each rank, balanced by tokens: longest first, each to the rank that has the fewest so far."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(ranks), key=lambda r: (loads[r], r))
        shares[rank].append(i)
        loads[rank] += lengths[i]
    return [sorted(indices) for indices in shares]


def plan_steps(
    lengths: Sequence[int], *, epochs: int, batch_examples: int, budget: int, pack: bool, seed: int, rank: int = 0, ranks: int = 1
) -> list[Step]:
    """Every step of a run over documents of these lengths, as `rank` of `ranks` takes it: epochs * ceil(n / batch_examples) of them.

    Which examples a step has does not depend on the ranks, nor on the packing.
    """
    steps: list[Step] = []
    for epoch in range(1, epochs + 1):
        order = epoch_order(len(lengths), seed, epoch)
        for start in range(0, len(order), batch_examples):
            batch = order[start : start + batch_examples]
            shares = [[batch[k] for k in own] for own in share([lengths[i] for i in batch], ranks)] if ranks > 1 else [batch]
            packed = [_rows(own, lengths, budget if pack else None) for own in shares]
            elsewhere = tuple(i for other, own in enumerate(shares) if other != rank for i in own)
            idle = max(map(len, packed)) - len(packed[rank])
            steps.append(Step(len(steps) + 1, epoch, start + batch_examples >= len(order), packed[rank], elsewhere, idle))
    return steps


def _rows(indices: Sequence[int], lengths: Sequence[int], budget: int | None) -> tuple[tuple[int, ...], ...]:
    """The documents in rows, packed under a budget or (None) one a row."""
    if budget is None:
        return tuple((i,) for i in indices)
    return tuple(tuple(indices[k] for k in row) for row in pack_rows([lengths[i] for i in indices], budget))
