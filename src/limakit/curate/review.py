"""The review queue: data/review.jsonl, which curate writes, one row a candidate that a person must look at or may want to.

What was decided lies in decisions.jsonl; this file never changes between two runs of curate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..errors import LimakitError, UsageError
from ..recipe_sources import Split
from ..records import Record, Turn, read_jsonl, write_jsonl
from ..workspace import Workspace, check_data
from .decisions import DECISIONS, Decision, Decisions, digest, read_decisions

QUEUE = "review.jsonl"
State = Literal["waiting", "changed", "accepted", "edited", "rejected", "kept"]


class ReviewItem(Record):
    """A candidate as its source offers it, whatever was decided about it: `turns` and `reference` are never those of an edit.

    `label` is its source's, `why` says why a person must look ("required", "title_unclear"), or "" for one that is kept and may be revised,
    `detail` what was found; `seen` is `digest(turns, reference)`.
    """

    id: str = Field(min_length=1)
    label: str
    split: Split
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


def review_item(*, id: str, label: str, split: Split, why: str, turns: tuple[Turn, ...],
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
    """The queue in its order. Two sources may offer one id with two texts, and each has a row; never is one text there twice.

    Raises LimakitError naming the row that is damaged or is there for the second time.
    """
    items = read_jsonl(path, ReviewItem)
    rows: dict[str, int] = {}
    for n, item in enumerate(items, start=1):
        if item.seen in rows:
            what = f"the candidate {item.id!r} is also entry {rows[item.seen]}"
            raise LimakitError(what, where=f"{path}, entry {n}", remedy="run limakit curate again, which writes this file")
        rows[item.seen] = n
    return items


def decision_on(item: ReviewItem, decisions: Decisions) -> Decision | None:
    """What was decided about a candidate; where that is nothing and it read otherwise once, the last that was decided then."""
    return decisions.on(item.seen) or next(reversed(decisions.under(item.id)), None)


def state_of(item: ReviewItem, decisions: Decisions) -> State:
    """What became of a candidate: "changed" was decided when it read otherwise, and waits again."""
    decision = decisions.on(item.seen)
    if decision is not None:
        return {"accept": "accepted", "edit": "edited", "reject": "rejected"}[decision.action]  # type: ignore[return-value]
    if decisions.changed(item.id, item.seen):
        return "changed"
    return "waiting" if item.why else "kept"


def waits(item: ReviewItem, decisions: Decisions) -> bool:
    return state_of(item, decisions) in ("waiting", "changed")


def read_queue(workspace: Workspace) -> tuple[list[ReviewItem], Decisions]:
    """The queue and the decisions that count. Raises UsageError where curate has not been here, LimakitError for damaged files."""
    path = workspace.data / QUEUE
    check_data(workspace)
    if not path.exists():
        remedy = "run limakit curate: it puts there what a person must look at"
        raise UsageError("nothing to review here yet", where=workspace.relative(path), remedy=remedy)
    items = read_review(path)
    return items, decisions_about(items, workspace.root / DECISIONS)


def decisions_about(items: Iterable[ReviewItem], path: Path) -> Decisions:
    """The decisions that count, as they are about the queue's candidates."""
    return read_decisions(path).among(item.seen for item in items)


def source_of(item: ReviewItem, split: str = " ({})") -> str:
    """A candidate's source and split; the name of one source among several of a name has its split in it already."""
    return item.label if f"({item.split}" in item.label else item.label + split.format(item.split)


def of_source(items: Sequence[ReviewItem], label: str | None) -> list[ReviewItem]:
    """Those of one source, or all. Raises UsageError where the queue has no source of that name."""
    labels = sorted({item.label for item in items})
    if label is not None and label not in labels:
        known = ", ".join(labels) or "none: the queue is empty"
        raise UsageError(f"no candidates of a source {label!r} in the queue", remedy=f"sources here: {known}")
    return [item for item in items if label is None or item.label == label]


def count_states(items: Iterable[ReviewItem], decisions: Decisions) -> dict[State, int]:
    """How many candidates are in each state; states without any are not there."""
    counts: dict[State, int] = {}
    for item in items:
        state = state_of(item, decisions)
        counts[state] = counts.get(state, 0) + 1
    return counts
