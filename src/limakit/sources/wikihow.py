"""wikiHow articles as JSON: a file with one a line, or a folder with one file an article.

The corpora of the University of Pennsylvania write `title`, `title_description`, `category_hierarchy` (the top category first), and one of
`methods`, `parts` and `steps` (Zhang et al. 2020: a file an article), or `goal`, `goal_description`, `category_hierarchy` and `methods`
(Yang et al. 2021: JSONL). A key may be absent or null. The CSV files of the summarisation set are read by wikihow_csv.py.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ..errors import LimakitError, UsageError
from ..progress import warn

# The site's top categories.
CATEGORIES = (
    "Arts and Entertainment", "Cars & Other Vehicles", "Computers and Electronics", "Education and Communications", "Family Life",
    "Finance and Business", "Food and Entertaining", "Health", "Hobbies and Crafts", "Holidays and Traditions", "Home and Garden",
    "Personal Care and Style", "Pets and Animals", "Philosophy and Religion", "Relationships", "Sports and Fitness", "Travel", "Work World",
    "Youth",
)  # fmt: skip
_BOM = b"\xef\xbb\xbf"
# Sections beside the steps that a row may have, in the order of the page, and what they are called there.
_BESIDE = {
    "ingredients": "Ingredients", "tips": "Tips", "warnings": "Warnings", "things_youll_need": "Things You'll Need",
    "thingsyoullneed": "Things You'll Need",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    headline: str
    description: str


@dataclass(frozen=True, slots=True)
class Section:
    """A method or part (numbered steps), or a list beside them such as the tips."""

    name: str
    steps: tuple[Step, ...]
    numbered: bool = True


@dataclass(frozen=True, slots=True)
class Article:
    """`category` is the top one, "" where the form has none; `problem` says why the steps could not be told apart; `place` is for messages."""

    title: str
    opening: str
    category: str
    sections: tuple[Section, ...]
    url: str | None
    place: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is no article: where it lies (what makes its id) and what is wrong with it."""

    place: str
    what: str


def article_files(path: Path) -> list[str] | None:
    """The names of a folder's *.json, relative to it and sorted (a note tells of others), or None for a file. Raises UsageError."""
    try:
        if not path.is_dir():
            path.stat()
            return None
        names: list[str] = []
        others: list[str] = []
        for folder, below, files in os.walk(path):
            below[:] = [name for name in below if not name.startswith(".")]
            at = Path(folder).relative_to(path)
            for name in files:
                if not name.startswith("."):
                    (names if name.endswith(".json") else others).append((at / name).as_posix())
    except OSError as error:
        what = "no such file or folder" if isinstance(error, FileNotFoundError) else f"cannot read: {error.strerror}"
        raise UsageError(what, where=path, remedy="mend the path") from None
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise UsageError(f"the file name {odd!r} cannot be read as text", where=path, remedy="rename the file")
    if not names:
        what = "no *.json here, one an article" + (f", but {others[0]}" if others else "")
        raise UsageError(what, where=path, remedy="name the JSONL or CSV file itself, or the folder with the articles")
    if others:
        warn(f"{path}: not read, since only *.json are: {len(others)} files, such as {min(others)}")
    return sorted(names)


def check_lines(path: Path) -> None:
    """Raise UsageError where a file is one JSON document rather than a line an article."""
    with open(path, "rb") as file:
        start = file.read(1000).removeprefix(_BOM).lstrip()
    if start.startswith(b"[") or re.match(rb"\{\s*\n", start):
        kind = "array" if start.startswith(b"[") else "object over many lines"
        remedy = "write one article a line (jq -c '.[]' FILE > FILE.jsonl), or name a folder with one file an article"
        raise UsageError(f"is one JSON {kind}, expected one article a line", where=path, remedy=remedy)


def read_lines(path: Path, name: str, start: int, stop: int) -> Iterator[Article | Fault]:
    """The articles of the lines that begin in bytes start to stop of a JSONL file; blank ones are passed over."""
    with open(path, "rb") as file:
        at = 0
        if start:
            file.seek(start - 1)
            at = start - 1 + len(file.readline())  # the line that begins before `start` belongs to the range before
        while at < stop and (line := file.readline()):
            place, at = f"{name}@byte{at}", at + len(line)
            if line.removeprefix(_BOM).strip():
                yield read_article(line, place)


