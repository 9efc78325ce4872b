"""Facility location, greedily: picks that between them lie near every row of the pool (Mirchandani and Francis 1990; Wei et al. 2015).

    F(S) = sum over rows i of max over picks j of (1 + cos(i, j)) / 2,   F(nothing) = 0

is monotone and submodular, so the greedy choice reaches 1 - 1/e of the best (Nemhauser et al. 1978). The gain of every row is known at every
pick: after one it changes only by the rows that the new pick serves better than those before, about n/k of them at the k-th, so all picks
together cost about ln(take) passes over all pairs. Lazy greedy (Minoux 1978) keeps bounds instead and looked at more pairs wherever it was
measured, for embeddings' gains lie close together.
"""

from __future__ import annotations

import numpy as np

from ..progress import track
from .rows import Floats, Picks, Rows

ROWS, COLUMNS = 256, 4096  # of a tile of cosines: 4 MB, which a core's cache holds
# Sums of cosines that differ by less are equal, for sums of float32 are off by as much. Equals are common: two rows that only serve each other.
EQUAL = 1e-4


def facility_location(rows: Rows, take: int) -> Picks:
    """One after another the row that raises F most, from unit `vectors`. Equal gains: the first.

    The score of a pick is what it added to F / n, of another row what it would add now. O(n d) memory, no n x n matrix.
    """
    vectors, n = rows.vectors, len(rows)
    assert vectors is not None
    best = np.full(n, -1, np.float32)  # cosine to the nearest pick; -1: as before any
    total = vectors.sum(axis=0, dtype=np.float64)
    gain: Floats = np.empty(n)  # of each row, twice what F gains
    for start in range(0, n, COLUMNS):
        gain[start : start + COLUMNS] = n + vectors[start : start + COLUMNS].astype(np.float64) @ total
    free = np.ones(n, bool)
    order: list[int] = []
    score = np.empty(n)
    for _ in track(range(min(take, n)), "facility location", min(take, n), "picks"):
        open_gain = np.where(free, gain, -np.inf)
        chosen = int(np.argmax(open_gain >= open_gain.max() - EQUAL))
        score[chosen] = gain[chosen]
        order.append(chosen)
        free[chosen] = False
        served = vectors @ vectors[chosen]
        better = np.flatnonzero(served > best)
        if 2 * len(better) > n:  # less work anew, and without the rounding of what is taken away
            np.maximum(best, served, out=best)
            gain = _raised(vectors, np.arange(n), best, None)
        else:
            gain -= _raised(vectors, better, best[better], served[better])
            best[better] = served[better]
    score[free] = gain[free]
    return Picks(tuple(order), np.maximum(score, 0) / (2 * n))


def objective(vectors: Floats, picks: list[int]) -> float:
    """F(S) / n of these picks: the mean over rows of (1 + cos) / 2 to the nearest pick, in [0, 1]."""
    total = 0.0
    for start in range(0, len(vectors), COLUMNS):
        total += float((vectors[start : start + COLUMNS] @ vectors[picks].T).max(axis=1).sum(dtype=np.float64))
    return 0.5 + total / (2 * len(vectors))


def _raised(vectors: Floats, which: np.ndarray, low: Floats, high: Floats | None) -> Floats:
    """For every row j the sum over the rows i of `which` of how far cos(i, j) rises above `low`[i], at most up to `high`[i]. [n] float64"""
    total = np.zeros(len(vectors))
    for start in range(0, len(which), ROWS):
        here = slice(start, start + ROWS)
        some, floor = vectors[which[here]], low[here, None]
        ceiling = None if high is None else high[here, None] - floor
        for column in range(0, len(vectors), COLUMNS):
            there = slice(column, column + COLUMNS)
            tile = some @ vectors[there].T
            tile -= floor
            np.maximum(tile, 0, out=tile)
            if ceiling is not None:
                np.minimum(tile, ceiling, out=tile)
            total[there] += tile.sum(axis=0)
    return total
