"""Differences of grades: paired by prompt and turn, tested, adjusted for how many are looked at."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.analyze.differences import differences, show_differences
from limakit.analyze.grades import summarise
from limakit.records import Grade


def grade(prompt, value, model, rubric="helpfulness", **more):
    status = "ok" if value else "invalid"
    return Grade(prompt_id=prompt, model=model, judge="j", rubric=rubric, status=status, value=value, **more)


def test_paired_by_prompt():
    """Prompts differ far more than the models do: each is 1 better on every prompt, and that is seen."""
    rows = [grade(f"p{i}", str(1 + i % 5 + (model == "lima")), model) for i in range(40) for model in ("base", "lima")]
    [d] = differences(rows)
    assert (d.a, d.b, d.what, d.prompts, d.turns, d.left_out) == ("lima", "base", "mean", 40, 40, 0)
    assert d.difference.value == 1 and d.sd == 0
    assert 0 < d.difference.low < 1 < d.difference.high
    assert d.p < 0.001
    apart = {g.model: g.mean for g in summarise(rows)}
    assert apart["base"].high > apart["lima"].low  # unpaired, the two intervals meet


def test_only_what_both_have():
    rows = [grade("p1", "5", "a"), grade("p1", "3", "b"), grade("p2", "6", "a"), grade("p3", "1", "b"), grade("p4", None, "a")]
    [d] = differences([*rows, grade("p1", "1", "a", turn=1), grade("p5", "2", "c")])
    assert (d.difference.value, d.prompts, d.turns, d.left_out, d.sd) == (2, 1, 1, 2, None)
    assert differences(rows[:1]) == []


def test_words_give_two_shares_and_unknown_words_none():
    rows = [grade(f"p{i}", value, model) for model, said in (("a", "epppf"), ("b", "ffpff")) for i, value in enumerate(words(said))]
    found = {d.what: d for d in differences(rows)}
    assert {what: d.difference.value for what, d in found.items()} == {"not fail": pytest.approx(0.6), "excellent": pytest.approx(0.2)}
    odd = [grade("p1", "good", "a"), grade("p1", "bad", "b")]
    assert differences(odd) == []
    [d] = differences(odd, scale=("bad", "good"))
    assert (d.what, d.difference.value) == ("not bad", 1)


def words(said):
    return [{"e": "excellent", "p": "pass", "f": "fail"}[c] for c in said]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=12), st.randoms())
def test_holm_covers_all_pairs_and_the_order_of_rows_does_not_matter(table, random):
    rows = [grade(f"p{i:02}", str(value), model) for i, given in enumerate(table) for model, value in zip("abc", given, strict=True)]
    found = differences(rows)
    assert len(found) == 3
    assert all(d.p <= d.adjusted <= min(1, 3 * d.p) for d in found)
    assert all(d.difference.value >= 0 for d in found)  # all prompts are common, so the better mean comes first
    random.shuffle(rows)
    assert differences(rows) == found


def test_dialogues_are_flipped_whole():
    """Ten turns of three dialogues are three pieces of evidence: p cannot be below 2^-2."""
    rows = [
        grade(f"d{i}", "6" if model == "a" else "1", model, turn=t) for i, n in enumerate((5, 3, 2)) for t in range(n) for model in "ab"
    ]
    [d] = differences(rows)
    assert (d.prompts, d.turns, d.difference.value, d.p) == (3, 10, 5, 0.25)


def test_fits_a_terminal_and_shows_names_as_text(capsys):
    random = np.random.default_rng(0)
    rows = [grade(f"p{i}", str(random.integers(1, 7)), model) for model in ("lima-7b", "[red]\x1b[31malpaca-65b") for i in range(30)]
    show_differences(differences(rows))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "[red]" in shown.replace("\n", "")
    assert max(map(len, shown.split("\n"))) <= 80


def test_without_a_scale_a_difference_is_no_surer_than_with_the_papers():
    """Grades 4 and 5 alone were given; that there are no others nobody said."""
    rows = [
        Grade(prompt_id=f"p{i}", model=m, judge="j", rubric="r", status="ok", value=v)
        for i in range(5)
        for m, v in (("x", "5"), ("y", "4"))
    ]
    [without], [told] = differences(rows), differences(rows, scale=tuple("123456"))
    assert without.difference == told.difference
    assert without.difference.low < 0 < 1 < without.difference.high


def test_nobody_is_compared_in_a_grade_that_nobody_was_given():
    rows = [
        Grade(prompt_id=f"p{i}", model=m, judge="j", rubric="r", status="ok", value=v)
        for i in range(4)
        for m, v in (("x", "fail"), ("y", "pass"))
    ]
    assert [d.what for d in differences(rows)] == ["not fail"]
    assert [d.what for d in differences(rows, scale=("fail", "pass", "excellent"))] == ["not fail", "excellent"]
