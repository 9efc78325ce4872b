"""How far judges agree: pure functions of tables of pairs, each figure with its interval and its level of chance.

A table T_KK counts pairs of opinions about the same item: row the first judge's value, column the second's, K values. All figures here are
functions of such a table, or of many at once (..., K, K), and not a number (NaN) where they are not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from .intervals import LEVEL, Estimate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Statistic = Callable[[Array], Array]  # (..., K, K) -> (...)

MISSING = -1
MANY = 20  # values: with more (grades from 0 to 100) tables of each two would not fit into memory, and hardly fill
RESAMPLES = 4_000
_CELLS = 4_000_000  # weights held at once: bounds the memory, not the result


@dataclass(frozen=True)
class Scale:
    """What an opinion can be. `ordered`: worst to best. `tie`: which of the values is one. `numbers`: the values, where they are numbers."""

    values: tuple[str, ...]
    ordered: bool = False
    tie: int | None = None
    numbers: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Measure:
    """One figure. `n`: items that enter it. `estimate` is None where it is not defined. `chance`: what judges reach who answer independently
    of each other, and of the items, each with the same shares of values as here."""

    name: str
    n: int
    estimate: Estimate | None
    chance: float | None


@dataclass(frozen=True)
class Agreement:
    """Of `items` that both sides gave an opinion on, in `prompts` clusters."""

    items: int
    prompts: int
    measures: tuple[Measure, ...]

    def __getitem__(self, name: str) -> Measure:
        """Raises KeyError for a measure that this scale does not have."""
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)


def exact(table: Array) -> Array:
    """The share of pairs with one value."""
    return _over(np.trace(table, axis1=-2, axis2=-1), table.sum((-2, -1)))


def tie_discounted(table: Array, tie: int) -> Array:
    """1 where both say the same, 0.5 where exactly one says tie, else 0; the mean over pairs (Zhou et al. 2023, LIMA, section 4.1, "Inter-annotator agreement")."""
    half = table[..., tie, :].sum(-1) + table[..., :, tie].sum(-1) - 2 * table[..., tie, tie]
    return exact(table) + 0.5 * _over(half, table.sum((-2, -1)))


def no_tie(table: Array, tie: int) -> Array:
    """The share of pairs with one value, among those where neither says tie; NaN where there are none."""
    return exact(np.delete(np.delete(table, tie, -1), tie, -2))


def cohen_kappa(
    table: Array, weights: Literal["nominal", "linear", "quadratic"] = "nominal", numbers: Sequence[float] | None = None
) -> Array:
    """1 - observed / expected disagreement, expected of independent judges with these shares (Cohen 1960; weighted: Cohen 1968).

    Disagreement is 1 for any two values (nominal), or their distance on the scale (of `numbers`; default in steps), or its square. NaN where both judges gave one and
    the same value throughout: nothing could be disagreed about (scikit-learn's cohen_kappa_score likewise). On a symmetric table, such as
    `tables` makes within a group, this is Scott's pi (1955).
    """
    apart_KK = _apart(_places(table.shape[-1], numbers))
    cost_KK = {"nominal": (apart_KK > 0).astype(float), "linear": apart_KK, "quadratic": apart_KK**2}[weights]
    rows, columns, total = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    expected = _over(np.einsum("...i,ij,...j->...", rows, cost_KK, columns), total)
    return 1 - _over((table * cost_KK).sum((-2, -1)), expected)


def krippendorff_alpha(
    coincidences: Array, metric: Literal["nominal", "ordinal", "interval"] = "nominal", numbers: Sequence[float] | None = None
) -> Array:
    """1 - observed / expected disagreement, expected of values drawn without regard to judge and item (Krippendorff 2011, "Computing
    Krippendorff's alpha-reliability").

    `coincidences` are symmetric and sum to the number of values that can be paired (`coincidences` below makes them). Metrics: nominal;
    ordinal, by the number of values between two; interval, the squared difference of `numbers` (default 0, 1, 2, ...). NaN where all values are one
    (the krippendorff package raises there) or none can be paired.
    """
    count_K, total = coincidences.sum(-1), coincidences.sum((-2, -1))
    size = coincidences.shape[-1]
    places = count_K.cumsum(-1) - count_K / 2 if metric == "ordinal" else _places(size, numbers if metric == "interval" else None)
    cost = (_apart(places) > 0).astype(float) if metric == "nominal" else _apart(places) ** 2
    expected = (count_K[..., :, None] * count_K[..., None, :] * cost).sum((-2, -1))
    return 1 - _over((total - 1) * (coincidences * cost).sum((-2, -1)), expected)


def independent(table: Array) -> Array:
    """The table of judges who answer independently of each other with the same shares of values: what chance gives."""
    return _over(table.sum(-1)[..., :, None] * table.sum(-2)[..., None, :], table.sum((-2, -1))[..., None, None])


def tables(codes_IJ: Codes, first: Sequence[int], second: Sequence[int], size: int) -> Array:
    """A table (K, K) of each item's pairs, one judge of `first` and one of `second` (columns of `codes_IJ`, MISSING where there is no opinion).

    Each item weighs 1, spread over its pairs, so an item with many judges counts as one with two; 0 where there is no pair. `first` and `second`
    are the same group (each two of its judges are a pair, both ways round, so the table is symmetric) or have no judge in common, else ValueError.
    """
    same = set(first) == set(second)
    if not same and set(first) & set(second):
        raise ValueError("two groups with a judge in common")
    one_IK, other_IK = _counts(codes_IJ, first, size), _counts(codes_IJ, second, size)
    pairs_IKK = one_IK[:, :, None] * other_IK[:, None, :]
    if same:
        pairs_IKK -= one_IK[:, :, None] * np.eye(size)  # nobody is paired with themselves
    return pairs_IKK / np.maximum(pairs_IKK.sum((-2, -1)), 1)[:, None, None]


def coincidences(codes_IJ: Codes, first: Sequence[int], second: Sequence[int], size: int) -> Array:
    """Krippendorff's coincidences of each item (I, K, K), for groups as `tables` has them.

    Within a group an item weighs as many as it has values (and 0 with fewer than two); this is his definition, missing values and all. Between
    two groups an item weighs 2 and only pairs across the groups count: for two judges that is his definition again, for groups our extension of it.
    """
    pairs_IKK = tables(codes_IJ, first, second, size)
    if set(first) == set(second):
        return pairs_IKK * _counts(codes_IJ, first, size).sum(-1)[:, None, None]
    return pairs_IKK + pairs_IKK.transpose(0, 2, 1)


def with_interval(
    clusters_CKK: Array, statistic: Statistic, *, ordered: bool, seed: int = 0, level: float = LEVEL, resamples: int = RESAMPLES
) -> Estimate | None:
    """The statistic of the summed tables, with an interval that resamples whole clusters (prompts); None where it is not defined.

    Estimator: as `intervals.cluster_bootstrap`, carried over from means to any figure of a table. Clusters get random weights, uniform over all that
    have one sum (the Bayesian bootstrap, Rubin 1981), and there is one cluster more, which nobody saw, of the largest size seen: for the upper end one where
    the judges agree, for the lower one where they do not, in the cell that moves the figure furthest. On an `ordered` scale it
    disagrees by no more steps than the worst pair seen, and at least by one. For the share of exact agreement with one item a prompt this is the exact
    interval of Clopper and Pearson. Weights are never 0, so no resample is degenerate where the whole is not.

    Why this one: simulated with 20 and 50 prompts, tables of 2, 3 and 6 values, skewed and not, kappa from 0 to .98, it covered 96 to 100 times
    in 100 (tests/analyze/test_agreement.py). There the percentile bootstrap, BCa and the jackknife with Student's t
    covered as rarely as 39 times in 100: all three say that nothing is uncertain once the few items at hand happen to agree.
    """
    wanted = _of_tables(clusters_CKK, [(statistic, ordered)])
    [estimate] = _intervals(clusters_CKK, clusters_CKK.sum((1, 2)), wanted, seed=seed, level=level, resamples=resamples)
    return estimate


def agreement(
    codes_IJ: Codes,
    first: Sequence[int],
    second: Sequence[int],
    prompts: Sequence[Hashable],
    scale: Scale,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Agreement | None:
    """All figures of two groups of judges (or of one with itself: `first` equal to `second`); None where they have no item in common.

    `codes_IJ[i, j]` is the place in `scale.values` of judge j's opinion on item i, MISSING where there is none; `prompts[i]` the item's cluster. Clusters
    enter in the order of their names, so the order of items changes nothing. With a tie in the scale: tie_discounted, exact, no_tie, kappa, alpha.
    Ordered: exact, kappa, kappa_linear, kappa_quadratic, alpha, alpha_ordinal and, where values are numbers, alpha_interval. Else exact, kappa, alpha.

    With more than MANY values tables would be too large: exact and, where values are numbers, alpha_interval, from sums.

    Every item weighs the same in all but alpha, whose definition weighs an item by its values. The level of chance of kappa and alpha is 0: both are made so.
    """
    if len(scale.values) > MANY:
        return _of_many(codes_IJ, first, second, prompts, scale, seed, resamples)
    size = max(len(scale.values), 2)  # there is another value, though nobody gave it: else nothing was asked
    pairs_IKK = tables(codes_IJ, first, second, size)
    there = pairs_IKK.sum((-2, -1)) > 0
    if not there.any():
        return None
    kept = [prompt for prompt, yes in zip(prompts, there, strict=True) if yes]
    place = {prompt: i for i, prompt in enumerate(sorted(set(kept), key=str))}
    of = np.array([place[prompt] for prompt in kept])
    pairs_CKK = _summed(pairs_IKK[there], of, len(place))
    both_CKK = _summed(coincidences(codes_IJ, first, second, size)[there], of, len(place))
    of_pairs, of_both = _statistics(scale)
    items = int(there.sum())
    counted = dict.fromkeys((*of_pairs, *of_both), items)
    if scale.tie is not None:
        decided = np.delete(np.delete(pairs_IKK, scale.tie, -1), scale.tie, -2)
        counted["no_tie"] = int((decided.sum((-2, -1)) > 0).sum())
    measures = []
    for clusters_CKK, wanted in ((pairs_CKK, of_pairs), (both_CKK, of_both)):
        told = _of_tables(clusters_CKK, list(wanted.values()))
        found = _intervals(clusters_CKK, clusters_CKK.sum((1, 2)), told, seed=seed, level=LEVEL, resamples=resamples)
        by_chance = independent(clusters_CKK.sum(0))
        for (name, (statistic, _)), estimate in zip(wanted.items(), found, strict=True):
            chance = 0.0 if name.startswith(("kappa", "alpha")) else float(statistic(by_chance))
            measures.append(Measure(name, counted[name], estimate, None if estimate is None else chance))
    return Agreement(items, len(place), tuple(measures))


def _of_many(
    codes_IJ: Codes,
    first: Sequence[int],
    second: Sequence[int],
    prompts: Sequence[Hashable],
    scale: Scale,
    seed: int,
    resamples: int,
) -> Agreement | None:
    """`agreement` of many values: no table, but each item's sums over its pairs, which the two figures are functions of."""
    same, size = set(first) == set(second), len(scale.values)
    one_IK, other_IK = _counts(codes_IJ, first, size), _counts(codes_IJ, second, size)
    n_I, m_I = one_IK.sum(1), other_IK.sum(1)
    pairs_I = n_I * (m_I - 1) if same else n_I * m_I
    there = pairs_I > 0
    if not there.any():
        return None
    one_IK, other_IK, n_I, m_I, pairs_I = one_IK[there], other_IK[there], n_I[there], m_I[there], pairs_I[there]
    kept = [prompt for prompt, yes in zip(prompts, there, strict=True) if yes]
    place = {prompt: i for i, prompt in enumerate(sorted(set(kept), key=str))}
    of, items = np.array([place[prompt] for prompt in kept]), int(there.sum())
    alike_I = ((one_IK * other_IK).sum(1) - (n_I if same else 0)) / pairs_I
    by_chance = float((one_IK / n_I[:, None]).mean(0) @ (other_IK / m_I[:, None]).mean(0))
    exact_C2 = _summed(np.column_stack([alike_I, 1 - alike_I]), of, len(place))
    agree, differ = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    shared = [(lambda sums: _over(sums[..., 0], sums.sum(-1)), differ, agree)]
    [estimate] = _intervals(exact_C2, exact_C2.sum(1), shared, seed=seed, level=LEVEL, resamples=resamples)
    measures = [Measure("exact", items, estimate, None if estimate is None else by_chance)]
    if scale.numbers is not None:
        x_K = np.array(scale.numbers) - np.mean(scale.numbers)
        x_I, y_I, xx_I, yy_I = one_IK @ x_K, other_IK @ x_K, one_IK @ x_K**2, other_IK @ x_K**2
        weight_I = n_I if same else np.full(items, 2.0)  # as `coincidences` weighs items
        apart_I = (n_I * yy_I + m_I * xx_I - 2 * x_I * y_I) / pairs_I
        mean_I, square_I = (x_I / n_I + y_I / m_I) / 2, (xx_I / n_I + yy_I / m_I) / 2
        sums_C4 = _summed(weight_I[:, None] * np.column_stack([np.ones(items), mean_I, square_I, apart_I]), of, len(place))
        given_IK = (one_IK + other_IK) > 0
        seen = x_K[given_IK.any(0)]
        ranges_I = np.where(given_IK, x_K, -np.inf).max(1) - np.where(given_IK, x_K, np.inf).min(1)
        reach = max(float(ranges_I.max()), float(np.ptp(seen)) / size)  # as far apart as any seen, or a step
        together = np.array([[1, v, v * v, 0] for v in np.linspace(seen.min(), seen.max(), MANY)])
        lower = np.linspace(seen.min(), seen.max() - reach, MANY)
        apart = np.array([[1, v + reach / 2, (v * v + (v + reach) ** 2) / 2, reach**2] for v in lower])
        [estimate] = _intervals(sums_C4, sums_C4[:, 0], [(_alpha_of_sums, apart, together)], seed=seed, level=LEVEL, resamples=resamples)
        measures.append(Measure("alpha_interval", items, estimate, None if estimate is None else 0.0))
    return Agreement(items, len(place), tuple(measures))


def _alpha_of_sums(sums: Array) -> Array:
    """Krippendorff's alpha with the interval metric of (values, their sum, that of their squares, that of the squared differences of pairs)."""
    total, x, xx, apart = (sums[..., i] for i in range(4))
    return 1 - _over((total - 1) * apart, 2 * (total * xx - x**2))


def _statistics(scale: Scale) -> tuple[dict[str, tuple[Statistic, bool]], dict[str, tuple[Statistic, bool]]]:
    """Of tables of pairs, and of coincidences: by name the statistic, and whether it takes the scale for ordered."""
    numbers = scale.numbers if len(scale.values) > 1 else None
    of_pairs: dict[str, tuple[Statistic, bool]] = {"exact": (exact, False), "kappa": (cohen_kappa, False)}
    of_both: dict[str, tuple[Statistic, bool]] = {"alpha": (krippendorff_alpha, False)}
    if scale.tie is not None:
        tie = scale.tie
        discounted: dict[str, tuple[Statistic, bool]] = {"tie_discounted": (lambda table: tie_discounted(table, tie), False)}
        of_pairs = discounted | {
            "exact": (exact, False),
            "no_tie": (lambda table: no_tie(table, tie), False),
            "kappa": (cohen_kappa, False),
        }
    elif scale.ordered:
        of_pairs["kappa_linear"] = (lambda table: cohen_kappa(table, "linear", numbers), True)
        of_pairs["kappa_quadratic"] = (lambda table: cohen_kappa(table, "quadratic", numbers), True)
        of_both["alpha_ordinal"] = (lambda table: krippendorff_alpha(table, "ordinal"), True)
        if scale.numbers is not None:
            of_both["alpha_interval"] = (lambda table: krippendorff_alpha(table, "interval", numbers), True)
    return of_pairs, of_both


def _intervals(
    clusters_CX: Array,
    sizes_C: Array,
    wanted: Sequence[tuple[Statistic, Array, Array]],
    *,
    seed: int,
    level: float,
    resamples: int,
) -> list[Estimate | None]:
    """`with_interval` for several statistics from the same draws. A cluster is a table, or any sums that statistics are functions of; with each
    statistic what a cluster of size 1 that nobody saw may hold, where judges disagree and where they agree."""
    whole_X = clusters_CX.sum(0)
    defined = [bool(np.isfinite(statistic(whole_X))) for statistic, _, _ in wanted]
    if not any(defined):
        return [None] * len(wanted)
    random = np.random.default_rng(seed)
    largest, total = float(sizes_C.max()), float(sizes_C.sum())
    drawn_DX, drawn_D = _draw(clusters_CX, sizes_C, resamples, random)
    unseen_D = largest * random.standard_exponential(resamples)  # the cluster that nobody saw
    each = (-1,) + (1,) * (clusters_CX.ndim - 1)
    scale_D = total / (drawn_D + unseen_D)
    kept_DX, unseen_DX = drawn_DX * scale_D.reshape(each), (unseen_D * scale_D).reshape(each)
    tail = (1 - level) / 2
    results: list[Estimate | None] = []
    for (statistic, apart_UX, together_UX), known in zip(wanted, defined, strict=True):
        if not known:
            results.append(None)
            continue
        value = float(statistic(whole_X))
        ends = []
        for unseen_UX, pick, quantile in ((apart_UX, np.argmin, tail), (together_UX, np.argmax, 1 - tail)):
            moved = np.round(
                statistic((whole_X + largest * unseen_UX) * (total / (total + largest))), 9
            )  # of equal ones the first, whatever rounding says
            ends.append(float(np.quantile(statistic(kept_DX + unseen_DX * unseen_UX[pick(moved)]), quantile)))
        results.append(Estimate(value, min(ends[0], value), max(ends[1], value)))
    return results


def _of_tables(clusters_CKK: Array, wanted: Sequence[tuple[Statistic, bool]]) -> list[tuple[Statistic, Array, Array]]:
    """For `_intervals`: each statistic of tables, `ordered` or not, with the cells that it may find in a further table."""
    size = clusters_CKK.shape[-1]
    reach = max(1, int(_apart(_places(size))[clusters_CKK.sum(0) > 0].max(initial=0)))
    return [(statistic, _unseen(size, True, reach if ordered else size), _unseen(size, False, size)) for statistic, ordered in wanted]


def _unseen(size: int, apart: bool, reach: int) -> Array:
    """Tables of one item each: two judges that disagree by 1 to `reach` steps, half of it either way round; or that agree."""
    unit = np.eye(size)
    pairs = [(i, j) for i in range(size) for j in range(i, size) if (1 <= j - i <= reach if apart else i == j)]
    return np.array([(np.outer(unit[i], unit[j]) + np.outer(unit[j], unit[i])) / 2 for i, j in pairs])


def _draw(clusters_CX: Array, sizes_C: Array, resamples: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Sums of the clusters with random weights (exponential, of mean 1), one sum a draw; and of their sizes."""
    n = len(clusters_CX)
    flat = clusters_CX.reshape(n, -1)
    at_once = max(1, _CELLS // n)
    parts, totals = [], []
    for start in range(0, resamples, at_once):
        weights_DC = random.standard_exponential((min(at_once, resamples - start), n))
        parts.append(weights_DC @ flat)
        totals.append(weights_DC @ sizes_C)
    return np.concatenate(parts).reshape(resamples, *clusters_CX.shape[1:]), np.concatenate(totals)


def _summed(tables_IKK: Array, of: npt.NDArray[np.intp], clusters: int) -> Array:
    out = np.zeros((clusters, *tables_IKK.shape[1:]))
    np.add.at(out, of, tables_IKK)
    return out


def _counts(codes_IJ: Codes, judges: Sequence[int], size: int) -> Array:
    """How many of these judges gave each value, item by item (I, K)."""
    return (codes_IJ[:, list(judges), None] == np.arange(size)).sum(1).astype(float)


def _places(size: int, numbers: Sequence[float] | None = None) -> Array:
    return np.arange(size, dtype=float) if numbers is None else np.asarray(numbers, dtype=float)


def _apart(places: Array) -> Array:
    """Distances of each two (..., K, K)."""
    return np.abs(places[..., :, None] - places[..., None, :])


def _over(above: Array, below: Array) -> Array:
    """Divided; NaN where there is nothing to divide by."""
    below = np.asarray(below, dtype=float)
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)
