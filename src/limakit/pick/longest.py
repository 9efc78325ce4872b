"""The longest responses (Zhao et al. 2024, "Long Is More for Alignment"): 1,000 of them beat LIMA's own in the paper's comparisons."""

from __future__ import annotations

from .rows import Picks, Rows, highest


def longest(rows: Rows, take: int) -> Picks:
    """The rows with the largest `length`: tokens of the response, of a dialogue those of all the assistant's turns."""
    return highest(rows.columns["length"], take, {})
