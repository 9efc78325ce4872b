"""Questions to an endpoint's judge, each asked once in its life: what the cache knows is not asked, what can be scored is kept as it comes.

The caller holds the lock of the cache's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..progress import Progress, say
from ..recipe import JudgeSpec
from ..workspace import name_for_file
from .budget import Budget
from .cache import Cache, cache_key
from .llm import ask_all
from .reply import Answer
from .verdict import Parsed, Said, parse_answer


@dataclass(frozen=True)
class Question:
    """A message for the judge; its answer ends with a line `WORD: value`, one of `values`. Several draws are several questions."""

    message: str
    word: str
    values: tuple[str, ...]
    draw: int = 0


def ask(questions: Sequence[Question], spec: JudgeSpec, cache_folder: Path, *, fresh: bool) -> list[Said]:
    """What the judge says to each. `fresh`: nothing stands from an earlier run, so the endpoint has yet to show that it answers at all.

    Raises UsageError (nothing asked) where the cost could exceed the cap, LimakitError for an endpoint that cannot be used; answers so far
    are in the cache.
    """
    common = {"base_url": spec.base_url, "model": spec.model, "temperature": spec.temperature, "max_tokens": spec.max_tokens}
    keys = [cache_key(**common, message=question.message, draw=question.draw) for question in questions]  # type: ignore[arg-type]

    def read(n: int, text: str) -> Parsed:
        return parse_answer(text, questions[n].message, questions[n].word, questions[n].values)

    first: dict[str, int] = {}  # where each question comes first: equal texts make equal questions, which are asked once
    for n, key in enumerate(keys):
        first.setdefault(key, n)
    said: dict[str, Said] = {}
    with Cache(cache_folder / f"{name_for_file(spec.model)}.jsonl") as cache:
        for key, n in first.items():
            text = cache.get(key)
            if text is not None and (parsed := read(n, text)).value is not None:
                said[key] = Said(parsed, text)
        # in the order of the hashes: what one prompt or model makes difficult does not come all at once
        asked = sorted(key for key in first if key not in said)
        messages = [questions[first[key]].message for key in asked]
        budget = Budget(messages, spec)
        cost = f", at most {budget.most:.2f} by the recipe's prices" if spec.price_in or spec.price_out else ""
        known = f" ({len(said)} of {len(first)} were answered before)" if said else ""
        say(f"{len(asked)} questions to {spec.model} at {spec.base_url}{known}{cost}")
        has_answered = bool(said) or not fresh
        with Progress("judge", len(first), "answers") as bar:
            bar.skip(len(said))
            invalid = 0

            def take(k: int, answer: Answer) -> None:
                nonlocal invalid
                parsed = Parsed(None, answer.problem) if answer.problem else read(first[asked[k]], answer.text)
                if parsed.value is not None:
                    cache.put(asked[k], answer.text)
                said[asked[k]] = Said(parsed, answer.text, answer.missing)
                invalid += parsed.value is None
                bar.advance(invalid=str(invalid))

            if asked:
                ask_all(messages, spec, take, lambda k: budget.lost(messages[k]), has_answered=has_answered)
    return [said[key] for key in keys]
