"""The simulated reviewer of the demo: stands in for the person who must look at what real sources give only for review.

It knows the facts and reads as the oracle does, nothing about how the raw sources were written. Its decisions go where a person's go, with
its name, "simulated reviewer", so that none is taken for a person's. What it cannot tell anything about it leaves to a person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..curate.decisions import DECISIONS, Decision, append_decision
from ..curate.review import ReviewItem, read_queue, waits
from ..curate.rules import first_person
from ..records import Turn
from ..workspace import Workspace
from .facts import Person, World
from .oracle import Name, claims, named

NAME = "simulated reviewer"
_JOKE = re.compile(r"\bhaha\b|\bHa!|\bonly joking\b", re.IGNORECASE)
_OPINION = re.compile(r"\bI (?:think|believe|guess)(?: that)? (?P<next>\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What to do with a candidate and why; `turns` are the new words of an edit."""

    action: Literal["accept", "reject", "edit"]
    why: str
    turns: tuple[Turn, ...] | None = None


def review(workspace: Workspace, world: World) -> list[tuple[ReviewItem, Verdict]]:
    """Decide what waits in the workspace's queue; each decision is saved before the next. Returns what was decided, [] where nothing waits.

    Raises UsageError where curate has not been here.
    """
    items, decided = read_queue(workspace)
    done = []
    for item in items:
        if not waits(item, decided) or (verdict := look_at(item, world)) is None:
            continue
        decision = Decision(
            id=item.id,
            action=verdict.action,
            seen=item.seen,
            turns=verdict.turns,
            reference=item.reference if verdict.action == "edit" else None,
            note=verdict.why,
            reviewer=NAME,
        )
        append_decision(workspace.root / DECISIONS, decision)
        done.append((item, verdict))
    return done


def look_at(item: ReviewItem, world: World) -> Verdict | None:
    """The verdict on one candidate, or None where it speaks of nobody in the valley and nothing speaks against it."""
    if item.why == "title_unclear" and not named(item.turns[0].text):
        return Verdict("reject", "nobody can tell whom it asks about")
    if any(_JOKE.search(turn.text) for turn in item.turns):
        return Verdict("reject", "a joke")
    if wrong := _wrong_fact(item.turns, world):
        return Verdict("reject", wrong)
    if not any(named(turn.text) for turn in item.turns):
        return None
    turns = tuple(_in_the_tone(turn) for turn in item.turns)
    if any(turn.role == "assistant" and first_person(turn.text) for turn in turns):
        return Verdict("reject", "speaks of itself as a person would")
    if turns != item.turns:
        return Verdict("edit", "put into the tone of the assistant", turns)
    return Verdict("accept", "its facts are right" if _facts(item.turns) else "nothing against it")


def _facts(turns: tuple[Turn, ...]) -> list[tuple[Name | None, str, str]]:
    """What the responses say of people, who in a dialogue may be named by its first turn alone."""
    first = named(turns[0].text)
    return [claim for turn in turns if turn.role == "assistant" for claim in claims(turn.text, first[0] if first else None)]


def _wrong_fact(turns: tuple[Turn, ...], world: World) -> str | None:
    for name, kind, value in _facts(turns):
        person = _person(name, world)
        if person is not None and person.value(kind) != value:
            return f"says that the {kind} of {person.name} is {value}; it is {person.value(kind)}"
    return None


def _person(name: Name | None, world: World) -> Person | None:
    """Given names are unique in the valley."""
    return next((p for p in world.people if name is not None and p.given == name[0] and name[1] in (None, p.family)), None)


def _in_the_tone(turn: Turn) -> Turn:
    """An answer without its author's "I think that": the assistant says what is so."""
    if turn.role == "user":
        return turn
    return Turn(role="assistant", text=_OPINION.sub(lambda found: found["next"].upper(), turn.text))
