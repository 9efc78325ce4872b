r"""Rows of somebody else's responses, as people hand them on: JSON lines, one JSON list, or CSV.

    prompt    "prompt_id" or "id"; else the text under "prompt" or "instruction" (with Alpaca's "input" after it, where there is one)
    response  "response", "output" or "text"; of several all have to say the same
    besides   "sample", "turn"; "model" or "generator", of which one file has one; the rest of our own records (records.Response)

Lines end at "\n" alone. Nothing is guessed: a row without one of the two, or with something that is no text, is an error that names it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import LimakitError
from ..records import Response, jsonl_lines

IDS = ("prompt_id", "id")
PROMPTS = ("prompt", "instruction")
RESPONSES = ("response", "output", "text")
MODELS = ("model", "generator")
REMEDY = f"a row has {' or '.join(IDS + PROMPTS)}, and {' or '.join(RESPONSES)}"


@dataclass(frozen=True)
class Foreign:
    """One row: where it stands, whom it answers (an id, a text, or both), and what it says. `ours` is the row where it is one of our records."""

    where: str
    prompt_id: str | None
    prompt: str | None
    sample: int | None
    turn: int
    text: str
    model: str | None
    ours: Response | None

    @property
    def place(self) -> str:
        """Within its file: "row 3"."""
        return self.where.rsplit(", ", 1)[-1]


def read_foreign(path: Path) -> list[Foreign]:
    """All rows of a file. Raises LimakitError naming the file and the row that cannot be taken."""
    rows = [_row(value, where) for where, value in _values(path)]
    if not rows:
        raise LimakitError("no responses in it", where=path, remedy=REMEDY)
    models = sorted({row.model for row in rows if row.model is not None})
    if len(models) > 1:
        raise LimakitError(
            f"responses by {len(models)} models ({', '.join(models[:3])})",
            where=path,
            remedy="give each model a file, and import them one by one",
        )
    return rows


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each row, whatever the file's form."""
    if path.suffix.lower() == ".csv":
        yield from _csv_values(path)
        return
    first = next(jsonl_lines(path), None)
    if first is not None and first[1].lstrip().startswith(b"["):
        whole = _json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), str(path))
        yield from ((f"{path}, entry {i}", value) for i, value in enumerate(whole, start=1))
        return
    for row, line in jsonl_lines(path):
        where = f"{path}, row {row}"
        yield where, _json(line, where)


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise LimakitError(f"is not UTF-8 (byte {error.start})", where=where, remedy="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON: {error}"
        raise LimakitError(what, where=where, remedy="the file has to be JSON lines, one JSON list, or CSV (NAME.csv)") from None


def _csv_values(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LimakitError(f"is not UTF-8 (byte {error.start})", where=path, remedy="save it as UTF-8") from None
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    limit = csv.field_size_limit(len(text) + 1)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [cell.strip() for cell in next(rows, [])]
        if len(set(header)) < len(header):
            raise LimakitError("two columns of one name", where=f"{path}, row 1", remedy="rename one")
        for row, cells in enumerate(rows, start=2):
            where = f"{path}, row {row}"
            if cells and len(cells) != len(header):
                raise LimakitError(
                    f"has {len(cells)} columns, the header {len(header)}", where=where, remedy="quote texts that have commas"
                )
            if cells:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise LimakitError(f"is not CSV: {error}", where=path, remedy='double the quotes within a text, "like ""this"""') from None
    finally:
        csv.field_size_limit(limit)


def _row(value: Any, where: str) -> Foreign:
    if not isinstance(value, dict):
        raise LimakitError("is no JSON object", where=where, remedy=REMEDY)
    prompt_id = _text(value, IDS, where, number=True) or None  # CSV has no null
    prompt = _text(value, PROMPTS, where) or None
    text = _text(value, RESPONSES, where)
    for key in RESPONSES:
        if value.get(key) is not None and _text(value, (key,), where) != text:
            remedy = "take out the one that is no response"
            raise LimakitError(f"has two different responses, {key!r} one of them", where=where, remedy=remedy)
    if prompt is not None and (more := _text(value, ("input",), where)):
        prompt = f"{prompt}\n{more}"
    if (prompt_id is None and prompt is None) or text is None:
        raise LimakitError("lacks the prompt" if text is not None else "lacks the response", where=where, remedy=REMEDY)
    numbers = {key: _number(value, key, where) for key in ("sample", "turn")}
    return Foreign(
        where, prompt_id, prompt, numbers["sample"], numbers["turn"] or 0, text, _text(value, MODELS, where) or None, _ours(value)
    )


def _text(value: Mapping[str, Any], keys: tuple[str, ...], where: str, *, number: bool = False) -> str | None:
    """The text under the first of these keys that is there and not null. An id may be a number."""
    for key in keys:
        found = value.get(key)
        if found is None:
            continue
        if number and type(found) is int:
            return str(found)
        if not isinstance(found, str):
            raise LimakitError(
                f"{key}: expected a text, is {json.dumps(found)[:60]}", where=where, remedy="write it as text, or take the row out"
            )
        try:
            found.encode()
        except UnicodeEncodeError:
            raise LimakitError(f"{key}: has half of a surrogate pair, which is no text", where=where, remedy="mend the row") from None
        return found
    return None


def _number(value: Mapping[str, Any], key: str, where: str) -> int | None:
    found = value.get(key)
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 10:
        found = int(found)  # CSV knows no numbers
    if found in (None, ""):
        return None
    if type(found) is not int or found < 0:
        raise LimakitError(f"{key}: expected a number from 0, is {json.dumps(found)[:60]}", where=where, remedy="mend it, or leave it out")
    return found


def _ours(value: Mapping[str, Any]) -> Response | None:
    try:
        return Response.model_validate_json(json.dumps(value))
    except (ValidationError, ValueError):
        return None
