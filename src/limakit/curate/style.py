"""The tone of what is written by hand: a short acknowledgment of the question, then the answer, and one voice throughout (paper, section 2.2).

The paper shows the tone by examples and gives no rules. These are the project's reading of it: the assistant may say "I" ("I can't help with
that, since ..."), but it has no life to tell of; it does not greet, sign off, exclaim, joke in slang or hedge; a refusal says why. All are
warnings for the author, except where a mark says something that is surely not so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from ..records import Example
from ..sources.authored import marked
from .finding import Finding, Level
from .formats import format_problem
from .rules import prose

OPENING_WORDS = 45  # an acknowledgment is short
SEVERAL = 10  # responses that it takes to speak of what is usual
FAR = 3.0  # spreads (median absolute deviation of the logarithm, as a standard deviation) from the usual length


@dataclass(frozen=True)
class Lengths:
    """What is usual in a set: the median of its responses' log characters, and how far they spread about it."""

    center: float
    spread: float


def lengths_of(examples: Iterable[Example]) -> Lengths | None:
    """The usual length of a set's last responses, or None where they are too few (under SEVERAL)."""
    logs = [log(max(len(example.response), 1)) for example in examples]
    if len(logs) < SEVERAL:
        return None
    center = median(logs)
    return Lengths(center, max(1.4826 * median(abs(value - center) for value in logs), 0.5))  # two thirds more or less are usual anyway


def style_notes(example: Example, lengths: Lengths | None = None) -> list[Finding]:
    """What an author should look at in an example, each rule once a response; `lengths` are those of its set.

    Only the first response must take up its question; of a dialogue the place says which turn is meant.
    """
    notes: list[Finding] = []
    for n in range(1, len(example.turns), 2):
        where = f"turn {n + 1}" if len(example.turns) > 2 else ""
        tags = example.tags if n == len(example.turns) - 1 else ()
        found = response_notes(example.turns[n - 1].text, example.turns[n].text, tags, first=n == 1)
        notes += [Finding(note.rule, note.level, where, note.message, note.excerpt) for note in found]
    if lengths is not None:
        notes += _length(example.response, lengths)
    return notes


def response_notes(prompt: str, response: str, tags: Sequence[str] = (), *, first: bool = True) -> list[Finding]:
    """The notes on one response to one prompt; pure and quick enough to run while somebody types."""
    voice = prose(response)
    demand = marked(tags, "format")
    notes = _acknowledgment(prompt, response, demand) if first else []
    for rule, pattern, message in _PATTERNS:
        if found := pattern.search(voice):
            notes.append(_note(rule, message, found[0]))
    if not _IN_ANOTHER_VOICE.search(prompt) and (found := _LIFE.search(voice)):
        notes.append(_note("tells_of_a_life", "an assistant has no life to tell of", found[0]))
    if voice.count("!") > 2:
        notes.append(_note("exclaims", f"{voice.count('!')} exclamation marks; the tone is calm"))
    hedges = _HEDGES.findall(voice)
    if len(hedges) > 2 and 50 * len(hedges) > len(voice.split()):
        notes.append(
            _note("hedges", f"{len(hedges)} hedges in {len(voice.split())} words; say it, or say what it depends on", ", ".join(hedges[:4]))
        )
    notes += _refusal(voice, marked(tags, "refusal"))
    if demand == "":
        notes.append(_note("mark_says_nothing", 'the tag "format" stands alone: say which, "format: numbered list"', level="error"))
    if demand and (problem := format_problem(demand, response)):
        notes.append(_note("format_not_followed", f"the prompt demands {demand!r}: {problem}", level="error"))
    return notes


def _note(rule: str, message: str, excerpt: str = "", level: Level = "warning") -> Finding:
    return Finding(rule, level, "", message, " ".join(excerpt.split()))


_SLANG = r"gonna|wanna|gotta|gimme|lemme|dunno|kinda|sorta|ain['’]t|y['’]all|lol|lmao|rofl|omg|imho|imo|tbh|btw|idk|dude|bro|yeah|yep|nope|cuz|awesomesauce"
_PATTERNS: list[tuple[str, re.Pattern[str], str]] = [
    ("greets", re.compile(r"\A\W*(?:hi|hello|hey|greetings|howdy|good (?:morning|afternoon|evening))\b(?: there\b)?[,!.]", re.IGNORECASE), "the answer needs no greeting"),
    (
        "signs_off",
        re.compile(
            r"(?:\b(?:i\s)?hope (?:this|that|it) (?:helps|answers)|\blet me know (?:if|whether|how)|\b(?:feel )?free to (?:ask|reach out|contact)|"
            r"\bdo(?:n['’]t| not) hesitate to|\bany (?:other|further|more) questions|\bhappy to (?:help|answer))[^\n]*\s*\Z",
            re.IGNORECASE,
        ),
        "the answer ends when it has answered",
    ),
    ("emoji", re.compile(r"[\U0001F300-\U0001FAFF\u2600-\u26FF\u2728\u2764\U0001F1E6-\U0001F1FF]|(?<!\w)[:;]-?[)DP](?!\w)"), "no emoji"),
    ("slang", re.compile(rf"\b(?:{_SLANG})\b", re.IGNORECASE), "no slang"),
]  # fmt: skip
_HEDGES = re.compile(r"\b(?:i (?:think|guess|suppose|believe|feel)|i['’]m not (?:really )?sure|maybe|perhaps|probably|possibly|it seems|sort of|somewhat|more or less|or something)\b", re.IGNORECASE)  # fmt: skip
_LIFE = re.compile(
    r"\b(?:[Mm]y|[Oo]ur) (?:own )?(?:wife|husband|kids?|son|daughter|mom|mum|mother|dad|father|parents|brother|sister|friends?|boss|colleagues?|dog|cat|house|job|experience|childhood)\b"
    r"|\b[Ii]n my (?:opinion|view|experience)\b|\b[Ww]hen I was\b|\bI(?:['’]ve| have) (?:been|lived|worked|tried|owned|used|had|seen)\b|\bI (?:grew up|used to|remember|once|live in|work (?:as|in|for)|personally)\b"
)
# a story, a letter or a part to play has its own voice
_IN_ANOTHER_VOICE = re.compile(r"\b(?:story|poem|letter|e-?mail|diary|speech|essay|dialogue|script|song|lyrics|review|monologue|imagine|pretend|role|persona|you(?:['’]re| are) (?:an?|the))\b", re.IGNORECASE)  # fmt: skip

