"""Selecting: decisions, repeats and leaks first, then the draw; every candidate accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
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
from .decisions import Decision, Decisions, digest
from .decontaminate import Guard
from .duplicates import NearIndex, Prints, Sketch, fingerprint, sketch
from .pool import Pool
from .sampling import draw_strata, shuffled

QUEUE = 20  # candidates to review at least, where any wait


@dataclass(frozen=True)
class Selection:
    """What became of a source's pool.

    `fates`: row -> (outcome, detail) of every candidate that the reader let through and that is not kept: a reason, "not_drawn" (nothing
    against it) or "unreviewed". `kept` in the order drawn. `waiting`: those of the unreviewed that a person should look at next, in that
    order. `decided`: as their source offers them, those that somebody decided about and that are not kept. `missing`: how many more `take` asks for, where reviewing can still give them. `stale`: decisions about a text that has changed.
    """

    label: str
    split: Split
    pool: Pool
    kept: tuple[Candidate, ...]
    originals: Mapping[str, Candidate] = field(default_factory=dict)  # id -> what is kept as its source offers it, before any edit
    fates: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    waiting: tuple[Candidate, ...] = ()
    decided: tuple[Candidate, ...] = ()
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
    """What the draw knows of a candidate that its reader let through. `key`: what it is drawn by, its id or, where that is the number of a
    row, its text's digest. `review`: why a person must look at it first, or None; `detail`: what was found."""

    row: int
    key: str
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
        self.kept = {split: Repeats(near) for split in ("test", "dev", "train", "held_out")}

    def see(self, c: Candidate) -> Seen:
        prints = fingerprint(c.turns)
        if self.near == 1:
            return Seen(prints, None, None)
        said = "\n".join(turn.text for turn in c.turns if turn.role == "user")
        return Seen(prints, sketch(said), sketch(c.turns[-1].text) if prints.responses else None)

    def problem(self, c: Candidate, seen: Seen, split: Split) -> tuple[str, str] | None:
        """(reason, detail) where `c` repeats what is kept in its split, or has something of a split that it must not have."""
        for other in ("test", "dev", "train"):
            if other == split:
                break
            if c.stratum and _post(c) in self.kept[other].posts:
                return f"prompt_in_{other}", c.id
        return self.guard.problem(c.turns, split) or self.kept[split].problem(c, seen)

    def keep(self, c: Candidate, seen: Seen, split: Split) -> None:
        self.kept[split].add(c, seen)
        if split in ("test", "dev"):
            assert c.text is not None
            self.guard.add(split, c.id, c.turns, c.text.reference)


def select(
    source: Source, label: str, pool: Pool, chosen: Chosen, decisions: Decisions, *, seed: int, where: object, draw: str | None = None
) -> Selection:
    """Take in the decisions, then draw; what is drawn and repeats or leaks something gives its place to the next. Notes what is kept in `chosen`.

    What needs a review and has none is not drawn: the first of those in the order of the draw are what `waiting` holds. Repeats and leaks are
    looked for among what is drawn or queued, so memory grows with what is taken and not with the pool. `draw` tells apart draws of sources of
    one name. Raises LimakitError where `take` cannot be filled, not even by reviewing.
    """
    draw = label if draw is None else draw
    fates: dict[int, tuple[str, str]] = {}
    edited: dict[int, Candidate] = {}
    decided: dict[int, Candidate] = {}
    ready: list[_Fit] = []
    undecided: list[_Fit] = []
    stale = 0
    for row, c in track(pool.fit(), f"take in {label}", None, "candidates"):
        said = _digest(c)
        decision = decisions.on(said)
        review = c.review
        if decision is not None:
            decided[row], review = c, None
            if decision.action == "reject":
                fates[row] = ("rejected", decision.note)
                continue
            if decision.action == "edit":
                edited[row] = _edited(c, decision)
        elif c.stratum and decisions.changed(c.id, said):
            stale, review = stale + 1, review or "changed"
        (undecided if review else ready).append(_Fit(row, c.id if c.stratum else said, c.stratum, review, c.detail))
    taken: dict[int, Candidate] = {}
    texts = _Texts(pool)

    def accept(fit: _Fit) -> bool:
        c = edited.get(fit.row) or texts.of(fit)
        seen = chosen.see(c)
        problem = chosen.problem(c, seen, source.split)
        if problem:
            fates[fit.row] = problem
            return False
        chosen.keep(c, seen, source.split)
        taken[fit.row] = c
        return True

    drawn = _drawn(source, draw, ready, pool.sizes, source.take, seed, texts, accept)
    kept = tuple(taken[fit.row] for fit in drawn)
    fates |= {fit.row: ("not_drawn", "") for fit in ready if fit.row not in taken and fit.row not in fates}
    waiting = _queue(source, draw, undecided, pool, chosen, (source.take or len(kept) + len(undecided)) - len(kept), fates, seed)
    open_ = sum(fit.row not in fates for fit in undecided)
    fates |= {fit.row: ("unreviewed", ": ".join(filter(None, (fit.review, fit.detail)))) for fit in undecided if fit.row not in fates}
    missing = min(source.take - len(kept), open_) if source.take else open_
    selection = Selection(
        label,
        source.split,
        pool,
        kept,
        originals={c.id: decided.get(row, c) for row, c in taken.items()},
        fates=fates,
        waiting=waiting,
        decided=tuple(c for row, c in decided.items() if row not in taken),
        missing=missing,
        stale=stale,
    )
    wanted = source.take if source.take is not None else 1
    if len(kept) + missing < wanted and not source.allow_fewer:
        raise LimakitError(
            _shortfall(source, selection),
            where=where,
            remedy="lower take, relax the source's rules, add material, or set allow_fewer = true",
        )
    return selection


