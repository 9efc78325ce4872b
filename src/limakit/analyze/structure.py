"""Format or substance: which higher grades go with headings, lists and the like, at equal length? Does the 6 of the scale reward headings?"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..progress import say, show_table, visible
from ..records import Grade
from .grades import numeric
from .heading import heading
from .intervals import LEVEL, Estimate
from .rows import refuse_repeats
from .significance import holm, shown_p

Floats = npt.NDArray[np.float64]
Answer = tuple[str, str, int, int]  # whose response: model, prompt, sample, turn
FEWEST = 10  # prompts whose responses differ in a feature: with fewer, an interval says nothing
LENGTH = "twice as long"
_FENCE = re.compile(r" {0,3}(```|~~~)")
_HEADING = re.compile(r" {0,3}#{1,6}\s+\S|\s*(?:\*\*|__)[^*_]+(?:\*\*|__):?\s*$")  # a line that is bold as a whole stands for a heading
_BULLET = re.compile(r"\s*[-*+•]\s+\S")
_NUMBER = re.compile(r"\s*[0-9]{1,3}[.)]\s+\S")
_BOLD = re.compile(r"\*\*[^\s*][^*]*\*\*|__[^\s_][^_]*__")


@dataclass(frozen=True)
class Features:
    """What a response looks like. Lists have two items or more; nothing inside a code block counts."""

    headings: bool
    bullets: bool
    numbered: bool
    bold: bool
    code: bool
    characters: int


NAMES = ("headings", "bullets", "numbered", "bold", "code")


def features(text: str) -> Features:
    """Read a response as Markdown, line by line; any text has features, none is an error."""
    inside, code, seen = False, False, dict.fromkeys(("headings", "bullets", "numbered", "bold"), 0)
    for line in text.split("\n"):
        if _FENCE.match(line):
            inside, code = not inside, True
        elif not inside:
            is_heading = _HEADING.match(line) is not None
            seen["headings"] += is_heading
            seen["bullets"] += _BULLET.match(line) is not None
            seen["numbered"] += _NUMBER.match(line) is not None
            seen["bold"] += not is_heading and _BOLD.search(line) is not None
    return Features(seen["headings"] > 0, seen["bullets"] > 1, seen["numbered"] > 1, seen["bold"] > 0, code, len(text))


@dataclass(frozen=True)
class Association:
    """What goes with a feature: `grade` points, and `best`, the share of the best grade. None, with the `problem`, where it cannot be told.

    `used` is the share of responses that have it (None for length), `varies` the prompts whose responses differ in it. `p` tests that the points are 0,
    `adjusted` is for all features of the table (Holm).
    """

    feature: str
    used: float | None
    varies: int
    grade: Estimate | None
    best: Estimate | None
    p: float | None
    adjusted: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Structure:
    """By one judge and rubric. `prompts` and `responses` enter the estimates: prompts with two or more graded responses whose text is known.

    `unknown` counts graded responses whose text is not. `best` is the best grade. `problem` says why there are no associations.
    """

    judge: str
    rubric: str
    best: str
    prompts: int
    responses: int
    unknown: int
    associations: tuple[Association, ...]
    problem: str | None


def structures(grades: Sequence[Grade], known: Mapping[Answer, Features], *, scale: Sequence[str] = ()) -> list[Structure]:
    """One Structure for each (judge, rubric) whose grades are numbers, sorted.

    Estimator: least squares of a response's mean grade (over draws) on its features and the logarithm of its length to base 2, with an intercept for
    each prompt and turn and one for each model. So responses to the same prompt are compared (of several models, or samples of one), a model that is
    better throughout and likes headings makes no heading look good, and lengths are held equal. The second outcome is 1 for the best grade, else 0.
    Intervals and p: the jackknife that leaves out a prompt with all its responses (CV3; MacKinnon, Nielsen and Webb 2023, "Cluster-robust
    inference: a guide to empirical practice"), with Student's t on one less than the prompts whose responses differ in the feature.

    It is an association, not what adding a heading would do: within a model, the answers that get headings may be the better ones in substance too.
    A feature in which the responses to fewer than 10 prompts differ, or that another always comes with, is named and not estimated.
    Raises LimakitError for two of the same grade.
    """
    refuse_repeats(grades)
    groups: dict[tuple[str, str], dict[Answer, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in grades:
        if row.value is not None:
            groups[row.judge, row.rubric][row.model, row.prompt_id, row.sample, row.turn].append(row.value)
    found = []
    for (judge, rubric), given in sorted(groups.items()):
        numbers = numeric(scale or {value for values in given.values() for value in values})
        if numbers:
            found.append(_structure(judge, rubric, given, known, numbers))
    return found


def _structure(
    judge: str, rubric: str, given: Mapping[Answer, list[str]], known: Mapping[Answer, Features], numbers: Mapping[str, float]
) -> Structure:
    best = max(numbers, key=numbers.__getitem__)
    units: dict[tuple[str, int], list[Answer]] = defaultdict(list)
    for answer in sorted(given.keys() & known.keys()):
        units[answer[1], answer[3]].append(answer)
    rows = [answer for unit in sorted(units) for answer in units[unit] if len(units[unit]) > 1]
    prompts, unknown = len({answer[1] for answer in rows}), len(given.keys() - known.keys())
    if prompts < FEWEST:
        problem = f"fewer than {FEWEST} prompts have two graded responses whose text is known"
        return Structure(judge, rubric, best, prompts, len(rows), unknown, (), problem)
    y_R2 = np.array([[np.mean([numbers[v] for v in given[r]]), np.mean([v == best for v in given[r]])] for r in rows], dtype=np.float64)
    models = sorted({answer[0] for answer in rows})
    columns = {f"model {model}": [float(r[0] == model) for r in rows] for model in models[1:]}
    columns[LENGTH] = [math.log2(max(1, known[r].characters)) for r in rows]
    columns |= {name: [float(getattr(known[r], name)) for r in rows] for name in NAMES}
    unit_R = np.unique([f"{turn:09} {prompt}" for _, prompt, _, turn in rows], return_inverse=True)[1]
    cluster_R = np.unique([prompt for _, prompt, _, _ in rows], return_inverse=True)[1]
    x_RF = _within(np.array(list(columns.values()), dtype=np.float64).T, unit_R)
    y_R2 = _within(y_R2, unit_R)
    taken, problems = _told_apart(x_RF, list(columns), cluster_R)
    estimates = _jackknife(x_RF[:, taken], y_R2, cluster_R)
    found = []
    for i, name in enumerate(columns):
        if name.startswith("model "):
            continue
        varies = _varying(x_RF[:, i], cluster_R)
        used = None if name == LENGTH else float(np.mean(columns[name]))
        if i in taken:
            (grade, p), (share, _) = (_estimate(*estimates[taken.index(i)][k], varies - 1) for k in (0, 1))
            found.append(Association(name, used, varies, grade, share, p, None))
        else:
            found.append(Association(name, used, varies, None, None, None, None, problems[i]))
    adjusted = iter(holm([a.p for a in found if a.p is not None]))
    done = [replace(a, adjusted=next(adjusted)) if a.p is not None else a for a in found]
    order = [*NAMES, LENGTH]
    return Structure(judge, rubric, best, prompts, len(rows), unknown, tuple(sorted(done, key=lambda a: order.index(a.feature))), None)


def _within(x_RF: Floats, unit_R: npt.NDArray[np.intp]) -> Floats:
    """Each column less its mean in the row's unit: what an intercept for each unit leaves."""
    sums = np.zeros((unit_R.max() + 1, x_RF.shape[1]))
    np.add.at(sums, unit_R, x_RF)
    found: Floats = x_RF - (sums / np.bincount(unit_R)[:, None])[unit_R]
    found[np.abs(found) < 1e-12] = 0.0
    return found


def _varying(x_R: Floats, cluster_R: npt.NDArray[np.intp]) -> int:
    """Prompts whose responses differ in it."""
    return len(np.unique(cluster_R[x_R != 0]))


def _told_apart(x_RF: Floats, names: Sequence[str], cluster_R: npt.NDArray[np.intp]) -> tuple[list[int], dict[int, str]]:
    """The columns that can be estimated beside each other, in their order, and why the others cannot."""
    taken: list[int] = []
    problems: dict[int, str] = {}
    for i, name in enumerate(names):
        column = x_RF[:, i]
        varies = _varying(column, cluster_R)
        if not name.startswith("model ") and varies < FEWEST:
            problems[i] = "the responses differ in it on too few prompts" if varies else "all responses to a prompt have it, or none"
            continue
        others = x_RF[:, taken]
        left = column - others @ np.linalg.lstsq(others, column, rcond=None)[0] if taken else column
        if left @ left <= 1e-9 * max(1e-300, float(column @ column)):
            problems[i] = "it always goes with other features or a model"
        else:
            taken.append(i)
    return taken, problems


def _jackknife(x_RF: Floats, y_R2: Floats, cluster_R: npt.NDArray[np.intp]) -> list[list[tuple[float, float]]]:
    """(coefficient, standard error) of each column and outcome, leaving out one cluster after the other."""
    clusters, (_, columns) = int(cluster_R.max()) + 1, x_RF.shape
    xx_GFF, xy_GF2 = np.zeros((clusters, columns, columns)), np.zeros((clusters, columns, y_R2.shape[1]))
    np.add.at(xx_GFF, cluster_R, x_RF[:, :, None] * x_RF[:, None, :])
    np.add.at(xy_GF2, cluster_R, x_RF[:, :, None] * y_R2[:, None, :])
    xx_FF, xy_F2 = xx_GFF.sum(0), xy_GF2.sum(0)
    all_F2 = np.linalg.pinv(xx_FF, hermitian=True) @ xy_F2
    # the pseudo-inverse: without one cluster a rare feature may be left without variation
    without_GF2 = np.linalg.pinv(xx_FF - xx_GFF, hermitian=True) @ (xy_F2 - xy_GF2)
    errors_F2 = np.sqrt((clusters - 1) / clusters * ((without_GF2 - all_F2) ** 2).sum(0))
    return [[(float(b), float(e)) for b, e in zip(*pair, strict=True)] for pair in zip(all_F2, errors_F2, strict=True)]


def _estimate(value: float, error: float, df: int) -> tuple[Estimate, float]:
    """With Student's t; p of 0."""
    from scipy.stats import t as student

    half = float(student.ppf((1 + LEVEL) / 2, df)) * error
    p = float(2 * student.sf(abs(value) / error, df)) if error > 1e-12 else float(abs(value) < 1e-9)
    return Estimate(value, value - half, value + half), p


def show_structure(found: Sequence[Structure]) -> None:
    """A table a judge and rubric, and in words what it is and is not."""
    for one in found:
        columns, common = heading([one], {"judge": lambda s: s.judge, "rubric": lambda s: s.rubric})
        assert not columns
        if one.problem is not None:
            say(f"Format and grade{common.replace(chr(10), ', ')}: not told, as {one.problem}")
            continue
        title = "Format and grade: points that go with it [95 % interval, by prompt]" + common
        title += f"\n{one.responses:,} responses to {one.prompts:,} prompts: same prompt, equal length, each model's own level"
        title += "\ntaken out. An association: not what adding it would do. p: Holm"
        rows = []
        for a in one.associations:
            used = "-" if a.used is None else f"{100 * a.used:.0f} %"
            if a.grade is None or a.best is None or a.adjusted is None:
                rows.append([a.feature, used, "-", "-", "-"])
                continue
            grade = f"{a.grade.value:+.2f} [{a.grade.low:+.2f} to {a.grade.high:+.2f}]"
            best = f"{100 * a.best.value:+.0f} [{100 * a.best.low:+.0f} to {100 * a.best.high:+.0f}]"
            rows.append([a.feature, used, grade, best, shown_p(a.adjusted)])
        show_table(title, ["", "used in", "grade", f"{visible(one.best)} is given, %", "p"], rows)
        left_out = [f"  {a.feature}: {a.problem}" for a in one.associations if a.problem]
        if left_out:
            say("\n".join(["Not told:", *left_out]))
