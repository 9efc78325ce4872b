"""What a judge's answer says, strictly: a failure is a status, never a value (promise 8).

Strict about what is said, not about how it is dressed: markdown, brackets, "Response A" for A and 4/6 for 4 say the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_BEFORE = " \t\r\xa0>#*_`~-–—•+\"'“”‘’([{<"  # what may stand before the word
_AROUND = " \t\r\xa0*_`~\"'“”‘’«»()[]{}<>"  # what may stand around the value
_END = _AROUND + ".!。！"
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_STOP_TOKENS = re.compile(r"(?:\s*(?:</s>|<\|\w{1,30}\|>))+\s*$")  # of judges whose server leaves them in the text
_RULE = re.compile(r"(?:`{3,}|~{3,}|-{3,}|\*{3,}|_{3,}|={3,})$")  # ends a fence or draws a line
_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True)
class Parsed:
    """`value` is one of the values asked for, or None with the `problem`."""

    value: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Said:
    """What became of a question. `missing`: no answer came, so it is worth asking again."""

    parsed: Parsed
    raw: str = ""
    missing: bool = False


def parse_answer(answer: str, asked: str, word: str, values: Sequence[str]) -> Parsed:
    """The value on the answer's last line, `WORD: value`. `asked` is the whole message the answer replies to; numbers in `values` go up.

    What is thought aloud at the start (<think>) does not count. The last line that says anything must be such a line (case, markdown and
    the like aside) and nothing else. An answer that also holds such a line with another value is invalid, unless that line is quoted from
    `asked`, where texts may hold anything. An answer whose end is a quotation of `asked` (a judge that echoes) is invalid too.
    """
    lines = _lines(_THINKING.sub("", answer, count=1) if _THINKING.match(answer) else answer)
    while lines and not _bare(lines[-1]):
        lines.pop()
    if not lines:
        return Parsed(None, "empty answer")
    if lines[0].startswith("<think>"):
        return Parsed(None, "its thinking does not end")
    found = [_value(line, word, values) for line in lines]
    if found[-1] is None:
        return Parsed(None, f"does not end with a line {word}: {'|'.join(values)}")
    shown = _lines(asked)
    tails = {tuple(shown[max(0, i - 1) : i + 1]) for i in range(len(shown))}
    if len(lines) > 1 and tuple(lines[-2:]) in tails:
        return Parsed(None, "repeats what it was shown")
    others = {value for value, line in zip(found[:-1], lines[:-1], strict=True) if value not in (None, found[-1]) and line not in shown}
    if others:
        return Parsed(None, f"more than one {word.lower()}: {', '.join(sorted([*map(str, others), found[-1]]))}")
    return Parsed(found[-1])


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _bare(line: str) -> str:
    """A line without what cannot be seen and what a server left at its end; nothing remains of a line that only ends a fence."""
    if len(line) > 300:
        return line
    line = _STOP_TOKENS.sub("", _INVISIBLE.sub("", line)).strip()
    return "" if _RULE.match(line) else line


def _value(line: str, word: str, values: Sequence[str]) -> str | None:
    line = _bare(line)
    if len(line) > 200:  # such a line holds a sentence
        return None
    head, *rest = re.split("[:：]", line, maxsplit=1)
    said = " ".join(head.strip(_BEFORE).lower().split())
    if not rest or said not in (word.lower(), f"final {word.lower()}"):
        return None
    exact = [value for value in values if value.lower() == rest[0].strip().lower()]
    return next(iter(exact or [value for value in values if _says(rest[0], value, word, values)]), None)


def _says(text: str, value: str, word: str, values: Sequence[str]) -> bool:
    """Whether the text after the colon says this value and nothing else."""
    text, wanted = _plain(text), _plain(value)
    if text == wanted:
        return True
    if word == "Verdict":
        called = re.fullmatch(r"(response|a) (.+)", text)
        return called is not None and called[1] == ("a" if value == "tie" else "response") and _plain(called[2]) == wanted
    number = re.fullmatch(r"([0-9]+)(?:\.0+)?(?: ?/ ?([0-9]+)(?:\.0+)?)?", re.sub(r"[*_`]", "", text))
    return number is not None and all(map(str.isdecimal, values)) and number[1] == value and number[2] in (None, values[-1])


def _plain(text: str) -> str:
    return " ".join(text.lstrip(_AROUND).rstrip(_END).lower().split())
