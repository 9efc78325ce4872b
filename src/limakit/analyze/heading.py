"""What tables of estimates have in common: names that are the same in all rows stand in the title, which leaves the columns to the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..progress import visible

T = TypeVar("T")


def heading(rows: Sequence[T], names: Mapping[str, Callable[[T], str]]) -> tuple[dict[str, Callable[[T], str]], str]:
    """The names that differ between rows, each a column; and those that do not, as lines for the title: judge x, rubric y."""
    values = {word: {pick(row) for row in rows} for word, pick in names.items()}
    columns = {word: pick for word, pick in names.items() if len(values[word]) > 1}
    said = ", ".join(f"{word} {visible(min(values[word]))}" for word in names if len(values[word]) == 1)
    return columns, f"\n{said}" if said else ""
