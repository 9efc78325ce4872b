"""Wilson's interval: statsmodels' to the last digits, exact at its ends, and how often it covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.intervals import Estimate
from limakit.analyze.proportion import wilson

tables = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)  # the first one imports statsmodels
@given(tables, st.floats(0.5, 0.999))
def test_as_statsmodels(table, level):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    hits, n = table
    found = wilson(hits, n, level=level)
    assert (found.low, found.high) == pytest.approx(proportion.proportion_confint(hits, n, alpha=1 - level, method="wilson"), abs=1e-9)
    assert found.value == hits / n and 0 <= found.low <= found.value <= found.high <= 1


@given(tables)
def test_misses_mirror_hits(table):
    hits, n = table
    one, other = wilson(hits, n), wilson(n - hits, n)
    assert (1 - one.high, 1 - one.low) == pytest.approx((other.low, other.high), abs=1e-12)


def test_the_papers_safety_numbers():
    """24 of 30 sensitive prompts answered safely, 6 of the 10 malicious ones (section 4.3)."""
    assert wilson(24, 30) == Estimate(0.8, pytest.approx(0.6269, abs=1e-4), pytest.approx(0.9050, abs=1e-4))
    assert wilson(6, 10) == Estimate(0.6, pytest.approx(0.3127, abs=1e-4), pytest.approx(0.8318, abs=1e-4))


def test_none_and_all():
    z2 = 1.959963984540054**2
    assert wilson(0, 12) == Estimate(0.0, 0.0, pytest.approx(z2 / (12 + z2)))
    assert wilson(12, 12) == Estimate(1.0, pytest.approx(12 / (12 + z2)), 1.0)
    assert wilson(1, 1).high == 1.0


def test_refused():
    for hits, n, level in ((0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(ValueError):
            wilson(hits, n, level=level)


@pytest.mark.parametrize("n", [10, 30, 50, 300])
def test_covers_at_its_rate_on_average(n):
    """Exact, no simulation: over all shares p 95 %, and nowhere below what is known of it."""
    from scipy.stats import binom

    ends = [wilson(k, n) for k in range(n + 1)]
    shares = np.linspace(0.0005, 0.9995, 1000)
    covered = np.array(
        [sum(binom.pmf(k, n, p) for k, e in enumerate(ends) if e.low <= p <= e.high) for p in shares[:: 1 if n < 100 else 10]]
    )
    assert 0.945 <= covered.mean() <= 0.97
    assert covered.min() >= 0.83
