"""Sign flips: exact where they can be, at their level by simulation; Holm as statsmodels has it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.significance import holm, sign_flip

differences = st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=1, max_size=9)


@given(differences)
def test_every_way_to_flip(values):
    ways = [abs(sum(s * x for s, x in zip(signs, values, strict=True))) for signs in itertools.product((-1, 1), repeat=len(values))]
    assert sign_flip(values) == pytest.approx(np.mean([way >= abs(sum(values)) - 1e-7 for way in ways]))


def test_few_clusters_never_say_much():
    assert sign_flip([3.0] * 5) == 2**-4
    assert sign_flip([3.0] * 6) == 2**-5
    assert sign_flip([0.0, 0.0]) == 1.0


@given(st.lists(st.integers(-5, 5), min_size=15, max_size=40), st.randoms())
def test_order_and_side_do_not_matter(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    p = sign_flip(values, flips=200)
    assert p == sign_flip(shuffled, flips=200)
    assert p == pytest.approx(sign_flip([-x for x in values], flips=200), abs=0.2)
    assert 0 < p <= 1


def test_drawn_flips_agree_with_all():
    values = [1.0, 2.0, 0.5, 1.5, -0.5, 1.0, 2.5, -1.0, 0.5, 1.0, 1.5, -2.0, 1.0, 0.5]
    doubtful = sign_flip([*values, 1e-12], flips=200_000)  # a cluster more, so drawn
    assert doubtful == pytest.approx(sign_flip(values), abs=0.003)


def test_wrong_input():
    for bad in ([], [float("nan")]):
        with pytest.raises(ValueError):
            sign_flip(bad)


@pytest.mark.parametrize("n", [8, 30])
def test_false_findings_at_their_rate(n):
    """Skewed clusters whose sign is tossed: 5 % of tests may find something, no more (400 tests: below 8 % but once in a hundred times)."""
    random = np.random.default_rng(0)
    found = 0
    for trial in range(400):
        sums = random.exponential(size=n) * random.choice((-1, 1), n)
        found += sign_flip(sums.tolist(), seed=trial, flips=999) <= 0.05
    assert found / 400 <= 0.075


@settings(deadline=None)  # the first one imports statsmodels
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_as_statsmodels(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())


def test_holm_of_nothing():
    assert holm([]) == []
