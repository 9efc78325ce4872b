"""The account of a pick: what became of every row of the pool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..progress import say, show_table
from ..records import Example
from ..workspace import atomic_file
from .rows import NOT_DRAWN, Picks, Rows


def counts(reasons: Mapping[int, str]) -> str:
    """Reasons with how often each is given, the most frequent first."""
    return ", ".join(f"{reason} {n}" for reason, n in Counter(reasons.values()).most_common()) or "nothing speaks against any"


def write_account(path: Path, order: Sequence[int], rows: Rows, picks: Picks, answers: Mapping[int, Sequence[str]]) -> None:
    """Every row of the pool, in the pool's order: id, picked, rank from 1, reason, score, and what the score was made from. No NaN: null.

    `order` holds the place in the pool of each of `rows`; `answers` by place what a judge said that could not be scored.
    """
    ranks = {place: rank for rank, place in enumerate(picks.order, start=1)}
    with atomic_file(path) as file:
        for place in sorted(range(len(rows)), key=order.__getitem__):
            row: dict[str, Any] = {"id": rows.ids[place], "picked": place in ranks, "rank": ranks.get(place)}
            row |= {"reason": None if place in ranks else picks.reasons.get(place, NOT_DRAWN), "score": _number(picks.score[place])}
            row |= {name: _number(column[place]) for name, column in rows.columns.items() if name != "score"}
            if place in answers:
                row["answers"] = list(answers[place])
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _number(value: Any) -> float | None:
    return float(value) if isfinite(value) else None


def show_account(by: str, pool: Sequence[Example], picked: Sequence[Example], reasons: Mapping[int, str]) -> None:
    """Print how many rows of each source were picked, and what speaks against others."""
    there, taken = Counter(example.source for example in pool), Counter(example.source for example in picked)
    cells = [[source, f"{n:,}", f"{taken[source]:,}"] for source, n in there.items()]
    if len(there) > 1:
        cells.append(["all", f"{len(pool):,}", f"{len(picked):,}"])
    show_table(f"picked by {by}", ["source", "in the pool", "picked"], cells)
    if reasons:
        say(f"not fit to be picked: {counts(reasons)}")
