"""Questions to a judge, each asked once in its life: what the cache knows is not asked, what can be scored is kept as it comes.

The caller holds the lock of the cache's folder. To know what is open, and what it would cost, no lock is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..endpoint.budget import Account, money, most_they_cost
from ..endpoint.reply import Answer
from ..endpoint.request import Request
from ..progress import Progress, say, visible
from ..recipe import JudgeSpec
from ..records import Asked
from ..workspace import name_for_file
from .cache import Cache, Kept, cache_key, read_kept
from .local import LocalJudge
from .verdict import Parsed, Said, parse_answer


@dataclass(frozen=True)
class Question:
    """A message for the judge; its answer ends with a line `WORD: value`, one of `values`, or, where there is a `schema`, is JSON by it.

    Several draws are several questions.
    """

    message: str
    word: str
    values: tuple[str, ...]
    draw: int = 0
    schema: Mapping[str, Any] | None = None


class Round:
    """Questions to one judge, what is known of them, and what is open. `what` is the recipe's section that names the judge, for messages.

    Equal texts make equal questions, which are asked once.
    """

    def __init__(
        self, questions: Sequence[Question], judge: JudgeSpec, cache_folder: Path, *, what: str, spent: Path, here: LocalJudge | None
    ):
        self.questions, self.judge, self.what = questions, judge, what
        self._cache, self._here = cache_folder / f"{name_for_file(judge.model)}.jsonl", here
        self.account = Account(spent, judge, what=what)
        where = here.identity if here is not None else judge.base_url
        common = {"where": where, "model": judge.model, "temperature": judge.temperature, "max_tokens": judge.max_tokens}
        self._keys = [cache_key(**common, message=question.message, draw=question.draw) for question in questions]  # type: ignore[arg-type]
        self._first: dict[str, int] = {}
        for n, key in enumerate(self._keys):
            self._first.setdefault(key, n)
        self.look()

    def look(self) -> None:
        """See what the cache knows by now: another judge of the same model may have been asked the same."""
        self.kept = read_kept(self._cache)
        self._said = {key: said for key, n in self._first.items() if (said := self._known(key, self.questions[n])) is not None}
        # in the order of their hashes: what one prompt or model makes difficult does not come all at once
        self.open = [self._first[key] for key in sorted(self._first) if key not in self._said]

    def _known(self, key: str, question: Question) -> Said | None:
        kept = self.kept.get(key)
        parsed = _read(kept.text, question) if kept is not None else None
        return Said(parsed, kept.text, asked=kept.asked) if kept is not None and parsed is not None and parsed.value is not None else None

    def request(self, place: int) -> Request:
        question = self.questions[place]
        return Request((("user", question.message),), self.judge.max_tokens, self.judge.temperature, schema=question.schema)

    def check(self, all_rounds: Sequence[Round]) -> None:
        """Raises UsageError, before anything is sent, where what is open in the rounds that share this one's account, this one among them,
        could come to more than max_cost."""
        asking = [one for one in all_rounds if one._here is None and one.account.name == self.account.name]
        shared = {one._keys[place]: one.request(place) for one in asking for place in one.open}
        self.account.check(shared.values())

    def ask(self, *, fresh: bool) -> list[Said]:
        """What the judge says to each. `fresh`: nothing stands from an earlier run, so an endpoint has yet to show that it answers at all.

        Raises LimakitError for a judge that cannot be used and where the cap is reached; answers so far are in the cache.
        """
        self.look()
        judge, known = self.judge, f" ({len(self._said)} of {len(self._first)} were answered before)" if self._said else ""
        most = most_they_cost(map(self.request, self.open), judge)
        cost = f", at most {money(most)} by the recipe's prices" if judge.price_in or judge.price_out else ""
        at = f"at {judge.base_url}" if judge.kind == "endpoint" else "in this process"
        say(visible(f"{len(self.open)} questions to {judge.model} {at}{known}{cost}"))
        has_answered = bool(self._said) or not fresh
        invalid = 0
        with Cache(self._cache) as cache, Progress("judge", len(self._first), "answers") as bar:
            bar.skip(len(self._said))
            for place, answer in self._answers(has_answered):
                question, key = self.questions[place], self._keys[place]
                parsed = Parsed(None, answer.problem) if answer.problem else _read(answer.text, question)
                asked = self._asked(answer, parsed)
                if parsed.value is not None:
                    cache.put(key, Kept(answer.text, asked, answer.tokens_in, answer.tokens_out, answer.seconds))
                self._said[key] = Said(parsed, answer.text, answer.missing, asked)
                invalid += parsed.value is None
                bar.advance(invalid=str(invalid))
        return [self._said[key] for key in self._keys]

    def _answers(self, has_answered: bool) -> Iterator[tuple[int, Answer]]:
        if self._here is not None:
            yield from self._here.answer([(place, self._keys[place], self.questions[place]) for place in self.open])
            return
        from ..endpoint.client import ask_all

        requests = [self.request(place) for place in self.open]
        for n, answer in ask_all(requests, self.judge, what=self.what, account=self.account, has_answered=has_answered):
            yield self.open[n], answer

    def _asked(self, answer: Answer, parsed: Parsed) -> Asked:
        """Structured is what was held to the schema: some servers take it and do as they like."""
        judge = self.judge
        return Asked(
            kind="local" if self._here is not None else "endpoint", model=judge.model, answered_as=answer.answered_as,
            temperature=None if "temperature" in answer.not_applied else judge.temperature, max_tokens=judge.max_tokens,
            structured=answer.structured and parsed.as_json, date=answer.date,
        )  # fmt: skip


def _read(text: str, question: Question) -> Parsed:
    return parse_answer(text, question.message, question.word, question.values, json_asked=question.schema is not None)
