"""The published LIMA format: JSONL rows {"conversations": [text, ...], "source": name}, user and assistant in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from ..errors import LimakitError
from ..records import Example, Prompt, Record, Turn, jsonl_lines, parse_row, write_jsonl


class LimaRow(Record):
    conversations: tuple[str, ...] = Field(min_length=1)
    source: str = ""


def parse_lima(line: bytes, path: Path, number: int) -> tuple[LimaRow, tuple[Turn, ...]]:
    """One row and its turns, a dialogue whole. Raises LimakitError naming file and row."""
    row = parse_row(LimaRow, line, path, number)
    for i, text in enumerate(row.conversations):
        if not text.strip():
            raise LimakitError(f"conversations[{i}] is empty", where=f"{path}, row {number}", remedy="fill it in, or remove the row")
    return row, tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(row.conversations))


def read_lima(path: Path) -> Iterator[tuple[int, LimaRow, tuple[Turn, ...]]]:
    """Yield (row number, row, its turns), dialogues whole. Raises LimakitError naming file and row."""
    for number, line in jsonl_lines(path):
        yield number, *parse_lima(line, path, number)


def write_lima(path: Path, rows: Iterable[Example | Prompt]) -> int:
    """Write a set of ours in the published format, whole or not at all; returns the number of rows.

    A dialogue is one row with all its turns. What the format has no place for is lost: ids, tags, references, provenance.
    """
    return write_jsonl(path, (LimaRow(conversations=tuple(turn.text for turn in row.turns), source=row.source) for row in rows))
