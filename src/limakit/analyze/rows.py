"""Rows of results as they stand in files: each with its place, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from ..errors import LimakitError
from ..records import Grade, Judgment, Response, jsonl_lines, parse_row

R = TypeVar("R", Judgment, Grade, Response)

# What a row is about. Two rows about the same thing would count one opinion twice, or contradict each other.
ABOUT: dict[type, tuple[str, ...]] = {
    Judgment: ("prompt_id", "a", "b", "sample", "turn", "first", "judge", "rubric", "draw"),
    Grade: ("prompt_id", "model", "sample", "turn", "judge", "rubric", "draw"),
    Response: ("prompt_id", "model", "sample", "turn"),
}


@dataclass(frozen=True)
class Placed(Generic[R]):
    """A record and where it stands: row `row` (from 1) of `file`."""

    file: Path
    row: int
    record: R

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


def read_placed(path: Path, model: type[R]) -> list[Placed[R]]:
    """All rows of a file. Raises LimakitError naming file and row for one that cannot be read, and for a file without rows."""
    found = [Placed(path, row, parse_row(model, line, path, row)) for row, line in jsonl_lines(path)]
    if not found:
        raise LimakitError(
            f"no {model.__name__.lower()}s in it", where=path, remedy="run the stage that writes it again, or take the file away"
        )
    return found


def refuse_repeats(records: Sequence[R], places: Sequence[Placed[R]] = ()) -> None:
    """Raise LimakitError for the first row that is about the same as an earlier one, naming both where `places` says where they stand.

    Judgments that name two models the other way round and show the same one first are about the same.
    """
    first: dict[Hashable, int] = {}
    for i, record in enumerate(records):
        kind: type = type(record)
        keys = ABOUT[kind]
        key = tuple(getattr(record, name) for name in keys)
        if isinstance(record, Judgment) and record.a > record.b:  # named the other way round it is the same question
            key = tuple(getattr(_turned(record), name) for name in keys)
        before = first.setdefault(key, i)
        if before != i:
            about = ", ".join(f"{name} {getattr(record, name)!r}" for name in keys)
            raise LimakitError(
                f"a second {kind.__name__.lower()} of the same ({about})" + (f"; the first is {places[before]}" if places else ""),
                where=places[i] if places else None,
                remedy="keep one of them" + ("" if kind is Response else "; a further opinion of the same judge has another draw"),
            )


def one_way(judgments: Sequence[Judgment], *, own: str | None = None) -> list[Judgment]:
    """The judgments, each pair of models named in one order: `own` first, else as most rows name it, of equally many by the alphabet.

    Who is `a` is a matter of naming: a row that is turned has its verdict and what was shown first turned with it. The order of rows changes nothing.
    """
    named = Counter((row.a, row.b) for row in judgments)

    def rank(first: str, second: str) -> tuple[bool, int, str]:
        return first != own, -named[first, second], first

    return [_turned(row) if rank(row.b, row.a) < rank(row.a, row.b) else row for row in judgments]


_OTHER: dict[str | None, Literal["a", "b", "tie"] | None] = {"a": "b", "b": "a", "tie": "tie", None: None}


def _turned(row: Judgment) -> Judgment:
    return row.model_copy(update={"a": row.b, "b": row.a, "first": _OTHER[row.first], "verdict": _OTHER[row.verdict]})
