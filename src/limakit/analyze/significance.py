"""Tests of differences: by sign flips of whole clusters, and what many tests at once cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FLIPS = 20_000
EXACT = 14  # clusters up to which every way to flip is tried: 2^14 are fewer than FLIPS


def sign_flip(sums: Sequence[float], *, seed: int = 0, flips: int = FLIPS) -> float:
    """The p-value, two-sided, of a mean paired difference by flipping the signs of whole clusters.

    `sums[i]` is the sum of cluster i's differences (a prompt's difference, or the sum over a dialogue's turns). Null hypothesis: which of the two
    models a cluster's grades belong to is as good as tossed, so that each sum is as likely to have the other sign (Fisher 1935, section 21; with
    clusters, Canay, Romano and Shaikh 2017). p is the share of ways to flip whose total is at least as far from 0 as the one seen: over all 2^n
    ways with up to 14 clusters, else over `flips` random ones and the one seen, (1 + hits) / (1 + flips), which is never 0. Clusters that differ
    by 0 change nothing. 1 where all do. With n clusters p is at least 2^(1 - n): fewer than 6 never come below 0.05.

    Raises ValueError for no clusters, or a sum that is not finite.
    """
    if not sums or not all(math.isfinite(x) for x in sums):
        raise ValueError("no clusters, or a sum that is not finite")
    sums_N = np.array(sorted(x for x in sums if x), dtype=np.float64)  # sorted: the order of the clusters changes no random draw
    n = len(sums_N)
    if not n:
        return 1.0
    seen = abs(math.fsum(sums_N)) - 1e-9 * float(np.abs(sums_N).sum())  # equal totals differ in their last bits
    if n <= EXACT:
        totals = np.zeros(1)
        for x in sums_N:
            totals = np.concatenate([totals - x, totals + x])
        return float(np.mean(np.abs(totals) >= seen))
    random, hits, at_once = np.random.default_rng(seed), 0, max(1, 4_000_000 // n)
    for start in range(0, flips, at_once):
        flipped = random.integers(0, 2, (min(at_once, flips - start), n), dtype=np.int8)
        hits += int(np.sum(np.abs(2 * (flipped @ sums_N) - sums_N.sum()) >= seen))
    return (1 + hits) / (1 + flips)


def holm(p: Sequence[float]) -> list[float]:
    """Each p-value adjusted for all of them being looked at (Holm 1979): the chance of any false finding stays at the level, however they depend.

    The k-th smallest of m is multiplied by m - k + 1, is never below the one before and at most 1. In the order given; [] gives [].
    """
    adjusted, worst = [0.0] * len(p), 0.0
    for place, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = worst
    return adjusted
