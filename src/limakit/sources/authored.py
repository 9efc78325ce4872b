"""What people wrote by hand: a JSONL file, or a folder of Markdown files with one example or prompt each.

Beside its text an item may say who wrote it (`group`, the paper's A or B), where it belongs (`split`), that it refuses and why (`refusal`),
and which structure its prompt demands (`format`). The last two become tags: `refusal: asks how to hurt somebody` is the tag "refusal" and
the tag "refusal=asks how to hurt somebody", so that examples can be told apart by the mark and read by its reason; `format` likewise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import LimakitError, UsageError
from ..progress import warn
from ..recipe_sources import ANSWERED, Split
from ..records import Example, Prompt, Record, Turn, first_problem, jsonl_lines, parse_row

Group = Literal["A", "B"]
MARKS = ("refusal", "format")  # what an item says of itself in words


class AuthoredRow(Record):
    """{"prompt", "response"?, "reference"?, "tags"?, "id"?, "group"?, "split"?, "refusal"?, "format"?} or {"turns": [...], ...}."""

    id: str | None = None
    prompt: str | None = None
    response: str | None = None
    turns: tuple[Turn, ...] | None = None
    reference: str | None = None
    tags: tuple[str, ...] = ()
    group: Group | None = None
    split: Split | None = None
    refusal: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class Authored:
    """One example or prompt: `id` is the author's own, or None; `part` tells rows and files without one apart; `where` is for messages.

    `group` and `split` are None where the item does not say; `tags` hold its marks too.
    """

    id: str | None
    part: str
    turns: tuple[Turn, ...]
    reference: str | None
    tags: tuple[str, ...]
    group: Group | None
    split: Split | None
    where: str


def marked(tags: Sequence[str], mark: str) -> str | None:
    """What an example's tags say of a mark: its words ("" where the tag stands alone), or None where the example is not marked."""
    for tag in tags:
        if tag.startswith(f"{mark}="):
            return tag.removeprefix(f"{mark}=")
    return "" if mark in tags else None


def authored_files(path: Path) -> tuple[list[Path], list[Path]]:
    """(those that are read, those that are not) of a folder's files, hidden ones left out, or of a single file itself.

    A folder's are its *.md and *.markdown in the order of their names; folders that are links are followed. Raises UsageError where the
    path or a folder below it is missing or cannot be read.
    """
    try:
        if not path.is_dir():
            path.stat()
            return [path], []
        read: list[Path] = []
        others: list[Path] = []
        _walk(path, read, others, frozenset())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError("no such file or folder", where=path, remedy="mend the path, or put what you wrote there") from None
    except OSError as error:
        place = error.filename or path
        raise UsageError(f"cannot read: {error.strerror}", where=place, remedy="check the path and its permissions") from None
    return sorted(read), sorted(others)


def _walk(folder: Path, read: list[Path], others: list[Path], above: frozenset[Path]) -> None:
    """`above` are the folders on the way here: a link back to one of them is not followed round and round."""
    real = folder.resolve()
    if real in above:
        return
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            _walk(entry, read, others, above | {real})
        else:
            (read if entry.suffix.lower() in (".md", ".markdown") else others).append(entry)


