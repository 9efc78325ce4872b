"""Bradley-Terry: evalica's strengths on any table, intervals that cover, and no crash where a strength has no end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze import ranking
from limakit.analyze.ranking import bradley_terry, no_common_scale, rankings, show_ranking
from limakit.records import Judgment


def judgment(prompt, a, b, verdict, **more):
    return Judgment(**{"prompt_id": prompt, "a": a, "b": b, "judge": "j", "rubric": "r", "status": "ok", "verdict": verdict} | more)  # fmt: skip


games = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("uvwxyz"), st.sampled_from(["a", "b", "tie"])).filter(lambda g: g[0] != g[1]),
    min_size=3, max_size=60,
)  # fmt: skip


def table(played):
    models = sorted({name for a, b, _ in played for name in (a, b)})
    wins = np.zeros((len(models), len(models)))
    for a, b, verdict in played:
        i, j = models.index(a), models.index(b)
        score = {"a": 1.0, "tie": 0.5, "b": 0.0}[verdict]
        wins[i, j] += score
        wins[j, i] += 1 - score
    return wins, models


@settings(max_examples=150, deadline=None)
@given(games)
def test_strengths_are_those_of_evalica(played):
    import evalica

    wins, models = table(played)
    if no_common_scale(wins, models):
        return
    mine = bradley_terry(wins[None])[0]
    assert mine.sum() == pytest.approx(0, abs=1e-9)
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    xs, ys, results = zip(*((a, b, winner[v]) for a, b, v in played), strict=True)
    theirs = evalica.bradley_terry(xs, ys, results, tolerance=1e-13, limit=1_000_000).scores
    logs = np.log([theirs[name] for name in models])
    assert mine == pytest.approx(logs - logs.mean(), abs=1e-4)


@settings(max_examples=150, deadline=None)
@given(games, st.sampled_from([0.0, 0.1, 1.0]))
def test_at_the_best_strengths_every_model_wins_as_often_as_expected(played, prior):
    """And wherever there are some by Ford's condition, or with a prior, they are found."""
    wins, models = table(played)
    if not prior and no_common_scale(wins, models):
        return
    s = bradley_terry(wins[None], prior=prior)[0]
    chance = 1 / (1 + np.exp(s[None, :] - s[:, None]))
    if not prior:
        assert ((wins + wins.T) * chance).sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-8)
    assert np.isfinite(s).all()


@settings(max_examples=40, deadline=None)
@given(games, st.randoms())
def test_neither_order_nor_naming_changes_the_ranking(played, random):
    rows = [judgment(f"p{i % 12}", a, b, v, draw=i) for i, (a, b, v) in enumerate(played)]
    turned = [judgment(f"p{i % 12}", b, a, {"a": "b", "b": "a", "tie": "tie"}[v], draw=i) for i, (a, b, v) in enumerate(played)]
    random.shuffle(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "RESAMPLES", 100)
        one, other = rankings(rows), rankings(turned)
    assert [[(m.model, m.position, m.prompts) for m in r.models] for r in one] == [[(m.model, m.position, m.prompts) for m in r.models] for r in other]  # fmt: skip
    for r, q in zip(one, other, strict=True):
        for m, k in zip(r.models, q.models, strict=True):
            assert m.wins == pytest.approx(k.wins)
            if m.strength:
                assert (m.strength.value, m.strength.low, m.strength.high) == pytest.approx((k.strength.value, k.strength.low, k.strength.high))  # fmt: skip


def test_two_models_of_which_one_wins_three_times_as_often():
    rows = [judgment(f"p{i}", "x", "y", "a" if i % 4 else "b") for i in range(40)] + [judgment(f"p{i}", "y", "z", "tie") for i in range(40)]
    [found] = rankings(rows)
    x, y, z = (next(m for m in found.models if m.model == name) for name in "xyz")
    assert x.strength.value - y.strength.value == pytest.approx(np.log(3), abs=1e-6)
    assert x.points.value - y.points.value == pytest.approx(400 * np.log10(3), abs=1e-4)
    assert [m.position for m in (x, y, z)] == [1, 2, 2]  # equals share the better place
    assert x.strength.low < x.strength.value < x.strength.high
    assert x.likely[0] == 1 and x.first > 0.95 and sum(m.first for m in found.models) == pytest.approx(1)
    assert (x.wins, y.prompts) == (0.75, 40)


def test_draws_and_orders_of_a_prompt_are_one_game():
    random = np.random.default_rng(0)
    rows = [judgment(f"p{i}", a, b, random.choice(["a", "b", "tie"])) for i in range(30) for a, b in ("xy", "yz", "xz")]
    again = [row.model_copy(update={"draw": draw}) for row in rows for draw in range(4)]
    assert rankings(rows) == rankings(again)
    rows[0] = rows[0].model_copy(update={"verdict": None, "status": "invalid"})
    assert next(m for m in rankings(rows)[0].models if m.model == "z").prompts == 30


