"""Random rows: the baseline of every selection. Run it under several seeds, for one draw says little."""

from __future__ import annotations

import numpy as np

from .rows import Picks, Rows


def random_n(rows: Rows, take: int) -> Picks:
    """The first rows of the seed's draw, each set of `take` equally likely. The score is 1 for the first, falling to 0 for the last."""
    n = len(rows)
    return Picks(tuple(range(min(take, n))), 1 - np.arange(n) / max(n - 1, 1))
