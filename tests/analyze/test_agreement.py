"""Agreement: the values that others compute, the level of chance, what is not defined, and intervals that cover."""

import math
import tracemalloc
import warnings
from itertools import permutations

import krippendorff
import numpy as np
import pandalm
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from limakit.analyze.agreement import (
    MISSING,
    Scale,
    agreement,
    cohen_kappa,
    coincidences,
    exact,
    independent,
    krippendorff_alpha,
    no_tie,
    tables,
    tie_discounted,
    with_interval,
)  # fmt: skip

VERDICTS = Scale(("a", "b", "tie"), tie=2)
LIKERT = Scale(tuple("123456"), ordered=True, numbers=(1, 2, 3, 4, 5, 6))


@st.composite
def ratings(draw, judges=None, most=25, missing=True):
    """Codes of items by judges (2 to 5 by default), and how many values there are."""
    size = draw(st.integers(2, 6))
    one = st.integers(MISSING if missing else 0, size - 1)
    columns = judges or draw(st.integers(2, 5))
    rows = draw(st.lists(st.lists(one, min_size=columns, max_size=columns), min_size=1, max_size=most))
    return np.array(rows), size


def sums(codes, first=(0,), second=(1,), size=3, of=tables):
    return of(np.asarray(codes), first, second, size).sum(0)


