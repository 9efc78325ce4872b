"""Drawing: quotas exact, order of no matter, the temperature's odds."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.sampling import draw_strata, shuffled, unit

supplies = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30), max_size=8)


class Same(Sequence):
    """A stratum's items, each of which is the stratum's name."""

    def __init__(self, name, n):
        self.name, self.n = name, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.name


def draw(sizes, supply, take, seed=7, temperature=3.0):
    items = {s: Same(s, n) for s, n in supply.items()}
    return draw_strata(sizes, items, take, temperature=temperature, seed=seed, name="s")


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


@given(supplies, st.integers(0, 60), st.integers(1, 5), st.randoms())
def test_what_is_not_accepted_gives_its_place_to_the_next_of_its_stratum(supply, take, every, random):
    """As if it had never been there, but for the odds of a stratum that turns out to have nothing left."""
    items = {s: [f"{s}{i}" for i in range(n)] for s, n in supply.items()}
    asked = []
    drawn = draw_strata(supply, items, take, temperature=3.0, seed=7, name="s", accept=lambda x: asked.append(x) or int(x[1:]) % every == 0)
    fit = {s: [x for x in some if int(x[1:]) % every == 0] for s, some in items.items()}
    assert len(drawn) == len(set(drawn)) == min(take, sum(map(len, fit.values())))
    for s, some in fit.items():
        mine = [x for x in drawn if x[0] == s]
        assert mine == some[: len(mine)], "best first"
    assert len(asked) == len(set(asked))
    if every == 1:
        assert asked == drawn


def test_a_stratum_with_nothing_fit_leaves_the_odds_of_the_others_alone():
    sizes = {"a": 1000, "b": 1000, "bad": 100_000}
    counts = Counter(
        draw_strata(sizes, {"a": ["a"], "b": ["b"], "bad": ["bad"]}, 1, temperature=3.0, seed=seed, name="s", accept=lambda x: x != "bad")[
            0
        ]
        for seed in range(4000)
    )
    assert abs(counts["a"] / 4000 - 0.5) < 4 * (0.25 / 4000) ** 0.5


@given(st.sets(st.text("abc", max_size=5), max_size=20), st.randoms())
def test_shuffled(ids, random):
    order = list(ids)
    random.shuffle(order)
    found = shuffled(sorted(ids), str, seed=1, name="s")
    assert set(found) == ids and found == shuffled(order, str, seed=1, name="s")
    assert len(ids) < 12 or found != shuffled(order, str, seed=2, name="s")
