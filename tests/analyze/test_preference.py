"""Win, tie, lose: prompts weigh the same, invalid is never a tie, and the real PandaLM verdicts come out."""

import json
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.intervals import cluster_bootstrap
from limakit.analyze.preference import points, preferences
from limakit.analyze.significance import SignTest
from limakit.errors import LimakitError
from limakit.records import Judgment


def judgment(prompt="p1", verdict="a", first="a", **more):
    status = "ok" if verdict else "invalid"
    return Judgment(**{"prompt_id": prompt, "a": "lima", "b": "base", "judge": "j", "rubric": "pairwise"} | more, first=first, status=status, verdict=verdict)  # fmt: skip


rows = st.lists(
    st.builds(
        judgment,
        st.sampled_from("pqrstuvw"), st.sampled_from(["a", "b", "tie", None]), st.sampled_from("ab"),
        sample=st.integers(0, 1), turn=st.integers(0, 1), draw=st.integers(0, 1),
    ),
    min_size=1, max_size=40, unique_by=lambda j: (j.prompt_id, j.first, j.sample, j.turn, j.draw),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(rows, st.randoms())
def test_shares_sum_to_one_and_order_does_not_matter(rows, random):
    [p] = preferences(rows)
    assert p.judgments == len(rows)
    assert p.invalid == sum(r.verdict is None for r in rows)
    assert p.prompts == len({r.prompt_id for r in rows if r.verdict})
    if p.prompts:
        assert p.win.value + p.tie.value + p.lose.value == pytest.approx(1)
        assert p.net.value == pytest.approx(p.win.value - p.lose.value) and -1 <= p.net.low <= p.net.high <= 1
        assert p.win_or_tie.value == pytest.approx(p.win.value + p.tie.value)
        assert p.signs.above + p.signs.below + p.signs.even == p.prompts and p.signs_holm == p.signs.p
    else:
        assert p.win is p.tie is p.lose is p.win_or_tie is p.net is p.signs is p.signs_holm is p.flips is p.order_agreement is None
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert preferences(shuffled) == [p]


def test_a_prompt_weighs_the_same_however_often_it_was_judged():
    rows = [judgment("p1", "a", sample=s) for s in range(9)] + [judgment("p2", "b")]
    [p] = preferences(rows)
    assert (p.win.value, p.tie.value, p.lose.value) == (0.5, 0, 0.5)


def test_invalid_is_apart_and_never_a_tie():
    [p] = preferences([judgment("p1", "a"), judgment("p1", None, first="b"), judgment("p2", None), judgment("p3", "tie")])
    assert (p.prompts, p.judgments, p.invalid) == (2, 4, 2)
    assert (p.win.value, p.tie.value, p.lose.value) == (0.5, 0.5, 0)


def test_orders_agree():
    rows = [judgment("p1", "a"), judgment("p1", "a", "b"), judgment("p2", "a"), judgment("p2", "b", "b"), judgment("p3", "a")]
    [p] = preferences(rows)
    assert p.order_agreement.value == 0.5  # p3 has one order only
    assert (p.prompts, p.both_orders) == (3, 2)
    assert p.order_agreement.low < 0.1
    assert p.order_agreement.high > 0.9


def test_groups_apart():
    rows = [judgment(), judgment(judge="k", verdict="b"), judgment(b="other", verdict="tie"), judgment(rubric="r2")]
    assert [(p.b, p.judge, p.rubric, p.win.value) for p in preferences(rows)] == [
        ("base", "j", "pairwise", 1), ("base", "j", "r2", 1), ("base", "k", "pairwise", 0), ("other", "j", "pairwise", 0)]  # fmt: skip


def pandalm_judgments(shared):
    raw = json.loads((shared / "pandalm" / "testset-v1.json").read_bytes())
    rows = []
    for item in raw:
        a, b = item["cmp_key"].split("_")
        for who in ("annotator1", "annotator2", "annotator3"):
            verdict = {0: "tie", 1: "a", 2: "b"}[item[who]]
            rows.append(judgment(str(item["idx"]), verdict, a=a, b=b, judge="people", rubric="pandalm", draw=int(who[-1])))
    return raw, rows


def test_pandalm(shared):
    raw, rows = pandalm_judgments(shared)
    found = {(p.a, p.b): p for p in preferences(rows)}
    assert sum(p.prompts for p in found.values()) == 999
    for (a, b), p in found.items():
        mine = [item for item in raw if item["cmp_key"] == f"{a}_{b}"]
        counts = Counter(item[f"annotator{k}"] for item in mine for k in (1, 2, 3))
        assert p.win.value == pytest.approx(counts[1] / (3 * len(mine)))
        assert p.tie.value == pytest.approx(counts[0] / (3 * len(mine)))
        assert p.lose.value == pytest.approx(counts[2] / (3 * len(mine)))
        means = [sum(item[f"annotator{k}"] == 1 for k in (1, 2, 3)) / 3 for item in mine]
        expected = 2 * 1.98 * statistics.stdev(means) / len(mine) ** 0.5  # the t interval over prompts, not over 3 times as many rows
        assert p.win.high - p.win.low == pytest.approx(expected, rel=0.1)
        assert p.order_agreement is None


def test_win_or_tie_has_the_interval_of_its_own_shares():
    rows = [judgment(f"p{i}", v) for i, v in enumerate(["a"] * 9 + ["tie"] * 5 + ["b"] * 8)]
    [p] = preferences(rows)
    own = cluster_bootstrap([[float(r.verdict != "b")] for r in sorted(rows, key=lambda r: r.prompt_id)], bounds=(0, 1))
    assert (p.win_or_tie.value, p.win_or_tie.low, p.win_or_tie.high) == pytest.approx((own.value, own.low, own.high), abs=1e-6)


def test_a_prompt_has_one_vote_and_an_even_one_has_none():
    """Ten judgments of one prompt are one prompt; verdicts that cancel, in either order, are dropped and said."""
    rows = [judgment("p1", "a", sample=s) for s in range(10)]
    rows += [judgment(p, v, first) for p in ("p2", "p3") for v, first in (("a", "a"), ("b", "b"))]
    rows += [judgment("p4", "b"), judgment("p4", "b", "b"), judgment("p4", "a", sample=1), judgment("p5", "tie")]
    [p] = preferences(rows)
    assert p.signs == SignTest(above=1, below=1, even=3, p=1.0)


def test_several_baselines_are_several_tests():
    """p by Holm over the pairs of one judge and rubric; another judge's pairs are another family."""
    wins = {"b1": 12, "b2": 14, "b3": 18}
    rows = [judgment(f"p{i}", "a" if i < n else "b", b=b) for b, n in wins.items() for i in range(20)]
    found = {p.b: p for p in preferences([*rows, *(judgment(f"p{i}", "a", judge="k") for i in range(6))]) if p.judge == "j"}
    raw = {b: p.signs.p for b, p in found.items()}
    assert found["b3"].signs_holm == pytest.approx(3 * raw["b3"])
    assert found["b2"].signs_holm == pytest.approx(2 * raw["b2"])
    assert found["b1"].signs_holm == pytest.approx(max(raw["b1"], 2 * raw["b2"]))
    assert all(p.flips == pytest.approx(p.signs.p, abs=0.01) for p in found.values())  # one judgment a prompt: the same test
    [other] = [p for p in preferences([*rows, *(judgment(f"p{i}", "a", judge="k") for i in range(6))]) if p.judge == "k"]
    assert other.signs_holm == other.signs.p == pytest.approx(2 / 2**6)


def test_net_covers():
    """25 prompts that differ in how often the model wins, both orders and 3 draws: the interval of wins minus losses holds the truth."""
    random = np.random.default_rng(0)
    trials, hits = 300, 0
    for trial in range(trials):
        chance = random.beta(2.4, 1.6, 25)  # of a win among decided ones: .6 on average; a quarter are ties, so net is .15
        rows = []
        for i in range(25):
            drawn = random.choice(["tie", "a", "b"], 6, p=(0.25, 0.75 * chance[i], 0.75 * (1 - chance[i])))
            rows.append([{"a": 1.0, "tie": 0.0, "b": -1.0}[v] for v in drawn])
        e = cluster_bootstrap(rows, bounds=(-1, 1), seed=trial, resamples=1000)
        hits += e.low <= 0.15 <= e.high
    assert hits / trials >= 0.93


def test_points():
    from limakit.analyze.intervals import Estimate

    assert [points(e) for e in (None, Estimate(0.274, 0.18, 0.36), Estimate(-0.004, -0.2, 0.001))] == ["-", "+27 [18,36]", "0 [-20,0]"]


def test_a_judgment_twice_is_refused():
    with pytest.raises(LimakitError, match="a second judgment"):
        preferences([judgment("p2", "a"), judgment("p2", "b")])
    assert preferences([judgment("p2", "a"), judgment("p2", "b", turn=1)])[0].prompts == 1
