"""The ledger of the page: every number printed on it, with its n, its interval and the rows it came from.

The page prints a number only through the ledger, so that report/numbers.json and report/index.html cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..analyze.intervals import LEVEL


@dataclass(frozen=True)
class Rows:
    """The rows a number was computed from: files of the workspace and the values of the rows' own fields that select them."""

    files: tuple[str, ...]
    where: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Number:
    """A number as the page shows it (`shown`, `interval`) and as it is (`value`, `low`, `high`: unrounded)."""

    id: str
    what: str
    value: float | int
    shown: str
    interval: str
    low: float | None
    high: float | None
    n: int | None
    of: str
    rows: Rows | None
    paper: str | None

    @property
    def text(self) -> str:
        return f"{self.shown} [{self.interval}]" if self.interval else self.shown


def count(value: float) -> str:
    """1811 -> "1,811"."""
    return f"{round(value):,}"


def percent(fraction: float) -> str:
    """0.533 -> "53 %"; what is not nothing or all is never rounded to it."""
    shown = f"{100 * fraction:.0f}"
    if (shown == "0" and fraction > 0) or (shown == "100" and fraction < 1):
        shown = f"{100 * fraction:.1f}"
    return f"{shown} %"


class Ledger:
    """Numbers in the order in which the page was built; ids are "GROUP-1", "GROUP-2", ... so that no text of others enters them."""

    def __init__(self) -> None:
        self.numbers: list[Number] = []
        self._next: dict[str, int] = {}

    def add(
        self,
        group: str,
        what: str,
        value: float | int,
        shown: str,
        *,
        low: float | None = None,
        high: float | None = None,
        interval: str = "",
        n: int | None = None,
        of: str = "",
        rows: Rows | None = None,
        paper: str | None = None,
    ) -> Number:
        """Enter a number. It comes from `rows` or from a place in the `paper`; one of the two must be given."""
        if (rows is None) == (paper is None):
            raise ValueError(f"{what}: a number comes from rows or from the paper")
        self._next[group] = self._next.get(group, 0) + 1
        number = Number(f"{group}-{self._next[group]}", what, value, shown, interval, low, high, n, of, rows, paper)
        self.numbers.append(number)
        return number

    def as_json(self, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
        """`hashes`: sha256 by file, relative to the workspace. A value that is not finite is null: JSON has no NaN."""
        return [_entry(number, hashes) for number in self.numbers]


def _finite(value: float | int | None) -> float | int | None:
    return value if value is not None and math.isfinite(value) else None


def _entry(number: Number, hashes: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": number.id, "what": number.what, "shown": number.text, "value": _finite(number.value)}
    entry |= {"low": _finite(number.low), "high": _finite(number.high), "level": LEVEL if number.low is not None else None}
    entry |= {"n": number.n, "of": number.of}
    if number.rows is None:
        return entry | {"paper": number.paper}
    files = [{"file": name, "sha256": hashes[name]} for name in number.rows.files]
    return entry | {"rows": {"files": files, "where": dict(number.rows.where)}}