@given(ratings(judges=2, missing=False))
@settings(deadline=None)  # a busy machine is no fault
def test_kappa_is_that_of_scikit_learn_and_statsmodels(drawn):
    codes, size = drawn
    table = sums(codes, size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing to disagree about: theirs warn and are not a number
        for ours, theirs in (("nominal", None), ("linear", "linear"), ("quadratic", "quadratic")):
            wanted = cohen_kappa_score(codes[:, 0], codes[:, 1], labels=range(size), weights=theirs)
            assert float(cohen_kappa(table, ours)) == pytest.approx(wanted, abs=1e-12, nan_ok=True)
        if math.isfinite(float(cohen_kappa(table))):
            assert float(cohen_kappa(table)) == pytest.approx(cohens_kappa(table).kappa, abs=1e-12)


@given(ratings())
@settings(deadline=None)
def test_alpha_is_krippendorffs_with_missing_values_too(drawn):
    codes, size = drawn
    judges = range(codes.shape[1])
    ours = sums(codes, judges, judges, size, of=coincidences)
    paired = codes[(codes >= 0).sum(1) >= 2]
    data = np.where(codes >= 0, codes, np.nan).T.astype(float)
    for metric in ("nominal", "ordinal", "interval"):
        value = float(krippendorff_alpha(ours, metric))
        if len(set(paired[paired >= 0])) < 2:
            assert math.isnan(value)
        else:
            wanted = krippendorff.alpha(reliability_data=data, value_domain=list(range(size)), level_of_measurement=metric)
            assert value == pytest.approx(wanted, abs=1e-9)


def test_alpha_by_distance_takes_the_numbers_of_the_scale():
    """Krippendorff (2011), example C: four observers, twelve units, 7 values missing: nominal .743, ordinal .815, interval .849."""
    data = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
    codes = np.array(data).T - 1
    both = sums(codes, range(4), range(4), 5, of=coincidences)
    assert [round(float(krippendorff_alpha(both, metric)), 3) for metric in ("nominal", "ordinal", "interval")] == [0.743, 0.815, 0.849]
    stretched = krippendorff_alpha(both, "interval", (1, 2, 3, 4, 50))
    assert float(stretched) != pytest.approx(0.849, abs=0.01)
    assert float(krippendorff_alpha(both, "interval", (10, 20, 30, 40, 50))) == pytest.approx(float(krippendorff_alpha(both, "interval")))


def test_the_papers_measure():
    pairs = [(0, 0)] * 5 + [(0, 2)] * 2 + [(2, 1)] + [(0, 1)] + [(2, 2)]
    table = sums(pairs)
    assert float(tie_discounted(table, 2)) == pytest.approx((5 + 1 + 0.5 * 3) / 10)
    assert float(exact(table)) == 0.6
    assert float(no_tie(table, 2)) == pytest.approx(5 / 6)
    assert math.isnan(float(no_tie(sums([(2, 2), (0, 2)]), 2)))


@given(ratings(judges=2, most=5, missing=False))
@settings(max_examples=30, deadline=None)
def test_chance_is_what_shuffled_answers_reach(drawn):
    """Whoever answers without a look at the item has the same shares of values in any order: the mean over all orders."""
    codes, size = drawn
    by_chance = independent(sums(codes, size=size))
    shuffled = [sums(np.column_stack([codes[:, 0], second]), size=size) for second in permutations(codes[:, 1])]
    assert np.mean(exact(np.array(shuffled))) == pytest.approx(float(exact(by_chance)))
    assert np.mean(tie_discounted(np.array(shuffled), 0)) == pytest.approx(float(tie_discounted(by_chance, 0)))
    kappa = float(cohen_kappa(by_chance))
    assert math.isnan(kappa) or kappa == pytest.approx(0, abs=1e-12)


def test_the_known_values_of_pandalm(shared):
    rows = pandalm.judgments(shared / "pandalm")["people"]
    codes = np.array([VERDICTS.values.index(row.verdict) for row in rows]).reshape(-1, 3)
    prompts = [row.prompt_id for row in rows[::3]]
    found = [agreement(codes, [i], [j], prompts, VERDICTS, resamples=200) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [round(one["tie_discounted"].estimate.value, 3) for one in found] == [0.930, 0.945, 0.935]
    assert [round(one["kappa"].estimate.value, 3) for one in found] == [0.852, 0.879, 0.862]
    everyone = agreement(codes, range(3), range(3), prompts, VERDICTS, resamples=200)
    assert round(everyone["alpha"].estimate.value, 3) == 0.864
    assert (everyone.items, everyone.prompts) == (999, 170)


@given(ratings(judges=4), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_what_is_shown_stays_the_same_in_any_order_of_items_and_judges(drawn, random):
    codes, size = drawn
    scale = Scale(tuple(map(str, range(size))), ordered=True, numbers=tuple(range(size)))
    judges = list(range(codes.shape[1]))
    prompts = [f"p{i % 7}" for i in range(len(codes))]
    before = agreement(codes, judges, judges, prompts, scale, resamples=50)
    order = list(range(len(codes)))
    random.shuffle(order)
    random.shuffle(judges)
    after = agreement(codes[order], judges, judges, [prompts[i] for i in order], scale, resamples=50)
    if before is None:
        assert after is None and not ((codes >= 0).sum(1) >= 2).any()
        return
    assert (after.items, after.prompts) == (before.items, before.prompts)
    for one, other in zip(before.measures, after.measures, strict=True):
        assert (one.estimate is None) == (other.estimate is None)
        if one.estimate is not None:
            e, o = one.estimate, other.estimate
            assert (o.value, o.low, o.high) == pytest.approx((e.value, e.low, e.high), abs=1e-9)
            assert e.low <= e.value <= e.high <= 1 + 1e-9


def test_a_group_is_each_two_of_its_judges_and_an_item_weighs_the_same_however_many_they_are():
    codes = [[0, 0, 1], [0, 0, MISSING], [1, MISSING, MISSING], [2, 2, 2]]
    group = sums(codes, range(3), range(3))
    assert float(exact(group)) == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert np.allclose(group, group.T)
    across = sums(codes, [0], [1, 2])
    assert float(exact(across)) == pytest.approx((1 / 2 + 1 + 1) / 3)
    with pytest.raises(ValueError, match="in common"):
        tables(np.array(codes), [0, 1], [1, 2], 3)


def test_nothing_in_common_and_nothing_to_disagree_about():
    assert agreement(np.array([[0, MISSING], [MISSING, 1]]), [0], [1], ["p", "q"], VERDICTS) is None
    same = agreement(np.zeros((9, 2), dtype=int), [0], [1], range(9), VERDICTS)
    assert same["kappa"].estimate is same["alpha"].estimate is None and same["kappa"].chance is None
    assert (same["exact"].estimate.value, same["exact"].chance) == (1, 1)
    alone = agreement(np.zeros((9, 2), dtype=int), [0], [1], range(9), Scale(("4",), True, numbers=(4,)))["exact"].estimate
    assert alone.value == 1 and alone.low == pytest.approx(same["exact"].estimate.low)  # a scale of which one value is known
    ties = agreement(np.full((9, 2), 2), [0], [1], range(9), VERDICTS)
    assert ties["no_tie"].estimate is None and ties["no_tie"].n == 0
    one = agreement(np.array([[0, 1]]), [0], [1], ["p"], VERDICTS)
    assert (one["exact"].estimate.value, one["exact"].estimate.low) == (0, 0) and one["exact"].estimate.high > 0.9


def test_measures_follow_the_scale():
    codes = np.array([[0, 1], [1, 1], [2, 0]])
    names = [m.name for m in agreement(codes, [0], [1], "pqr", VERDICTS, resamples=9).measures]
    assert names == ["tie_discounted", "exact", "no_tie", "kappa", "alpha"]
    names = [m.name for m in agreement(codes, [0], [1], "pqr", LIKERT, resamples=9).measures]
    assert names == ["exact", "kappa", "kappa_linear", "kappa_quadratic", "alpha", "alpha_ordinal", "alpha_interval"]
    words = Scale(("fail", "pass", "excellent"), ordered=True)
    assert "alpha_interval" not in [m.name for m in agreement(codes, [0], [1], "pqr", words, resamples=9).measures]
    names = [m.name for m in agreement(codes, [0], [1], "pqr", Scale(("x", "y", "z")), resamples=9).measures]
    assert names == ["exact", "kappa", "alpha"]


@pytest.mark.parametrize(("same", "n"), [(20, 20), (49, 50), (30, 50), (0, 8)])
def test_exact_agreement_has_the_exact_binomial_interval(same, n):
    codes = np.array([[0, 0]] * same + [[0, 1]] * (n - same))
    e = agreement(codes, [0], [1], range(n), VERDICTS, resamples=40_000)["exact"].estimate
    wanted = binomtest(same, n).proportion_ci(method="exact")
    assert (e.low, e.high) == pytest.approx((wanted.low, wanted.high), abs=0.004)


@given(ratings(judges=2, missing=False), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_repeating_the_items_of_a_prompt_adds_no_evidence(drawn, times):
    codes, size = drawn
    assume(float(exact(sums(codes, size=size))) > 0)
    scale = Scale(tuple(map(str, range(size))))
    once = agreement(codes, [0], [1], range(len(codes)), scale, resamples=60)
    again = agreement(np.repeat(codes, times, 0), [0], [1], np.repeat(np.arange(len(codes)), times), scale, resamples=60)
    for name in ("exact", "kappa"):
        if once[name].estimate:
            e, a = once[name].estimate, again[name].estimate
            assert (a.value, a.low, a.high) == pytest.approx((e.value, e.low, e.high), abs=1e-9)


# Judges who look at the item with this probability, else answer by the shares; and Likert grades a step or two apart.
def looking(shares, looks):
    shares = np.array(shares)
    return looks * np.diag(shares) + (1 - looks) * np.outer(shares, shares)


def near(width, shares=(0.05, 0.1, 0.2, 0.3, 0.25, 0.1)):
    step = np.arange(len(shares))
    table = np.exp(-((step[:, None] - step) ** 2) / width) * np.sqrt(np.outer(shares, shares))
    return table / table.sum()


THREE, SKEWED = [0.45, 0.4, 0.15], [0.9, 0.1]
RARE = (0.01, 0.01, 0.03, 0.15, 0.7, 0.1)
WORLDS = {
    "tie-discounted": (looking(THREE, 0.8), lambda t: tie_discounted(t, 2), False),
    "no tie": (looking(THREE, 0.9), lambda t: no_tie(t, 2), False),
    "kappa": (looking(THREE, 0.6), cohen_kappa, False),
    "kappa, nearly always one": (looking(THREE, 0.95), cohen_kappa, False),
    "kappa, skewed shares": (looking(SKEWED, 0.8), cohen_kappa, False),
    "alpha": (looking(THREE, 0.4), lambda t: krippendorff_alpha(t + np.swapaxes(t, -1, -2)), False),
    "weighted kappa": (near(1.5), lambda t: cohen_kappa(t, "quadratic"), True),
    "weighted kappa, rare grades": (near(1.5, RARE), lambda t: cohen_kappa(t, "quadratic"), True),
    "ordinal alpha": (near(6), lambda t: krippendorff_alpha(t + np.swapaxes(t, -1, -2), "ordinal"), True),
}


def coverage(world, n, rows, times, resamples=400):
    """How often the interval holds the truth, with `rows` items a prompt, six in ten of them like the prompt's first; and the percentile bootstrap's."""
    chances, statistic, ordered = WORLDS[world]
    size, random = len(chances), np.random.default_rng(5)
    truth = float(statistic(chances * 1e9))
    ours = percentile = tried = 0
    for turn in range(times):
        cells = random.choice(size * size, size=(n, rows), p=chances.ravel())
        cells = np.where(random.random((n, rows)) < 0.6, cells[:, :1], cells)
        clusters = np.stack([np.bincount(row, minlength=size * size).reshape(size, size) for row in cells]).astype(float)
        e = with_interval(clusters, statistic, ordered=ordered, seed=turn, resamples=resamples)
        if e is None:
            continue
        tried += 1
        ours += e.low - 1e-9 <= truth <= e.high + 1e-9
        drawn = statistic(np.tensordot(random.multinomial(n, np.full(n, 1 / n), size=resamples), clusters, 1))
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        percentile += low - 1e-9 <= truth <= high + 1e-9
    return ours / tried, percentile / tried


@pytest.mark.parametrize("world", WORLDS)
def test_intervals_cover_with_50_prompts(world):
    assert coverage(world, 50, rows=1, times=150)[0] >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(("n", "rows"), [(20, 1), (50, 1), (50, 4), (200, 1)])
def test_intervals_cover(n, rows):
    """pytest -s prints the figures: ours, and the percentile bootstrap's, which does not cover."""
    for world in WORLDS:
        ours, percentile = coverage(world, n, rows, times=400, resamples=1000)
        print(f"{world:30} {n:4} prompts of {rows}: {ours:.3f}, percentile bootstrap {percentile:.3f}")
        assert ours >= 0.93


def test_covers_where_prompts_with_many_items_are_the_ones_that_judges_disagree_on():
    """Four prompts in five are easy and have one or two items; the fifth has eight to twelve, on which both judges guess (agreeing on .42)."""
    truth = (0.8 * 1.5 + 0.2 * 10 * 0.42) / (0.8 * 1.5 + 0.2 * 10)
    hits = 0
    for trial in range(200):
        random = np.random.default_rng([3, trial])
        codes, prompts = [], []
        for prompt in range(10):
            hard = random.random() < 0.2
            for _ in range(random.integers(8, 13) if hard else random.integers(1, 3)):
                one, other = random.choice(3, 2, p=[0.5, 0.4, 0.1])
                codes.append((one, other if hard else one))
                prompts.append(prompt)
        found = agreement(np.array(codes), [0], [1], prompts, Scale(("a", "b", "tie"), tie=2), seed=trial, resamples=500)
        estimate = found["exact"].estimate
        hits += estimate.low <= truth <= estimate.high
    assert hits >= 183  # it was 175 while the cluster that nobody saw had the mean size


@pytest.mark.parametrize(("first", "second"), [([0, 1, 2], [0, 1, 2]), ([0], [1]), ([0, 1], [2])])
def test_many_values_without_tables_are_what_tables_say(monkeypatch, first, second):
    random = np.random.default_rng(4)
    codes = np.clip(random.integers(0, 8, (60, 1)) + random.integers(-1, 2, (60, 3)), 0, 7)
    codes[random.random((60, 3)) < 0.2] = -1
    scale = Scale(tuple("12345678"), ordered=True, numbers=tuple(range(1, 9)))
    prompts = [i // 2 for i in range(60)]
    told = agreement(codes, first, second, prompts, scale)
    monkeypatch.setattr("limakit.analyze.agreement.MANY", 7)
    found = agreement(codes, first, second, prompts, scale)
    assert (found.items, found.prompts) == (told.items, told.prompts)
    assert [m.name for m in found.measures] == ["exact", "alpha_interval"]
    for measure in found.measures:
        other = told[measure.name]
        assert (measure.n, measure.chance) == (other.n, pytest.approx(other.chance))
        assert measure.estimate.value == pytest.approx(other.estimate.value)
        assert (measure.estimate.low, measure.estimate.high) == pytest.approx((other.estimate.low, other.estimate.high), abs=0.02)


def test_grades_of_any_number_of_values_take_bounded_time_and_memory():
    """Two judges, 400 items, nearly as many different grades: tables of each two would take gigabytes."""
    random = np.random.default_rng(5)
    values = np.sort(np.unique(np.round(random.normal(50, 20, 900), 2)))
    codes = np.clip(random.integers(0, len(values), (400, 1)) + random.integers(-9, 10, (400, 2)), 0, len(values) - 1)
    scale = Scale(tuple(map(str, values)), ordered=True, numbers=tuple(values))
    tracemalloc.start()
    found = agreement(codes, [0], [1], range(400), scale)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert found["alpha_interval"].estimate.low > 0.95 > 0.2 > found["exact"].estimate.high
    same = agreement(np.zeros((9, 2), dtype=int), [0], [1], range(9), scale)
    assert same["exact"].estimate.value == 1 and same["alpha_interval"].estimate is None
