"""Drawing: by a stable hash of the seed and of what is drawn, so neither the order of files nor of rows matters."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from math import exp, log


def unit(seed: int, *parts: str | int) -> float:
    """A number in [0, 1) that depends on the seed and the parts alone."""
    digest = hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def draw_strata(sizes: Mapping[str, int], supply: Mapping[str, int], take: int, *, temperature: float, seed: int, name: str) -> list[str]:
    """The stratum (community, category) of each of `take` draws: probability ~ size^(1/temperature) among those with supply left.

    The paper: communities with tau = 3, categories evenly (temperature = inf). `sizes` are all candidates of a stratum, `supply` those fit
    to be drawn. Shorter than `take` only where the whole supply is. A shorter draw is the beginning of a longer one with the same seed.
    """
    left = {stratum: n for stratum, n in sorted(supply.items()) if n > 0}
    drawn: list[str] = []
    strata: list[str] = []
    bounds: list[float] = []
    while left and len(drawn) < take:
        if len(strata) != len(left):  # one has run dry
            strata = list(left)
            logs = [log(max(sizes[stratum], 1)) for stratum in strata]
            largest = max(logs)
            bounds = list(
                accumulate(exp((value - largest) / temperature) for value in logs)
            )  # size^(1/temperature) by a factor, never too large
        at = bisect_right(bounds, unit(seed, "community", name, len(drawn)) * bounds[-1])
        stratum = strata[min(at, len(strata) - 1)]
        drawn.append(stratum)
        left[stratum] -= 1
        if not left[stratum]:
            del left[stratum]
    return drawn


def choose(ids: list[str], take: int, *, seed: int, name: str) -> set[str]:
    """`take` of the ids, each set equally likely."""
    return set(sorted(ids, key=lambda i: (unit(seed, "choose", name, i), i))[:take])
