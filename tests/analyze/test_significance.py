"""Tests of signs: exact where they say so, the level held, many at once by Holm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from limakit.analyze.significance import SignTest, holm, shown_p, sign_flip_test, sign_test

values = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), max_size=40)


@settings(deadline=None)  # the first call imports
@given(values)
def test_the_sign_test_is_the_exact_binomial(found):
    test = sign_test(found)
    assert test.above + test.below + test.even == len(found)
    n = test.above + test.below
    assert test.p == pytest.approx(binomtest(test.above, n).pvalue if n else 1)


def test_the_sign_test_of_many():
    assert sign_test([1.0] * 1200 + [-1.0] * 800).p == pytest.approx(binomtest(1200, 2000).pvalue)
    assert sign_test([1.0] * 10 + [0.0] * 90) == SignTest(10, 0, 90, 2 / 2**10)
    assert sign_test([]).p == sign_test([0.0]).p == 1


@settings(deadline=None)  # the first call imports
@given(st.lists(st.integers(-3, 3), max_size=10), st.randoms())
def test_flips_come_to_all_assignments_of_signs(found, random):
    import itertools

    sums = [abs(sum(s * v for s, v in zip(signs, found, strict=True))) for signs in itertools.product((1, -1), repeat=len(found))]
    exact = sum(s >= abs(sum(found)) for s in sums) / len(sums)
    p = sign_flip_test(found)
    assert p == pytest.approx(exact)
    random.shuffle(found)
    assert sign_flip_test(found) == p


def test_drawn_flips_agree_with_all():
    found = [1.0, 2.0, 0.5, 1.5, -0.5, 1.0, 2.5, -1.0, 0.5, 1.0, 1.5, -2.0, 1.0]
    more = [*found, 1e-12, 1e-12]  # too many to try all, and they change nothing
    assert sign_flip_test(more, flips=200_000) == pytest.approx(sign_flip_test(found), abs=0.003)
    assert sign_flip_test([3.0] * 5) == 2**-4


def test_flips_of_ones_ask_what_the_sign_test_asks():
    found = [1.0] * 33 + [-1.0] * 17 + [0.0] * 20
    assert sign_flip_test(found) == pytest.approx(sign_test(found).p, abs=0.005)


def test_flips_hold_their_level_and_see_more_than_signs_where_prompts_differ_in_how_much():
    random = np.random.default_rng(0)
    seen = {0.0: [0, 0], 0.2: [0, 0]}
    for effect, hits in seen.items():
        for trial in range(300):
            wins = random.random((50, 10)) < random.beta(4 * (0.5 + effect / 2), 4 * (0.5 - effect / 2), (50, 1))
            net = np.where(random.random((50, 10)) < 0.25, 0, np.where(wins, 1, -1)).mean(1)
            hits[0] += sign_test(net).p < 0.05
            hits[1] += sign_flip_test(net, seed=trial, flips=1000) < 0.05
    assert max(seen[0.0]) / 300 < 0.09
    assert seen[0.2][1] / 300 > seen[0.2][0] / 300 + 0.1  # ten judgments a prompt: about .73 against .52


def test_values_that_are_no_numbers():
    with pytest.raises(ValueError):
        sign_flip_test([1.0, float("nan")])


@settings(deadline=None, max_examples=10)  # statsmodels collects garbage in every call
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_that_of_statsmodels(ps):
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]) if ps else [])


def test_p_as_tables_show_it():
    assert [shown_p(p) for p in (0, 0.00049, 0.034, 0.5, 1)] == ["<.001", "<.001", ".034", ".500", "1"]
