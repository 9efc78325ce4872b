"""Selecting: decisions, repeats and leaks first, then the draw; every candidate accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf

import pyarrow.compute as pc

from ..errors import LimakitError
from ..progress import track
from ..recipe_sources import (
    RedditSource,
    Source,
    Split,
    StackExchangeDialogueSource,
    StackExchangeSource,
    WikihowSource,
)
from .candidate import Candidate
from .decisions import Decision, digest
from .decontaminate import Guard
from .duplicates import NearIndex, Prints, Sketch, fingerprint, sketch
from .pool import Pool
from .sampling import choose, draw_strata, unit

QUEUE = 20  # candidates to review at least, where any wait


@dataclass(frozen=True)
class Selection:
    """What became of a source's pool.

    `fates`: row -> (outcome, detail) of every candidate that the reader let through and that is not kept: a reason, "not_drawn" (nothing
    against it) or "unreviewed". `kept` in the order drawn. `waiting`: those of the unreviewed that a person should look at next, in that
    order. `missing`: how many more `take` asks for, where reviewing can still give them. `stale`: decisions about a text that has changed.
    """

    label: str
    split: Split
    pool: Pool
    kept: tuple[Candidate, ...]
    originals: Mapping[str, Candidate] = field(default_factory=dict)  # id -> what is kept as its source offers it, before any edit
    fates: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    waiting: tuple[Candidate, ...] = ()
    missing: int = 0
    stale: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Candidates by outcome, "kept" first, then the others by how often they occur; they add up to the candidates."""
        reasons: Counter[str] = Counter()
        for table in self.pool.account():
            for pair in pc.value_counts(table["reason"]).to_pylist():
                reasons[pair["values"]] += pair["counts"]
        reasons.pop(None, None)  # type: ignore[call-overload]
        reasons.update(outcome for outcome, _ in self.fates.values())
        return {"kept": len(self.kept)} | dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the draw knows of a candidate that nothing speaks against. `review`: why a person must look at it first, or None; `detail`:
    what was found."""

    row: int
    id: str
    stratum: str
    review: str | None
    detail: str


def _post(c: Candidate) -> str:
    """What a candidate is made from: a question and the dialogue under its answer are one post."""
    return c.id.removesuffix("-dialogue")


class Repeats:
    """Texts that are there already: posts by id, prompts and long responses, equal or (`near` below 1) nearly so."""

    def __init__(self, near: float):
        self.posts: set[str] = set()
        self.prompts: set[bytes] = set()
        self.responses: set[bytes] = set()
        self.near_prompts, self.near_responses = NearIndex(near), NearIndex(near)

    def problem(self, c: Candidate, seen: Seen) -> tuple[str, str] | None:
        """(reason, detail) where `c` repeats something, else None."""
        if seen.prints.prompt in self.prompts or (c.stratum and _post(c) in self.posts):
            return "duplicate", ""
        if any(print in self.responses for print in seen.prints.responses):
            return "duplicate_response", ""
        if seen.prompt is not None and (found := self.near_prompts.near(seen.prompt)):
            return "near_duplicate", f"{found.id}, similarity {found.jaccard:.2f}"
        if seen.response is not None and (found := self.near_responses.near(seen.response)):
            return "near_duplicate_response", f"{found.id}, similarity {found.jaccard:.2f}"
        return None

    def add(self, c: Candidate, seen: Seen) -> None:
        self.prompts.add(seen.prints.prompt)
        self.responses.update(seen.prints.responses)
        if c.stratum:
            self.posts.add(_post(c))
        if seen.prompt is not None:
            self.near_prompts.add(c.id, seen.prompt)
        if seen.response is not None:
            self.near_responses.add(c.id, seen.response)


@dataclass(frozen=True, slots=True)
class Seen:
    """A candidate's texts as they are compared; sketches where near-duplicates are looked for, of the response if it is a long one."""

    prints: Prints
    prompt: Sketch | None
    response: Sketch | None


class Chosen:
    """What is kept so far, by split, so that nothing is kept twice and no prompt is both trained on and tested with."""

    def __init__(self, *, near: float, guard: Guard):
        self.near, self.guard = near, guard
        self.kept = {split: Repeats(near) for split in ("test", "dev", "train")}

    def see(self, c: Candidate) -> Seen:
        prints = fingerprint(c.turns)
        if self.near == 1:
            return Seen(prints, None, None)
        said = "\n".join(turn.text for turn in c.turns if turn.role == "user")
        return Seen(prints, sketch(said), sketch(c.turns[-1].text) if prints.responses else None)

    def problem(self, c: Candidate, seen: Seen, split: Split) -> tuple[str, str] | None:
        """(reason, detail) where `c` repeats what is kept in its split, or would let a dev or test prompt into it."""
        for other in ("test", "dev"):
            if other == split:
                break
            if c.stratum and _post(c) in self.kept[other].posts:
                return f"prompt_in_{other}", c.id
        return self.guard.problem(c.turns, split) or self.kept[split].problem(c, seen)

    def add(self, c: Candidate, split: Split) -> None:
        self.kept[split].add(c, self.see(c))
        if split != "train":
            assert c.text is not None
            self.guard.add(split, c.id, c.turns, c.text.reference)


