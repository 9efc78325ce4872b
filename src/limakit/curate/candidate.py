"""A candidate: something a source offers, with the first reason against it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..records import Provenance, Record, Turn


class Text(Record):
    """What a candidate says, as a pool keeps it; `source` is what examples will name."""

    source: str
    turns: tuple[Turn, ...]
    reference: str | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Candidate:
    """`reason` is why it is not kept (None: nothing speaks against it so far), `detail` what was found.

    `stratum` is what a draw is spread over: the community's slug, the wikiHow category, the subreddit, the task; "" for what is written by
    hand. A candidate with a stratum has an id that means the same post in every source. `review` says why a person must look at it before
    it is taken ("required", "title_unclear"), or None. Only candidates without a reason have a text.
    """

    id: str
    stratum: str = ""
    score: int | None = None  # of the question or submission
    answer_score: int | None = None
    response_chars: int | None = None  # of the cleaned response
    url: str | None = None
    text: Text | None = None
    reason: str | None = None
    detail: str = ""
    review: str | None = None

    def drop(self, reason: str, detail: str = "") -> Candidate:
        return replace(self, reason=reason, detail=detail, text=None, review=None)

    @property
    def turns(self) -> tuple[Turn, ...]:
        return self.text.turns if self.text else ()
