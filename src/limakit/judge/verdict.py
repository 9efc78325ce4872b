"""What a judge's answer says, strictly: a failure is a status, never a value (promise 8).

Strict about what is said, not about how it is dressed: markdown, brackets, "Response A" for A and 4/6 for 4 say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import Asked

_BEFORE = " \t\r\xa0>#*_`~-–—•+\"'“”‘’([{<"  # what may stand before the word
_AROUND = " \t\r\xa0*_`~\"'“”‘’«»()[]{}<>"  # what may stand around the value
_END = _AROUND + ".!。！"
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_STOP_TOKENS = re.compile(r"(?:\s*(?:</s>|<\|\w{1,30}\|>))+\s*$")  # of judges whose server leaves them in the text
_RULE = re.compile(r"(?:`{3,}|~{3,}|-{3,}|\*{3,}|_{3,}|={3,})$")  # ends a fence or draws a line
_THINKING = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_OBJECT = re.compile(r'(?:```(?:json)?\s*)?\{\s*(?:"|\Z)', re.IGNORECASE)  # how one begins, whole or cut off
_MEMBER = r'\s*+"(?:[^"\\]|\\.)*+"\s*+:\s*+(?:"(?:[^"\\]|\\.)*+"|-?[0-9]++)\s*+'
_FLAT = re.compile(rf"\{{{_MEMBER}(?:,{_MEMBER})?\}}", re.DOTALL)
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Parsed:
    """`value` is one of the values asked for, or None with the `problem`. `as_json`: it was read from a JSON object."""

    value: str | None
    problem: str | None = None
    as_json: bool = False


@dataclass(frozen=True)
class Said:
    """What became of a question. `missing`: no answer came, so it is worth asking again. `asked`: who was asked, how and when."""

    parsed: Parsed
    raw: str = ""
    missing: bool = False
    asked: Asked | None = None


def parse_answer(answer: str, asked: str, word: str, values: Sequence[str], *, json_asked: bool = False) -> Parsed:
    """What the answer says, one of `values` (numbers among them go up). `asked` is the whole message the answer replies to.

    Where JSON was asked for, an answer that is a JSON object (or begins as one) is read as one (`_parse_object`); any other, from a server that promises a form and
    does not keep it, by its last line (`_parse_lines`).
    """
    if _THINKING.match(answer):
        answer = _THINKING.sub("", answer, count=1)
    if json_asked and (parsed := _parse_object(answer, asked, word, values)) is not None:
        return parsed
    return _parse_lines(answer, asked, word, values)


def _parse_object(answer: str, asked: str, word: str, values: Sequence[str]) -> Parsed | None:
    """The value under `word` of a JSON object that holds it and at most a "reason" beside it; None where the answer is no JSON object.

    An object that also stands in `asked`, where texts may hold anything, is an echo and invalid, however it is spaced or ordered. One that is
    cut off or broken is invalid too.
    """
    text = answer.strip()
    text = (
        text[:-200] + _STOP_TOKENS.sub("", _INVISIBLE.sub("", text[-200:]))
    ).strip()  # the end alone: on long blanks that pattern is slow
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1].strip()
    if not _OBJECT.match(text):
        return None
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs, strict=False)  # line feeds in a string, as they come
    except (ValueError, RecursionError):
        return Parsed(None, "its JSON object is cut off or broken")
    key = word.lower()
    keys = [name for name, _ in pairs]
    if keys.count(key) > 1:
        return Parsed(None, f"more than one {key}")
    if key not in keys or not {*keys} <= {key, "reason"}:
        return Parsed(None, f"is not a JSON object with a reason and a {key}")
    if dict(pairs) in _objects(asked):
        return Parsed(None, "repeats what it was shown")
    said = dict(pairs)[key]
    if isinstance(said, str):
        value = _one_of(said, word, values)
    else:
        value = str(said) if isinstance(said, int) and not isinstance(said, bool) and str(said) in values else None
    return Parsed(value, None if value is not None else f"its {key} is none of {', '.join(values)}", as_json=True)


def _objects(asked: str) -> Iterator[Any]:
    """The JSON objects in a text that have the shape of an answer: one or two members, texts or numbers."""
    for match in _FLAT.finditer(asked):
        try:
            yield json.loads(match[0], strict=False)
        except ValueError:
            continue


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that is there twice is seen."""


def _parse_lines(answer: str, asked: str, word: str, values: Sequence[str]) -> Parsed:
    """The value on the answer's last line, `WORD: value`.

    What was thought aloud at the start (<think>) does not count. The last line that says anything must be such a line (case, markdown and
    the like aside) and nothing else. An answer that also holds such a line with another value is invalid, unless that line is quoted from
    `asked`, where texts may hold anything. An answer whose end is a quotation of `asked` (a judge that echoes) is invalid too.
    """
    lines = _lines(answer)
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
    return _one_of(rest[0], word, values)


def _one_of(text: str, word: str, values: Sequence[str]) -> str | None:
    """The value that a text says and nothing else, or None."""
    if len(text) > 200:
        return None
    exact = [value for value in values if value.lower() == text.strip().lower()]
    return next(iter(exact or [value for value in values if _says(text, value, word, values)]), None)


def _says(text: str, value: str, word: str, values: Sequence[str]) -> bool:
    """Whether the text after the colon says this value and nothing else."""
    text, wanted = plain(text), plain(value)
    if text == wanted:
        return True
    if word == "Verdict":
        called = re.fullmatch(r"(response|a) (.+)", text)
        return called is not None and called[1] == ("a" if value == "tie" else "response") and plain(called[2]) == wanted
    number = re.fullmatch(r"([0-9]+)(?:\.0+)?(?: ?/ ?([0-9]+)(?:\.0+)?)?", re.sub(r"[*_`]", "", text))
    return number is not None and all(map(str.isdecimal, values)) and number[1] == value and number[2] in (None, values[-1])


def plain(text: str) -> str:
    """A value without its dress: case, blanks, and what may stand around it."""
    return " ".join(text.lstrip(_AROUND).rstrip(_END).lower().split())