def read_files(folder: Path, names: Sequence[str]) -> Iterator[Article | Fault]:
    """The article of each file. One that is damaged is a row that is: the others are read."""
    for name in names:
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise LimakitError(f"cannot read: {error.strerror}", where=folder / name, remedy="check its permissions") from None
        yield read_article(data, name)


def read_article(data: bytes, place: str) -> Article | Fault:
    """One JSON object as an article."""
    try:
        row = orjson.loads(data.removeprefix(_BOM))
        return _article(row, place) if isinstance(row, dict) else Fault(place, "is no JSON object")
    except orjson.JSONDecodeError as error:
        return Fault(place, f"is no JSON, or cut short: {error.msg} (character {error.pos})")
    except ValueError as error:
        return Fault(place, str(error))


def _article(row: dict[str, Any], place: str) -> Article:
    title = _line(_first(row, "goal", "title"))
    if not title:
        raise ValueError("has no goal or title")
    sections: list[Section] = []
    for key in ("methods", "parts"):
        entries = row.get(key) or []
        if not isinstance(entries, list):
            raise ValueError(f"{key} is no list")
        for n, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise ValueError(f"{key}[{n}] is no object")
            sections.append(Section(_line(_first(entry, "name", "title")), _steps(entry.get("steps"), f"{key}[{n}].steps")))
    if not sections:
        sections.append(Section("", _steps(row.get("steps"), "steps")))
    beside = [Section(name, _beside(row.get(key), key), numbered=False) for key, name in _BESIDE.items()]
    sections = [section for section in (*beside[:1], *sections, *beside[1:]) if section.steps]
    opening = _text(_first(row, "goal_description", "title_description", "description", "intro"))
    url = row.get("url")
    url = url if isinstance(url, str) and re.fullmatch(r"https?://[^\s<>\"]+", url) else None
    return Article(title, opening, top_category(_first(row, "category_hierarchy", "categories", "category")), tuple(sections), url, place)


def _first(row: dict[str, Any], *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key)), None)


def _text(value: Any) -> str:
    """A text, or a list of texts as its lines; null is "". Raises ValueError for anything else."""
    if isinstance(value, list):
        return "\n".join(_text(part) for part in value)
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(f"expected a text, got {str(value)[:40]!r}")


def _line(value: Any) -> str:
    return " ".join(_text(value).split())


def _steps(value: Any, where: str) -> tuple[Step, ...]:
    if value is None or value == "":
        return ()
    steps = []
    for n, entry in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(entry, str) or entry is None:
            step = Step(_line(entry), "")
        elif isinstance(entry, dict):
            step = Step(_line(_first(entry, "headline", "title", "summary")), _text(_first(entry, "description", "text")))
        else:
            raise ValueError(f"{where}[{n}] is neither a text nor an object")
        if step.headline or step.description.strip():
            steps.append(step)
    return tuple(steps)


def _beside(value: Any, where: str) -> tuple[Step, ...]:
    """What stands beside the steps; in another shape it is left out, since the answer is whole without it."""
    try:
        return _steps(value, where)
    except ValueError:
        return ()


def top_category(value: Any) -> str:
    """The top category of a hierarchy: a list from the top down (or of such lists), or a text ("Category:Travel", "Travel > Packing"); "" for
    none.

    One of the site's 19 (CATEGORIES) wins wherever it stands, since some crawls begin with "Categories" or list them from below.
    """
    parts = re.split(r"[>»]", value) if isinstance(value, str) else value if isinstance(value, list) else []
    parts = [name for part in parts for name in (part if isinstance(part, list) else [part])]
    names = [_category(part) for part in parts if isinstance(part, str)]
    names = [name for name in names if name and name.casefold() not in ("categories", "main page", "wikihow")]
    known = next((_KNOWN[_plain(name)] for name in names if _plain(name) in _KNOWN), None)
    return known or (names[0] if names else "")


def _category(part: str) -> str:
    name = re.sub(r"(?i)^\s*category\s*:", "", html.unescape(part)).replace("_", " ")
    if "-" in name and " " not in name.strip():
        name = name.replace("-", " ")  # as in an address: Food-and-Entertaining
    return " ".join(name.split())


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("&", " and ").split())


_KNOWN = {_plain(name): name for name in CATEGORIES}