def select(
    source: Source, label: str, pool: Pool, chosen: Chosen, decisions: Mapping[str, Decision], *, seed: int, where: object
) -> Selection:
    """Take in the decisions, drop repeats and leaks, draw, and note what is kept in `chosen`.

    What needs a review and has none is not drawn: the first of those in the order of the draw are what `waiting` holds. Raises LimakitError
    where `take` cannot be filled, not even by reviewing.
    """
    fates: dict[int, tuple[str, str]] = {}
    edited: dict[int, Candidate] = {}
    ready: list[_Fit] = []
    undecided: list[_Fit] = []
    mine = Repeats(chosen.near)
    stale = 0
    for row, c in track(pool.fit(), f"compare {label}", None, "candidates"):
        decision = decisions.get(c.id)
        if decision is not None and decision.seen != _digest(c):
            decision, stale = None, stale + 1
            c = replace(c, review=c.review or "changed")
        if decision is not None and decision.action == "reject":
            fates[row] = ("rejected", decision.note)
            continue
        if decision is not None:
            c = replace(_edited(c, decision), review=None)
            if decision.action == "edit":
                edited[row] = c
        seen = chosen.see(c)
        problem = chosen.problem(c, seen, source.split) or mine.problem(c, seen)
        if problem:
            fates[row] = problem
            continue
        mine.add(c, seen)
        (undecided if c.review else ready).append(_Fit(row, c.id, c.stratum, c.review, c.detail))
    drawn = _drawn(source, label, ready, pool.sizes, source.take, seed)
    texts = pool.take([fit.row for fit in drawn])
    kept = tuple(edited.get(fit.row, texts[fit.row]) for fit in drawn)
    taken = {fit.row for fit in drawn}
    fates |= {fit.row: ("not_drawn", "") for fit in ready if fit.row not in taken}
    fates |= {fit.row: ("unreviewed", ": ".join(filter(None, (fit.review, fit.detail)))) for fit in undecided}
    missing = min((source.take or 0) - len(kept), len(undecided)) if source.take else len(undecided)
    queue = _drawn(source, label, undecided, pool.sizes, max(QUEUE, 3 * missing), seed)
    looked_at = pool.take([fit.row for fit in queue])
    selection = Selection(
        label,
        source.split,
        pool,
        kept,
        originals={texts[fit.row].id: texts[fit.row] for fit in drawn},
        fates=fates,
        waiting=tuple(replace(looked_at[fit.row], review=fit.review) for fit in queue),
        missing=max(missing, 0),
        stale=stale,
    )
    wanted = source.take if source.take is not None else 1
    if len(kept) + selection.missing < wanted and not source.allow_fewer:
        raise LimakitError(
            _shortfall(source, selection),
            where=where,
            remedy="lower take, relax the source's rules, add material, or set allow_fewer = true",
        )
    for candidate in kept:
        chosen.add(candidate, source.split)
    return selection


def _digest(c: Candidate) -> str:
    assert c.text is not None
    return digest(c.text.turns, c.text.reference)


def _edited(c: Candidate, decision: Decision) -> Candidate:
    """The candidate in the words of an edit."""
    if decision.action != "edit":
        return c
    assert c.text is not None and decision.turns is not None
    changes = "; ".join(filter(None, (c.text.provenance.changes, "edited by hand")))
    provenance = c.text.provenance.model_copy(update={"changes": changes})
    text = c.text.model_copy(update={"turns": decision.turns, "reference": decision.reference, "provenance": provenance})
    return replace(c, text=text)


def _drawn(source: Source, label: str, fit: list[_Fit], sizes: Mapping[str, int], take: int | None, seed: int) -> list[_Fit]:
    """`take` of them in the order of the draw. `label` is no other source's: two sources of one name draw each for itself."""
    if isinstance(source, StackExchangeSource | StackExchangeDialogueSource):  # best first within their community, as they come
        return _spread(fit, sizes, take, source.temperature, seed, label)
    if isinstance(source, WikihowSource):  # categories evenly, then any article
        by_chance = sorted(fit, key=lambda f: (unit(seed, "article", label, f.id), f.id))
        return _spread(by_chance, sizes, take, inf, seed, label)
    if isinstance(source, RedditSource):  # what people liked best, as it comes
        return fit[:take]
    if take is None:
        return fit
    picked = choose([f.id for f in fit], take, seed=seed, name=label)
    return [f for f in fit if f.id in picked]


def _spread(fit: list[_Fit], sizes: Mapping[str, int], take: int | None, temperature: float, seed: int, label: str) -> list[_Fit]:
    of_stratum: dict[str, list[_Fit]] = {}
    for f in fit:
        of_stratum.setdefault(f.stratum, []).append(f)
    supply = {stratum: len(found) for stratum, found in of_stratum.items()}
    order = draw_strata(sizes, supply, len(fit) if take is None else take, temperature=temperature, seed=seed, name=label)
    best: dict[str, Iterator[_Fit]] = {stratum: iter(found) for stratum, found in of_stratum.items()}
    return [next(best[stratum]) for stratum in order]


def _shortfall(source: Source, selection: Selection) -> str:
    lost = {reason: n for reason, n in selection.counts.items() if reason != "kept"}
    why = ", ".join(f"{n:,} {reason}" for reason, n in lost.items())
    had = f"had {len(selection.kept):,} fit of {selection.pool.rows:,} candidates" + (f" (dropped: {why})" if why else "")
    return f"source {selection.label!r} {had}, and the recipe asks for {source.take if source.take is not None else 'at least 1'}"
