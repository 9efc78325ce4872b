"""What strategies see of a pool, and what they answer.

Rows come in the order of the seed's draw (`drawn_order`), not the pool's. So among equals the first is taken by every strategy, and neither the
order of the pool nor of any file beside it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..curate.sampling import unit

Floats = NDArray[np.floating]
NOT_DRAWN = "not_drawn"  # nothing against it, but others came before it: the word that candidates.parquet has for it


@dataclass(frozen=True)
class Rows:
    """A pool's rows as far as a strategy looks at them, all in one order.

    `columns` are measured numbers by name, float64 [n], NaN where there is none, with `absent` saying why by place. `vectors` are unit
    embeddings, float32 [n, d].
    """

    ids: tuple[str, ...]
    columns: Mapping[str, Floats] = field(default_factory=dict)
    vectors: Floats | None = None
    absent: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Picks:
    """`order` holds the places of what is picked, best first, at most `take` of them; a smaller `take` gives the beginning of it.

    `score` is what the strategy went by, float64 [n]: NaN where a row has none. `reasons` says what speaks against a row, by place; the
    others that were not picked are NOT_DRAWN.
    """

    order: tuple[int, ...]
    score: Floats
    reasons: Mapping[int, str] = field(default_factory=dict)


def drawn_order(ids: Sequence[str], seed: int) -> list[int]:
    """Places of the ids in the order of a draw: by BLAKE2b of the seed and the id, each order equally likely."""
    return sorted(range(len(ids)), key=lambda i: (unit(seed, "pick", ids[i]), ids[i]))


def highest(score: Floats, take: int, reasons: Mapping[int, str]) -> Picks:
    """The `take` rows with the highest scores among those nothing speaks against; equals in the order of the rows."""
    fit = np.array([i for i in range(len(score)) if i not in reasons], dtype=int)
    if np.isnan(score[fit]).any():
        raise ValueError("a row without a score and without a reason")
    order = fit[np.argsort(-score[fit], kind="stable")[:take]]
    return Picks(tuple(order.tolist()), score, reasons)
