"""Rows of results as they stand in files: each with its place, none twice."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

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
    """Raise LimakitError for the first row that is about the same as an earlier one, naming both where `places` says where they stand."""
    first: dict[Hashable, int] = {}
    for i, record in enumerate(records):
        kind: type = type(record)
        keys = ABOUT[kind]
        key = tuple(getattr(record, name) for name in keys)
        before = first.setdefault(key, i)
        if before != i:
            about = ", ".join(f"{name} {getattr(record, name)!r}" for name in keys)
            raise LimakitError(
                f"a second {kind.__name__.lower()} of the same ({about})" + (f"; the first is {places[before]}" if places else ""),
                where=places[i] if places else None,
                remedy="keep one of them" + ("" if kind is Response else "; a further opinion of the same judge has another draw"),
            )
