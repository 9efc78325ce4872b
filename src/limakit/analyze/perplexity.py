"""Perplexity on held-out examples, with an interval that counts examples, and how it goes with graded quality over the epochs of a run.

The paper (appendix B) chose its checkpoints by hand because held-out perplexity rises while quality rises too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .intervals import LEVEL, Estimate

RESAMPLES = 4_000
FEWEST = 3  # epochs: with two, a rank correlation is 1 or -1 whatever was measured

Floats = npt.NDArray[np.float64]


def perplexity(nll: Sequence[float], tokens: Sequence[int]) -> Estimate:
    """exp of the mean negative log-likelihood (nats) over all tokens of the examples, by example: `nll` sums, `tokens` counts.

    Interval: the mean is a ratio of two sums, so its variance is that of the linearised ratio over examples (Cochran 1977, section 2.11), with
    Student's t on n - 1; exponentiated. One example says nothing of others: its interval is [1, inf). Raises ValueError for no tokens.
    """
    if not sum(tokens):
        raise ValueError("no tokens")
    from scipy.stats import t as student

    n, total = len(nll), float(sum(tokens))
    mean = math.fsum(nll) / total
    if n < 2:
        return Estimate(_exp(mean), 1.0, math.inf)
    squares = math.fsum((loss - mean * count) ** 2 for loss, count in zip(nll, tokens, strict=True))
    half = float(student.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt(n / (n - 1) * squares) / total
    return Estimate(_exp(mean), max(1.0, _exp(mean - half)), _exp(mean + half))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


@dataclass(frozen=True)
class Relation:
    """Spearman's rank correlation of perplexity and mean grade over `epochs`; above 0 the grades rise with perplexity, as in the paper.

    The interval resamples prompts and held-out examples: what it would be with others of their kind. It says nothing of other runs, and the
    epochs of one run are no independent draws. It is None where resampled values are mostly equal.
    """

    rho: float
    interval: tuple[float, float] | None
    epochs: int
    prompts: int
    examples: int

    @property
    def said(self) -> str:
        """In words, as far as the interval allows."""
        low, high = self.interval or (-1.0, 1.0)
        if low > 0:
            return "grades rise while perplexity rises, as in the paper"
        if high < 0:
            return "grades rise while perplexity falls, unlike in the paper"
        return "which way they go together is not clear"


def relation(grades_PE: Floats, nll_XE: Floats, tokens_X: Floats, seed: int = 0) -> Relation | None:
    """How perplexity goes with quality. `grades_PE`: the mean grade of each prompt in each epoch; `nll_XE`: each held-out example's summed loss.

    None for fewer than three epochs, no prompts or examples, or where either is the same in all epochs.
    """
    prompts, epochs = grades_PE.shape
    examples = nll_XE.shape[0]
    if epochs < FEWEST or not prompts or not examples:
        return None
    rho = _spearman(grades_PE.mean(0)[None], (nll_XE.sum(0) / tokens_X.sum())[None])[0]
    if not np.isfinite(rho):
        return None
    random = np.random.default_rng(seed)
    of_prompts = random.multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES) @ grades_PE / prompts
    drawn_RX = random.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES)
    of_examples = (drawn_RX @ nll_XE) / (drawn_RX @ tokens_X)[:, None]
    rhos = _spearman(of_prompts, of_examples)
    rhos = rhos[np.isfinite(rhos)]
    tail = (1 - LEVEL) / 2
    interval = None if len(rhos) < RESAMPLES / 2 else (float(np.quantile(rhos, tail)), float(np.quantile(rhos, 1 - tail)))
    return Relation(float(rho), interval, epochs, prompts, examples)


def _spearman(a_RE: Floats, b_RE: Floats) -> Floats:
    """Row by row; NaN where a row has one value throughout."""
    from scipy.stats import rankdata

    # equal means of equal grades differ in their last bits by the order of summation
    a_RE, b_RE = (rankdata(np.round(x, 9), axis=1) for x in (a_RE, b_RE))
    a_RE, b_RE = a_RE - a_RE.mean(1, keepdims=True), b_RE - b_RE.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = (a_RE * b_RE).sum(1) / np.sqrt((a_RE**2).sum(1) * (b_RE**2).sum(1))
    return found
