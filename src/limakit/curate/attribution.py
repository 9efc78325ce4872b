"""The attribution file: what CC BY-SA and its kin want named with a work that is passed on, for people to read.

Section 3(a)(1) of CC BY-SA 4.0 (4(c) of 3.0 and 2.5): the authors, the title where there is one, the source's address, the licence with its
address, and that the material was changed. provenance.jsonl holds the same for programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from ..progress import visible
from ..records import Author, Provenance
from ..workspace import atomic_file

_CC = re.compile(r"CC (BY(?:-NC)?(?:-SA|-ND)?) (\d\.\d)")
_ZERO = re.compile(r"CC0(?:[ -]1\.0)?")


def licence_url(licence: str) -> str | None:
    """Where a Creative Commons licence stands, or None for others."""
    if found := _CC.search(licence):
        return f"https://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/"
    return "https://creativecommons.org/publicdomain/zero/1.0/" if _ZERO.search(licence) else None


def write_attribution(path: Path, provenance: Iterable[Provenance]) -> None:
    """Write the file: a paragraph on the terms, then an entry for each kept example or prompt, by source, in the set's order."""
    rows = list(provenance)
    with atomic_file(path) as file:
        file.write(_HEAD.encode())
        urls = sorted({(licence, url) for row in rows for licence in _licences(row.licence) if (url := licence_url(licence))})
        for licence, url in urls:
            file.write(f"- {as_text(licence)}: <{url}>\n".encode())
        for source, items in groupby(sorted(rows, key=lambda row: row.source), key=lambda row: row.source):
            file.write(f"\n## {as_text(source)}\n\n".encode())
            for item in items:
                file.write(_entry(item).encode())


_HEAD = """# Attribution

This set is made of works by others. Each entry names its authors, where it was published, its licence, and what was changed. Whoever passes the
set or a part of it on passes these entries on with it; works under a ShareAlike licence, and what is adapted from them, stay under that licence
or one that it calls compatible. The works come without warranties; their authors do not endorse this set.

Licences:

"""


def _entry(item: Provenance) -> str:
    title = f'"{as_text(item.title)}", ' if item.title else ""
    authors = "; ".join(f"{_author(a)} ({as_text(a.wrote)})" for a in item.authors)
    where = f", <{_address(item.url)}>" if item.url else ""
    changes = f". Changed: {as_text(item.changes)}" if item.changes else ". Not changed"
    return f"- {as_text(item.id)}: {title}by {authors}{where}; {as_text(item.licence)}{changes}.\n"


def _author(author: Author) -> str:
    return f"{as_text(author.name)} <{_address(author.url)}>" if author.url else as_text(author.name)


def _licences(licence: str) -> list[str]:
    """The licences that a field names: "CC BY-SA 2.5 (question), CC BY-SA 4.0 (answer)" names two."""
    return [found[0] for found in _CC.finditer(licence)] or [licence]


def as_text(text: str) -> str:
    """Names and titles are text, never Markdown, HTML or an order to a terminal."""
    shown = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|#!~]|(?<!\w)_|_(?!\w))", r"\\\1", shown)


def _address(url: str) -> str:
    return re.sub(r"[\s<>]", "", visible(url))
