"""Rubrics: text files with placeholders. Ours lie in rubrics/; a recipe may name any file of the user's instead.

A file may begin with lines that start with "#": notes, not sent to the judge. Two kinds of note mean something, in a rubric for grades:

    # grades: fail, pass, excellent      the grades there are, best last; without it they are 1 to 6
    # only: refusal, malicious           it grades only prompts with one of these tags; the word "dialogues" stands for prompts of several turns

A response may hold lines that look like the marks a rubric puts around it. So ours carry {mark} in each: a code made from the texts
themselves, which no text can know. A rubric of the user's may do so too. {form} is where a rubric leaves to us how the answer is written:
a last line `Grade: 4`, or JSON where the endpoint can be held to a schema. A rubric without it says that itself, and its answers are read by
their last line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from ..errors import LimakitError, UsageError
from ..records import Prompt, Turn
from ..sources.authored import marked
from ..workspace import name_for_file, sha256_json
from .verdict import plain

PAIRWISE = ("prompt", "response_a", "response_b")
GRADE = ("prompt", "response")
PROMPT = ("prompt",)  # a grade of the prompt alone
ANYWHERE = ("reference", "mark", "form")  # placeholders that any rubric may hold
VERDICTS = ("A", "B", "tie")
LIKERT = ("1", "2", "3", "4", "5", "6")
NOTES = ("grades", "only")
DIALOGUES = "dialogues"  # in "# only:", prompts of several turns
_NOTE = re.compile(r"(\s*)(#+)\s*(\w+)\s*([:=])(.*)")
PLACEHOLDER = re.compile(r"\{([A-Za-z_]{2,20})\}")

Form = Literal["line", "json"]
Shown = Mapping[str, str | Sequence[Turn]]  # what stands for a placeholder: a text, or the part of a dialogue


@dataclass(frozen=True)
class Rubric:
    """`name` is what judgments call it; `values` are the answers there are, of grades worst first; `word` what an answer's last line begins with."""

    name: str
    text: str
    values: tuple[str, ...]
    word: Literal["Verdict", "Grade"] = "Grade"
    only: tuple[str, ...] = ()

    @property
    def leaves_form(self) -> bool:
        """Whether it leaves to us how the answer is written."""
        return "{form}" in self.text

    def wants(self, prompt: Prompt) -> bool:
        """Whether it grades responses to this prompt."""
        several = len(prompt.turns) > 1 or bool(prompt.follow_ups)
        return not self.only or any(several if tag == DIALOGUES else marked(prompt.tags, tag) is not None for tag in self.only)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer: the reason first, for a judge that reasons before it decides decides better."""
        key = self.word.lower()
        properties = {"reason": {"type": "string"}, key: {"type": "string", "enum": list(self.values)}}
        return {"type": "object", "properties": properties, "required": ["reason", key], "additionalProperties": False}

    def form(self, form: Form) -> str:
        """What {form} stands for."""
        if form == "line":
            return f"End with one line of its own that holds the word {self.word}, a colon and one of these: {', '.join(self.values)}."
        values = ", ".join(f'"{value}"' for value in self.values)
        return f'Answer with one JSON object and nothing else: under "reason" what you reasoned, then under "{self.word.lower()}" one of these: {values}.'


def rubric_name(path: str) -> str:
    """What judgments call a rubric of the user's. Raises UsageError where that cannot be part of a file's name."""
    return name_for_file(Path(path).stem)


def load_rubric(name: str, needs: Sequence[str], root: Path) -> Rubric:
    """The rubric of ours called `name`, or the file at that path below `root`. `needs` are PAIRWISE, GRADE or PROMPT.

    Raises UsageError for a file that is not there or not text, for a note or placeholder that cannot be meant (naming file and line), and for
    a missing placeholder.
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
    pairwise = "response_a" in needs
    begin = next((n for n, line in enumerate(lines) if line.strip()), len(lines))  # blank lines before the notes say nothing
    notes = next((n for n in range(begin, len(lines)) if not lines[n].startswith("#")), len(lines))
    _refuse_strays(lines, notes, where)
    said = _read_notes(lines[:notes], pairwise, where)
    text = "\n".join(lines[notes:]).strip() + "\n"
    for placeholder in needs:
        if "{" + placeholder + "}" not in text:
            raise UsageError(
                f"the placeholder {{{placeholder}}} is missing", where=where, remedy=f"a rubric for this needs {_braced(needs)}"
            )
    _refuse_slips(lines, notes, needs, where)
    values = VERDICTS if pairwise else said.get("grades", LIKERT)
    return Rubric(name, text, values, "Verdict" if pairwise else "Grade", said.get("only", ()))


