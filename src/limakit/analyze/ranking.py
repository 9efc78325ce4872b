"""Many models on one scale, from judgments of pairs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..progress import show_table, visible
from ..records import Judgment
from .intervals import LEVEL, Estimate
from .people import voices
from .preference import NET
from .rows import refuse_repeats

Floats = npt.NDArray[np.float64]
RESAMPLES = 4_000
FEWEST = 10  # prompts: with fewer, intervals from resamples are too narrow (5 prompts: .91 instead of .95)
POINTS = 400 / math.log(10)  # Elo's: 400 points are odds of 10 to 1
CENTRE = 1000
_CELLS = 2_000_000  # wins of resamples held at once
_STEPS = 200


@dataclass(frozen=True)
class Ranked:
    """`strength`: log-odds against the average model of this ranking; `points` the same as Elo-like points around 1000. `position`: 1 is the best.
    `likely`: the positions that hold the middle 95 % of the resamples; `first`: the share of resamples that have it first. `wins`: against
    all others, a tie as half, on `prompts`. Estimates are None where the ranking has a problem; intervals and what is from resamples too with fewer than 10 prompts."""

    model: str
    prompts: int
    wins: float
    position: int | None
    strength: Estimate | None
    points: Estimate | None
    likely: tuple[int, int] | None
    first: float | None


@dataclass(frozen=True)
class Ranking:
    """The models that one judge compared by one rubric, best first; by name where `problem` says why they have no common scale."""

    judge: str
    rubric: str
    prompts: int
    prior: float
    models: tuple[Ranked, ...]
    problem: str | None


def rankings(judgments: Sequence[Judgment], *, prior: float = 0.0, seed: int = 0) -> list[Ranking]:
    """One Ranking for each (judge, rubric) with more than two models, sorted; the order of the judgments does not matter.

    Estimator: Bradley and Terry (1952), P(i beats j) = 1 / (1 + exp(s_j - s_i)), by maximum likelihood, the strengths s summing to 0. A prompt
    and pair of models is one game, whose score is the mean over its judgments; a tie is half a win for each, as in Chiang et al. 2024
    (arXiv 2403.04132), so the scale is of wins with ties as half and no tie is thrown away.

    There is no such maximum where some models were never compared with the others, even through third ones, or a group of models neither lost nor tied
    against any outside it (Ford 1957): then `problem` names them and nothing is estimated. `prior` above 0 is the way out: every model plays that many
    more games, all tied, against one of strength 0. That pulls all strengths together; the default pulls nothing.

    Intervals: the Bayesian bootstrap over prompts (Rubin 1981), all games of a prompt together; no resample loses a prompt, so none has a scale where
    the whole has none. The weights are Dirichlet with less than 1 each, so that the spread of a mean is that of Student's t interval: plain ones are too
    narrow by a tenth with 20 prompts. A strength is relative to the models in the ranking: with others in it, it is another.

    Raises LimakitError for two of the same judgment, ValueError for a negative prior.
    """
    if not prior >= 0:
        raise ValueError("a negative prior")
    refuse_repeats(judgments)
    groups: dict[tuple[str, str], list[Judgment]] = defaultdict(list)
    voice = voices(judgments)
    for row in judgments:
        if row.verdict is not None:
            groups[voice[row.judge], row.rubric].append(row)
    found = []
    for judge, rubric in sorted(groups):
        rows = groups[judge, rubric]
        models = sorted({name for row in rows for name in (row.a, row.b)})
        if len(models) > 2:
            found.append(_ranking(judge, rubric, models, rows, prior, seed))
    return found


def _ranking(judge: str, rubric: str, models: list[str], rows: list[Judgment], prior: float, seed: int) -> Ranking:
    scores: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        score = (NET[row.verdict or "tie"] + 1) / 2
        pair, mine = ((row.a, row.b), score) if row.a < row.b else ((row.b, row.a), 1 - score)
        scores[row.prompt_id, *pair].append(mine)
    prompts, place = sorted({key[0] for key in scores}), {name: i for i, name in enumerate(models)}
    number = {prompt: i for i, prompt in enumerate(prompts)}
    wins_PMM = np.zeros((len(prompts), len(models), len(models)))
    for (prompt, a, b), given in scores.items():
        share = math.fsum(given) / len(given)
        wins_PMM[number[prompt], place[a], place[b]] = share
        wins_PMM[number[prompt], place[b], place[a]] = 1 - share
    wins_MM = wins_PMM.sum(axis=0)
    games_M = (wins_MM + wins_MM.T).sum(axis=1)
    played_M = ((wins_PMM + wins_PMM.transpose(0, 2, 1)).sum(axis=2) > 0).sum(axis=0)
    share_M = wins_MM.sum(axis=1) / games_M
    problem = None if prior else no_common_scale(wins_MM, models)
    if problem:
        ranked = [Ranked(name, int(played_M[i]), float(share_M[i]), *(None,) * 5) for i, name in enumerate(models)]
        return Ranking(judge, rubric, len(prompts), prior, tuple(ranked), problem)
    strength_M = bradley_terry(wins_MM[None], prior=prior)[0]
    drawn_RM = _resample(wins_PMM, prior, seed) if len(prompts) >= FEWEST else None
    order = sorted(range(len(models)), key=lambda i: (-round(strength_M[i], 9), models[i]))
    ranked = [_ranked(models[i], int(played_M[i]), float(share_M[i]), strength_M, drawn_RM, i) for i in order]
    return Ranking(judge, rubric, len(prompts), prior, tuple(ranked), None)


def _ranked(name: str, prompts: int, wins: float, strength_M: Floats, drawn_RM: Floats | None, i: int) -> Ranked:
    value = float(strength_M[i])
    position = 1 + int(np.sum(strength_M > value + 1e-9))  # equals share the better place
    if drawn_RM is None:
        return Ranked(name, prompts, wins, position, *(None,) * 4)
    tail = (1 - LEVEL) / 2
    low, high = (float(x) for x in np.quantile(drawn_RM[:, i], (tail, 1 - tail)))
    strength = Estimate(value, min(low, value), max(high, value))
    points = Estimate(*(CENTRE + POINTS * x for x in (strength.value, strength.low, strength.high)))
    places_R = 1 + (drawn_RM > drawn_RM[:, [i]] + 1e-9).sum(axis=1)
    likely = tuple(int(x) for x in np.quantile(places_R, (tail, 1 - tail), method="inverted_cdf"))
    # a resample with equals at the top has more than one first: each gets its part
    tops_R = (drawn_RM >= drawn_RM.max(axis=1, keepdims=True) - 1e-9).sum(axis=1)
    return Ranked(name, prompts, wins, position, strength, points, (likely[0], likely[1]), float(np.mean((places_R == 1) / tops_R)))


def _resample(wins_PMM: Floats, prior: float, seed: int) -> Floats:
    """Strengths of each resample of prompts."""
    from scipy.stats import norm
    from scipy.stats import t as student

    prompts, models = wins_PMM.shape[:2]
    upper = (1 + LEVEL) / 2
    # Dirichlet weights of `each` give a mean the variance s2 / (n each + 1), s2 over n; Student's interval has it t^2 / z^2 s2 / (n - 1)
    each = ((prompts - 1) * (float(norm.ppf(upper)) / float(student.ppf(upper, prompts - 1))) ** 2 - 1) / prompts
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // max(models * models, prompts))
    found = []
    for start in range(0, RESAMPLES, at_once):
        weights_RP = random.standard_gamma(each, (min(at_once, RESAMPLES - start), prompts)) + 1e-12
        weights_RP *= prompts / weights_RP.sum(axis=1, keepdims=True)
        found.append(bradley_terry((weights_RP @ wins_PMM.reshape(prompts, -1)).reshape(-1, models, models), prior=prior))
    return np.concatenate(found)


def bradley_terry(wins_RMM: Floats, *, prior: float = 0.0) -> Floats:
    """Strengths (log-odds, summing to 0), one row for each table of wins: wins[r, i, j] is how often i beat j, halves and fractions as they are.

    Newton's method on the log-likelihood, which has one maximum, no step above 1. `prior`: ties against a model of strength 0, as in `rankings`.
    Raises ArithmeticError where a table has no maximum that is found: ask `no_common_scale` first.
    """
    tables, models = wins_RMM.shape[:2]
    games_RMM, won_RM = wins_RMM + wins_RMM.transpose(0, 2, 1), wins_RMM.sum(axis=2)
    strength_RM = np.zeros((tables, models))
    at = np.arange(models)
    total_R1 = np.maximum(games_RMM.sum(axis=(1, 2)), 1e-300)[:, None]
    for _ in range(_STEPS):
        chance_RMM = 1 / (1 + np.exp(np.clip(strength_RM[:, None, :] - strength_RM[:, :, None], -700, 700)))
        alone_RM = 1 / (1 + np.exp(np.clip(-strength_RM, -700, 700)))
        slope_RM = won_RM - (games_RMM * chance_RMM).sum(axis=2) + prior * (0.5 - alone_RM)
        if np.all(np.abs(slope_RM) < 1e-11 * total_R1):
            return strength_RM - strength_RM.mean(axis=1, keepdims=True)
        bend_RMM = -games_RMM * chance_RMM * (1 - chance_RMM)
        bend_RMM[:, at, at] = 0
        bend_RMM[:, at, at] = -bend_RMM.sum(axis=2) + prior * alone_RM * (1 - alone_RM)
        if not prior:  # adding the same to all strengths changes nothing: any curvature in that direction will do
            bend_RMM += total_R1[:, :, None] / models**2
        step_RM = np.linalg.solve(bend_RMM, slope_RM[:, :, None])[:, :, 0]
        strength_RM = strength_RM + step_RM / np.maximum(1, np.abs(step_RM).max(axis=1, keepdims=True))
    raise ArithmeticError("no strengths are the best")


def no_common_scale(wins_MM: Floats, models: Sequence[str]) -> str | None:
    """Why a table of wins has no finite strengths, in words; None where it has: each model reached every other by wins and ties (Ford 1957)."""
    games = _reach((wins_MM + wins_MM.T) > 0)
    most = games[np.argmax(games.sum(axis=1))]
    if apart := [name for name, together in zip(models, most, strict=True) if not together]:
        return f"{_names(apart)} {'was' if len(apart) == 1 else 'were'} never compared with the others, not even through a third model"
    reach = _reach(wins_MM > 0)
    both = reach & reach.T
    # a group that nobody outside beat or tied with, and one that beat or tied with nobody outside
    best = [i for i in range(len(models)) if not np.any(reach[:, i] & ~both[i])]
    worst = [i for i in range(len(models)) if not np.any(reach[i] & ~both[i])]
    if len(best) == len(models):
        return None
    parts = []
    for group, what in ((best, "lost"), (worst, "won")):
        together = [models[i] for i in group if both[group[0], i]]
        parts.append(f"{_names(together)} neither {what} nor tied against any other model")
    return "; ".join(parts)


def _reach(edges: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Who gets to whom over any number of steps; to oneself always."""
    reach = edges | np.eye(len(edges), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(len(edges))))):
        reach = (reach.astype(np.int64) @ reach.astype(np.int64)) > 0
    return reach


