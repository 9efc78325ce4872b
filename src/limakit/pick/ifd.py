"""Instruction-following difficulty (Li et al. 2024, "From Quantity to Quality"; with a small model: "Superfiltering").

    IFD(x, y) = ppl(y | x) / ppl(y) = exp(mean loss of y's tokens after x - mean loss of the same tokens after nothing)

Near 0 the prompt settles the response; near 1 it hardly helps, which is what makes an example instructive; from 1 on it hinders, and the papers
take prompt and response to be misaligned. (The first paper divides the mean losses themselves; which side of 1 a row is on is the same.)
"""

from __future__ import annotations

import numpy as np

from .rows import Picks, Rows, highest

MISALIGNED = "ifd_not_below_1"
LARGEST = 700.0  # nats: exp of more is no float64


def ifd(rows: Rows, take: int, *, keep_above_1: bool = False) -> Picks:
    """The rows with the highest IFD below 1, from the columns `loss_given_prompt` and `loss_alone` (nats a token).

    Rows without losses (`absent`) are never picked; those with an IFD of 1 and more are with `keep_above_1` alone.
    """
    score = np.exp(np.minimum(rows.columns["loss_given_prompt"] - rows.columns["loss_alone"], LARGEST))
    reasons = dict(rows.absent)
    if not keep_above_1:
        reasons |= dict.fromkeys(np.flatnonzero(score >= 1).tolist(), MISALIGNED)
    return highest(score, take, reasons)
