"""Comments of a Stack Exchange dump (Comments.xml): plain text with a little Markdown, one row a comment, in the order of their Ids or not."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from .stackexchange import Row, licence_of, number

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])+)\]\((?:https?:|ftp:|//|/)[^\s()]*(?:\([^\s()]*\)[^\s()]*)*(?:\s+\"[^\"]*\")?\)")
_TAG = re.compile(r"\[(?:meta-)?tag:([^\[\]]+)\]")
_MENTION = re.compile(r"\s*@([^\s@:,]+)[:,]?(?:\s+[-–—]+(?=\s))?\s*")


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment. `user` is None where the account is deleted; `created` is ISO 8601, so that its text sorts by time."""

    id: int
    post: int
    user: int | None
    created: str
    text: str
    licence: str


def comment_of(row: Row, path: Path) -> Comment:
    """The comment of a row. Raises LimakitError naming file, row and key where a number is none."""
    user = number(row, "UserId", path) if "UserId" in row else None
    return Comment(
        number(row, "Id", path), number(row, "PostId", path), user, row.get("CreationDate", ""), row.get("Text", ""), licence_of(row)
    )


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
