"""Entries: the rows of any example set as lint reads them. What is wrong with a row is a finding, and the others are read all the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ..errors import LimakitError, UsageError
from ..progress import visible
from ..recipe_sources import KINDS
from ..records import Record, Turn, first_problem, jsonl_lines
from ..sources.lima import LimaRow
from .finding import Finding

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: `row` counts from 1 in file number `file`. `id` is None in the published format. `kind` as in a recipe, "" if unknown."""

    file: int
    row: int
    id: str | None
    source: str
    kind: str
    split: Split
    turns: tuple[Turn, ...]
    tags: tuple[str, ...] = ()
    reference: str | None = None
    bounds: tuple[int, int] | None = None  # of the response, where the manifest beside the file says so

    @property
    def response(self) -> str | None:
        """The last turn, where it is the assistant's."""
        return self.turns[-1].text if self.turns[-1].role == "assistant" else None


@dataclass(frozen=True, slots=True)
class Told:
    """What a set's own manifest says of a source."""

    kind: str
    bounds: tuple[int, int] | None


class _Ours(Record):
    """An Example or a Prompt, without the order of its turns."""

    id: str = Field(min_length=1)
    source: str
    turns: tuple[Turn, ...] = Field(min_length=1)
    tags: tuple[str, ...] = ()
    reference: str | None = None
    follow_ups: tuple[str, ...] = ()


# A set's name for a source says what kind it is; the first that fits. "multi_turn" is the published set's name for its dialogues.
_KINDS = [
    ("stackexchange_dialogues", re.compile(r"dialog|multi[_-]?turn|conversation")),
    ("wikihow", re.compile(r"wiki[_ -]?how")),
    ("reddit", re.compile(r"reddit|pushshift|writing[_ -]?prompts")),
    ("natural_instructions", re.compile(r"natural[_ -]?instructions|super[_ -]?ni\b")),
    ("authored", re.compile(r"authored|by[_ -]hand")),
    ("stackexchange", re.compile(r"stack[_ -]?(?:exchange|overflow)|^stack|^se[_ -]")),
]
_HELD_OUT: list[tuple[Split, re.Pattern[str]]] = [
    ("test", re.compile(r"(?:^|[^a-z])(?:test|eval|held[_-]?out)(?:[^a-z]|$)")),
    ("dev", re.compile(r"(?:^|[^a-z])(?:dev|val|valid|validation)(?:[^a-z]|$)")),
]
_TRAIN = re.compile(r"(?:^|[^a-z])train(?:ing)?(?:[^a-z]|$)")


def kind_of(source: str) -> str:
    """The kind of source that a name stands for, "" where it says nothing."""
    name = source.lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), "")


def split_of(path: Path) -> Split | None:
    """What a file's name says: train.jsonl, dev.jsonl, my-test-prompts.jsonl; None where it says nothing."""
    name = path.name.lower()
    if _TRAIN.search(name):
        return "train"
    return next((split for split, pattern in _HELD_OUT if pattern.search(name)), None)


def told_beside(path: Path) -> dict[str, Told]:
    """By source name, what the manifest.json that curate wrote beside a set says of it; {} where there is none that can be read."""
    try:
        sources = json.loads((path.parent / "manifest.json").read_bytes())["settings"]["sources"]
        made = [KINDS[source["kind"]].model_validate(source) for source in sources]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {source.label: Told(source.kind, getattr(source, "answer_chars", None)) for source in made}  # type: ignore[attr-defined]


def check_file(path: Path) -> None:
    """Raise UsageError for what is no JSONL file at all: that is one message, not one for each of its lines."""
    if not path.exists():
        raise UsageError("no such file", where=path, remedy="check the path, or run limakit curate, which writes data/train.jsonl")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is a pipe or a device, and a set is a file"
        raise UsageError(what, where=path, remedy="name files, e.g. data/train.jsonl data/test.jsonl")
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    if b"\0" in head or head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd":
        raise UsageError("is no text", where=path, remedy="a set is JSONL, one {...} a line; unpack it first")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        raise UsageError("is one JSON list", where=path, remedy="a set is JSONL, one {...} a line: jq -c '.[]' FILE > FILE.jsonl")


def is_beside(path: Path) -> bool:
    """Whether a file is one of those that lie beside a set and are none: provenance, the review queue, decisions. Its first row says so."""
    with open(path, "rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict) or "conversations" in row or {"turns", "source"} <= row.keys():
        return False
    return any(keys <= row.keys() for keys in _BESIDE)


_BESIDE = ({"id", "licence", "url", "authors"}, {"id", "seen", "why", "label"}, {"id", "seen", "action"})


def read_entries(path: Path, file: int, told: Mapping[str, Told]) -> Iterator[tuple[int, Entry | Finding]]:
    """(row, entry or what is wrong with it) of a set of ours or in the published format, in order; `told` from `told_beside`."""
    named = split_of(path)
    for row, line in jsonl_lines(path):
        try:
            said = _parse(line)
        except LimakitError as error:
            yield row, Finding("unreadable", "error", "", error.what, _start(line))
            continue
        turns = said.turns if isinstance(said, _Ours) else _alternating(said.conversations)
        if problem := _disorder(turns):
            yield row, problem
            continue
        answered = turns[-1].role == "assistant"
        if named == "train" and not answered:
            yield (
                row,
                Finding("no_response", "error", "", "a training row that ends with the user has nothing to learn", turns[-1].text[:80]),
            )
            continue
        known = told.get(said.source) or told.get(said.source.split("/")[0])
        kind = known.kind if known and known.kind != "lima" else kind_of(said.source)
        split: Split = named or ("train" if answered else "test")
        entry = Entry(file, row, None, said.source, kind, split, turns, bounds=known.bounds if known else None)
        yield row, replace(entry, id=said.id, tags=said.tags, reference=said.reference) if isinstance(said, _Ours) else entry


def _parse(line: bytes) -> _Ours | LimaRow:
    """A row, whatever the order of its turns. Raises LimakitError saying what is wrong."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise LimakitError(f"is not UTF-8 (byte {error.start + 1} of the row)") from None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LimakitError(f"is no JSON: {error}" if isinstance(error, json.JSONDecodeError) else "is no JSON") from None
    if not isinstance(row, dict):
        raise LimakitError("is not a JSON object")
    try:
        return (LimaRow if "conversations" in row else _Ours).model_validate_json(line)
    except ValidationError as error:
        key, what = first_problem(error)
        known = "id, source, turns" if "conversations" not in row else "conversations, source"
        raise LimakitError(f"{key}: {what} (a row has {known})" if key else what) from None


def _alternating(texts: tuple[str, ...]) -> tuple[Turn, ...]:
    return tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(texts))


def _disorder(turns: tuple[Turn, ...]) -> Finding | None:
    for n, turn in enumerate(turns, start=1):
        if turn.role != ("user" if n % 2 else "assistant"):
            what = f"turn {n} is by the {turn.role}; turns alternate, the user first"
            return Finding("wrong_order", "error", "", what, turn.text[:80])
    for n, turn in enumerate(turns, start=1):
        if not turn.text.strip():
            return Finding("empty_turn", "error", "", f"turn {n} (the {turn.role}'s) is empty")
    return None


def _start(line: bytes) -> str:
    return visible(line[:80].decode(errors="replace").rstrip("\r\n"))
