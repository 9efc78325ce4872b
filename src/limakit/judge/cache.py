"""Answers a judge has given, on disk: only those that could be scored (promise 8), so a failure is asked again and a success never.

Append-only JSONL, one answer a line with who gave it, how and when, so that rows written from it are the same again. A line cut by kill -9 or
a full disk is not an answer.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..endpoint.reply import scrub
from ..errors import LimakitError
from ..records import Asked
from ..workspace import sha256_json


@dataclass(frozen=True)
class Kept:
    """An answer. `tokens_in`, `tokens_out` and `seconds` are what it took, None where nobody said."""

    text: str
    asked: Asked
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None


def cache_key(*, where: str, model: str, temperature: float, max_tokens: int, message: str, draw: int) -> str:
    """Everything the answer depends on. The draw is part of it: several draws of one question are several answers.

    `where` is the endpoint's address, or tells a model that runs here from others of its name.
    """
    return sha256_json([where.rstrip("/"), model, temperature, max_tokens, message, draw])


def read_kept(path: Path) -> dict[str, Kept]:
    """The answers by key; of a file that is not there none. Raises LimakitError for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return dict(entry for line in file if (entry := _read(line)) is not None)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _refusal(error, path) from error


def _read(line: bytes) -> tuple[str, Kept] | None:
    try:
        row: dict[str, Any] = json.loads(line)
        asked = Asked.model_validate_json(json.dumps(row["asked"]))
        kept = Kept(scrub(row["answer"], ""), asked, row["tokens_in"], row["tokens_out"], row["seconds"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    counts = all(n is None or type(n) is int for n in (kept.tokens_in, kept.tokens_out))
    whole = isinstance(row.get("key"), str) and counts and (kept.seconds is None or type(kept.seconds) in (int, float))
    return (row["key"], kept) if whole else None


class Cache:
    """`with Cache(path) as cache:` to add answers; one process at a time (the caller holds the stage's lock)."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)
            size = self._file.seek(0, os.SEEK_END)
            if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
                self._file.write(b"\n")  # so that the next answer does not join the cut line
        except OSError as error:
            raise _refusal(error, self.path) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def put(self, key: str, kept: Kept) -> None:
        """Keep an answer; it is with the operating system when this returns. Raises LimakitError if the disk refuses it."""
        row: dict[str, Any] = {"key": key, "answer": kept.text, "asked": kept.asked.model_dump()}
        row |= {"tokens_in": kept.tokens_in, "tokens_out": kept.tokens_out, "seconds": kept.seconds}
        line = json.dumps(row).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError("the disk took part of a line only")
        except OSError as error:
            raise _refusal(error, self.path) from error


def _refusal(error: OSError, path: Path) -> LimakitError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return LimakitError(f"cannot keep the judge's answers: {reason}", where=path, remedy="free some space; the same command goes on")
