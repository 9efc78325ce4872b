"""Perplexity with its interval, and how it goes with grades."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from limakit.analyze.perplexity import perplexity, relation


def test_tokens_weigh_the_same_whichever_example_they_are_in():
    found = perplexity([10.0, 2.0], [5, 4])
    assert found.value == pytest.approx(math.exp(12 / 9)) and found.low <= found.value <= found.high


def test_one_example_says_nothing_of_others():
    found = perplexity([10.0], [5])
    assert (found.low, found.high) == (1.0, math.inf)
    with pytest.raises(ValueError, match="no tokens"):
        perplexity([], [])


def test_the_interval_covers_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        tokens = random.integers(20, 200, 25)
        nll = tokens * random.normal(1.5, 0.3, 25)
        found = perplexity(nll.tolist(), tokens.tolist())
        hits += found.low <= math.exp(1.5) <= found.high
    assert 0.92 <= hits / 600 <= 0.985


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 4000)), min_size=2, max_size=20))
def test_whatever_was_measured_the_interval_holds_the_value(rows):
    found = perplexity([nll for nll, _ in rows], [n for _, n in rows])
    assert found.value >= 1 and found.low <= found.value * (1 + 1e-9) and found.value <= found.high * (1 + 1e-9)


def test_the_papers_figure_9_grades_rise_while_perplexity_rises():
    """Seven epochs, perplexity from 5.2 to 10.3, grades from 3.9 to 4.15 (paper, appendix B), of 50 prompts and 60 examples."""
    random = np.random.default_rng(1)
    grades_PE = np.linspace(3.9, 4.15, 7) + random.normal(0, 0.5, (50, 1)) + random.normal(0, 0.03, (50, 7))
    tokens_X = random.integers(100, 600, 60).astype(float)
    nll_XE = tokens_X[:, None] * (np.log(np.linspace(5.2, 10.3, 7)) + random.normal(0, 0.2, (60, 1)))
    found = relation(grades_PE, nll_XE, tokens_X)
    assert found.rho == pytest.approx(1) and found.interval[0] > 0.9 and "as in the paper" in found.said
    assert (found.epochs, found.prompts, found.examples) == (7, 50, 60)
    against = relation(grades_PE[:, ::-1], nll_XE, tokens_X)
    assert against.rho == pytest.approx(-1) and "unlike in the paper" in against.said


def test_rho_is_scipys_also_with_ties():
    random = np.random.default_rng(2)
    for _ in range(20):
        grades = random.integers(1, 4, (1, 6)).astype(float)
        nll = random.normal(5, 1, (3, 6))
        found = relation(grades, nll, np.ones(3))
        expected = spearmanr(grades[0], nll.sum(0)).statistic
        assert (found is None and not np.isfinite(expected)) or found.rho == pytest.approx(expected)


def test_what_says_nothing_is_none_or_not_clear():
    random = np.random.default_rng(3)
    tokens = np.full(5, 10.0)
    assert relation(np.ones((4, 2)), np.ones((5, 2)), tokens) is None  # two epochs
    assert relation(np.ones((4, 5)), random.normal(2, 1, (5, 5)), tokens) is None  # all grades equal
    assert relation(np.empty((0, 5)), np.ones((5, 5)), tokens) is None
    noise = relation(random.integers(1, 7, (8, 6)).astype(float), random.normal(20, 5, (5, 6)), tokens)
    assert noise.interval[0] < 0 < noise.interval[1] and "not clear" in noise.said
