"""Drawing: quotas exact, order of no matter, the temperature's odds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.sampling import choose, draw_strata, unit

supplies = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30), max_size=8)


def draw(sizes, supply, take, seed=7, temperature=3.0):
    return draw_strata(sizes, supply, take, temperature=temperature, seed=seed, name="s")


@given(supplies, st.integers(0, 120), st.integers(0, 5), st.sampled_from([0.5, 1.0, 3.0, 100.0]))
def test_quota_met_and_no_supply_exceeded(supply, take, seed, temperature):
    drawn = draw({s: 3 * n for s, n in supply.items()}, supply, take, seed, temperature)
    assert len(drawn) == min(take, sum(supply.values()))
    assert all(n <= supply[site] for site, n in Counter(drawn).items())


@given(supplies, st.integers(0, 60), st.randoms())
def test_independent_of_order_and_a_prefix_of_a_longer_draw(supply, take, random):
    items = list(supply.items())
    random.shuffle(items)
    shuffled = dict(items)
    assert draw(supply, supply, take) == draw(shuffled, shuffled, take) == draw(supply, supply, take + 20)[:take]


def test_odds_are_the_cube_root_of_the_size():
    """Sizes 1000, 27 and 1 with tau = 3 are drawn 10 : 3 : 1; with tau = 1 by size (4 standard errors allowed)."""
    sizes, many = {"big": 1000, "mid": 27, "one": 1}, dict.fromkeys(["big", "mid", "one"], 10**9)
    for temperature, weights in ((3.0, {"big": 10, "mid": 3, "one": 1}), (1.0, sizes)):
        n = 20_000
        counts = Counter(draw(sizes, many, n, temperature=temperature))
        for site, weight in weights.items():
            p = weight / sum(weights.values())
            assert abs(counts[site] / n - p) < 4 * (p * (1 - p) / n) ** 0.5, (temperature, site)


@pytest.mark.parametrize("temperature", [1e-320, 5e-3, 1e300])
def test_any_temperature_can_be_drawn_at(temperature):
    """Very cold takes the largest as long as it lasts, very hot takes all alike."""
    drawn = draw({"a": 10**9, "b": 10**6, "c": 1}, {"a": 30, "b": 30, "c": 30}, 60, temperature=temperature)
    assert drawn == ["a"] * 30 + ["b"] * 30 if temperature < 1 else set(drawn) == {"a", "b", "c"}


def test_unit_is_stable_uniform_and_depends_on_every_part():
    assert unit(7, "beer", "1") == unit(7, "beer", "1")
    assert len({unit(7, "beer", "1"), unit(8, "beer", "1"), unit(7, "bee", "r1"), unit(7, "beer", "2")}) == 4
    values = [unit(7, "x", i) for i in range(10_000)]
    assert min(values) >= 0 and max(values) < 1
    assert abs(sum(values) / 10_000 - 0.5) < 4 * (1 / 12 / 10_000) ** 0.5


@given(st.sets(st.text("abc", max_size=5), max_size=20), st.integers(0, 25), st.randoms())
def test_choose(ids, take, random):
    order = list(ids)
    random.shuffle(order)
    chosen = choose(sorted(ids), take, seed=1, name="s")
    assert len(chosen) == min(take, len(ids)) and chosen <= ids
    assert chosen == choose(order, take, seed=1, name="s")
