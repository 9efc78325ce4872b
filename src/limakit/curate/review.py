"""The review queue: data/review.jsonl, which curate writes, one row a candidate that a person must look at or may want to.

What was decided lies in decisions.jsonl; this file never changes between two runs of curate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..errors import LimakitError, UsageError
from ..records import Record, Turn, read_jsonl, write_jsonl
from ..workspace import Workspace, check_data
from .decisions import DECISIONS, Decision, digest, read_decisions

QUEUE = "review.jsonl"
State = Literal["waiting", "changed", "accepted", "edited", "rejected", "kept"]


class ReviewItem(Record):
    """A candidate as its source offers it, whatever was decided about it: `turns` and `reference` are never those of an edit.

    `label` is its source's, `why` says why a person must look ("required", "title_unclear"), or "" for one that is kept and may be revised,
    `detail` what was found; `seen` is `digest(turns, reference)`.
    """

    id: str = Field(min_length=1)
    label: str
    split: Literal["train", "dev", "test"]
    why: str
    detail: str = ""
    turns: tuple[Turn, ...] = Field(min_length=1)
    reference: str | None = None
    url: str | None = None
    title: str | None = None
    score: int | None = None
    answer_score: int | None = None
    licence: str = ""
    seen: str = Field(min_length=1)


def review_item(*, id: str, label: str, split: Literal["train", "dev", "test"], why: str, turns: tuple[Turn, ...],
                reference: str | None = None, detail: str = "", url: str | None = None, title: str | None = None, score: int | None = None,
                answer_score: int | None = None, licence: str = "") -> ReviewItem:  # fmt: skip
    """A row of the queue, with its digest."""
    return ReviewItem(
        id=id, label=label, split=split, why=why, detail=detail, turns=turns, reference=reference, url=url, title=title, score=score,
        answer_score=answer_score, licence=licence, seen=digest(turns, reference),
    )  # fmt: skip


def write_review(path: Path, items: Iterable[ReviewItem]) -> int:
    """Write the queue, whole or not at all. Returns the number of rows."""
    return write_jsonl(path, items)


def read_review(path: Path) -> list[ReviewItem]:
    """The queue in its order. Raises LimakitError naming the row that is damaged or has an id for the second time."""
    items = read_jsonl(path, ReviewItem)
    rows: dict[str, int] = {}
    for n, item in enumerate(items, start=1):
        if item.id in rows:
            what = f"the id {item.id!r} is also that of entry {rows[item.id]}"
            raise LimakitError(what, where=f"{path}, entry {n}", remedy="run limakit curate again, which writes this file")
        rows[item.id] = n
    return items


def state_of(item: ReviewItem, decision: Decision | None) -> State:
    """What became of a candidate: "changed" was decided when it read otherwise, and waits again."""
    if decision is None:
        return "waiting" if item.why else "kept"
    if decision.seen != item.seen:
        return "changed"
    return {"accept": "accepted", "edit": "edited", "reject": "rejected"}[decision.action]  # type: ignore[return-value]


def waits(item: ReviewItem, decision: Decision | None) -> bool:
    return state_of(item, decision) in ("waiting", "changed")


def read_queue(workspace: Workspace) -> tuple[list[ReviewItem], dict[str, Decision]]:
    """The queue and the decisions that count. Raises UsageError where curate has not been here, LimakitError for damaged files."""
    path = workspace.data / QUEUE
    check_data(workspace)
    if not path.exists():
        remedy = "run limakit curate: it puts there what a person must look at"
        raise UsageError("nothing to review here yet", where=workspace.relative(path), remedy=remedy)
    return read_review(path), read_decisions(workspace.root / DECISIONS)


def of_source(items: Sequence[ReviewItem], label: str | None) -> list[ReviewItem]:
    """Those of one source, or all. Raises UsageError where the queue has no source of that name."""
    labels = sorted({item.label for item in items})
    if label is not None and label not in labels:
        known = ", ".join(labels) or "none: the queue is empty"
        raise UsageError(f"no candidates of a source {label!r} in the queue", remedy=f"sources here: {known}")
    return [item for item in items if label is None or item.label == label]


def count_states(items: Iterable[ReviewItem], decisions: Mapping[str, Decision]) -> dict[State, int]:
    """How many candidates are in each state; states without any are not there."""
    counts: dict[State, int] = {}
    for item in items:
        state = state_of(item, decisions.get(item.id))
        counts[state] = counts.get(state, 0) + 1
    return counts