def _names(names: Sequence[str]) -> str:
    shown = [visible(name) for name in names[:3]] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def show_ranking(found: Ranking) -> None:
    """A table of one judge and rubric, best first."""
    title = f"Ranking by Bradley-Terry, ties as half wins [95 % interval, clustered by prompt]\njudge {visible(found.judge)}, rubric {visible(found.rubric)}"
    title += f", {found.prior:g} tied games more for each model" if found.prior else ""
    if found.problem:
        title += f"\nno common scale: {found.problem}\n--prior 1 gives each model a tied game more, and so all a place"
        rows = [["-", one.model, one.prompts, f"{100 * one.wins:.0f}"] for one in found.models]
        show_table(title, ["", "model", "n", "wins"], rows)
        return
    rows = []
    for one in found.models:
        points = "-" if one.points is None else f"{one.points.value:.0f} [{one.points.low:.0f}–{one.points.high:.0f}]"
        likely = "-" if one.likely is None else str(one.likely[0]) if one.likely[0] == one.likely[1] else f"{one.likely[0]}–{one.likely[1]}"
        first = "-" if one.first is None else f"{100 * one.first:.0f} %"
        rows.append([one.position, one.model, one.prompts, f"{100 * one.wins:.0f}", points, likely, first])
    title += "\npoints: 400 are odds of 10 to 1, 1000 is average; places, first: by resamples"
    show_table(title, ["", "model", "n", "wins", "points", "places", "first"], rows)
