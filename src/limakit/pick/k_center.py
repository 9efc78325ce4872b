"""k-center, greedily: each pick is the row farthest from all picks before (Gonzalez 1985; Sener and Savarese 2018, "core-set").

The largest distance of a row to its nearest pick is at most twice the smallest that any choice of as many rows reaches.
"""

from __future__ import annotations

import numpy as np

from ..progress import track
from .rows import Picks, Rows

EQUAL = 1e-6  # cosines that differ by less are equal: what float32 is off by


def k_center(rows: Rows, take: int) -> Picks:
    """The first row, then one after another the row farthest from its nearest pick; distance sqrt(2 - 2 cos) between unit `vectors`.

    Equally far: the first. The score of a pick is its distance when it was picked (NaN for the first, which is drawn), of another row its
    distance to the nearest pick. One pass over the vectors a pick: O(take n d) time, O(n) memory beside them.
    """
    vectors = rows.vectors
    assert vectors is not None
    nearest = np.full(len(rows), -np.inf, np.float32)  # cosine to the nearest pick
    free = np.ones(len(rows), bool)
    order: list[int] = []
    score = np.full(len(rows), np.nan)
    for _ in track(range(min(take, len(rows))), "k-center", min(take, len(rows)), "picks"):
        open_nearest = np.where(free, nearest, np.inf)
        chosen = int(np.argmax(open_nearest <= open_nearest.min() + EQUAL))
        if order:
            score[chosen] = _distance(nearest[chosen])
        order.append(chosen)
        free[chosen] = False
        np.maximum(nearest, vectors @ vectors[chosen], out=nearest)
    if order:
        score[free] = _distance(nearest[free])
    return Picks(tuple(order), score)


def _distance(cosine: np.ndarray | np.floating) -> np.ndarray:
    return np.sqrt(np.maximum(2 - 2 * np.asarray(cosine, np.float64), 0))