def test_what_has_no_common_scale_is_said_and_a_prior_gives_it_one(capsys):
    undefeated = [judgment(f"p{i}", "x", "y", "a" if i % 2 else "b") for i in range(12)] + [judgment("p1", "god", "x", "a")]
    apart = [judgment(f"p{i}", a, b, "tie") for i in range(12) for a, b in ("xy", "yz", "uv")]
    hopeless = [judgment(f"p{i}", a, b, v) for i in range(12) for a, b, v in (("x", "y", "tie"), ("x", "z", "a"), ("y", "z", "a"))]
    for rows, said in (
        (undefeated, "god neither lost nor tied against any other model"),
        (apart, "u and v were never compared with the others"),
        (hopeless, "z neither won nor tied against any other model"),
    ):
        [found] = rankings(rows)
        assert said in found.problem
        assert all(m.strength is m.position is m.first is None for m in found.models)
        show_ranking(found)
        out = capsys.readouterr().out
        assert said.split(" neither")[0] in out and "--prior" in out
        [found] = rankings(rows, prior=1)
        assert found.problem is None and {m.position for m in found.models} >= {1}
        assert all(m.strength.low <= m.strength.value <= m.strength.high for m in found.models)
    assert rankings(undefeated, prior=1)[0].models[0].model == "god"
    with pytest.raises(ValueError):
        rankings(undefeated, prior=-1)


def test_a_prior_pulls_all_strengths_together():
    rows = [judgment(f"p{i}", a, b, "a" if i % 5 else "b") for i in range(40) for a, b in ("xy", "yz", "xz")]
    spreads = []
    for prior in (0, 1, 10, 100):
        [found] = rankings(rows, prior=prior)
        assert [m.model for m in found.models] == ["x", "y", "z"]
        spreads.append(found.models[0].strength.value - found.models[2].strength.value)
    assert spreads == sorted(spreads, reverse=True) and spreads[3] < spreads[0] / 2


def test_pandalm(shared):
    """Real verdicts of three people on five models: each person's ranking has evalica's strengths, and the people agree who is best and worst."""
    import evalica
    from pandalm import judgments

    rows = judgments(shared / "pandalm")["people"]
    assert [r.judge for r in rankings(rows)] == ["people"]  # together
    found = {judge: rankings([row for row in rows if row.judge == judge])[0] for judge in {row.judge for row in rows}}
    assert len(found) == 3
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    for judge, of in found.items():
        mine = [row for row in rows if row.judge == judge]
        assert len({(row.prompt_id, row.a, row.b) for row in mine}) == len(mine)  # a game each
        theirs = evalica.bradley_terry([r.a for r in mine], [r.b for r in mine], [winner[r.verdict] for r in mine], tolerance=1e-12, limit=10**6).scores  # fmt: skip
        logs = np.log([theirs[m.model] for m in of.models])
        assert [m.strength.value for m in of.models] == pytest.approx(logs - logs.mean(), abs=1e-4)
    assert len({(r.models[0].model, r.models[-1].model) for r in found.values()}) == 1


def test_two_models_need_no_ranking_and_few_prompts_no_interval():
    assert rankings([judgment(f"p{i}", "x", "y", "tie") for i in range(9)]) == []
    [found] = rankings([judgment(f"p{i}", a, b, "tie") for i in range(9) for a, b in ("xy", "yz")])
    assert [(m.position, m.strength, m.first) for m in found.models] == [(1, None, None)] * 3
    assert found.prompts == 9


def coverage(prompts, star, trials):
    """Four models, four judgments a prompt that go together; all pairs, or each against the first as limakit judge does."""
    random = np.random.default_rng(prompts)
    truth, hits, told = np.array([0.8, 0.2, -0.2, -0.8]), 0, 0
    for trial in range(trials):
        wins = np.zeros((prompts, 4, 4))
        for i in range(4):
            for j in range(i):
                if not star or j == 0:
                    luck = np.where(random.random((prompts, 4)) < 0.5, random.random((prompts, 1)), random.random((prompts, 4)))
                    wins[:, i, j] = (luck < 1 / (1 + np.exp(truth[j] - truth[i]))).mean(axis=1)
                    wins[:, j, i] = 1 - wins[:, i, j]
        if no_common_scale(wins.sum(axis=0), list("abcd")):
            continue
        low, high = np.quantile(ranking._resample(wins, 0.0, trial), (0.025, 0.975), axis=0)
        hits, told = hits + np.sum((low <= truth) & (truth <= high)), told + 4
    assert told > 3.7 * trials
    return hits / told


@pytest.mark.parametrize(("prompts", "star"), [(10, False), (25, True), (100, False)])
def test_covers(prompts, star, monkeypatch):
    monkeypatch.setattr(ranking, "RESAMPLES", 500)
    assert coverage(prompts, star, 150) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [10, 20, 50, 200])
@pytest.mark.parametrize("star", [False, True])
def test_covers_at_length(prompts, star, monkeypatch):
    """With 10 prompts .925 to .95, with more .935 to .95."""
    monkeypatch.setattr(ranking, "RESAMPLES", 1000)
    assert 0.92 <= coverage(prompts, star, 1000) <= 0.97


def test_many_models_are_quick():
    import time

    random = np.random.default_rng(0)
    wins = np.zeros((300, 20, 20))
    for i in range(20):
        for j in range(i):
            wins[:, i, j] = random.random(300) < 1 / (1 + np.exp((i - j) / 20))
            wins[:, j, i] = 1 - wins[:, i, j]
    started = time.process_time()
    assert ranking._resample(wins, 0.0, 0).shape == (ranking.RESAMPLES, 20)
    assert time.process_time() - started < 5
