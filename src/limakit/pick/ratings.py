"""A judge's ratings of a pool's rows, through the same client, cache, cap and reading of answers as `limakit judge`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..judge.ask import Question, Round
from ..judge.rubric import Rubric, fill
from ..recipe import JudgeSpec
from ..records import Example, Prompt
from .rows import Floats

INVALID, UNANSWERED = "rating_invalid", "rating_unanswered"


@dataclass(frozen=True)
class Ratings:
    """`columns` by rubric, float64 [n]; `absent` by place: INVALID (no answer could be scored) or UNANSWERED (none came). Both are
    asked again by the same question. `answers` by place is what was said of an absent row and could not be scored, as it was."""

    columns: dict[str, Floats]
    absent: dict[int, str]
    answers: dict[int, list[str]]


def rate(examples: Sequence[Example], rubrics: dict[str, Rubric], spec: JudgeSpec, folder: Path, spent: Path) -> Ratings:
    """Ask the judge about each example by each rubric (column name -> rubric). Of several draws the mean of those that could be scored.

    A row that lacks one of its ratings is `absent`: a failure is never a value. All questions count against one cap. Raises UsageError
    (nothing asked) where a rubric's grades are no numbers or the cost could exceed the cap, LimakitError for an endpoint that cannot be used.
    """
    for rubric in rubrics.values():
        if not all(_is_number(value) for value in rubric.values):
            what = f"its grades ({', '.join(rubric.values)}) are no numbers, and rows are ranked by them"
            raise UsageError(what, where=f"rubric {rubric.name!r}", remedy="begin it with a line such as # grades: 0, 1, 2, 3, 4, 5")
    questions = [
        Question(_message(rubric, example), "Grade", rubric.values, draw)
        for rubric in rubrics.values() for example in examples for draw in range(spec.draws)
    ]  # fmt: skip
    asked = Round(questions, spec, folder, what="judge", spent=spent, here=None)
    asked.check([asked])
    said = iter(asked.ask(fresh=True))
    columns = {name: np.full(len(examples), np.nan) for name in rubrics}
    absent: dict[int, str] = {}
    raw: dict[int, list[str]] = {}
    for column in columns.values():
        for i in range(len(examples)):
            answers = [next(said) for _ in range(spec.draws)]
            values = [float(answer.parsed.value) for answer in answers if answer.parsed.value is not None]
            if values:
                column[i] = sum(values) / len(values)
                continue
            raw.setdefault(i, []).extend(answer.raw for answer in answers if not answer.missing)
            if absent.get(i) != UNANSWERED:
                absent[i] = UNANSWERED if any(answer.missing for answer in answers) else INVALID
    return Ratings(columns, absent, raw)


def _message(rubric: Rubric, example: Example) -> str:
    prompt = Prompt(id=example.id, source=example.source, turns=example.turns[:-1])
    return fill(rubric, prompt, {"response": example.response} if "{response}" in rubric.text else {})


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
