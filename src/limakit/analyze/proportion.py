"""The interval of a share where every row is a draw of its own: one row a prompt."""

from __future__ import annotations

import math

from .intervals import LEVEL, Estimate


def wilson(hits: int, n: int, *, level: float = LEVEL) -> Estimate:
    """hits / n with Wilson's score interval (Wilson 1927): every share p that a normal test with p's own variance does not reject.

    For independent rows only; rows of one prompt are not (`intervals.cluster_bootstrap`). Where none or all are hits it is one-sided: [0, z² / (n + z²)]
    or [n / (n + z²), 1]. It covers at its level on average over p, and for some p less often: close to 0 or 1, where about one hit or miss
    is expected, down to about 0.84 at level 0.95 (Brown, Cai and DasGupta 2001).

    Raises ValueError for n = 0, of which there is no share, for hits outside 0 to n, and for a level that is not between 0 and 1.
    """
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n}: no share")
    if not 0 < level < 1:
        raise ValueError(f"level {level}: between 0 and 1")
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, 0.0 if hits == 0 else middle - half, 1.0 if hits == n else middle + half)
