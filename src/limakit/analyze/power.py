"""How many prompts it takes to see a difference, and which difference so many prompts can show: exact for the tests that `limakit compare` prints."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST = 1_000_000  # prompts: beyond that nobody judges
_NODES = 200
_SMOOTH = 0.02  # ties: with more the number of decided prompts varies, and the power no longer jumps with the number of prompts


def sign_power(prompts: int, net: float, ties: float, level: float) -> float:
    """How often the sign test sees a net preference, as a share of such studies.

    `net` = wins - losses and `ties` are shares of prompts (one vote each: the sign of its mean verdict), so a prompt is won with probability
    (1 - ties + net) / 2. The test is two-sided and exact, ties dropped (`significance.sign_test`): it sees something where p <= level. Exact too: the sum
    over every number of decided prompts m, binomial (prompts, 1 - ties), of the probability that of m the wins lie in a tail of the fair coin.

    Raises ValueError unless 0 <= ties < 1, 0 <= net <= 1 - ties, 0 < level < 1 and prompts >= 1.
    """
    return float(_sign_powers(np.array([prompts]), net, ties, level)[0])


def _sign_powers(prompts_P: Ints, net: float, ties: float, level: float) -> Floats:
    if not (0 <= ties < 1 and 0 <= net <= 1 - ties + 1e-12 and 0 < level < 1 and prompts_P.min() >= 1):
        raise ValueError(f"net {net}, ties {ties}, level {level}")
    from scipy.stats import binom

    decided = 1 - ties
    reach = 9 * math.sqrt(prompts_P.max() * ties * decided) + 9 * (ties > 0)  # of m around its mean: what lies beyond is below 1e-12
    low = max(0, math.floor(prompts_P.min() * decided - reach))
    high = min(int(prompts_P.max()), math.ceil(prompts_P.max() * decided + reach))
    m_M = np.arange(low, high + 1)
    # the most wins, or losses, with which the smaller side is still in its tail of level / 2; -1 where m is too small for any
    at_M = binom.ppf(level / 2, m_M, 0.5)
    most_M = np.where(binom.cdf(at_M, m_M, 0.5) <= level / 2, at_M, at_M - 1)
    win = min(1.0, (1 + net / decided) / 2)
    seen_M = np.where(most_M >= 0, binom.cdf(most_M, m_M, win) + binom.cdf(most_M, m_M, 1 - win), 0.0)
    weights_PM = binom.pmf(m_M[None, :], prompts_P[:, None], decided)
    found: Floats = np.minimum(weights_PM @ seen_M, 1.0)
    return found


def prompts_for_net(net: float, ties: float, *, power: float, level: float) -> int | None:
    """The smallest number of prompts from which on `sign_power` is at least `power`; None for more than MOST.

    With few ties the power goes up and down with the number of prompts (the test's level can only be met in jumps): it may be reached with fewer
    prompts and missed again with one more, and that does not count.
    """

    def reached(prompts: int) -> bool:
        return sign_power(prompts, net, ties, level) >= power

    found = _first(reached, MOST) if net > 0 else None
    if found is None:
        return None
    ahead = 40 + (int(4 * math.sqrt(found)) if ties < _SMOOTH else 0)
    low = max(1, found - 10)
    below = np.flatnonzero(_sign_powers(np.arange(low, found + ahead), net, ties, level) < power)
    return low + int(below[-1]) + 1 if len(below) else low


def net_for_prompts(prompts: int, ties: float, *, power: float, level: float) -> float | None:
    """The smallest net preference that `prompts` show with `power`; None where not even one that is all wins among decided prompts is seen."""

    def seen(net: float) -> float:
        return sign_power(prompts, net, ties, level)

    return _smallest(seen, 1 - ties, power)


def mean_power(prompts: int, difference: float, sd: float, level: float) -> float:
    """How often the sign flips that are printed (`significance.sign_flip_test`) see a difference of mean grades; `sd` is that of the two models'
    difference over prompts.

    0 with so few prompts that no assignment of signs is rarer than `level` (5 at .05). With one or two more only prompts that all differ to the same
    side are, which is exact where differences are normal. Else the power of the paired t test (`t_power`), which that of the flips is within
    4 points of (tests/analyze/test_power.py). Where most prompts do not differ at all they see less: with one prompt in five that differs by a point,
    34 prompts see it 68 times in 100 where the t test is said to 80 times, and 41 see it 86 times.

    Raises ValueError as `t_power` does.
    """
    power = t_power(prompts, difference, sd, level)
    rarest = 2.0 ** (1 - prompts)
    if rarest > level:
        return 0.0
    if 2 * rarest > level:
        above = NormalDist().cdf(difference / sd)
        return min(power, above**prompts + (1 - above) ** prompts)
    return power


def t_power(prompts: int, difference: float, sd: float, level: float) -> float:
    """How often a paired t test over prompts sees it: Student's t, not central, with prompts - 1 degrees of freedom (Cohen 1988, section 2.5),
    two-sided. Exact where differences are normal.

    Raises ValueError unless sd > 0, difference >= 0, 0 < level < 1 and prompts >= 2.
    """
    if not (sd > 0 and difference >= 0 and 0 < level < 1 and prompts >= 2):
        raise ValueError(f"difference {difference}, sd {sd}, level {level}, {prompts} prompts")
    from scipy.special import ndtr, roots_legendre
    from scipy.stats import chi
    from scipy.stats import t as student

    shift = difference / sd * math.sqrt(prompts)
    critical = float(student.ppf(1 - level / 2, prompts - 1))
    # given the sd that is seen, the mean is normal; over that sd, chi-distributed, by Gauss and Legendre's rule: to 1e-6, where the
    # library's noncentral t gives NaN for some
    nodes_K, weights_K = roots_legendre(_NODES)
    bound_K = critical * chi.ppf((nodes_K + 1) / 2, prompts - 1) / math.sqrt(prompts - 1)
    return min(1.0, float(weights_K @ (ndtr(shift - bound_K) + ndtr(-shift - bound_K))) / 2)


def prompts_for_mean(difference: float, sd: float, *, power: float, level: float) -> int | None:
    """The smallest number of prompts with which `mean_power` is at least `power`; None for more than MOST."""
    if difference <= 0:
        return None
    found = _first(lambda prompts: mean_power(prompts + 1, difference, sd, level) >= power, MOST)
    return None if found is None else found + 1


def mean_for_prompts(prompts: int, sd: float, *, power: float, level: float) -> float | None:
    """The smallest difference of mean grades that `prompts` show with `power`; None where so few show none."""
    return _smallest(
        lambda difference: mean_power(prompts, difference, sd, level), 100_000 * sd, power
    )  # 2 prompts at level 0.001 need that much


def _first(reached: Callable[[int], bool], most: int) -> int | None:
    """The smallest whole number from 1 that reaches it, where that is so from some number on."""
    high = 1
    while not reached(high):
        if high >= most:
            return None
        high = min(most, 2 * high)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _smallest(seen: Callable[[float], float], highest: float, power: float) -> float | None:
    """Where a power that rises with the difference comes to `power`, to a millionth of the highest; None where it never does."""
    if seen(highest) < power:
        return None
    low, high = 0.0, highest
    while high - low > 1e-6 * max(high, 1e-9):
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) >= power else (middle, high)
    return high
