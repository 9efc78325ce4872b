"""What people decided about candidates: decisions.jsonl in the workspace, one row a decision, only ever added to.

A decision is about a text, whatever the candidate is called: an id may be a row's number, and two sources may offer one id with two texts.
The last decision about a text counts. Each is on the disk before the next question is asked; what a kill left of a row is told, and
goes when the next one is written.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import LimakitError
from ..progress import visible, warn
from ..records import Record, Turn, dump_row, jsonl_lines, parse_row
from ..workspace import sync_folder

DECISIONS = "decisions.jsonl"
Action = Literal["accept", "reject", "edit", "undo"]


class Decision(Record):
    """Take a candidate as it is, or not at all, or with other words; "undo" is as if nobody had looked.

    `seen` is the `digest` of what was looked at: the candidate as its source offers it. Where that has changed since, the candidate is
    asked about again; `id` says what it was called then. `turns` and `reference` are the new words of an edit; a note says why.
    """

    id: str = Field(min_length=1)
    action: Action
    seen: str
    turns: tuple[Turn, ...] | None = None
    reference: str | None = None
    note: str = ""
    reviewer: str = ""

    @model_validator(mode="after")
    def _words_iff_edited(self) -> Self:
        if (self.action == "edit") != bool(self.turns):
            raise ValueError(f"action {self.action!r} {'without' if self.action == 'edit' else 'with'} turns")
        if self.reference is not None and self.action != "edit":
            raise ValueError(f"action {self.action!r} with a reference")
        return self


def digest(turns: Iterable[Turn], reference: str | None) -> str:
    """What stands for a text that somebody looked at: 32 hexadecimal digits of SHA-256 of its turns and reference."""
    said = json.dumps([[[turn.role, turn.text] for turn in turns], reference], separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Decisions:
    """The decisions that count, one for each text that was decided about; what was undone is not there.

    `made`: seen -> decision, in the order in which they were made. `at_hand`: digests of texts that are candidates now, as far as that is
    known; a decision about one of them is about no earlier text of another candidate.
    """

    made: Mapping[str, Decision] = field(default_factory=dict)
    at_hand: frozenset[str] = frozenset()

    def among(self, seen: Iterable[str]) -> Decisions:
        """The same, knowing which texts are candidates now."""
        return Decisions(self.made, frozenset(seen))

    def on(self, seen: str) -> Decision | None:
        """The decision about the text of this digest."""
        return self.made.get(seen)

    def under(self, id: str) -> tuple[Decision, ...]:
        """The decisions about what a candidate of this id was before, in the order in which they were made; none of those `at_hand`."""
        return self._ids.get(id, ())

    def changed(self, id: str, seen: str) -> bool:
        """Whether something was decided under this id when it read otherwise, and nothing about this text."""
        return seen not in self.made and id in self._ids

    @cached_property
    def _ids(self) -> dict[str, tuple[Decision, ...]]:
        found: dict[str, tuple[Decision, ...]] = {}
        for seen, decision in self.made.items():
            if seen in self.at_hand:
                continue
            found[decision.id] = (*found.get(decision.id, ()), decision)
        return found


def decisions_of(rows: Iterable[Decision]) -> Decisions:
    """What counts of all decisions that were ever made, in their order.

    An "undo" takes away the decision about its text; where there is none, the candidate has changed since, and those under its id go.
    """
    made: dict[str, Decision] = {}
    for row in rows:
        before = made.pop(row.seen, None)
        if row.action != "undo":
            made[row.seen] = row
        elif before is None:
            for seen in [seen for seen, decision in made.items() if decision.id == row.id]:
                del made[seen]
    return Decisions(made)


def read_decisions(path: Path) -> Decisions:
    """The decisions that count; none where there is no file.

    The beginning of a last row, which a kill may leave, is told in a note and left out. Raises LimakitError naming any other damaged row.
    """
    return decisions_of(_rows(path)) if path.exists() or path.is_symlink() else Decisions()


def _rows(path: Path) -> Iterator[Decision]:
    for row, line in jsonl_lines(path):
        if not line.endswith(b"\n") and not _is_whole(line):
            warn(f"{path}, row {row}: only the beginning of a decision, left by a run that was killed; it does not count: {_excerpt(line)}")
            return
        yield parse_row(Decision, line, path, row)


def append_decision(path: Path, decision: Decision) -> None:
    """Write one decision; when this returns it is on the disk. Raises LimakitError if it cannot be written, and then it is not there."""
    line = dump_row(decision)
    try:
        with _locked(path) as fd:
            end = _mended_end(fd, path)
            try:
                written = os.pwrite(fd, line, end)  # one write: nobody ever reads half a row of ours followed by another's
                if written < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)
                if end == 0:  # still locked: who waits for it finds it gone, and makes another
                    path.unlink(missing_ok=True)
                raise
            if end == 0:
                sync_folder(path.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LimakitError(
            f"cannot write: {reason}; this decision is not saved, those before it are",
            where=path,
            remedy="check the permissions and the space left, then decide again",
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, to read and write, while no other process writes a decision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:  # else somebody whose disk was full has removed it meanwhile
                yield fd
                return
        finally:
            os.close(fd)


def _mended_end(fd: int, path: Path) -> int:
    """Where the next row begins. A last row without its line feed gets it if it is whole, and goes if it is only the beginning of one."""
    size = os.fstat(fd).st_size
    tail = b""
    while len(tail) < size and b"\n" not in tail:
        take = min(65_536, size - len(tail))
        tail = os.pread(fd, take, size - len(tail) - take) + tail
    last = tail.rpartition(b"\n")[2]
    if not last:
        return size
    if _is_whole(last):
        os.pwrite(fd, b"\n", size)
        return size + 1
    warn(f"{path}: removed the beginning of a decision, left by a run that was killed: {_excerpt(last)}")
    os.ftruncate(fd, size - len(last))
    return size - len(last)


def _is_whole(line: bytes) -> bool:
    try:
        Decision.model_validate_json(line.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError:
        return False
    return True


def _excerpt(line: bytes) -> str:
    return visible(line[:80].decode(errors="replace"))
