"""A candidate as a Markdown file that somebody edits, and what they made of it: the format of authored examples."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ..errors import LimakitError, UsageError
from ..progress import visible
from ..recipe_sources import ANSWERED
from ..records import Example, Prompt, Turn, first_problem
from ..sources.authored import read_markdown
from .decisions import Decision, Decisions
from .review import ReviewItem

# A line of the text that would be read as a heading gets a backslash before it, and loses it on the way back.
_HEADING = re.compile(r"^(\\*)(##[ \t]+(?:Prompt|Response|Reference)[ \t]*#*[ \t]*)$", re.MULTILINE | re.IGNORECASE)
Words = tuple[tuple[Turn, ...], str | None]  # turns and reference


def as_markdown(item: ReviewItem, words: Words) -> str:
    """The file to edit: a comment that says what it is, then the turns and the reference under their headings."""
    note = f"{item.id}, from {item.label}. Save and leave the editor to take it as it then stands; an empty file leaves it undecided."
    parts = [f"<!-- {visible(note).replace('--', '- -')} -->"]
    for turn in words[0]:
        parts += ["## Prompt" if turn.role == "user" else "## Response", _HEADING.sub(r"\\\1\2", turn.text)]
    if words[1] is not None:
        parts += ["## Reference", _HEADING.sub(r"\\\1\2", words[1])]
    return "\n\n".join(parts) + "\n"


def from_markdown(path: Path, split: str) -> Words:
    """What a file says now. Raises LimakitError naming file and line for what is no example (train, held out) or prompt (dev, test)."""
    row = read_markdown(path)
    turns = tuple(turn.model_copy(update={"text": _unescaped(turn.text)}) for turn in row.turns or ())
    reference = None if row.reference is None else _unescaped(row.reference)
    if split in ANSWERED and reference is not None:
        raise LimakitError("a training example has no ## Reference", where=path, remedy="call it ## Response")
    try:
        (Example if split in ANSWERED else Prompt)(id="x", source="", turns=turns)
    except ValidationError as error:
        _, what = first_problem(error)
        kind = (
            "an example ends with ## Response"
            if split in ANSWERED
            else "a dev or test prompt ends with ## Prompt, or with ## Reference after it"
        )
        raise LimakitError(what, where=path, remedy=kind) from None
    return turns, reference


def _unescaped(text: str) -> str:
    return _HEADING.sub(lambda line: line[1][1:] + line[2], text)


def same_words(a: Words, b: Words) -> bool:
    """Whether two texts differ in nothing that the file keeps: white space at their ends and carriage returns aside."""
    return _kept(a) == _kept(b)


def _kept(words: Words) -> list[tuple[str, str]]:
    said = [(turn.role, turn.text) for turn in words[0]] + ([("reference", words[1])] if words[1] else [])
    return [(who, text.replace("\r\n", "\n").strip("\n").rstrip()) for who, text in said]


def words_of(item: ReviewItem, decisions: Decisions) -> Words:
    """A candidate's words as they were edited, where they were and the edit still counts; else as its source has them."""
    decision = decisions.on(item.seen)
    if decision is not None and decision.turns is not None:
        return decision.turns, decision.reference
    return item.turns, item.reference


def edit_of(item: ReviewItem, path: Path, note: str, reviewer: str) -> Decision:
    """The decision that an edited file stands for: what is as its source has it is accepted. Raises LimakitError as `from_markdown`."""
    offered = (item.turns, item.reference)
    words = offered if _is_still(path, as_markdown(item, offered)) else from_markdown(path, item.split)
    if same_words(words, offered):
        return Decision(id=item.id, action="accept", seen=item.seen, note=note, reviewer=reviewer)
    return Decision(id=item.id, action="edit", seen=item.seen, turns=words[0], reference=words[1], note=note, reviewer=reviewer)


def _is_still(path: Path, text: str) -> bool:
    """Whether nobody has changed a file; then it need not be one that can be read (a code fence that is never closed hides headings)."""
    try:
        return path.read_bytes().replace(b"\r\n", b"\n").rstrip() == text.replace("\r\n", "\n").encode().rstrip()
    except OSError:
        return False


def editor() -> list[str]:
    """The command of the editor: $VISUAL, $EDITOR, or one that is here. Raises UsageError where there is none."""
    for name in ("VISUAL", "EDITOR"):
        if os.environ.get(name, "").strip():
            try:
                return shlex.split(os.environ[name])
            except ValueError as error:
                raise UsageError(f"${name} is no command: {error}", remedy=f"set {name}, e.g. {name}=nano") from None
    for command in ("nano", "vim", "vi"):
        if shutil.which(command):
            return [command]
    raise UsageError("no editor is set", remedy="set EDITOR, e.g. EDITOR=nano")


def run_editor(command: Sequence[str], path: Path) -> None:
    """Let somebody edit a file; Ctrl-C is the editor's. Raises LimakitError where it cannot be run or fails."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # a handler, unlike SIG_IGN, is not inherited
    try:
        code = subprocess.call([*command, str(path)])
    except OSError as error:
        raise LimakitError(f"the editor cannot be run: {error.strerror}", where=command[0], remedy="set EDITOR, e.g. EDITOR=nano") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        raise LimakitError(
            f"the editor failed (exit code {code}), so nothing was taken", where=command[0], remedy="edit again, or set EDITOR"
        )
