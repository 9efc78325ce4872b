"""Drawing: by a stable hash of the seed and of what is drawn, so neither the order of files nor of rows matters."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import exp, log
from typing import TypeVar

T = TypeVar("T")


def unit(seed: int, *parts: str | int) -> float:
    """A number in [0, 1) that depends on the seed and the parts alone."""
    digest = hashlib.blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def draw_strata(
    sizes: Mapping[str, int],
    supply: Mapping[str, Sequence[T]],
    take: int,
    *,
    temperature: float,
    seed: int,
    name: str,
    accept: Callable[[T], bool] = lambda item: True,
) -> list[T]:
    """`take` items: each draw takes a stratum (community, category), then the first of its items not yet asked about that `accept` takes.

    A stratum's probability is ~ size^(1/temperature) among those with items left; the paper: communities with tau = 3, categories evenly
    (temperature = inf). `sizes` are all candidates of a stratum, `supply` its items in order. Shorter than `take` only where nothing is left.
    A shorter draw is the beginning of a longer one with the same seed.
    """
    left = {stratum: len(items) for stratum, items in sorted(supply.items()) if items}
    drawn: list[T] = []
    strata: list[str] = []
    bounds: list[float] = []
    again = 0  # draws of this place that met a stratum of which nothing was taken
    while left and len(drawn) < take:
        if len(strata) != len(left):  # one has run dry
            strata = list(left)
            logs = [log(max(sizes[stratum], 1)) for stratum in strata]
            largest = max(logs)
            bounds = list(
                accumulate(exp((value - largest) / temperature) for value in logs)
            )  # size^(1/temperature) by a factor, never too large
        parts = (len(drawn), again) if again else (len(drawn),)
        at = bisect_right(bounds, unit(seed, "community", name, *parts) * bounds[-1])
        stratum = strata[min(at, len(strata) - 1)]
        items, taken = supply[stratum], False
        while left[stratum] and not taken:
            item = items[len(items) - left[stratum]]
            left[stratum] -= 1
            taken = accept(item)
        if taken:
            drawn.append(item)
        again = 0 if taken else again + 1
        if not left[stratum]:
            del left[stratum]
    return drawn


def shuffled(items: Sequence[T], key: Callable[[T], str], *, seed: int, name: str) -> list[T]:
    """The items in an order that depends on their keys alone, each order equally likely: the first k are k drawn at random."""
    return sorted(items, key=lambda item: (unit(seed, "choose", name, key(item)), key(item)))
