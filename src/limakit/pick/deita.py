"""DEITA (Liu et al. 2024, "What Makes Good Data for Alignment?"): complexity times quality first, nothing too like what is taken.

Rows come in the order of the product; one is taken unless its cosine to something taken exceeds a threshold, 0.9 in the paper's recipe. (The
paper speaks of a distance; its published code compares cosine similarities, and so do we.)
"""

from __future__ import annotations

import numpy as np

from ..progress import Progress
from .k_center import EQUAL
from .rows import Picks, Rows, highest

TOO_SIMILAR = "too_similar"
BLOCK = 512  # rows whose cosines to what is taken are computed at once


def deita(rows: Rows, take: int, *, max_similarity: float = 0.9) -> Picks:
    """The rows with the highest `complexity` x `quality` whose cosine to each one taken before is at most `max_similarity`.

    Rows without a score (`absent`) are never picked. Of a dialogue the paper sums over turns; here complexity is of all that comes before
    the last response, quality of that response. At worst O(n take d) time, O(take d) memory beside the vectors.
    """
    vectors = rows.vectors
    assert vectors is not None
    score, reasons = rows.columns["complexity"] * rows.columns["quality"], dict(rows.absent)
    queue = np.array(highest(score, len(rows), reasons).order, dtype=int)
    order: list[int] = []
    with Progress("deita", len(queue), "rows") as bar:
        for start in range(0, len(queue), BLOCK):
            if len(order) >= take:
                break
            block = queue[start : start + BLOCK]
            some = vectors[block]
            near = np.full(len(block), -np.inf, np.float32)
            for at in range(0, len(order), 8 * BLOCK):
                np.maximum(near, (some @ vectors[order[at : at + 8 * BLOCK]].T).max(axis=1), out=near)
            among = some @ some.T
            for k, row in enumerate(block.tolist()):
                if len(order) >= take:
                    break
                if near[k] > max_similarity + EQUAL:
                    reasons[row] = TOO_SIMILAR
                else:
                    order.append(row)
                    np.maximum(near, among[k], out=near)
            bar.advance(len(block), picked=str(len(order)))
    return Picks(tuple(order), score, reasons)
