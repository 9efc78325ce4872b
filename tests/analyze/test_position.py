"""Position: told by pairs in both orders, whatever the responses are worth; flips are counted by where they went."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.position import positions
from limakit.analyze.preference import preferences
from limakit.records import Judgment


def judgment(prompt, verdict, first, **more):
    status = "ok" if verdict else "invalid"
    return Judgment(**{"prompt_id": prompt, "a": "lima", "b": "base", "judge": "j", "rubric": "r", "first": first, "status": status, "verdict": verdict} | more)  # fmt: skip


def pair(prompt, when_a_first, when_b_first, **more):
    return [judgment(prompt, when_a_first, "a", **more), judgment(prompt, when_b_first, "b", **more)]


def test_flips_by_where_they_went():
    rows = pair("p1", "a", "b") + pair("p2", "b", "a") + pair("p3", "a", "tie") + pair("p4", "a", "a") + pair("p5", "tie", "tie")
    rows += [judgment("p6", "a", "a"), judgment("p7", "a", "a"), judgment("p7", None, "b")]  # in one order only
    [x] = positions(rows)
    assert (x.prompts, x.pairs, x.to_first, x.to_second, x.to_tie) == (5, 5, 1, 1, 1)
    assert x.agree.value == pytest.approx(2 / 5)
    assert x.first.value == pytest.approx((1 + 0 + 0.75 + 0.5 + 0.5) / 5)


def test_turns_samples_draws_and_models_are_pairs_of_their_own_and_one_prompt():
    rows = [row for more in ({}, {"turn": 1}, {"draw": 1}, {"sample": 1}, {"b": "other"}) for row in pair("p1", "a", "b", **more)]
    [x] = positions([*rows, judgment("p1", "a", "a", turn=2)])
    assert (x.prompts, x.pairs, x.to_first) == (1, 5, 5)
    assert x.p == 1  # one prompt, however many pairs
    assert preferences(rows)[0].order_agreement.value == 0


def test_no_pairs_no_position():
    assert positions([judgment("p1", "a", "a"), judgment("p2", "b", "b")]) == positions([]) == []
    assert [x.judge for x in positions(pair("p", "a", "a", judge="k") + pair("p", "a", "a"))] == ["j", "k"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "tie"]), st.sampled_from(["a", "b", "tie"])), min_size=1, max_size=30))
def test_the_mirrored_judge_leans_the_other_way(verdicts):
    """Whoever takes the second place where another took the first has the mirrored share, the same p, and the flips exchanged."""
    rows = [row for i, (one, two) in enumerate(verdicts) for row in pair(f"p{i}", one, two)]
    [x] = positions(rows)
    mirrored = [row.model_copy(update={"first": "b" if row.first == "a" else "a"}) for row in rows]
    [y] = positions(mirrored)
    assert y.first.value == pytest.approx(1 - x.first.value)
    assert (y.p, y.to_first, y.to_second, y.to_tie) == (x.p, x.to_second, x.to_first, x.to_tie)
    assert x.agree == y.agree


@pytest.mark.parametrize("lean", [0.0, 0.25])
def test_a_planted_lean_is_found_and_none_where_there_is_none(lean):
    """The response's worth differs from prompt to prompt; the place moves the judge by `lean` in probability."""
    random = np.random.default_rng(3)
    covered, told = 0, 0
    for trial in range(40):
        rows = []
        for i in range(60):
            worth = random.uniform(0.3, 0.7)
            verdicts = ["a" if random.random() < worth + side * lean / 2 else "b" for side in (1, -1) for _ in range(2)]
            for draw in range(2):
                rows += pair(f"p{i}", verdicts[draw], verdicts[2 + draw], draw=draw)
        [x] = positions(rows, seed=trial)
        covered += x.first.low <= 0.5 + lean / 2 <= x.first.high
        told += x.p < 0.05
    assert covered >= 36
    assert (told >= 36) if lean else (told <= 5)
