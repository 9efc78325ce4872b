"""Comments of a Stack Exchange dump (Comments.xml): plain text with a little Markdown, one row a comment, in the order of their Ids or not.

One reading keeps numbers only: of each comment the post, the user and where its row lies. The rows that are wanted are read again by their place.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .dump import Table, scan_of
from .packed import unpack
from .posts import among, number
from .scan import Block, Row, RowError, attributes, heads, parse_row
from .stackexchange import licence_of

LONGEST = 10_000  # characters of a comment; sites allow 600, and markup is looked for in time that grows with the square
NOBODY = -(2**62)  # the user of a comment whose account is deleted
NOWHERE = -(2**62)  # the post of a damaged comment of which that cannot be read
SCHEMA = pa.schema([("post", pa.int64()), ("user", pa.int64()), ("at", pa.int64()), ("size", pa.int32()), ("problem", pa.string())])
# what every dump seen has; a row with another order of attributes is read by expat
_HEAD = re.compile(
    attributes("Id")
    + rb'''"\d{1,18}" PostId="(\d{1,18})" Score="-?\d{1,18}" Text="[^"<]*" CreationDate="[^"<]*"'''
    + rb"""(?: UserDisplayName="[^"<]*")?(?: UserId="(-?\d{1,18})")?(?: ContentLicense="[^"<]*")? ?/>"""
)
_POST = re.compile(rb"""\sPostId=["'](\d{1,18})["']""")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])+)\]\((?:https?:|ftp:|//|/)[^\s()]*(?:\([^\s()]*\)[^\s()]*)*(?:\s+\"[^\"]*\")?\)")
_TAG = re.compile(r"\[(?:meta-)?tag:([^\[\]]+)\]")
# "@Neil: yes", "@Neil Fein - yes"; not "@Neil's answer", "@Neil is right", which speak of somebody
_MENTION = re.compile(
    r"\s*@([^\s@:,]*[^\s@:,.;!?])(?<!['’]s)(?!\s+(?:is|was|has|had|does|did|says|said|and|or|are|were|already|makes?|suggest\w*|mention\w*)\b)"
    r"(?:(?:\s[A-Z][\w'’]*){0,2}(?:[:,]|\s+[-–—]+(?=\s))|[.;!?]?(?=\s|$))\s*"
)


# --- one reading ----------------------------------------------------------------------------------------------------------------------


def index_comments(path: Path, member: str | None, start: int, stop: int | None, wanted: str | None = None) -> pa.Table:
    """The comments whose rows begin at bytes [start, stop) of a file (all: start 0, stop None), in its order, as rows of SCHEMA: `at` is the byte
    at which a row begins, `size` its bytes. A damaged row has a `problem`, and its post where that can be read all the same; of another nobody knows
    under which post it stood, and `post` is NOWHERE. Where `wanted` packs posts (one column, ascending), theirs and the damaged rows.

    The metadata say how the scan went. Raises LimakitError where the file cannot be read on.
    """
    scan = scan_of(Table(path, member), "comments", start, stop)
    posts = None if wanted is None else unpack(wanted, 1)[0]
    parts = [_among(_places(block), posts) for block in scan]
    return pa.concat_tables([SCHEMA.empty_table(), *parts]).combine_chunks().replace_schema_metadata(scan.notes())


def _among(table: pa.Table, wanted: np.ndarray | None) -> pa.Table:
    if wanted is None:
        return table
    return table.filter(pc.or_(pa.array(among(table["post"].to_numpy(), wanted)), pc.is_valid(table["problem"])))


def _places(block: Block) -> pa.Table:
    found, odd = heads(block, _HEAD)
    posts = np.fromiter((int(post or 0) for post, _ in found), np.int64, len(found))
    users = np.fromiter((int(user) if user else NOBODY for _, user in found), np.int64, len(found))
    problems: list[str | None] = [None] * len(found) if odd else []
    for i in odd:
        try:
            row = parse_row(block.row(i))
            number(row, "Id")
            posts[i], users[i] = number(row, "PostId"), number(row, "UserId") if "UserId" in row else NOBODY
        except RowError as error:
            problems[i] = str(error)
            post = _POST.search(block.row(i))
            posts[i] = int(post[1]) if post else NOWHERE
    said = pa.array(problems, pa.string()) if odd else pa.nulls(len(found), pa.string())
    return pa.table([posts, users, block.starts + block.base, (block.ends - block.starts).astype(np.int32), said], schema=SCHEMA)


# --- a comment ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment. `user` is None where the account is deleted; `created` is ISO 8601, so that its text sorts by time."""

    id: int
    post: int
    user: int | None
    created: str
    text: str
    licence: str


def comment_of(row: Row) -> Comment:
    """The comment of a row. Raises RowError naming the key where a number is none, or the text longer than any site allows."""
    user = number(row, "UserId") if "UserId" in row else None
    text = row.get("Text", "")
    if len(text) > LONGEST:
        raise RowError(f"Text has {len(text)} characters, which no comment has")
    return Comment(number(row, "Id"), number(row, "PostId"), user, row.get("CreationDate", ""), text, licence_of(row))


def comment_html(text: str) -> str:
    """A comment as the site shows it: `code` and [links](address) as HTML, all else as it was typed.

    A dump has the text as its author typed it: "<b>" is three characters, not a tag, and "&lt;" is four (no entity occurs in the real dumps read).
    Emphasis stays as Markdown. [tag:tea] is what the site shows for it, "tea".
    """
    spans: list[str] = []

    def set_aside(code: re.Match[str]) -> str:
        spans.append(f"<code>{html.escape(code[2], quote=False)}</code>")
        return f"\0{len(spans) - 1}\0"  # no XML has this character

    prose = html.escape(_CODE.sub(set_aside, text), quote=False)
    prose = _TAG.sub(r"\1", _LINK.sub(r"<a>\1</a>", prose))
    return re.sub("\0(\\d+)\0", lambda span: spans[int(span[1])], prose)


def mention(text: str) -> tuple[str, str]:
    """(name, rest) of a comment that opens with "@name", as a reply does: the name in lower case without what is no letter or digit; ("", text) of another."""
    found = _MENTION.match(text)
    if found is None:
        return "", text
    return "".join(c for c in found[1].casefold() if c.isalnum()), text[found.end() :]
