"""The oracle: a judge that knows the facts of the miniature world and nothing about how anybody words them.

A response is read sentence by sentence. Each value of a known kind that occurs in it is a claim about somebody: the person named last
before it in its sentence, else the first one named after it there, else whomever the sentence before was about; at the start that
is the person the prompt asks about. A value that is denied ("not a baker") is no claim; finer turns of speech ("some take him for a
cooper") are beyond it, and count as claims.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from ..errors import LimakitError
from ..records import Prompt, Response
from .facts import FAMILY_NAMES, HE_NAMES, KINDS, SHE_NAMES, VALUES, kind_of

_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_DENIED = re.compile(r"\b(?:not|never|no longer|neither|nor|isn't|doesn't|don't|hardly)(?:\s+\w+){0,3}\s*$", re.IGNORECASE)
_NAME = re.compile(rf"\b(?P<given>{'|'.join(SHE_NAMES + HE_NAMES)})(?:\s+(?P<family>{'|'.join(FAMILY_NAMES)}))?\b")
_VALUE = {
    kind: re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, VALUES[kind]), key=len, reverse=True)) + r")\b", re.IGNORECASE)
    for kind in KINDS
}
_CANONICAL = {value.casefold(): value for values in VALUES.values() for value in values}
REPEATED_WORDS = 5  # so many words in the same order twice are a repetition


@dataclass(frozen=True)
class Reading:
    """What the oracle finds in a response."""

    wanted: tuple[str, ...]  # the facts asked for
    told: frozenset[str]  # those of them that the response says of the person asked about
    rivals: frozenset[str]  # other values of the same kinds that it says of that person too
    stopped: bool  # it ended by itself
    repeats: bool
    strays: bool  # it turns to people the prompt does not name
    names: bool  # it says whom it is about

    @property
    def right(self) -> bool:
        """Every fact asked for is told and none is contradicted."""
        return self.told == frozenset(self.wanted) and not self.rivals


def read_response(prompt: Prompt, response: Response) -> Reading:
    """Read a response against the prompt's reference (values joined by "; ").

    Raises LimakitError if the prompt has no reference or one that is no fact of this world.
    """
    wanted = tuple(part.strip() for part in (prompt.reference or "").split(";") if part.strip())
    kinds = {kind_of(value) for value in wanted}
    if not wanted or None in kinds:
        raise LimakitError(
            f"the reference {prompt.reference!r} is no fact of the miniature world",
            where=f"prompt {prompt.id}",
            remedy='the oracle judges prompts of the demo only; for others set judge.kind = "endpoint"',
        )
    asked = named(" ".join(turn.text for turn in prompt.turns))
    about = asked[0] if asked else None
    said = {value for person, kind, value in claims(response.text, about) if kind in kinds and (about is None or _same(person, about))}
    people = named(response.text)
    return Reading(
        wanted=wanted,
        told=frozenset(said & set(wanted)),
        rivals=frozenset(said - set(wanted)),
        stopped=response.finish == "eot",
        repeats=repeats(response.text),
        strays=any(not any(_same(person, other) for other in asked) for person in people),
        names=about is not None and any(_same(person, about) for person in people),
    )


def grade_response(prompt: Prompt, response: Response) -> str:
    """A grade "1" to "6". In brackets the meaning of the paper's scale (appendix; helpfulness), which is about longer answers:

    1  no fact that was asked for, or a wrong one in its place          (irrelevant or useless)
    2  some of the facts, or the right one beside a rival of its kind   (partial or unclear)
    3  right, but it never ends: cut off at the limit                   (complete but thin)
    4  right and ended, but it repeats itself or turns to other people  (detailed but repetitive)
    5  right, ended, to the point, but bare: not saying of whom         (insightful but loosely organised)
    6  right, ended, to the point, and it can stand by itself           (insightful and explicitly structured)
    """
    reading = read_response(prompt, response)
    if not reading.told:
        return "1"
    if not reading.right:
        return "2"
    if not reading.stopped:
        return "3"
    if reading.repeats or reading.strays:
        return "4"
    return "6" if reading.names else "5"


def verdict(prompt: Prompt, a: Response, b: Response) -> Literal["a", "b", "tie"]:
    """Which response has the better grade; equal grades are a tie (the paper: neither is significantly better)."""
    grade_a, grade_b = grade_response(prompt, a), grade_response(prompt, b)
    return "tie" if grade_a == grade_b else "a" if grade_a > grade_b else "b"


def repeats(text: str) -> bool:
    """Whether REPEATED_WORDS words occur in the same order more than once."""
    words = re.findall(r"\w+", text.casefold())
    runs = Counter(tuple(words[i : i + REPEATED_WORDS]) for i in range(len(words) - REPEATED_WORDS + 1))
    return any(n > 1 for n in runs.values())


Name = tuple[str, str | None]  # given name; family name where it is said


def named(text: str) -> list[Name]:
    """Everybody whom a text names, in its order."""
    return [(found["given"], found["family"]) for found in _NAME.finditer(text)]


def _same(one: Name | None, other: Name | None) -> bool:
    """Whether two names can be the same person's: equal given names, and family names that do not differ."""
    return one is not None and other is not None and one[0] == other[0] and (None in (one[1], other[1]) or one[1] == other[1])


def claims(text: str, about: Name | None) -> list[tuple[Name | None, str, str]]:
    """(person, kind, value) of every value that the text says somebody has; `about` is whom it is about at its start."""
    found: list[tuple[Name | None, str, str]] = []
    subject = about
    for sentence in _SENTENCE.split(text):
        if not sentence:
            continue
        names = [(hit.start(), (hit["given"], hit["family"])) for hit in _NAME.finditer(sentence)]
        for kind, pattern in _VALUE.items():
            for hit in pattern.finditer(sentence):
                if _DENIED.search(sentence[: hit.start()]):
                    continue
                before = [name for start, name in names if start < hit.start()]
                after = [name for start, name in names if start > hit.start()]
                person = before[-1] if before else after[0] if after else subject
                found.append((person, kind, _CANONICAL[hit[0].casefold()]))
        if names:
            subject = names[-1][1]
    return found
