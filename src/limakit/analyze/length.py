"""Does a judge prefer the longer response, and who would win at equal length?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..progress import say, show_table, visible
from ..records import Judgment
from .heading import heading
from .intervals import LEVEL, Estimate
from .people import voices
from .preference import NET, percent
from .rows import one_way, refuse_repeats
from .significance import shown_p

Floats = npt.NDArray[np.float64]
Answer = tuple[str, str, int, int]  # whose response: model, prompt, sample, turn
FEWEST = 10  # prompts: with fewer, a line through wins and lengths says nothing
_STEPS = 50
_STEEP = 30.0  # log-odds: a coefficient beyond it has no largest likelihood, or none that matters


@dataclass(frozen=True)
class LengthEffect:
    """What length has to do with the wins of `a` against `b`, with one judge and rubric.

    `prompts` is the n of the estimates: prompts with a valid judgment of two responses whose lengths are known; `unknown` counts valid
    judgments of others. `raw`: the share of wins, a tie as half, on these prompts. `longer`: how many times as long as b's response a's is (geometric
    mean). `controlled`: the share of wins at equal length. `odds`: by what the odds of a win are multiplied where a response is twice as long, and
    `p` tests that it is 1. Where these three cannot be told they are None and `problem` says why; `controlled` alone is None where one model is longer
    throughout: equal length is then outside of all that was seen.
    """

    a: str
    b: str
    judge: str
    rubric: str
    prompts: int
    unknown: int
    raw: float | None
    longer: float | None
    controlled: Estimate | None
    odds: Estimate | None
    p: float | None
    problem: str | None


def length_effects(judgments: Sequence[Judgment], lengths: Mapping[Answer, int]) -> list[LengthEffect]:
    """One LengthEffect for each (a, b, judge, rubric), sorted. `lengths`: characters of the responses that are there.

    Estimator: logistic regression of the share of wins (a tie as half) on log(length of a / length of b), one row a prompt, sample and turn,
    each prompt with a total weight of 1. The win rate at equal length is the inverse logit of the intercept (length-controlled win rate,
    Dubois et al. 2024, arXiv 2404.04475). Theirs takes tanh of the standardised difference of lengths and a term for how hard a prompt is, estimated
    from a leaderboard's many models; here the logarithm keeps a response of thrice the length from counting like one of thirty times, and
    one pair of models has no such term. Intervals and p: `logistic`, clustered by prompt, with Student's t. A dialogue is as long as all its responses. An empty
    response counts as one character.

    What this is not: an effect of cause. A judge that prefers better responses, which are longer, shows the same slope.
    Raises LimakitError for two of the same judgment.
    """
    refuse_repeats(judgments)
    groups: dict[tuple[str, str, str, str], list[Judgment]] = defaultdict(list)
    voice = voices(judgments)
    for row in one_way(judgments):
        if row.verdict is not None:
            groups[row.a, row.b, voice[row.judge], row.rubric].append(row)
    return [_effect(*key, groups[key], lengths) for key in sorted(groups)]


def _effect(a: str, b: str, judge: str, rubric: str, rows: list[Judgment], lengths: Mapping[Answer, int]) -> LengthEffect:
    wins: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in rows:
        if {(model, row.prompt_id, row.sample, turn) for model in (a, b) for turn in range(row.turn + 1)} <= lengths.keys():
            wins[row.prompt_id, row.sample, row.turn].append((NET[row.verdict or "tie"] + 1) / 2)
    keys = sorted(wins)
    unknown = len(rows) - sum(map(len, wins.values()))
    if not keys:
        return LengthEffect(a, b, judge, rubric, 0, unknown, *(None,) * 5, problem="no lengths of the responses are known")

    def length(model: str, prompt: str, sample: int, last: int) -> int:
        """Of all that the judge was shown of the model: a dialogue is compared whole, and bears its last turn's number."""
        return max(1, sum(lengths[model, prompt, sample, turn] for turn in range(last + 1)))

    x_N = np.array([math.log(length(a, *key) / length(b, *key)) for key in keys])
    y_N = np.array([math.fsum(wins[key]) / len(wins[key]) for key in keys])
    prompts, cluster_N = np.unique([key[0] for key in keys], return_inverse=True)
    # within a prompt a row weighs as many judgments as it has, so that with no slope this is the win rate of `preferences`
    judged_N = np.array([len(wins[key]) for key in keys], dtype=np.float64)
    weight_N = judged_N / np.bincount(cluster_N, judged_N)[cluster_N]
    n = len(prompts)
    raw, longer = float(weight_N @ y_N / n), math.exp(float(weight_N @ x_N / n))
    problem = _problem(x_N, y_N, n)
    fit = None if problem else logistic(np.column_stack([np.ones_like(x_N), x_N]), y_N, weight_N, cluster_N)
    if fit is None:
        problem = problem or "wins and lengths part too cleanly for a line"
        return LengthEffect(a, b, judge, rubric, n, unknown, raw, longer, None, None, None, problem)
    from scipy.stats import t as student

    (at_equal, slope), (error, slope_error) = fit.coefficients, fit.errors
    t = float(student.ppf((1 + LEVEL) / 2, n - 2))
    if not 1e-9 < min(fit.errors) <= max(fit.errors) < _STEEP:  # no scatter to take an interval from, or an interval without an end
        return LengthEffect(a, b, judge, rubric, n, unknown, raw, longer, None, None, None, "too few different verdicts for an interval")
    controlled = Estimate(*(_share(at_equal + side * t * error) for side in (0, -1, 1)))
    seen = bool(x_N.min() <= 0 <= x_N.max())
    odds = Estimate(*(math.exp(math.log(2) * (slope + side * t * slope_error)) for side in (0, -1, 1)))
    p = float(2 * student.sf(abs(slope) / slope_error, n - 2))
    outside = None if seen else "one is longer throughout: equal length is outside of all seen"
    return LengthEffect(a, b, judge, rubric, n, unknown, raw, longer, controlled if seen else None, odds, p, outside)


