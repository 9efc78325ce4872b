"""Tests of one value a cluster (a prompt's wins minus losses, its difference of grades) against nothing, and what many tests at once cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FLIPS = 10_000
EXACT = 13  # clusters up to which every assignment of signs is tried: 2^13 are fewer than FLIPS
_CELLS = 4_000_000  # signs held at once: bounds the memory, not the result


@dataclass(frozen=True)
class SignTest:
    """Clusters above, below and at 0, and the two-sided p. Those at 0 are dropped, as the test has it: they are counted, not used."""

    above: int
    below: int
    even: int
    p: float


def sign_test(values: Sequence[float]) -> SignTest:
    """Is a cluster's value as often above 0 as below it? One value a cluster; its size does not count.

    Exact and two-sided: twice the smaller tail of the binomial of above + below tosses of a fair coin, at most 1 (Dixon and Mood 1946).
    Clusters at 0 are dropped, so the test is conditional on the others. Nothing above or below 0, or no values: p is 1.
    """
    above, below = sum(v > 0 for v in values), sum(v < 0 for v in values)
    n = above + below
    ways = term = 1
    for k in range(1, min(above, below) + 1):
        term = term * (n - k + 1) // k
        ways += term
    return SignTest(above, below, len(values) - n, min(1.0, 2 * ways / 2**n))


def sign_flip_test(values: Sequence[float], *, seed: int = 0, flips: int = FLIPS) -> float:
    """Two-sided p of a mean of 0, if a cluster's value were as likely with the other sign (Fisher 1935; Good 2005, section 3.2).

    Unlike `sign_test` it weighs how much a cluster is above or below. Where every value is -1, 0 or 1 the two ask the same. With up to
    13 clusters that differ from 0 every assignment of signs is tried and p is exact, at least 2^(1 - n): fewer than 6 never come below .05. With more,
    `flips` random ones, the seen one among them, so p is at least 1 / (flips + 1) and the test holds its level (Phipson and Smyth 2010).
    All values 0, or none: p is 1. Raises ValueError for a value that is not finite.
    """
    x_N = np.sort(np.array([v for v in values if v != 0], dtype=np.float64))  # sorted: the order of clusters changes nothing
    if not np.isfinite(x_N).all():
        raise ValueError("a value that is not finite")
    if not len(x_N):
        return 1.0
    seen = abs(float(x_N.sum())) - 1e-9 * float(
        np.abs(x_N).sum()
    )  # sums of equal size differ in their last digits by the order of summation
    if len(x_N) <= EXACT:
        sums = np.zeros(1)
        for x in x_N:
            sums = np.concatenate([sums - x, sums + x])
        return float(np.mean(np.abs(sums) >= seen))
    random = np.random.default_rng(seed)
    at_once, reached = max(1, _CELLS // len(x_N)), 0
    for start in range(0, flips, at_once):
        signs_FN = random.integers(0, 2, (min(at_once, flips - start), len(x_N)), dtype=np.int8)
        reached += int(np.sum(np.abs(2 * (signs_FN @ x_N) - x_N.sum()) >= seen))
    return (reached + 1) / (flips + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: to call those below 0.05 differences is wrong about any of them in at most 5 % (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than the ones before it, and at most 1. Assumes nothing about how the
    tests depend on each other: baselines that answered the same prompts are fine.
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def shown_p(p: float) -> str:
    """.034, <.001, 1: three digits, as a table has room for."""
    if math.isnan(p):
        return "-"
    return "<.001" if p < 0.0005 else f"{p:.3f}".removeprefix("0") if p < 0.9995 else "1"
