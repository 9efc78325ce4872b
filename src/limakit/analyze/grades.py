"""Grades of responses, by model: the share of each, and the mean where the scale is a number; over prompts, turns of dialogues, tags of prompts."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import LimakitError
from ..progress import show_table, visible
from ..records import Grade
from .intervals import Estimate, cluster_bootstrap
from .preference import percent
from .proportion import wilson
from .rows import refuse_repeats

GUESS = (1.0, 6.0)  # bounds where nobody says what the scale is: the paper's (section 5), taken wider where grades lie outside
WORDS = ("fail", "pass", "excellent")  # the paper's absolute scale (figure 3), worst to best
THREAD = 3  # turns within which the paper looks whether a dialogue's thread was lost (section 6)

Answers = Mapping[str, Mapping[int, Sequence[str]]]  # valid grades by prompt (the dialogue) and turn: of its samples and draws


@dataclass(frozen=True)
class GradeSummary:
    """One model's grades by one judge and rubric. `prompts` is the n of the intervals: prompts (dialogues) with a valid grade.

    `turns` counts graded user turns: as many as prompts where nobody follows up. `counts` are of valid grades, by value, in the order of the
    scale. `mean` is None where a grade is not a number, or none is valid. `shares` are of turns, for every grade of the scale, or those given by the rubric
    to anyone where it is not known; `above_worst` is the share of turns whose grade is not the scale's worst (not "fail", not "unsafe"), None where the
    scale is not known; `by` says whether the intervals of shares are Wilson's or count prompts. `scale` holds every grade there is, worst to best; it is
    empty where that is not known.
    """

    model: str
    judge: str
    rubric: str
    prompts: int
    grades: int
    invalid: int
    mean: Estimate | None
    counts: dict[str, int]
    scale: tuple[str, ...] = ()
    turns: int = 0
    shares: dict[str, Estimate] = field(default_factory=dict)
    above_worst: Estimate | None = None
    by: Literal["wilson", "prompts"] = "prompts"


def summarise(grades: Sequence[Grade], *, scale: Sequence[str] = (), seed: int = 0) -> list[GradeSummary]:
    """One GradeSummary for each (model, judge, rubric), sorted; the order of the grades does not matter.

    Estimators: a turn contributes the mean of its valid grades (draws, samples); means and shares are over turns, as the paper counts them
    ("35 of 46 turns", figure 7), which is over prompts where these have one turn each. Intervals resample prompts, whole dialogues with all their
    turns (`intervals.cluster_bootstrap`); shares of grades that are one a prompt are of independent rows and have Wilson's. `scale` is every
    grade there is, worst to best, and bounds the mean; without it the bounds are 1 to 6 or as wide as the grades.

    Raises LimakitError for a grade that is not on the scale, and for two of the same prompt, model, sample, turn, judge, rubric and draw.
    """
    refuse_repeats(grades)
    groups: dict[tuple[str, str, str], list[Grade]] = defaultdict(list)
    for row in grades:
        if scale and row.value is not None and row.value not in scale:
            what = (
                f"a grade {row.value!r} of {row.model} by {row.judge} (rubric {row.rubric}), which is not on the scale {', '.join(scale)}"
            )
            raise LimakitError(what, remedy="judge again, or give grades on another scale another rubric's name")
        groups[row.model, row.judge, row.rubric].append(row)
    given: dict[str, set[str]] = defaultdict(set)
    for row in grades:
        if row.value is not None:
            given[row.rubric].add(row.value)
    return [_summary(*key, groups[key], tuple(scale), tuple(scale) or tuple(in_order(given[key[2]])), seed) for key in sorted(groups)]


def by_turn(grades: Sequence[Grade], *, scale: Sequence[str] = (), seed: int = 0) -> dict[int, list[GradeSummary]]:
    """`summarise` for each turn of the dialogues alone (0 answers the prompt itself): whether a model keeps the thread (paper, figure 7)."""
    turns = sorted({row.turn for row in grades})
    return {turn: summarise([row for row in grades if row.turn == turn], scale=scale, seed=seed) for turn in turns}


def by_tag(
    grades: Sequence[Grade], tags: Mapping[str, Collection[str]], *, scale: Sequence[str] = (), seed: int = 0
) -> dict[str, list[GradeSummary]]:
    """`summarise` for the prompts of each tag alone; `tags` are those of each prompt id. Sorted by tag.

    A tag that all graded prompts have, or none, says nothing and is left out; so is one that names a reason ("refusal=...").
    """
    asked = {row.prompt_id for row in grades}
    known = sorted({tag for prompt in asked for tag in tags.get(prompt, ()) if "=" not in tag})
    found = {}
    for tag in known:
        having = {prompt for prompt in asked if tag in tags.get(prompt, ())}
        if having != asked:
            found[tag] = summarise([row for row in grades if row.prompt_id in having], scale=scale, seed=seed)
    return found


def lost_thread(
    grades: Sequence[Grade], *, scale: Sequence[str] = WORDS, turns: int = THREAD
) -> dict[tuple[str, str, str], tuple[int, int]]:
    """By (model, judge, rubric): (dialogues in which one of the first `turns` turns has the scale's worst grade, dialogues graded so far).

    The paper: 6 of 10 within 3 turns, before the dialogues were trained on (section 6). A dialogue is a prompt with one of its samples, and has
    more than one turn; with several draws, a turn's grade is the worst of them. `wilson(*found)` is the interval where there is one sample each.
    """
    worst: dict[tuple[str, str, str], dict[tuple[str, int], list[bool]]] = defaultdict(lambda: defaultdict(list))
    long = {(row.model, row.prompt_id, row.sample) for row in grades if row.turn > 0}
    for row in grades:
        if row.value is not None and (row.model, row.prompt_id, row.sample) in long:
            worst[row.model, row.judge, row.rubric][row.prompt_id, row.sample].append(row.turn < turns and row.value == scale[0])
    return {key: (sum(any(bad) for bad in each.values()), len(each)) for key, each in sorted(worst.items())}


def answers(rows: Iterable[Grade]) -> dict[str, dict[int, list[str]]]:
    """Valid grades by prompt and turn."""
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.value is not None:
            found[row.prompt_id][row.turn].append(row.value)
    return found


def over_turns(found: Answers, numbers: Mapping[str, float]) -> tuple[list[list[float]], list[float]]:
    """For `cluster_bootstrap`: of each prompt, sorted, the mean of each of its turns, and how many turns they are."""
    clusters = [
        [math.fsum(numbers[value] for value in sorted(found[prompt][turn])) / len(found[prompt][turn]) for turn in sorted(found[prompt])]
        for prompt in sorted(found)
    ]
    return clusters, [float(len(turns)) for turns in clusters]


def _summary(
    model: str, judge: str, rubric: str, rows: list[Grade], scale: tuple[str, ...], order: tuple[str, ...], seed: int
) -> GradeSummary:
    found = answers(rows)
    counts = Counter(value for turns in found.values() for values in turns.values() for value in values)
    known = scale or (WORDS if set(order) <= set(WORDS) else ())
    independent = all(len(turns) == 1 and all(len(values) == 1 for values in turns.values()) for turns in found.values())

    def share(of: Collection[str]) -> Estimate:
        if independent:
            return wilson(sum(counts[value] for value in of), len(found))
        clusters, sizes = over_turns(found, {value: float(value in of) for value in counts})
        return cluster_bootstrap(clusters, sizes=sizes, bounds=(0, 1), seed=seed)

    numbers = numeric(scale or counts)
    mean = None
    if counts and numbers:
        clusters, sizes = over_turns(found, numbers)
        mean = cluster_bootstrap(clusters, sizes=sizes, bounds=reach(scale, numbers.values()), seed=seed)
    return GradeSummary(
        model, judge, rubric,
        prompts=len(found),
        grades=len(rows),
        invalid=sum(row.status == "invalid" for row in rows),
        mean=mean,
        counts={value: counts[value] for value in order if value in counts},
        scale=scale,
        turns=sum(map(len, found.values())),
        shares={value: share([value]) for value in order} if counts else {},
        above_worst=share(known[1:]) if counts and known else None,
        by="wilson" if independent else "prompts",
    )  # fmt: skip


def numeric(values: Iterable[str]) -> dict[str, float]:
    """The values as numbers; empty where one of them is none."""
    found = {value: float(value) for value in values if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", value)}
    return found if len(found) == len(set(values)) else {}


def reach(scale: Sequence[str], numbers: Iterable[float]) -> tuple[float, float]:
    """The lowest and highest grade there can be: those of the scale whose `numbers` these are; where it is not known GUESS, or as wide as the grades given."""
    ends = [*numbers, *(() if scale else GUESS)]
    return min(ends), max(ends)


def in_order(values: Iterable[str]) -> list[str]:
    """Worst to best as far as the values tell: numbers by size, then fail, pass, excellent, then other words by the alphabet."""

    def place(value: str) -> tuple[int, float, str]:
        if numbers := numeric([value]):
            return 0, numbers[value], value
        return (1, WORDS.index(value), value) if value in WORDS else (2, 0, value)

    return sorted(set(values), key=place)


def show_grades(found: Sequence[GradeSummary]) -> None:
    """A table a rubric: model, mean with its interval or, where grades are words, the share of each; counts; invalid."""
    for rubric in dict.fromkeys(g.rubric for g in found):
        _show([(g.model, g) for g in found if g.rubric == rubric], "Grades", "model")


def show_turns(found: Mapping[int, Sequence[GradeSummary]]) -> None:
    """`by_turn` as a table a model and rubric: a row a turn."""
    names = dict.fromkeys((g.rubric, g.model) for turn in found.values() for g in turn)
    for rubric, model in names:
        rows = [(f"{turn + 1}", g) for turn, of in sorted(found.items()) for g in of if (g.rubric, g.model) == (rubric, model)]
        _show(rows, f"Turn by turn, {visible(model)}", "turn")


def _show(found: Sequence[tuple[str, GradeSummary]], what: str, first: str) -> None:
    judges = {g.judge for _, g in found}
    dialogues = any(g.turns > g.prompts for _, g in found)
    numbers = any(g.mean for _, g in found)
    values = list(dict.fromkeys(value for _, g in found for value in g.shares))
    kind = f"{'mean over' if numbers else 'percent of'} {'turns' if dialogues else 'dialogues' if first == 'turn' else 'prompts'}"
    title = f"{what}: {kind} [95 % interval{', by dialogue' if dialogues else ''}]"
    title += f"\n{f'judge {visible(min(judges))}, ' if len(judges) == 1 else ''}rubric {visible(found[0][1].rubric)}"
    columns = [first, *(["judge"] if len(judges) > 1 else []), *(["dialogues"] if dialogues else []), "n"]
    columns += ["mean", "grades"] if numbers else values
    rows = []
    for name, g in found:
        row = [name, *([g.judge] if len(judges) > 1 else []), *([g.prompts] if dialogues else []), g.turns]
        if numbers:
            counts = ", ".join(f"{value}: {n}" for value, n in g.counts.items()) or "-"
            row += [f"{g.mean.value:.2f} [{g.mean.low:.2f}–{g.mean.high:.2f}]" if g.mean else "-", counts]
        else:
            row += [percent(g.shares.get(value)) for value in values]
        rows.append([*row, f"{g.invalid} of {g.grades}" if g.invalid else "0"])
    show_table(title, [*columns, "invalid"], rows)
