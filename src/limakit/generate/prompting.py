"""How a prompt is put to a model, as text: plain, or URIAL's fixed prompt with examples. (A chat model's own format is form.py, by tokens.)

URIAL (Lin et al. 2023, "The Unlocking Spell on Base LLMs") asks a base model without any tuning: a preamble, three answered queries, then the
user's. The method is theirs; the preamble and the examples, in urial.txt, were written for this project in the style of its paper.

Texts are fenced, as in Markdown, by more backticks than any run within them, four at least since answers have code blocks of three. So a text
that contains the markers is still inside its fence, and an answer ends where its fence is closed or the model begins a query of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Literal

from ..records import Turn
from ..workspace import sha256_json

TextKind = Literal["plain", "urial"]
FENCE = "````"  # the one of urial.txt
QUERY = "# Query:"


def as_text(kind: TextKind, turns: Sequence[Turn]) -> str:
    """What a base model goes on from. plain: the text of each turn and a newline."""
    if kind == "plain":
        return "".join(turn.text + "\n" for turn in turns)
    fence = _fence(turns)
    parts = [_examples().replace(FENCE, fence)]
    for turn in turns:
        parts.append(f"\n{QUERY if turn.role == 'user' else '# Answer:'}\n{fence}\n{turn.text}\n{fence}\n")
    return "".join(parts) + f"\n# Answer:\n{fence}\n"


def end_texts(kind: TextKind, turns: Sequence[Turn]) -> tuple[str, ...]:
    """Where a response to these turns is over, besides the model's EOS; each begins a line. plain: nowhere."""
    return () if kind == "plain" else (f"\n{_fence(turns)}", f"\n{QUERY}")


def reaches(text: str, ends: Sequence[str], *, whole: bool) -> bool:
    """Whether a response contains one of the end texts so far. `text` is the whole of it, which begins a line, or its tail."""
    lines = "\n" + text if whole else text
    return any(end in lines for end in ends)


def cut(text: str, ends: Sequence[str]) -> str:
    """The response without the first end text and what follows; all of it where there is none."""
    lines = "\n" + text
    places = [place for end in ends if (place := lines.find(end)) >= 0]
    return lines[1 : min(places)] if places else text


def examples_hash() -> str:
    """Of the fixed prompt: a response by URIAL depends on it."""
    return sha256_json(_examples())


def _examples() -> str:
    return (resources.files("limakit.generate") / "urial.txt").read_text(encoding="utf-8")


def _fence(turns: Sequence[Turn]) -> str:
    longest = max((len(run) for turn in turns for run in re.findall(r"`+", turn.text)), default=0)
    return "`" * max(len(FENCE), longest + 1)
