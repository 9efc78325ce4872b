"""Rubrics: text files with placeholders. Ours lie in rubrics/; a recipe may name any file of the user's instead.

A file may begin with lines that start with "#": notes, not sent to the judge. In a rubric for grades such a line may name the grades there
are, best last: "# grades: fail, pass, excellent". Without it they are 1 to 6.

A response may hold lines that look like the marks a rubric puts around it. So ours carry {mark} in each: a code made from the texts
themselves, which no text can know. A rubric of the user's may do so too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..errors import LimakitError, UsageError
from ..records import Prompt
from ..workspace import name_for_file, sha256_json

PAIRWISE = ("prompt", "response_a", "response_b")
GRADE = ("prompt", "response")
PROMPT = ("prompt",)  # a grade of the prompt alone
LIKERT = ("1", "2", "3", "4", "5", "6")


@dataclass(frozen=True)
class Rubric:
    """`name` is what judgments call it; `values` are the answers there are: verdicts or grades."""

    name: str
    text: str
    values: tuple[str, ...]


def rubric_name(path: str) -> str:
    """What judgments call a rubric of the user's. Raises UsageError where that cannot be part of a file's name."""
    return name_for_file(Path(path).stem)


def load_rubric(name: str, needs: Sequence[str], root: Path) -> Rubric:
    """The rubric of ours called `name`, or the file at that path below `root`. `needs` are PAIRWISE, GRADE or PROMPT.

    Raises UsageError for a file that is not there or not text, and for a missing placeholder, naming file and placeholder.
    """
    ours = resources.files(__package__) / "rubrics"
    shipped = sorted(entry.name.removesuffix(".txt") for entry in ours.iterdir() if entry.name.endswith(".txt"))
    where: object = f"rubric {name!r}"
    if name in shipped:
        raw = (ours / f"{name}.txt").read_bytes()
    else:
        path = root / Path(name).expanduser()
        where = path
        try:
            raw = path.read_bytes()
        except OSError as error:
            remedy = f"name a text file, or one of ours: {', '.join(shipped)}"
            raise UsageError(f"no such rubric ({error.strerror})", where=path, remedy=remedy) from None
        name = rubric_name(name)
        if name in shipped:
            raise UsageError(
                f"a rubric of ours is called {name!r} too", where=path, remedy="rename yours, so that verdicts tell which it was"
            )
    try:
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text", where=where, remedy="save it as UTF-8") from None
    notes = 0
    while notes < len(lines) and lines[notes].startswith("#"):
        notes += 1
    values: tuple[str, ...] = ("A", "B", "tie") if "response_a" in needs else LIKERT
    for line in lines[:notes]:
        match = re.match(r"#\s*grades\s*:(.*)", line)
        if match and "response_a" not in needs:
            values = tuple(value.strip() for value in match[1].split(",") if value.strip())
            if len(values) < 2 or len({value.lower() for value in values}) < len(values):
                raise UsageError(
                    "grades: name at least two different ones", where=where, remedy="for example # grades: fail, pass, excellent"
                )
    text = "\n".join(lines[notes:]).strip() + "\n"
    for placeholder in needs:
        if "{" + placeholder + "}" not in text:
            raise UsageError(
                f"the placeholder {{{placeholder}}} is missing", where=where, remedy=f"a rubric for this needs {_braced(needs)}"
            )
    return Rubric(name, text, values)


def _braced(names: Sequence[str]) -> str:
    return ", ".join("{" + name + "}" for name in names)


def fill(rubric: Rubric, prompt: Prompt, texts: dict[str, str]) -> str:
    """The message for the judge: each placeholder replaced, once and in one pass, so nothing inside a text is ever expanded.

    `texts` are the responses by placeholder. {prompt} is the user's text, or the dialogue so far; {reference}, where a rubric has it,
    the prompt's reference; {mark} a code for the marks, the same whenever the texts are. Raises LimakitError if a rubric wants a reference the prompt lacks.
    """
    known = texts | {"prompt": _dialogue(prompt)}
    if prompt.reference is not None:
        known["reference"] = prompt.reference
    elif "{reference}" in rubric.text:
        raise LimakitError(
            f"the rubric {rubric.name!r} wants a {{reference}}, which this prompt lacks", where=f"prompt {prompt.id!r}",
            remedy="give every prompt a reference, or use another rubric",
        )  # fmt: skip
    known["mark"] = sha256_json(known)[:12]
    pattern = "|".join(re.escape("{" + name + "}") for name in known)
    return re.sub(pattern, lambda match: known[match[0][1:-1]], rubric.text)


def _dialogue(prompt: Prompt) -> str:
    if len(prompt.turns) == 1:
        return prompt.text
    return "\n\n".join(f"[{turn.role}]\n{turn.text}" for turn in prompt.turns)
