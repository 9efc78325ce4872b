"""Differences between models' grades, paired: on the prompts and turns that both were graded on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ..progress import show_table, visible
from ..records import Grade
from .grades import WORDS, Answers, answers, numeric, over_turns, reach
from .intervals import Estimate, cluster_bootstrap
from .rows import refuse_repeats
from .significance import holm, shown_p, sign_flip_test


@dataclass(frozen=True)
class GradeDifference:
    """By how much `a` is graded higher than `b` by one judge and rubric.

    `what` is differenced: "mean"; or, where grades are words in a known order, the share of turns with another than the worst ("not fail"),
    and the share with the best ("excellent"). `prompts` and `turns` are those on which both
    have a valid grade, `left_out` the prompts of which only one has. `sd` is the standard deviation over prompts (None for one), for `limakit power`.
    `p` tests that there is no difference (`significance.sign_flip_test`), `adjusted` is for all pairs of this judge, rubric and `what` (Holm).
    """

    a: str
    b: str
    judge: str
    rubric: str
    what: str
    prompts: int
    turns: int
    left_out: int
    difference: Estimate
    sd: float | None
    p: float
    adjusted: float


def differences(grades: Sequence[Grade], *, scale: Sequence[str] = (), seed: int = 0) -> list[GradeDifference]:
    """One GradeDifference for each two models graded by the same judge and rubric on at least one common prompt; of two, the one with the higher
    mean is `a`. Sorted by judge, rubric, then means, best first. Empty for one model, and for words in no known order.

    Estimator: a turn that both answered contributes the mean of a's valid grades less the mean of b's (draws, samples); the difference is the mean
    over such turns, its interval resamples prompts with all their turns (`intervals.cluster_bootstrap`). The interval allows for prompts as far
    from those seen as the scale reaches (`grades.reach`) and is wider than the test is strict, so p can be below 0.05 while it holds 0, with few prompts above all.

    Raises LimakitError for two grades of the same prompt, model, sample, turn, judge, rubric and draw.
    """
    refuse_repeats(grades)
    groups: dict[tuple[str, str], dict[str, list[Grade]]] = defaultdict(lambda: defaultdict(list))
    for row in grades:
        groups[row.judge, row.rubric][row.model].append(row)
    found = []
    for (judge, rubric), rows in sorted(groups.items()):
        by_model = {model: answers(of) for model, of in sorted(rows.items())}
        given = {value for of in by_model.values() for turns in of.values() for values in turns.values() for value in values}
        for what, numbers in _counted(tuple(scale) or (WORDS if given <= set(WORDS) else ()), given, bool(scale)):
            low, high = reach(scale, numbers.values()) if what == "mean" else (0.0, 1.0)
            means = {model: _mean(of, numbers) for model, of in by_model.items() if of}
            best_first = sorted(means, key=lambda model: (-means[model], model))
            pairs = [
                _difference(a, b, judge, rubric, what, by_model[a], by_model[b], numbers, high - low, seed)
                for a, b in combinations(best_first, 2)
            ]
            there = [pair for pair in pairs if pair is not None]
            found += [replace(pair, adjusted=p) for pair, p in zip(there, holm([pair.p for pair in there]), strict=True)]
    return found


def _counted(scale: tuple[str, ...], given: set[str], told: bool) -> list[tuple[str, dict[str, float]]]:
    """What is differenced, and what each grade counts in it."""
    if not given:
        return []
    if numbers := numeric(scale or given):
        return [("mean", numbers)]
    if len(scale) < 2:
        return []
    not_worst = (f"not {scale[0]}", {value: float(value != scale[0]) for value in scale})
    best = (scale[-1], {value: float(value == scale[-1]) for value in scale})
    return [not_worst, best] if len(scale) > 2 and (told or scale[-1] in given) else [not_worst]


def _mean(found: Answers, numbers: dict[str, float]) -> float:
    clusters, sizes = over_turns(found, numbers)
    return math.fsum(map(math.fsum, clusters)) / math.fsum(sizes)


def _difference(
    a: str, b: str, judge: str, rubric: str, what: str, of_a: Answers, of_b: Answers, numbers: dict[str, float], widest: float, seed: int
) -> GradeDifference | None:
    clusters: list[list[float]] = []
    for prompt in sorted(of_a.keys() & of_b.keys()):
        turns = sorted(of_a[prompt].keys() & of_b[prompt].keys())
        if turns:
            each = [
                [math.fsum(sorted(numbers[value] for value in of[prompt][turn])) / len(of[prompt][turn]) for of in (of_a, of_b)]
                for turn in turns
            ]
            clusters.append([one - other for one, other in each])
    if not clusters:
        return None
    sizes = [float(len(turns)) for turns in clusters]
    difference = cluster_bootstrap(clusters, sizes=sizes, bounds=(-widest, widest), seed=seed)
    p = sign_flip_test([math.fsum(turns) for turns in clusters], seed=seed)
    left_out = len(of_a.keys() | of_b.keys()) - len(clusters)
    turns_in_all = sum(map(len, clusters))
    return GradeDifference(a, b, judge, rubric, what, len(clusters), turns_in_all, left_out, difference, spread(clusters), p, p)


def spread(clusters: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation (n - 1) over clusters of their means; None for fewer than two."""
    means = [math.fsum(values) / len(values) for values in clusters]
    if len(means) < 2:
        return None
    middle = math.fsum(means) / len(means)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in means) / (len(means) - 1))


def show_differences(found: Sequence[GradeDifference]) -> None:
    """A table a judge and rubric: means in points, shares in percent points; p as it is, and adjusted for all pairs of the same kind."""
    for judge, rubric in dict.fromkeys((d.judge, d.rubric) for d in found):
        rows = [d for d in found if (d.judge, d.rubric) == (judge, rubric)]
        title = "Differences of grades, on prompts that both have [95 % interval]"
        title += f"\njudge {visible(judge)}, rubric {visible(rubric)}"
        title += "\np: sign flips of prompts; Holm: for all pairs of models"
        body = []
        for d in rows:
            factor, digits, unit = (1, 2, "") if d.what == "mean" else (100, 0, " %")
            value, low, high = (
                f"{round(factor * x, digits) + 0.0:+.{digits}f}" for x in (d.difference.value, d.difference.low, d.difference.high)
            )
            body.append([f"{d.a} over {d.b}", d.what + unit, d.prompts, f"{value} [{low} to {high}]", shown_p(d.p), shown_p(d.adjusted)])
        show_table(title, ["", "in", "n", "difference", "p", "Holm"], body)
