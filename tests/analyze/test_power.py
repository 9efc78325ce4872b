"""Power: exact for the tests that are printed, by simulation with those very tests; the numbers of prompts and differences it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.power import (
    mean_for_prompts,
    mean_power,
    net_for_prompts,
    prompts_for_mean,
    prompts_for_net,
    sign_power,
    t_power,
)
from limakit.analyze.significance import sign_flip_test, sign_test


def simulated(seen, trials=4000):
    return float(np.mean([seen(np.random.default_rng(trial)) for trial in range(trials)]))


@pytest.mark.parametrize(("prompts", "net", "ties"), [(50, 0.35, 0.25), (300, 0.14, 0.22), (97, 0.3, 0.0), (40, 0.3, 0.6)])
def test_the_sign_test_reaches_the_power(prompts, net, ties):
    shares = ((1 - ties + net) / 2, ties, (1 - ties - net) / 2)

    def seen(random):
        return sign_test(random.choice((1, 0, -1), prompts, p=shares).tolist()).p <= 0.05

    # 4,000 studies: the standard error of a power of .8 is .006
    assert sign_power(prompts, net, ties, 0.05) == pytest.approx(simulated(seen), abs=0.02)


@pytest.mark.parametrize(("prompts", "difference"), [(6, 2.0), (8, 1.5), (20, 0.8), (50, 0.5), (128, 0.3)])
def test_sign_flips_of_means_reach_the_power(prompts, difference):
    def seen(random):
        return sign_flip_test(random.normal(difference, 1.2, prompts).tolist(), flips=500) <= 0.05

    assert mean_power(prompts, difference, 1.2, 0.05) == pytest.approx(simulated(seen, 3000), abs=0.025)


@pytest.mark.parametrize("spread", ["grades", "mostly equal"])
def test_grades_that_are_no_normal_numbers_reach_it_too(spread):
    """Differences of whole grades, and ones that are mostly 0, at the numbers of prompts that are promised for 80 %."""
    values, shares = {
        "grades": (np.arange(-3, 5), (0.03, 0.07, 0.15, 0.3, 0.25, 0.12, 0.06, 0.02)),
        "mostly equal": (np.array((-1, 0, 1, 2)), (0.08, 0.7, 0.17, 0.05)),
    }[spread]
    shares = np.array(shares)
    mean = float(values @ shares)
    sd = float(np.sqrt(((values - mean) ** 2) @ shares))
    prompts = prompts_for_mean(mean, sd, power=0.8, level=0.05)
    power = simulated(lambda random: sign_flip_test(random.choice(values, prompts, p=shares).tolist(), flips=500) <= 0.05, 2000)
    assert power == pytest.approx(0.8, abs=0.045)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 500), st.floats(0.05, 3), st.floats(0.3, 3), st.sampled_from([0.01, 0.05, 0.1]))
def test_means_as_statsmodels(prompts, difference, sd, level):
    from statsmodels.stats.power import TTestPower

    theirs = TTestPower().power(effect_size=difference / sd, nobs=prompts, alpha=level, alternative="two-sided")
    if np.isfinite(theirs):
        assert t_power(prompts, difference, sd, level) == pytest.approx(theirs, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5]), st.floats(0.06, 0.5), st.sampled_from([0.8, 0.9]))
def test_from_the_number_of_prompts_on_it_stays(ties, net, power):
    prompts = prompts_for_net(net, ties, power=power, level=0.05)
    after = [sign_power(n, net, ties, 0.05) for n in (*range(prompts, prompts + 30), 2 * prompts)]
    assert min(after) >= power
    assert sign_power(prompts - 1, net, ties, 0.05) < power


def test_two_prompts_by_simulation():
    """One degree of freedom and far out: where the library's noncentral t fails."""
    random = np.random.default_rng(0)
    x = random.normal(576, 1, (200_000, 2))
    seen = np.abs(x.mean(1)) / (x.std(1, ddof=1) / np.sqrt(2)) > 636.619
    assert t_power(2, 576, 1.0, 0.001) == pytest.approx(seen.mean(), abs=0.005)


def test_one_way_and_back():
    net = net_for_prompts(300, 0.25, power=0.8, level=0.05)
    assert 0.14 < net < 0.145
    assert prompts_for_net(net, 0.25, power=0.8, level=0.05) == pytest.approx(300, abs=5)
    mean = mean_for_prompts(50, 1.2, power=0.8, level=0.05)
    assert (prompts_for_mean(mean, 1.2, power=0.8, level=0.05), prompts_for_mean(1.001 * mean, 1.2, power=0.8, level=0.05)) == (50, 50)


def test_what_cannot_be_seen():
    assert sign_power(5, 1.0, 0.0, 0.05) == 0  # five wins of five: p is .0625
    assert sign_power(6, 1.0, 0.0, 0.05) == pytest.approx(1)
    assert net_for_prompts(5, 0.0, power=0.8, level=0.05) is None
    assert prompts_for_net(0.0001, 0.25, power=0.8, level=0.05) is None
    assert prompts_for_mean(0.0001, 1.2, power=0.8, level=0.05) is None
    assert mean_power(5, 9.0, 0.1, 0.05) == 0  # the same of sign flips
    assert mean_for_prompts(5, 0.1, power=0.8, level=0.05) is None
    assert prompts_for_mean(1.0, 0.4, power=0.8, level=0.05) == 6
    assert prompts_for_mean(1.0, 0.1, power=0.8, level=0.01) == 8
    assert sign_power(1000, 0.0, 0.25, 0.05) <= 0.05


def test_wrong_input():
    for arguments in ((10, 0.8, 0.3, 0.05), (10, 0.1, 1.0, 0.05), (0, 0.1, 0.1, 0.05), (10, 0.1, 0.1, 0.0)):
        with pytest.raises(ValueError):
            sign_power(*arguments)
    for arguments in ((10, 0.5, 0.0, 0.05), (1, 0.5, 1.0, 0.05)):
        with pytest.raises(ValueError):
            mean_power(*arguments)