def _read_notes(notes: Sequence[str], pairwise: bool, where: object) -> dict[str, tuple[str, ...]]:
    """The lists that "# grades:" and "# only:" name. Raises UsageError naming the line of one that cannot be meant."""
    said: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(notes, start=1):
        match = _NOTE.match(line)
        if not match or match[3].lower() not in NOTES:
            continue
        kind, at = match[3].lower(), f"{where}, line {number}"
        if pairwise:
            what = f"{kind}: a rubric that compares has three verdicts, {', '.join(VERDICTS)}, for every prompt"
            raise UsageError(what, where=at, remedy="take the line away, or use the rubric for grades (judge.grade)")
        if kind in said:
            raise UsageError(f"{kind}: is there twice", where=at, remedy="keep one of the lines")
        values = tuple(value.strip() for value in match[5].split(",") if value.strip())
        if kind == "only" and not values:
            raise UsageError(
                "only: names no tag", where=at, remedy="for example # only: refusal, malicious; without the line it grades all"
            )
        if kind == "grades" and (len(values) < 2 or "" in (bare := {plain(value) for value in values}) or len(bare) < len(values)):
            what = "grades: name at least two different ones, that differ in more than case and the punctuation around them"
            raise UsageError(what, where=at, remedy="for example # grades: fail, pass, excellent")
        said[kind] = values
    return said


def _refuse_strays(lines: Sequence[str], notes: int, where: object) -> None:
    """Raise UsageError for a line that looks like a note which means something, and would not be read as one."""
    for number, line in enumerate(lines, start=1):
        match = _NOTE.match(line)
        if not match or not (near := difflib.get_close_matches(match[3].lower(), NOTES, n=1, cutoff=0.75)):
            continue
        as_meant = match[1] == "" and match[2] == "#" and match[3].lower() == near[0] and match[4] == ":" and number <= notes
        if not as_meant and (number <= notes or match[5].strip()):  # below the notes a heading "## Grades:" is text
            what = f"{line.strip()[:40]!r} would not be read as a note"
            remedy = f"write # {near[0]}: ... among the first lines, with no blank line between them"
            raise UsageError(what, where=f"{where}, line {number}", remedy=remedy)


def _refuse_slips(lines: Sequence[str], notes: int, needs: Sequence[str], where: object) -> None:
    """Raise UsageError for a placeholder of another kind of rubric, or one that is misspelt; other braces are text."""
    known = {*PAIRWISE, *GRADE, *ANYWHERE}
    for number, line in enumerate(lines[notes:], start=notes + 1):
        for name in re.findall(r"\{(\{\w+\})\}", line):
            if name[1:-1].lower() in (*needs, *ANYWHERE):
                raise UsageError(f"{{{name}}} has two braces", where=f"{where}, line {number}", remedy=f"write {name}")
        for name in PLACEHOLDER.findall(line):
            if name in needs or name in ANYWHERE:
                continue
            near = difflib.get_close_matches(name.lower(), [*needs, *ANYWHERE], n=1, cutoff=0.75)
            if name in known or near:
                meant = f"; {{{near[0]}}} was meant?" if near else ""
                what = f"{{{name}}} is nothing that is filled in here{meant}"
                raise UsageError(what, where=f"{where}, line {number}", remedy=f"a rubric for this knows {_braced([*needs, *ANYWHERE])}")


def _braced(names: Sequence[str]) -> str:
    return ", ".join("{" + name + "}" for name in names)


def fill(rubric: Rubric, prompt: Prompt, texts: Shown, form: Form = "line") -> str:
    """The message for the judge: each placeholder replaced, once and in one pass, so nothing inside a text is ever expanded.

    `texts` are the responses by placeholder. {prompt} is the user's text, or the dialogue so far; {reference}, where a rubric has it,
    the prompt's reference; {mark} a code for the marks, the same whenever the texts are. In a dialogue a line [user CODE] or [assistant CODE]
    stands before each turn, with the same code. Raises LimakitError if a rubric wants a reference the prompt lacks.
    """
    shown: dict[str, str | Sequence[Turn]] = {**texts, "prompt": prompt.text if len(prompt.turns) == 1 else prompt.turns}
    if prompt.reference is not None:
        shown["reference"] = prompt.reference
    elif "{reference}" in rubric.text:
        raise LimakitError(
            f"the rubric {rubric.name!r} wants a {{reference}}, which this prompt lacks", where=f"prompt {prompt.id!r}",
            remedy="give every prompt a reference, or use another rubric",
        )  # fmt: skip
    plain = {name: text if isinstance(text, str) else [[turn.role, turn.text] for turn in text] for name, text in shown.items()}
    mark = sha256_json(plain)[:12]
    known = {name: text if isinstance(text, str) else _dialogue(text, mark) for name, text in shown.items()}
    known |= {"mark": mark, "form": rubric.form(form)}
    pattern = "|".join(re.escape("{" + name + "}") for name in known)
    return re.sub(pattern, lambda match: known[match[0][1:-1]], rubric.text)


def _dialogue(turns: Sequence[Turn], mark: str) -> str:
    return "\n\n".join(f"[{turn.role} {mark}]\n{turn.text}" for turn in turns)
