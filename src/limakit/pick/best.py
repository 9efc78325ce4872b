"""The highest scores: a judge's ratings (Chen et al. 2023, "AlpaGasus": of 52k examples those rated 4.5 and more of 5), or the user's own."""

from __future__ import annotations

import numpy as np

from .rows import Picks, Rows, highest

TOO_LOW = "score_too_low"


def best(rows: Rows, take: int, *, at_least: float | None = None) -> Picks:
    """The rows with the highest `score`, none below `at_least`. Rows without one (`absent`) are never picked: a failure is no value."""
    score, reasons = rows.columns["score"], dict(rows.absent)
    if at_least is not None:
        reasons |= dict.fromkeys(np.flatnonzero(score < at_least).tolist(), TOO_LOW)
    return highest(score, take, reasons)
