"""Append-only rows of JSON: log.jsonl and times.jsonl of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import LimakitError
from ..workspace import atomic_file


def readable_rows(path: Path) -> int:
    """How many rows a file begins with that are whole: a kill cuts the last one, a bad disk may have spoilt any."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for n, line in enumerate(lines):
        try:
            if not isinstance(json.loads(line), dict):
                return n
        except ValueError:
            return n
    return len(lines)


class NoLog:
    """What the ranks that write no log have for one."""

    def kept(self, row: int, key: str) -> float:
        raise AssertionError("rank 0 alone reads the log")

    def append(self, row: dict[str, Any]) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


class Log:
    """Rows, each written out at once. On opening, everything after the first `keep` rows goes."""

    def __init__(self, path: Path, keep: int):
        self.path = path
        here = readable_rows(path)
        self._remedy = f"put back an undamaged copy, or remove {path.parent} and train again"
        if here < keep:
            raise LimakitError(f"has {here} readable rows, but the newest epoch ends at step {keep}", where=path, remedy=self._remedy)
        lines = path.read_bytes().split(b"\n")[:keep] if keep else []
        self._kept = lines
        with atomic_file(path) as file:
            file.write(b"".join(line + b"\n" for line in lines))
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 (open as long as the run)

    def kept(self, row: int, key: str) -> float:
        """A number of a row that was kept, counted from 1. Raises LimakitError where the row has none."""
        value = json.loads(self._kept[row - 1]).get(key)
        if not isinstance(value, int | float):
            raise LimakitError(f"row {row} has no {key}", where=self.path, remedy=self._remedy)
        return float(value)

    def append(self, row: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def sync(self) -> None:
        """Have the rows on the disk. Some file systems tell only here that it is full."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk has been reported by append; the rows that fitted are there
            pass

    def _failure(self, error: OSError) -> LimakitError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return LimakitError(f"cannot write: {reason}", where=self.path, remedy="free some space and run the same command again")
