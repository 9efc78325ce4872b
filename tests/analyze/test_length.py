"""Length: a planted preference for length is found and taken out, the regression is that of statsmodels, and what cannot be told is said."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.length import length_effects, logistic, show_lengths
from limakit.records import Judgment


def judgment(prompt, verdict, **more):
    return Judgment(**{"prompt_id": prompt, "a": "lima", "b": "base", "judge": "j", "rubric": "r", "status": "ok", "verdict": verdict} | more)  # fmt: skip


def contest(random, prompts, *, worth, slope, draws=2, longer=1.5):
    """A judge that gives the longer response `slope` log-odds for each factor of e, beside what the responses are worth."""
    rows, lengths = [], {}
    for i in range(prompts):
        a, b = (int(1000 * math.exp(random.normal(0, 0.5))) for _ in "ab")
        a = int(a * longer)
        lengths |= {("lima", f"p{i}", 0, 0): a, ("base", f"p{i}", 0, 0): b}
        chance = 1 / (1 + math.exp(-worth - slope * math.log(a / b)))
        for draw in range(draws):
            rows.append(judgment(f"p{i}", "tie" if random.random() < 0.2 else "a" if random.random() < chance else "b", draw=draw))
    return rows, lengths


def test_a_planted_preference_for_length_is_taken_out():
    """Equal responses, one model half as long again, a judge that counts length: it wins, but not at equal length."""
    rows, lengths = contest(np.random.default_rng(0), 400, worth=0.0, slope=1.5)
    [x] = length_effects(rows, lengths)
    assert x.raw > 0.55 and x.longer == pytest.approx(1.5, rel=0.1)
    assert x.controlled.low < 0.5 < x.controlled.high < 0.57
    assert x.odds.low > 1.5 and x.p < 0.001
    assert (x.prompts, x.unknown, x.problem) == (400, 0, None)


def test_without_a_preference_for_length_nothing_is_taken_out():
    rows, lengths = contest(np.random.default_rng(1), 400, worth=0.6, slope=0.0)
    [x] = length_effects(rows, lengths)
    assert x.controlled.value == pytest.approx(x.raw, abs=0.03)
    assert x.odds.low < 1 < x.odds.high and x.p > 0.05


@pytest.mark.parametrize(("prompts", "draws"), [(20, 1), (30, 4), (150, 2)])
def test_covers(prompts, draws):
    """Wins at equal length and the effect of length, several rows a prompt that go together: the intervals hold the truth as often as they say."""
    random = np.random.default_rng(prompts)
    worth, slope, trials, hits = 0.4, 0.8, 400, np.zeros(2)
    from scipy.stats import t as student

    reach = student.ppf(0.975, prompts - 2)
    for _ in range(trials):
        x_N = np.repeat(random.normal(0.3, 0.5, prompts), draws)
        same_N = np.repeat(random.random(prompts), draws)
        luck_N = np.where(random.random(prompts * draws) < 0.5, same_N, random.random(prompts * draws))
        y_N = (luck_N < 1 / (1 + np.exp(-worth - slope * x_N))).astype(float)
        fit = logistic(np.column_stack([np.ones_like(x_N), x_N]), y_N, np.full(len(x_N), 1 / draws), np.repeat(np.arange(prompts), draws))
        if fit is None:
            trials -= 1
            continue
        hits += np.abs(np.array(fit.coefficients) - (worth, slope)) <= reach * np.array(fit.errors)
    assert trials > 380
    assert (hits / trials >= 0.925).all(), hits / trials


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(12, 40), st.integers(1, 3))
def test_coefficients_are_those_of_statsmodels(seed, prompts, rows):
    import statsmodels.api as sm

    random = np.random.default_rng(seed)
    n = prompts * rows
    x_NK = np.column_stack([np.ones(n), random.normal(0, 1, n)])
    y_N = random.choice([0.0, 0.25, 0.5, 1.0], n)
    cluster_N = np.repeat(np.arange(prompts), rows)
    weight_N = np.full(n, 1 / rows)
    fit = logistic(x_NK, y_N, weight_N, cluster_N)
    if fit is None:
        return
    theirs = sm.GLM(y_N, x_NK, family=sm.families.Binomial(), freq_weights=weight_N).fit(tol=1e-12)
    assert fit.coefficients == pytest.approx(tuple(theirs.params), abs=1e-6)


def test_errors_come_to_the_jackknife_where_clusters_are_few():
    """One Newton step from the whole, against leaving each cluster out all the way."""
    import statsmodels.api as sm

    random = np.random.default_rng(4)
    x_N, cluster_N = random.normal(0, 1, 120), np.repeat(np.arange(40), 3)
    y_N = np.where(random.random(120) < 0.3, 0.5, (random.random(120) < 1 / (1 + np.exp(-0.5 - x_N))).astype(float))
    x_NK = np.column_stack([np.ones(120), x_N])
    left = [sm.GLM(y_N[keep], x_NK[keep], family=sm.families.Binomial()).fit().params for keep in (cluster_N != c for c in range(40))]
    whole = sm.GLM(y_N, x_NK, family=sm.families.Binomial()).fit().params
    jackknife = np.sqrt(39 / 40 * ((np.array(left) - whole) ** 2).sum(axis=0))
    assert logistic(x_NK, y_N, np.ones(120), cluster_N).errors == pytest.approx(tuple(jackknife), rel=0.05)


def test_errors_come_to_the_sandwich_where_clusters_are_many():
    import statsmodels.api as sm

    random = np.random.default_rng(5)
    x_N, cluster_N = random.normal(0, 1, 2000), np.repeat(np.arange(500), 4)
    y_N = (random.random(2000) < 1 / (1 + np.exp(-0.3 - 0.7 * x_N + np.repeat(random.normal(0, 1, 500), 4)))).astype(float)
    x_NK = np.column_stack([np.ones(2000), x_N])
    fit = logistic(x_NK, y_N, np.ones(2000), cluster_N)
    theirs = sm.GLM(y_N, x_NK, family=sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": cluster_N})
    assert fit.errors == pytest.approx(tuple(theirs.bse), rel=0.01)


def test_a_prompt_weighs_the_same_and_draws_are_no_evidence():
    rows, lengths = contest(np.random.default_rng(2), 40, worth=0.2, slope=1.0, draws=1)
    again = [row.model_copy(update={"draw": draw}) for row in rows for draw in range(3)]
    [once], [thrice] = length_effects(rows, lengths), length_effects(again, lengths)
    assert once.controlled.low == pytest.approx(thrice.controlled.low) and once.raw == pytest.approx(thrice.raw)
    many = rows + [row.model_copy(update={"draw": draw}) for row in rows[:1] for draw in range(1, 30)]
    assert length_effects(many, lengths)[0].raw == pytest.approx(once.raw)


def test_what_cannot_be_told_is_said(capsys):
    lengths = {(model, f"p{i}", 0, 0): n for i in range(20) for model, n in (("lima", 200 + 10 * i), ("base", 100))}
    same = dict.fromkeys(lengths, 100)
    part = [judgment(f"p{i}", "a" if i > 9 else "b") for i in range(20)]  # every longer one wins
    cases = [
        (part, lengths, "part too cleanly"),
        ([judgment(f"p{i}", "tie") for i in range(20)], lengths, "the verdicts are the same"),
        ([judgment(f"p{i}", "a" if i % 2 else "b") for i in range(20)], same, "differ by the same factor"),
        ([judgment(f"p{i}", "a" if i % 2 else "b") for i in range(9)], lengths, "fewer than 10 prompts"),
        ([judgment("elsewhere", "a")], lengths, "no lengths"),
    ]
    for rows, known, problem in cases:
        [x] = length_effects(rows, known)
        assert problem in x.problem
        assert x.controlled is x.odds is x.p is None
        show_lengths([x])
        assert problem in capsys.readouterr().out
    invalid = judgment("p1", None, status="invalid")
    assert length_effects([invalid], lengths) == []
    [x] = length_effects([*part, judgment("elsewhere", "a")], lengths)
    assert (x.prompts, x.unknown) == (20, 1)


def test_equal_length_is_not_guessed_from_afar():
    """Every response of one model is longer: that longer ones win more can be told, who would win at equal length cannot."""
    rows, lengths = contest(np.random.default_rng(3), 200, worth=0.0, slope=1.5)
    [x] = length_effects(rows, lengths | {key: 100 * n for key, n in lengths.items() if key[0] == "lima"})
    assert x.controlled is None and "longer throughout" in x.problem
    assert x.odds.value == pytest.approx(length_effects(rows, lengths)[0].odds.value) and x.p < 0.001


def test_an_empty_response_has_a_length_too():
    rows = [judgment(f"p{i}", "a" if i % 3 else "b") for i in range(30)]
    lengths = {(model, f"p{i}", 0, 0): 0 if i % 7 == 0 else 50 + i * (model == "lima") for i in range(30) for model in ("lima", "base")}
    [x] = length_effects(rows, lengths)
    assert x.problem is None and math.isfinite(x.controlled.low)


def test_a_dialogue_is_as_long_as_all_its_responses():
    """It is compared whole, under the number of its last turn, whose responses are all of one length."""
    rows = [judgment(f"p{i}", "a" if i % 3 else "b", turn=1) for i in range(20)]
    lengths = {(m, f"p{i}", 0, 1): 100 for i in range(20) for m in ("lima", "base")}
    first = {("lima", f"p{i}", 0, 0): 300 + i for i in range(20)} | {("base", f"p{i}", 0, 0): 100 for i in range(20)}
    [found] = length_effects(rows, lengths | first)
    assert found.longer == pytest.approx(2.05, abs=0.01)
    [found] = length_effects(rows, lengths)
    assert (found.prompts, found.unknown) == (0, 20)
