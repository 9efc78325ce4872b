"""Facility location equals the naive greedy choice, keeps the exact gains, and beats chance by its own measure."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import unit_rows

from limakit.pick import facility_location as module
from limakit.pick.facility_location import facility_location, objective


def value(vectors, picks):
    """F(S) / n in plain float64."""
    v = vectors.astype(np.float64)
    return ((1 + v @ v[list(picks)].T) / 2).max(axis=1).mean() if len(picks) else 0.0


def naive(vectors, take):
    picks = []
    for _ in range(take):
        gains = [-1.0 if j in picks else value(vectors, [*picks, j]) for j in range(len(vectors))]
        picks.append(next(j for j, gain in enumerate(gains) if gain >= max(gains) - module.EQUAL / (2 * len(vectors))))
    return picks


@pytest.mark.parametrize("clusters", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_equals_naive_greedy_whatever_the_tiles(seed, clusters, monkeypatch):
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((50, 6)) + (4 * draw.standard_normal((clusters, 6))[draw.integers(0, clusters, 50)] if clusters else 0)
    rows, _ = unit_rows(vectors, seed)
    expected = naive(rows.vectors, 30)
    for tile in (256, 7):
        monkeypatch.setattr(module, "ROWS", tile)
        monkeypatch.setattr(module, "COLUMNS", 2 * tile + 1)
        picks = facility_location(rows, 30)
        assert list(picks.order) == expected
    for rank, place in enumerate(expected):  # a pick's score is what it added
        added = value(rows.vectors, expected[: rank + 1]) - value(rows.vectors, expected[:rank])
        assert picks.score[place] == pytest.approx(added, abs=1e-6)
    rest = [i for i in range(50) if i not in expected]
    for place in rest[:5]:
        assert picks.score[place] == pytest.approx(value(rows.vectors, [*expected, place]) - value(rows.vectors, expected), abs=1e-6)
    assert objective(rows.vectors, expected) == pytest.approx(value(rows.vectors, expected), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4))
def test_reaches_the_greedy_bound(seed, n, take):
    take = min(take, n)
    rows, _ = unit_rows(np.random.default_rng(seed).standard_normal((n, 3)))
    ours = value(rows.vectors, facility_location(rows, take).order)
    optimum = max(value(rows.vectors, some) for some in combinations(range(n), take))
    assert ours >= (1 - 1 / np.e) * optimum - 1e-6
    assert ours <= optimum + 1e-6


def test_serves_the_pool_better_than_chance_and_copies_last():
    draw = np.random.default_rng(5)
    vectors = draw.standard_normal((300, 8))
    rows, _ = unit_rows(np.concatenate([vectors, vectors[:20]]))
    picks = facility_location(rows, 320).order
    assert sorted(picks) == list(range(320))
    assert facility_location(rows, 9).order == picks[:9]
    chance = [value(rows.vectors, np.random.default_rng(s).choice(320, 30, replace=False)) for s in range(20)]
    assert value(rows.vectors, picks[:30]) > max(chance)
    assert len({tuple(rows.vectors[i].tolist()) for i in picks[:300]}) == 300
