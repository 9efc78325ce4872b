"""The sample responses: prompts chosen by a rule that nobody can tune, so that they are not picked for their looks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..analyze.people import voices
from ..records import Grade, Judgment, Prompt, Response

EACH = 3  # prompts won, tied and lost
COLLAPSE = 700  # characters: longer texts are folded


@dataclass(frozen=True)
class Outcome:
    """What all valid judgments of one response say about a model: "better", "even" or "worse" than `against`."""

    against: str
    judge: str
    rubric: str
    word: str
    judgments: int
    invalid: int


@dataclass(frozen=True)
class Answer:
    model: str
    text: str
    finish: str
    tokens: int | None
    samples: int
    outcomes: tuple[Outcome, ...]
    grades: tuple[tuple[str, str, tuple[str, ...]], ...]  # (judge, rubric, values)


@dataclass(frozen=True)
class Sample:
    prompt_id: str
    source: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[Answer, ...]


def choose(ids: Sequence[str], outcomes: dict[str, str], seed: int, each: int = EACH) -> list[str]:
    """Prompt ids in the order of a hash of (seed, id): the first `each` of every outcome, or 2 x `each` of all where none was judged."""
    order = sorted(ids, key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
    if not outcomes:
        return order[: 2 * each]
    return [i for word in ("better", "even", "worse") for i in [p for p in order if outcomes.get(p) == word][:each]]


def outcomes_by_prompt(judgments: Sequence[Judgment], model: str, models: Sequence[str]) -> dict[str, list[Outcome]]:
    """By prompt: how `model` fared against each baseline, by judge and rubric; the mean over valid judgments decides (win 1, tie 1/2,
    loss 0)."""
    groups: dict[tuple[str, str, str, str], list[Judgment]] = defaultdict(list)
    voice = voices(judgments)
    for row in judgments:
        if row.a == model:
            groups[row.prompt_id, row.b, voice[row.judge], row.rubric].append(row)
    found: dict[str, list[Outcome]] = defaultdict(list)
    for (prompt_id, b, judge, rubric), rows in sorted(groups.items(), key=lambda group: (_place(group[0][1], models), group[0])):
        scores = [{"a": 1, "tie": 0, "b": -1}[row.verdict] for row in rows if row.verdict is not None]
        word = "not judged" if not scores else "better" if sum(scores) > 0 else "worse" if sum(scores) < 0 else "even"
        found[prompt_id].append(Outcome(b, judge, rubric, word, len(scores), len(rows) - len(scores)))
    return found


def _place(model: str, models: Sequence[str]) -> int:
    return models.index(model) if model in models else len(models)


def samples(
    prompts: dict[str, Prompt],
    responses: Sequence[Response],
    judgments: Sequence[Judgment],
    grades: Sequence[Grade],
    models: Sequence[str],
    seed: int,
) -> tuple[list[Sample], str]:
    """The chosen prompts with every model's first response, and a sentence that says how they were chosen.

    `models`: in the order of the columns, the model under test first. Outcomes are those against the first baseline that was judged, of the
    responses shown.
    """
    answers: dict[str, dict[str, list[Response]]] = defaultdict(lambda: defaultdict(list))
    for response in sorted(responses, key=lambda r: r.sample):
        answers[response.prompt_id][response.model].append(response)
    first = models[0]
    # where several samples were drawn every model shows the same one, so that what stands side by side is what was judged
    seen = {i: given[first][0].sample for i, given in answers.items() if first in given}
    shown = {
        (i, model): next((r for r in mine if r.sample == seen.get(i)), mine[0])
        for i, given in answers.items()
        for model, mine in given.items()
    }
    # other samples were judged too, but they are not what the reader sees
    judgments = [row for row in judgments if (r := shown.get((row.prompt_id, row.a))) and r.sample == row.sample]
    fared = {model: outcomes_by_prompt(judgments, model, models) for model in models}
    graded: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for grade in grades:
        if (r := shown.get((grade.prompt_id, grade.model))) and r.sample == grade.sample:
            graded[grade.prompt_id, grade.model][grade.judge, grade.rubric].append(grade.value or "invalid")
    judged = {(o.against, o.judge, o.rubric) for given in fared[first].values() for o in given if o.word != "not judged"}
    pair = min(judged, key=lambda p: (_place(p[0], models), p)) if judged else None
    words = {i: o.word for i, given in fared[first].items() for o in given if (o.against, o.judge, o.rubric) == pair}
    chosen = choose([i for i in seen if i in prompts], words, seed)

    def answer(prompt_id: str, model: str) -> Answer:
        r, drawn = shown[prompt_id, model], len(answers[prompt_id][model])
        marks = tuple((judge, rubric, tuple(values)) for (judge, rubric), values in sorted(graded[prompt_id, model].items()))
        return Answer(model, r.text, r.finish, r.tokens, drawn, tuple(fared[model].get(prompt_id, ())), marks)

    found = [
        Sample(
            i, prompts[i].source, tuple((t.role, t.text) for t in prompts[i].turns), tuple(answer(i, m) for m in models if m in answers[i])
        )
        for i in chosen
    ]
    if pair:
        how = (
            f"up to {EACH} prompts each on which {first} was judged better, even and worse than {pair[0]} (by {pair[1]}, rubric {pair[2]})"
        )
    else:
        how = f"up to {2 * EACH} prompts"
    return found, f"Not picked by hand: {how}, the first in the order of sha256(seed:prompt id) with seed {seed}."
