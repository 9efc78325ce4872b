"""k-center picks what the definition says, spreads wider than chance, and is twice the optimum at most."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import unit_rows

from limakit.pick.k_center import k_center


def distances(vectors):
    vectors = vectors.astype(np.float64)
    return np.sqrt(np.maximum(2 - 2 * vectors @ vectors.T, 0))


def naive(vectors, take):
    far = distances(vectors)
    picks = [0]
    while len(picks) < take:
        nearest = far[:, picks].min(axis=1)
        nearest[picks] = -1
        picks.append(int(np.argmax(nearest)))
    return picks


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_definition(seed):
    rows, _ = unit_rows(np.random.default_rng(seed).standard_normal((60, 8)), seed)
    picks = k_center(rows, 25)
    assert list(picks.order) == naive(rows.vectors, 25)
    far = distances(rows.vectors)
    for rank, place in enumerate(picks.order[1:], start=1):
        assert picks.score[place] == pytest.approx(far[place, list(picks.order[:rank])].min(), abs=1e-3)
    assert np.isnan(picks.score[picks.order[0]])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4))
def test_within_twice_the_optimum(seed, n, take):
    take = min(take, n)
    rows, _ = unit_rows(np.random.default_rng(seed).standard_normal((n, 3)))
    far = distances(rows.vectors)
    radius = far[:, list(k_center(rows, take).order)].min(axis=1).max()
    optimum = min(far[:, list(some)].min(axis=1).max() for some in combinations(range(n), take))
    assert radius <= 2 * optimum + 1e-3


def test_a_longer_pick_begins_with_the_shorter_and_takes_each_row_once():
    vectors = np.random.default_rng(1).standard_normal((30, 4)).repeat(2, axis=0)  # every row has a copy
    rows, _ = unit_rows(vectors)
    whole = k_center(rows, 60).order
    assert sorted(whole) == list(range(60))
    assert k_center(rows, 7).order == whole[:7]
    firsts = {tuple(rows.vectors[i].tolist()) for i in whole[:30]}
    assert len(firsts) == 30  # no copy before every other row is there


def test_spreads_wider_than_chance():
    rows, _ = unit_rows(np.random.default_rng(2).standard_normal((400, 6)))
    far = distances(rows.vectors)
    ours = far[:, list(k_center(rows, 20).order)].min(axis=1).max()
    chance = [far[:, np.random.default_rng(s).choice(400, 20, replace=False)].min(axis=1).max() for s in range(20)]
    assert ours < min(chance)
