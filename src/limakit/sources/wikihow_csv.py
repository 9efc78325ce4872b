"""The CSV files of the wikiHow summarisation set (Koupaee and Wang 2018): wikihowAll.csv and wikihowSep.csv.

Both are an article in pieces that do not lie together. wikihowSep.csv (overview, headline, text, sectionLabel, title) has a row for each step.
wikihowAll.csv (headline, title, text) has a row for each method: its steps' headlines in one field and their texts in another, and the
methods of one article told apart by digits at the end of the title ("How to Be an Organized Artist2"). Neither has categories.

So that memory does not grow with the file, rows are first parted by title into small files of which each holds whole articles.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import orjson

from ..errors import LimakitError
from .wikihow import Article, Fault, Section, Step

PART = 32_000_000  # bytes of the CSV that one of the small files holds
FIELD = 16_000_000  # characters; a longer field is a quotation mark that was never closed


class _Row(NamedTuple):
    line: int
    title: str
    headline: str
    text: str
    overview: str
    section: str  # "" in wikihowAll.csv


class _Damage(NamedTuple):
    """A row that cannot be read, and what its article's title may be: the cell at its place from the left, or from the right."""

    fault: Fault
    line: int
    titles: frozenset[str]


def read_csv(path: Path, aside: Path, advance: Callable[[int], None]) -> Iterator[list[Article | Fault]]:
    """The articles of a CSV in lists, in an order that its content decides, put together in files below `aside`. A damaged row is a Fault, and so
    is the article that would be offered without it.

    `advance` is told of the characters as they are read. Raises LimakitError for a file that is not one of the two, or whose rest cannot
    be read, naming its line.
    """
    count = max(1, -(-path.stat().st_size // PART))
    faults: list[Article | Fault] = []
    with ExitStack() as stack:
        parts = [stack.enter_context(open(aside / f"{n}.jsonl", "wb")) for n in range(count)]
        for row in _rows(path, advance):
            if isinstance(row, _Damage):
                faults.append(row.fault)
            for title in sorted(row.titles) if isinstance(row, _Damage) else [row.title]:
                digest = blake2b(_undigited(title).encode(), digest_size=4).digest()
                cells = (row.line, title) if isinstance(row, _Damage) else tuple(row)
                parts[int.from_bytes(digest, "big") % count].write(orjson.dumps(cells) + b"\n")
    yield faults
    for n in range(count):
        with open(aside / f"{n}.jsonl", "rb") as file:
            told: list[list] = [orjson.loads(line) for line in file]
        damaged = {title: line for line, title in (row for row in reversed(told) if len(row) == 2)}
        yield list(_articles([_Row(*row) for row in told if len(row) > 2], damaged, path.name))
        (aside / f"{n}.jsonl").unlink()


def _rows(path: Path, advance: Callable[[int], None]) -> Iterator[_Row | _Damage]:
    csv.field_size_limit(FIELD)
    with open(path, "rb") as opening:
        if opening.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            remedy = "save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)"
            raise LimakitError("is UTF-16, expected UTF-8", where=path, remedy=remedy)
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:

        def lines() -> Iterator[str]:
            for line in file:
                advance(len(line))
                yield line.replace("\0", "")

        reader = csv.reader(lines(), strict=True)
        header: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                if "unexpected end" in str(error) or "field larger" in str(error):
                    what = "a quotation mark that opens here is never closed"
                    raise LimakitError(what, where=f"{path}, line {line}", remedy="fetch the file again, or close it") from None
                yield _Damage(Fault(f"{path.name}@line{line}", f"is no row of a CSV: {error}"), line, frozenset())
                continue
            if not header:
                header = _header(cells, path) if any(cell.strip() for cell in cells) else []
            elif cells:
                yield _row(header, cells, line, path.name)
    if not header:
        _header([], path)


def _header(cells: list[str], path: Path) -> list[str]:
    header = [cell.strip().casefold() for cell in cells]
    if not {"title", "headline", "text"} <= set(header):
        found = f"its first line is {', '.join(cells)[:80]!r}" if cells else "it is empty"
        remedy = "expected headline,title,text (wikihowAll.csv) or overview,headline,text,sectionLabel,title (wikihowSep.csv)"
        raise LimakitError(f"is no CSV of wikiHow's: {found}", where=path, remedy=remedy)
    return header


def _row(header: list[str], found: list[str], line: int, name: str) -> _Row | _Damage:
    def damage(what: str) -> _Damage:
        at = header.index("title")
        near = [found[n] for n in (at, at - len(header)) if -len(found) <= n < len(found)]
        titles = frozenset(" ".join(cell.split()) for cell in near if cell.strip() and not _undecoded(cell))
        return _Damage(Fault(f"{name}@line{line}", what), line, titles)

    if len(found) != len(header):
        return damage(f"has {len(found)} columns, expected {len(header)}")
    if any(_undecoded(cell) for cell in found):
        return damage("is not UTF-8")
    cells = dict(zip(header, found, strict=True))
    title = " ".join(cells["title"].split())
    if not title:
        return damage("has no title")
    section = " ".join(cells["sectionlabel"].split()) or "Steps" if "sectionlabel" in cells else ""
    return _Row(line, title, cells["headline"], cells["text"], cells.get("overview", ""), section)


def _undecoded(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell)


def _undigited(title: str) -> str:
    return title.rstrip("0123456789").rstrip()


def _articles(rows: list[_Row], damaged: dict[str, int], name: str) -> Iterator[Article | Fault]:
    """The articles whose rows these are, in the order in which they begin. `damaged`: titles of rows that could not be read, with their lines."""
    titles = {title: (title, 1) for title in (*(row.title for row in rows), *damaged)}
    for title in titles:
        titles[title] = numbered(title, titles)
    together: dict[str, list[_Row]] = {}
    for row in rows:
        together.setdefault(titles[row.title][0], []).append(row)
    lost = {titles[title][0]: line for title, line in damaged.items()}
    for title, pieces in together.items():
        if title in lost:
            place = f"{name}@line{min(row.line for row in pieces)}"
            yield Fault(f"{place}+{lost[title]}", f"{title!r} lacks its row in line {lost[title]}, which is damaged"[:300])
            continue
        pieces = list({row[1:]: row for row in reversed(pieces)}.values())[::-1]  # the same row twice is one
        pieces.sort(key=lambda row: titles[row.title][1])
        yield from _whole(title, pieces, f"{name}@line{min(row.line for row in pieces)}", titles)


def numbered(title: str, titles: dict[str, tuple[str, int]]) -> tuple[str, int]:
    """(the article's title, which of its methods this is): "...Artist2" where there is "...Artist1" too.

    A lone 1 is taken for a number after a word of three letters, so "Vitamin B1" keeps it, and so do "Windows 10" and "MP3".
    """
    digits = title[len(title.rstrip("0123456789")) :]
    for at in range(len(digits)):
        number, base = digits[at:], title[: len(title) - len(digits) + at]
        if number[0] == "0" or len(number) > 2 or base[-1:].isspace() or not base:
            continue
        before = all(f"{base}{n}" in titles for n in range(1, int(number)))
        if before and (int(number) > 1 or f"{base}2" in titles or re.search(r"[a-z]{3}[)\"'”’!?.]?$", base)):
            return base, int(number)
    return title, 1


def _whole(title: str, rows: list[_Row], place: str, numbers: dict[str, tuple[str, int]]) -> Iterator[Article]:
    """The article of these rows; a second row for one method of wikihowAll.csv is an article of the same title."""
    sections: dict[tuple[int, str], list[Step]] = {}
    more: list[Article] = []
    problem = ""
    for row in rows:
        key = (numbers[row.title][1], "" if row.section.casefold() == "steps" else row.section)
        if row.section:  # wikihowSep.csv: a step
            sections.setdefault(key, []).append(Step(_tidy(row.headline), _tidy(row.text)))
            continue
        steps, wrong = _pairs(row)
        if key in sections:
            more.append(Article(title, "", "", (Section("", steps),), None, f"{place}+{row.line}", wrong))
            continue
        sections[key], problem = list(steps), problem or wrong
    found = tuple(Section(label, tuple(steps)) for (_, label), steps in sections.items())
    opening = next((row.overview for row in rows if row.overview.strip()), "").strip()
    yield Article(title, opening, "", found, None, place, problem)
    yield from more


_BETWEEN_HEADLINES = re.compile(r",[ \t\r]*\n")
_COMMA = re.compile(r",\s+(?=[\"“‘'(\[]?[A-Z0-9])")


def _pairs(row: _Row) -> tuple[tuple[Step, ...], str]:
    """The steps of a method, or what keeps its headlines and texts from being paired."""
    headlines = [_tidy(part) for part in _BETWEEN_HEADLINES.split(row.headline.strip())]
    texts = [_tidy(part) for part in _texts(row.text.strip())]
    if len(headlines) != len(texts):
        return (), f"{len(headlines)} headlines, {len(texts)} texts"
    return tuple(Step(headline, text) for headline, text in zip(headlines, texts, strict=True) if headline or text), ""


def _texts(text: str) -> Iterator[str]:
    """The texts that a method's were joined from: with ", ", after what ends a sentence or a line."""
    start = 0
    for comma in _COMMA.finditer(text):
        if text[comma.start() - 1] in '\n.!?:;)]"”’':
            yield text[start : comma.start()]
            start = comma.end()
    yield text[start:]


def _tidy(text: str) -> str:
    return text.replace("\r\n", "\n").strip().strip(";,").strip()