def read_authored(path: Path, *, split: Split) -> list[Authored]:
    """All of a JSONL file or of a folder's Markdown files, in the order of rows or names; a note tells of files that are not read.

    What belongs to train must end with a response, dev and test prompts with a prompt (a model answer is called reference); `split` is that
    of the items that do not say. One mistake and nothing is taken: its author is at hand to mend it. Raises LimakitError naming file and
    row or line.
    """
    files, others = authored_files(path)
    if files != [path]:
        if not files:
            raise UsageError(
                "no Markdown files here", where=path, remedy="write one *.md an example (## Prompt, ## Response), or name a JSONL file"
            )
        if others:
            names = ", ".join(str(p.relative_to(path)) for p in others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            warn(f"{path}: not read, since only *.md and *.markdown are: {names}")
        rows = [(str(file), _part(file, path), read_markdown(file)) for file in files]
    else:
        rows = [(f"{path}, row {n}", str(n), parse_row(AuthoredRow, line, path, n)) for n, line in jsonl_lines(path)]
    found = [_checked(row, where, part, split) for where, part, row in rows]
    seen: dict[str, str] = {}
    for (where, _, _), item in zip(rows, found, strict=True):
        if item.id is not None and item.id in seen:
            raise LimakitError(f"id {item.id!r} is taken by {seen[item.id]}", where=where, remedy="give each its own id, or none")
        if item.id is not None:
            seen[item.id] = where
    return found


def _part(file: Path, folder: Path) -> str:
    part = file.relative_to(folder).with_suffix("").as_posix()
    if not part.isprintable():  # nor bytes that are not UTF-8
        raise UsageError(f"the file name {part!r} cannot be an id", where=folder, remedy="rename the file")
    return part


def _checked(row: AuthoredRow, where: str, part: str, split: Split) -> Authored:
    train = (row.split or split) in ANSWERED

    def wrong(what: str, remedy: str) -> LimakitError:
        return LimakitError(what, where=where, remedy=remedy)

    if row.turns is not None and (row.prompt is not None or row.response is not None):
        raise wrong("has turns and a prompt or response", "use the one or the other")
    turns = row.turns
    if turns is None:
        if row.prompt is None:
            raise wrong("no prompt", 'a row needs "prompt" (and "response" to train on), or "turns"')
        turns = (Turn(role="user", text=row.prompt),)
        if row.response is not None:
            turns += (Turn(role="assistant", text=row.response),)
    if train and turns and turns[-1].role == "user":
        raise wrong("no response", "write one, or mark it split: dev or split: test, or use this source with such a split")
    if not train and turns and turns[-1].role == "assistant":
        raise wrong("a dev or test prompt has no response", "call it reference, which only judges see")
    if train and row.reference is not None:
        raise wrong("a training example has no reference", "call it response")
    try:
        (Example if train else Prompt)(id=row.id if row.id is not None else part, source="", turns=turns)
    except ValidationError as error:
        key, what = first_problem(error)
        raise wrong(f"{key}: {what}" if key else what, "fill it in, or remove it") from None
    tags = list(row.tags)
    for mark in MARKS:
        said = getattr(row, mark)
        if said is not None:
            if not said.strip():
                raise wrong(f"{mark} says nothing", f"say it ({_EXAMPLES[mark]}), or remove the key")
            tags += [mark, f"{mark}={' '.join(said.split())}"]
    return Authored(row.id, part, turns, row.reference, tuple(dict.fromkeys(tags)), row.group, row.split, where)


_EXAMPLES = {"refusal": '"refusal: asks how to hurt somebody"', "format": '"format: numbered list"'}


_HEADING = re.compile(r"##[ \t]+(Prompt|Response|Reference)[ \t]*#*[ \t]*", re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def read_markdown(path: Path) -> AuthoredRow:
    """One file: ## Prompt, ## Response (again for a dialogue; ## Reference for judges), after optional "---" lines with id, tags,
    group, split, refusal and format.

    Comments at the very top are passed over; a heading inside a code fence is text, and so is any other heading.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise LimakitError(f"is not UTF-8 (byte {error.start})", where=path, remedy="save it as UTF-8") from None
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    front: dict[str, str] = {}
    line = 1
    if text.startswith("---\n"):
        front, rest = _front_matter(text, path)
        line += text[: len(text) - len(rest)].count("\n")
        text = rest
    while comment := re.match(r"\s*<!--.*?-->", text, re.DOTALL):
        line += comment[0].count("\n")
        text = text[comment.end() :]
    parts: list[tuple[str, list[str]]] = []
    fence, opened = "", 0
    for number, content in enumerate(text.split("\n"), start=line):
        mark = _FENCE.fullmatch(content)
        heading = None if fence else _HEADING.fullmatch(content)
        if mark and not fence and not (mark[1][0] == "`" and "`" in mark[2]):
            fence, opened = mark[1], number
        elif mark and fence and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        if heading:
            parts.append((heading[1].lower(), []))
        elif parts:
            parts[-1][1].append(content)
        elif content.strip():
            raise LimakitError("text before the first heading", where=f"{path}, line {number}", remedy="begin with ## Prompt")
    if fence:
        remedy = f"end the code with a line of its own, {fence}, or remove the fence"
        raise LimakitError(f"the code fence {fence} is never closed", where=f"{path}, line {opened}", remedy=remedy)
    if not parts:
        raise LimakitError("no ## Prompt heading", where=path, remedy="write ## Prompt, the prompt, ## Response, the response")
    said = [(kind, "\n".join(lines).strip("\n").rstrip()) for kind, lines in parts]
    reference = said.pop()[1] if said[-1][0] == "reference" else None
    for i, (kind, body) in enumerate(said):
        expected = "response" if i % 2 else "prompt"
        if kind != expected:
            raise LimakitError(f"heading {i + 1} is ## {kind.title()}, expected ## {expected.title()}", where=path, remedy="prompts and responses alternate, ## Reference comes last")  # fmt: skip
        if not body.strip():
            raise LimakitError(f"nothing under heading {i + 1} (## {kind.title()})", where=path, remedy="fill it in, or remove the file")
    turns = tuple(Turn(role="assistant" if kind == "response" else "user", text=body) for kind, body in said)
    tags = tuple(t for t in re.split(r"[\s,]+", front.get("tags", "").strip("[] ")) if t)
    return AuthoredRow(turns=turns, reference=reference, tags=tags, **{key: value for key, value in front.items() if key != "tags"})  # type: ignore[arg-type]


_KEYS: dict[str, tuple[str, ...]] = {
    "id": (),
    "tags": (),
    "group": ("A", "B"),
    "split": ("train", "dev", "test", "held_out"),
    "refusal": (),
    "format": (),
}


def _front_matter(text: str, path: Path) -> tuple[dict[str, str], str]:
    head, mark, rest = text[3:].partition("\n---\n")  # "---" on the very next line ends an empty one
    if not mark:
        raise LimakitError('no "---" line ends what the first line began', where=path, remedy="add it, or remove the first line")
    front: dict[str, str] = {}
    for number, line in enumerate(head.split("\n"), start=1):
        if not line.strip():
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key not in _KEYS or (not value and key != "tags"):
            raise LimakitError(
                f"{line.strip()!r} is not understood",
                where=f"{path}, line {number}",
                remedy='"id: name", "tags: one, two", "group: A", "split: dev", "refusal: its reason" and "format: the constraint" are known',
            )
        if _KEYS[key] and value not in _KEYS[key]:
            raise LimakitError(f"{key} is {value!r}", where=f"{path}, line {number}", remedy=f"it is one of {', '.join(_KEYS[key])}")
        front[key] = value
    return front, rest