def _problem(x_N: Floats, y_N: Floats, prompts: int) -> str | None:
    if prompts < FEWEST:
        return f"fewer than {FEWEST} prompts"
    if np.ptp(x_N) < 1e-9:
        return "the lengths differ by the same factor everywhere"
    if np.ptp(y_N) < 1e-9:
        return "the verdicts are the same everywhere"
    return None


def _share(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


@dataclass(frozen=True)
class Fit:
    """Coefficients with their standard errors."""

    coefficients: tuple[float, ...]
    errors: tuple[float, ...]


def logistic(x_NK: Floats, y_N: Floats, weight_N: Floats, cluster_N: npt.NDArray[np.integer]) -> Fit | None:
    """Logistic regression of shares `y_N` from 0 to 1; None where no finite coefficients are the best (the rows can be parted by a line).

    Newton's method on the weighted Bernoulli likelihood (for shares: Papke and Wooldridge 1996). Standard errors: the jackknife that leaves
    out a cluster at a time, each time one Newton step from the whole (CR3; Bell and McCaffrey 2002): with tens of clusters the plain
    sandwich is too narrow. `cluster_N` numbers the clusters from 0.
    """
    coefficients_K = np.zeros(x_NK.shape[1])
    for _ in range(_STEPS):
        mean_N, information_KK = _at(coefficients_K, x_NK, weight_N)
        try:
            step_K = np.linalg.solve(information_KK, x_NK.T @ (weight_N * (y_N - mean_N)))
        except np.linalg.LinAlgError:
            return None
        coefficients_K = coefficients_K + step_K / max(1.0, float(np.abs(step_K).max()))  # no step above 1: a full one may overshoot
        if not np.isfinite(coefficients_K).all() or np.abs(coefficients_K).max() > _STEEP:
            return None
        if np.abs(step_K).max() < 1e-10:
            break
    else:
        return None
    mean_N, information_KK = _at(coefficients_K, x_NK, weight_N)
    n = int(cluster_N.max()) + 1
    score_GK, part_GKK = np.zeros((n, x_NK.shape[1])), np.zeros((n, *information_KK.shape))
    np.add.at(score_GK, cluster_N, x_NK * (weight_N * (y_N - mean_N))[:, None])
    np.add.at(part_GKK, cluster_N, x_NK[:, :, None] * x_NK[:, None, :] * (weight_N * mean_N * (1 - mean_N))[:, None, None])
    try:
        moved_GK = np.linalg.solve(information_KK - part_GKK, score_GK[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:  # without one of the clusters there is no slope
        return None
    variance_K = (n - 1) / n * (moved_GK**2).sum(axis=0)
    return Fit(tuple(map(float, coefficients_K)), tuple(map(float, np.sqrt(variance_K))))


def _at(coefficients_K: Floats, x_NK: Floats, weight_N: Floats) -> tuple[Floats, Floats]:
    """Each row's expected share, and the information matrix."""
    mean_N = 1 / (1 + np.exp(-np.clip(x_NK @ coefficients_K, -500, 500)))
    return mean_N, (x_NK * (weight_N * mean_N * (1 - mean_N))[:, None]).T @ x_NK


def show_lengths(found: Sequence[LengthEffect]) -> None:
    """A row a pair, judge and rubric."""
    names, said = heading(found, {"model": lambda x: x.a, "judge": lambda x: x.judge, "rubric": lambda x: x.rubric})
    title = f"Length: wins with ties as half, percent [95 % interval, clustered by prompt]{said}"
    title += "\nlonger: than the baseline, so many times; equal length: what the wins would be"
    title += "\ntwice: by what the odds of a win change for a response twice as long"
    columns = [*names, "baseline", "n", "longer", "wins", "equal length", "twice", "p"]
    rows = []
    for x in found:
        odds = f"×{x.odds.value:.2f} [{x.odds.low:.2f}–{x.odds.high:.2f}]" if x.odds else "-"
        raw, longer = (f"{100 * x.raw:.0f}" if x.raw is not None else "-"), (f"×{x.longer:.2f}" if x.longer is not None else "-")
        p = shown_p(x.p) if x.p is not None else "-"
        rows.append([*(pick(x) for pick in names.values()), x.b, x.prompts, longer, raw, percent(x.controlled), odds, p])
    show_table(title, columns, rows)
    for x in found:
        if x.problem or x.unknown:
            also = f"{x.unknown} judgments of responses of unknown length left out" if x.unknown and x.prompts else ""
            who = ", ".join([*(pick(x) for pick in names.values()), x.b])
            say(visible(f"  {who}: {'; '.join(part for part in (x.problem, also) if part)}"))
