"""The nouns of the house, and JSONL in and out.

Every stage reads and writes these records and nothing else. They are frozen, refuse unknown keys, and serialise with their
keys in the order written here, so equal records are equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import LimakitError
from .workspace import atomic_file


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Turn(Record):
    """One utterance. Training ends each with EOT, the user's and the assistant's alike (paper, section 3)."""

    role: Literal["user", "assistant"]
    text: str


def _check_turns(turns: tuple[Turn, ...], last: str) -> None:
    if not turns:
        raise ValueError("no turns")
    for i, turn in enumerate(turns):
        expected = "user" if i % 2 == 0 else "assistant"
        if turn.role != expected:
            raise ValueError(f"turn {i + 1} is by the {turn.role}, expected the {expected} (turns alternate, the user first)")
        if not turn.text.strip():
            raise ValueError(f"turn {i + 1} (the {turn.role}'s) is empty")
    if turns[-1].role != last:
        raise ValueError(f"the last turn must be the {last}'s")


class Example(Record):
    """A training example: one or more (prompt, response) exchanges."""

    id: str = Field(min_length=1)
    source: str
    turns: tuple[Turn, ...]
    tags: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _alternates(self) -> Self:
        _check_turns(self.turns, last="assistant")
        return self

    @property
    def prompt(self) -> str:
        """The first user turn."""
        return self.turns[0].text

    @property
    def response(self) -> str:
        """The last assistant turn."""
        return self.turns[-1].text


class Prompt(Record):
    """A dev or test prompt; `turns` may hold the dialogue so far. `reference` is for judges and never shown to a model.

    `follow_ups` is what the user says next, one after the other, whatever the model answers: its response to turn n (0 answers `turns`, 1 the
    first follow-up) is given with its own earlier responses as history.
    """

    id: str = Field(min_length=1)
    source: str
    turns: tuple[Turn, ...]
    tags: tuple[str, ...] = ()
    reference: str | None = None
    follow_ups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> Self:
        _check_turns(self.turns, last="user")
        for i, text in enumerate(self.follow_ups, start=1):
            if not text.strip():
                raise ValueError(f"follow-up {i} is empty")
        return self

    @property
    def text(self) -> str:
        """The last user turn: what the response answers."""
        return self.turns[-1].text

    def at(self, responses: Sequence[str]) -> Prompt:
        """The prompt as it stands at turn len(responses), after these responses to the turns before: a prompt without follow-ups. An empty
        response stands as it is, so this is not checked again. Raises IndexError beyond the last follow-up."""
        turns = self.turns
        for n, response in enumerate(responses):
            turns += (Turn(role="assistant", text=response), Turn(role="user", text=self.follow_ups[n]))
        return self.model_copy(update={"turns": turns, "follow_ups": ()})


class Author(Record):
    """Somebody to credit. `wrote` says which part ("question", "answer", "all")."""

    name: str
    url: str | None = None
    wrote: str = "all"


class Provenance(Record):
    """Where a training example or prompt comes from: what a licence such as CC BY-SA wants named with it."""

    id: str
    source: str
    url: str | None
    authors: tuple[Author, ...]
    licence: str
    changes: str = ""
    site: str | None = None
    title: str | None = None


class Response(Record):
    """A model's response to a prompt.

    `turn` counts the user turns that are answered: 0 is the prompt's own last one, n its n-th follow-up. `finish`: "eot" (stopped by itself),
    "length" (max_tokens), "context" (model full), "filtered" (its maker's filter cut it) or "unknown" (somebody else's response). `tokens` counts the generated
    tokens, the EOT included; None where nobody said. `not_applied` names sampling settings that the model's server has no field for.
    """

    prompt_id: str
    model: str
    sample: int = Field(0, ge=0)
    turn: int = Field(0, ge=0)
    text: str
    finish: Literal["eot", "length", "context", "filtered", "unknown"]
    tokens: int | None
    seed: int = 0
    not_applied: tuple[str, ...] = ()


class Comparison(Record):
    """Two responses to one prompt, put to a judge."""

    prompt_id: str
    a: str
    b: str
    sample: int = Field(0, ge=0)
    turn: int = Field(0, ge=0)
    first: Literal["a", "b"] = "a"


class Asked(Record):
    """Who gave an opinion, how it was asked, and when. `model` is the name asked for, `answered_as` the one its server says it was (hosted
    names move on to other weights). `structured`: the server was held to a JSON schema. `date`: of the answer, ISO 8601, UTC, to the second."""

    kind: Literal["endpoint", "local", "oracle", "person"]
    model: str
    answered_as: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    structured: bool = False
    date: str | None = None


class Judgment(Record):
    """A judge's verdict on a comparison. A failure is a status, never a value: `invalid` has no verdict and keeps its raw text."""

    prompt_id: str
    a: str
    b: str
    sample: int = Field(0, ge=0)
    turn: int = Field(0, ge=0)
    first: Literal["a", "b"] = "a"
    judge: str
    rubric: str
    draw: int = Field(0, ge=0)
    status: Literal["ok", "invalid"]
    verdict: Literal["a", "b", "tie"] | None
    problem: str | None = None
    raw: str = ""
    asked: Asked | None = None

    @model_validator(mode="after")
    def _stands(self) -> Self:
        if (self.status == "ok") != (self.verdict is not None):
            raise ValueError(f"status {self.status!r} with verdict {self.verdict!r}")
        if self.a == self.b:
            raise ValueError(f"{self.a!r} is compared with itself")
        return self