_WORD = re.compile(r"[^\W_]{3,}")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "about and any are but can could did does for from get give had has have her his how into its just like make may me might more most much need not "
        "now one other our out please should some such tell than that the their them then there these they this those was way were what when where which "
        "who whom why will with would you your",
    )
)
# words by which an opening takes up a question without repeating it
_TAKES_UP = re.compile(r"\b(?:questions?|ideas?|requests?|topics?|problems?|situations?|tasks?|goals?|sorry|glad|understandable|unfortunately|depends|yes|no|both|neither|here (?:is|are)|below)\b", re.IGNORECASE)  # fmt: skip


def _acknowledgment(prompt: str, response: str, demand: str | None) -> list[Finding]:
    start = response.lstrip()
    head = start.split("\n", 1)[0]
    block = re.match(r"(?P<heading>#)|(?P<list>[-*+•][ \t]|\d+[.)][ \t])|(?P<code>```|~~~)|(?P<table>\|)|(?P<quotation>>)", head)
    if block:
        kind = next(kind for kind, text in block.groupdict().items() if text)
        asked = demand is not None or _IN_ANOTHER_VOICE.search(prompt)  # the demanded form, or a text of its own, may be the whole answer
        return (
            []
            if asked
            else [_note("no_acknowledgment", f"it begins with a {kind}; a sentence that takes up the question comes first", head[:80])]
        )
    first = re.split(r"(?<=[.!?:])\s", start, maxsplit=1)[0]
    if len(first.split()) > OPENING_WORDS:
        return [_note("no_acknowledgment", f"its first sentence has {len(first.split())} words; the acknowledgment is short", first[:80])]
    opening = " ".join(start.split()[:OPENING_WORDS])
    asked_for, said = _stems(prompt), _stems(opening)
    if asked_for and not asked_for & said and not _TAKES_UP.search(opening):
        return [_note("no_acknowledgment", "its opening takes up no word of the question", first[:80])]
    return []


def _stems(text: str) -> set[str]:
    """The first five letters of the words that carry meaning: "refrigerate" and "refrigerator" are one."""
    return {word[:5] for word in map(str.casefold, _WORD.findall(text)) if word not in _COMMON}


_REFUSES = re.compile(
    r"\bI(?:['’]m| am)\s(?:very\s|really\s)?(?:sorry|afraid)\b[^.\n]{0,40}\b(?:can(?:no|['’])t|unable|won['’]t|will not)\b"
    r"|\bI\s(?:can(?:['’]t|not)|won['’]t|will not|am (?:unable|not able) to)\s(?:help|assist|provide|write|do that|do this|comply|support|recommend|share|give|answer)\b"
    r"|\bI\s(?:must|have to) (?:decline|refuse)\b"
)
_WHY = re.compile(
    r"\b(?:because|since|as (?:it|this|that|they|doing)|so that|would|could|may|might|harm\w*|hurt\w*|danger\w*|unsafe|illegal|crim\w+|law\w*|risk\w*|privacy|consent|"
    r"rights?|respect\w*|dignity|hate\w*|violen\w+|wrong|unfair|poison\w*|injur\w+|kill\w*|abuse\w*|discriminat\w+|stereotyp\w+)\b",
    re.IGNORECASE,
)


def _refusal(voice: str, reason: str | None) -> list[Finding]:
    if reason is None:
        found = _REFUSES.search(voice[:300])
        return [_note("refusal_unmarked", "it reads as a refusal; mark it with its reason (refusal: ...)", found[0])] if found else []
    if reason == "":
        return [_note("mark_says_nothing", 'the tag "refusal" stands alone: say why, "refusal: asks how to hurt somebody"', level="error")]
    if not _WHY.search(voice):
        return [_note("refusal_without_reason", "it is marked as a refusal and does not say why it refuses", voice[:80])]
    return []


def _length(response: str, lengths: Lengths) -> list[Finding]:
    away = (log(max(len(response), 1)) - lengths.center) / lengths.spread
    if abs(away) <= FAR:
        return []
    how = "long" if away > 0 else "short"
    return [_note("unusual_length", f"{len(response):,} characters are {how} for this set, whose middle is {exp(lengths.center):,.0f}")]