class _Texts:
    """Candidates of a pool, read some at a time in the orders in which they will be asked for, since a pool is read by many rows at once."""

    AHEAD = 64

    def __init__(self, pool: Pool):
        self._pool = pool
        self._next: dict[int, int] = {}  # row -> the row after it in its order
        self._held: dict[int, Candidate] = {}

    def expect(self, orders: Collection[Sequence[_Fit]], take: int) -> None:
        """From each of these a beginning will be asked for, `take` candidates in all if nothing speaks against them."""
        first: list[int] = []
        for order in orders:
            self._next |= {one.row: two.row for one, two in pairwise(order)}
            first += [fit.row for fit in order[: 2 * take // len(orders) + 8]]
        self._held = self._pool.take(first)

    def of(self, fit: _Fit) -> Candidate:
        if fit.row not in self._held:
            rows = [fit.row]
            while len(rows) < self.AHEAD and rows[-1] in self._next:
                rows.append(self._next[rows[-1]])
            self._held |= self._pool.take(rows)
        return self._held.pop(fit.row)


def _queue(
    source: Source, draw: str, undecided: list[_Fit], pool: Pool, chosen: Chosen, wanted: int, fates: dict[int, tuple[str, str]], seed: int
) -> tuple[Candidate, ...]:
    """What a person should look at next: the first of the undecided that repeat and leak nothing, of what is kept or among themselves."""
    found: dict[int, Candidate] = {}
    texts, mine = _Texts(pool), Repeats(chosen.near)

    def accept(fit: _Fit) -> bool:
        c = texts.of(fit)
        seen = chosen.see(c)
        problem = chosen.problem(c, seen, source.split)
        if problem:
            fates[fit.row] = problem
        elif mine.problem(c, seen) is None:  # a copy of what waits: if that is rejected, this one is asked about
            mine.add(c, seen)
            found[fit.row] = replace(c, review=fit.review)
        return fit.row in found

    queue = _drawn(source, draw, undecided, pool.sizes, max(QUEUE, 3 * wanted), seed, texts, accept)
    return tuple(found[fit.row] for fit in queue)


def _digest(c: Candidate) -> str:
    assert c.text is not None
    return digest(c.text.turns, c.text.reference)


def _edited(c: Candidate, decision: Decision) -> Candidate:
    """The candidate in the words of an edit."""
    assert c.text is not None and decision.turns is not None
    changes = "; ".join(filter(None, (c.text.provenance.changes, "edited by hand")))
    provenance = c.text.provenance.model_copy(update={"changes": changes})
    text = c.text.model_copy(update={"turns": decision.turns, "reference": decision.reference, "provenance": provenance})
    return replace(c, text=text)


def _drawn(
    source: Source,
    draw: str,
    fit: list[_Fit],
    sizes: Mapping[str, int],
    take: int | None,
    seed: int,
    texts: _Texts,
    accept: Callable[[_Fit], bool],
) -> list[_Fit]:
    """`take` of those that `accept` takes (None: all), asked about in the order of the draw, which `texts` is told."""
    if isinstance(source, StackExchangeSource | StackExchangeDialogueSource | WikihowSource):
        by_chance = isinstance(
            source, WikihowSource
        )  # categories evenly, then any article; else best first in their community, as they come
        of_stratum: dict[str, list[_Fit]] = {}
        for f in fit:
            of_stratum.setdefault(f.stratum, []).append(f)
        if by_chance:
            of_stratum = {stratum: shuffled(some, _key, seed=seed, name=draw) for stratum, some in of_stratum.items()}
        temperature = inf if isinstance(source, WikihowSource) else source.temperature
        n = len(fit) if take is None else take
        texts.expect(of_stratum.values(), n)
        return draw_strata(sizes, of_stratum, n, temperature=temperature, seed=seed, name=draw, accept=accept)
    as_it_comes = isinstance(source, RedditSource) or take is None  # what people liked best first; or all
    order = fit if as_it_comes else shuffled(fit, _key, seed=seed, name=draw)
    texts.expect([order], len(fit) if take is None else take)
    found: list[_Fit] = []
    for f in order:
        if take is not None and len(found) == take:
            break
        if accept(f):
            found.append(f)
    return found if isinstance(source, RedditSource) else sorted(found, key=lambda f: f.row)


def _key(fit: _Fit) -> str:
    return fit.key


def _shortfall(source: Source, selection: Selection) -> str:
    lost = {reason: n for reason, n in selection.counts.items() if reason != "kept"}
    why = ", ".join(f"{n:,} {reason}" for reason, n in lost.items())
    had = f"had {len(selection.kept):,} fit of {selection.pool.rows:,} candidates" + (f" (dropped: {why})" if why else "")
    return f"source {selection.label!r} {had}, and the recipe asks for {source.take if source.take is not None else 'at least 1'}"