class Grade(Record):
    """A judge's grade of one response: `value` on the rubric's scale, e.g. "1".."6" or "fail", "pass", "excellent"."""

    prompt_id: str
    model: str
    sample: int = Field(0, ge=0)
    turn: int = Field(0, ge=0)
    judge: str
    rubric: str
    draw: int = Field(0, ge=0)
    status: Literal["ok", "invalid"]
    value: str | None
    problem: str | None = None
    raw: str = ""
    asked: Asked | None = None

    @model_validator(mode="after")
    def _value_iff_ok(self) -> Self:
        if (self.status == "ok") != (self.value is not None):
            raise ValueError(f"status {self.status!r} with value {self.value!r}")
        return self


R = TypeVar("R", bound=Record)


def jsonl_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Yield (row number from 1, line) of a JSONL file: split on b"\n" alone (U+2028 occurs in real data), BOM and blank lines skipped."""
    try:
        with open(path, "rb") as file:
            for row, line in enumerate(file, start=1):
                if row == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield row, line
    except FileNotFoundError:
        raise LimakitError("no such file", where=path, remedy="check the path, or run the stage that writes it") from None
    except IsADirectoryError:
        raise LimakitError("is a folder, expected a JSONL file", where=path, remedy="name the file") from None
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None


def first_problem(error: ValidationError) -> tuple[str, str]:
    """(key, what is wrong) of a validation error's first entry; the key like turns[0].role, or "" for the whole row."""
    entry = error.errors(include_url=False)[0]
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in entry["loc"]).lstrip(".")
    what = {"extra_forbidden": "unknown key", "missing": "missing"}.get(entry["type"], entry["msg"].removeprefix("Value error, "))
    return key, what


def parse_row(model: type[R], line: bytes, path: Path, row: int) -> R:
    """One record from one line. Raises LimakitError naming file, row and key."""
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        key, what = first_problem(error)
        remedy = f"each row ({model.__name__}) has the keys {', '.join(model.model_fields)}"
        raise LimakitError(f"{key}: {what}" if key else what, where=f"{path}, row {row}", remedy=remedy) from None


def read_jsonl(path: Path, model: type[R]) -> list[R]:
    """All records of a file, in order. Raises LimakitError naming file, row and key of the first bad row."""
    return [parse_row(model, line, path, row) for row, line in jsonl_lines(path)]


def dump_row(record: Record) -> bytes:
    return record.model_dump_json().encode() + b"\n"


def write_jsonl(path: Path, records: Iterable[Record]) -> int:
    """Write records atomically: the file is there whole, or as it was. Returns the number of rows."""
    n = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(dump_row(record))
            n += 1
    return n
