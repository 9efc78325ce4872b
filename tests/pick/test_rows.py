"""Draws and ties: by the seed and the ids, whatever the order of the pool; scores that are not there are no scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.pick.best import TOO_LOW, best
from limakit.pick.ifd import MISALIGNED, ifd
from limakit.pick.longest import longest
from limakit.pick.random_n import random_n
from limakit.pick.rows import Rows, drawn_order, highest

IDS = [f"id-{i}" for i in range(40)]


@given(st.permutations(IDS), st.integers(0, 10**9))
def test_the_order_of_the_pool_does_not_matter(ids, seed):
    assert [ids[i] for i in drawn_order(ids, seed)] == [IDS[i] for i in drawn_order(IDS, seed)]
    assert [ids[i] for i in drawn_order(ids, seed)] != [ids[i] for i in drawn_order(ids, seed + 1)]


def test_random_takes_every_row_equally_often():
    counts = np.zeros(40)
    for seed in range(2000):
        counts[drawn_order(IDS, seed)[:10]] += 1
    assert ((counts - 500) ** 2 / 500).sum() / 0.75 < 72.1  # chi-square, 39 degrees of freedom, p = .001
    assert random_n(Rows(tuple(IDS)), 3).order == (0, 1, 2)


def test_equal_scores_in_the_order_of_the_draw():
    assert highest(np.array([1.0, 2, 2, 1, 2]), 4, {1: "no"}).order == (2, 4, 0, 3)
    assert longest(Rows(("a", "b", "c"), {"length": np.array([3.0, 5, 5])}), 2).order == (1, 2)


def test_best_leaves_out_what_is_too_low_or_has_no_score():
    rows = Rows(("a", "b", "c", "d"), {"score": np.array([4.0, np.nan, 2, 3])}, absent={1: "rating_invalid"})
    picks = best(rows, 4, at_least=3)
    assert picks.order == (0, 3)
    assert picks.reasons == {1: "rating_invalid", 2: TOO_LOW}
    assert best(rows, 4).order == (0, 3, 2)


def test_ifd_is_the_ratio_of_perplexities_and_from_1_on_nothing_is_picked():
    given_prompt, alone = np.array([1.0, 2.0, 2.5, np.nan, 3.0]), np.array([2.0, 2.2, 2.5, np.nan, 2.0])
    rows = Rows(tuple("abcde"), {"loss_given_prompt": given_prompt, "loss_alone": alone}, absent={3: "prompt_too_long"})
    picks = ifd(rows, 5)
    assert picks.order == (1, 0)
    assert picks.score[0] == pytest.approx(np.exp(1.0) / np.exp(2.0))
    assert picks.reasons == {2: MISALIGNED, 3: "prompt_too_long", 4: MISALIGNED}
    assert ifd(rows, 5, keep_above_1=True).order == (4, 2, 1, 0)
    enormous = Rows(("a",), {"loss_given_prompt": np.array([5000.0]), "loss_alone": np.array([1.0])})
    assert np.isfinite(ifd(enormous, 1, keep_above_1=True).score[0])
