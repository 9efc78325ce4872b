"""Small dumps in the real format, for tests that need one of their own."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

LONG = "<p>" + "Water that is too hot draws bitter compounds out of the leaves, and water that is too cool leaves them flat. " * 14 + "</p>"


def row(**attributes: object) -> str:
    pairs = (
        f"{k}={quoteattr(str(v), {chr(10): '&#xA;', chr(13): '&#xD;', chr(9): '&#x9;'})}" for k, v in attributes.items() if v is not None
    )
    return f"  <row {' '.join(pairs)} />"


def question(id: int, title: str | None = None, body: str = "<p>Why is that?</p>", score: int = 5, **more: object) -> str:
    base = {"Id": id, "PostTypeId": 1, "CreationDate": "2015-03-01T10:00:00.000", "Score": score, "Body": body, "OwnerUserId": 100 + id}
    return row(**base | {"Title": title if title is not None else f"Question number {id}?", "Tags": "<tea>"} | more)


def answer(id: int, parent: int, body: str | None = None, score: int = 12, **more: object) -> str:
    """Without a body, a long one that no other answer has."""
    base = {"Id": id, "PostTypeId": 2, "ParentId": parent, "CreationDate": "2015-03-02T10:00:00.000", "Score": score}
    base["Body"] = body if body is not None else f"{LONG}<p>That is rule {id}.</p>"
    return row(**base | {"OwnerUserId": 200 + id} | more)


def write_site(root: Path, name: str, rows: Iterable[str], *, newline: str = "\r\n", head: str = "\ufeff", tag: str = "posts") -> Path:
    """ROOT/NAME/Posts.xml (or Users.xml with tag "users"); `head` stands before the XML declaration."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{tag}>", *rows, f"</{tag}>"]
    path = folder / f"{tag.title()}.xml"
    path.write_bytes((head + newline.join(lines)).encode())
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    """Every row of a dump's file, read the plain way: what our own reading is held against."""
    return [dict(element.attrib) for element in ET.fromstring(path.read_bytes()).iter("row")]


def recipe(root: Path, *sources: str, seed: int = 7, near: float = 1.0) -> Path:
    """A workspace with these [[sources]] tables (given as TOML without the header). `answer` writes much the same in every answer, so
    near-duplicates are only looked for where a test asks."""
    root.mkdir(parents=True, exist_ok=True)
    text = (
        f'name = "t"\nseed = {seed}\n[model]\nbase = "nowhere/nothing"\n[duplicates]\nnear = {near}\n[decontaminate]\nnear = {near}\n'
        + "".join(f"[[sources]]\n{s}\n" for s in sources)
    )
    path = root / "lima.toml"
    path.write_text(text)
    return path


def stackexchange(**keys: object) -> str:
    import json

    usual = {"kind": "stackexchange", "path": "dumps", "take": 1, "titles": "keep"}
    return "\n".join(f"{k} = {json.dumps(v)}" for k, v in (usual | keys).items())
