"""What a source contributes: repeats and leaks dropped, then `take` drawn, and every candidate accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import LimakitError
from ..recipe_sources import Source, StackExchangeSource
from .candidates import Candidate
from .rules import folded
from .sampling import choose, draw_communities


@dataclass(frozen=True)
class Selection:
    """`candidates`: every one, those not kept with their reason ("not_drawn": nothing against it). `kept`: in the order drawn."""

    label: str
    split: str
    candidates: tuple[Candidate, ...]
    kept: tuple[Candidate, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Candidates by outcome, "kept" first, then the reasons by how often they occur; they add up to the candidates."""
        reasons = Counter(c.reason for c in self.candidates if c.reason is not None)
        return {"kept": len(self.kept)} | dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])))


# Two questions may well have the same short answer; the same long one is a copy of the same post.
COPY_CHARS = 300


@dataclass
class Known:
    """What is kept so far, by split, so that nothing is kept twice and no prompt is both trained on and tested with.

    Two kinds of keys: `whole` prompts (all that the user says, in order; and the post, for dumps) tell duplicates, single `turns` tell
    leaks: a dialogue that comes to a test prompt anywhere trains on it.
    """

    whole: dict[str, set[str]] = field(default_factory=lambda: {"test": set(), "dev": set(), "train": set()})
    turns: dict[str, set[str]] = field(default_factory=lambda: {"test": set(), "dev": set()})
    responses: set[str] = field(default_factory=set)  # of training examples

    def problem(self, candidate: Candidate, split: str, mine: Known) -> str | None:
        """ "prompt_in_test", "prompt_in_dev", "duplicate", "duplicate_response" or None; `mine` are the source's own before it."""
        whole, turns = _wholes(candidate), _turns(candidate)
        for other in ("test", "dev"):
            if other == split:
                break
            if whole & self.whole[other] or turns & self.turns[other]:
                return f"prompt_in_{other}"
        if whole & (self.whole[split] | mine.whole[split]):
            return "duplicate"
        if split == "train" and _response(candidate) & (self.responses | mine.responses):
            return "duplicate_response"
        return None

    def add(self, candidate: Candidate, split: str) -> None:
        self.whole[split] |= _wholes(candidate)
        if split == "train":
            self.responses |= _response(candidate)
        else:
            self.turns[split] |= _turns(candidate)


def _wholes(candidate: Candidate) -> set[str]:
    prompt = "\n".join(folded(turn.text) for turn in candidate.turns if turn.role == "user")
    return {prompt, f"post {candidate.id}\n"} if candidate.site else {prompt}  # no folded prompt of a single turn has a line feed


def _turns(candidate: Candidate) -> set[str]:
    return {folded(turn.text) for turn in candidate.turns if turn.role == "user"}


def _response(candidate: Candidate) -> set[str]:
    text = folded(candidate.turns[-1].text)
    return {text} if len(text) >= COPY_CHARS else set()


def select(
    source: Source, label: str, candidates: Sequence[Candidate], sizes: Mapping[str, int], known: Known, *, seed: int, where: object
) -> Selection:
    """Drop repeats and leaks, draw, and note what is kept in `known`. Raises LimakitError where `take` cannot be filled."""
    judged: list[Candidate] = []
    mine = Known()
    for candidate in candidates:
        if candidate.reason is None:
            problem = known.problem(candidate, source.split, mine)
            candidate = candidate.drop(problem) if problem else candidate
        if candidate.reason is None:
            mine.add(candidate, source.split)
        judged.append(candidate)
    fit = [c for c in judged if c.reason is None]
    kept = _drawn(source, label, fit, sizes, seed)
    ids = {c.id for c in kept}
    accounted = tuple(c.drop("not_drawn") if c.reason is None and c.id not in ids else c for c in judged)
    selection = Selection(label, source.split, accounted, tuple(kept))
    wanted = source.take if source.take is not None else 1
    if len(kept) < wanted and not source.allow_fewer:
        raise LimakitError(
            _shortfall(source, selection),
            where=where,
            remedy="lower take, relax the source's rules, add material, or set allow_fewer = true",
        )
    for candidate in kept:
        known.add(candidate, source.split)
    return selection


def _drawn(source: Source, label: str, fit: list[Candidate], sizes: Mapping[str, int], seed: int) -> list[Candidate]:
    """`label` is no other source's: two sources of one name draw each for itself."""
    if isinstance(source, StackExchangeSource):
        best: dict[str, Iterator[Candidate]] = {}
        supply = Counter(c.site for c in fit)
        for site in supply:
            best[site] = iter([c for c in fit if c.site == site])  # candidates come best first within their community
        order = draw_communities(sizes, supply, source.take, temperature=source.temperature, seed=seed, name=label)
        return [next(best[site]) for site in order]
    if source.take is None:
        return fit
    chosen = choose([c.id for c in fit], source.take, seed=seed, name=label)
    return [c for c in fit if c.id in chosen]


def _shortfall(source: Source, selection: Selection) -> str:
    lost = {reason: n for reason, n in selection.counts.items() if reason != "kept"}
    why = ", ".join(f"{n:,} {reason}" for reason, n in lost.items())
    had = f"had {len(selection.kept):,} fit of {len(selection.candidates):,} candidates" + (f" (dropped: {why})" if why else "")
    return f"source {selection.label!r} {had}, and the recipe asks for {source.take if source.take is not None else 'at least 1'}"
