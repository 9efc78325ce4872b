"""One opinion a judge and item, however often it was asked; groups; rows that name the models the other way round."""

import random

import pytest

from limakit.analyze.agreement import MISSING
from limakit.analyze.opinions import grade_opinions, judgment_opinions, one_grade, one_verdict
from limakit.analyze.people import group_of
from limakit.errors import LimakitError
from limakit.records import Asked, Grade, Judgment

A, B, TIE = 0, 1, 2


def judgment(prompt="p1", verdict="a", judge="j", **more):
    about = {"prompt_id": prompt, "a": "lima", "b": "base", "judge": judge, "rubric": "pairwise"} | more
    return Judgment(**about, status="ok" if verdict else "invalid", verdict=verdict)


def grade(prompt="p1", value="4", judge="j", **more):
    about = {"prompt_id": prompt, "model": "lima", "judge": judge, "rubric": "helpfulness"} | more
    return Grade(**about, status="ok" if value else "invalid", value=value)


@pytest.mark.parametrize(
    ("by_order", "verdict"),
    [
        ([[A]], A),  # asked in one order, or the other answer was invalid
        ([[A], [A]], A),
        ([[A], [B]], TIE),
        ([[A], [TIE]], TIE),
        ([[TIE], [TIE]], TIE),
        ([[A, A, A], [B, B, B]], TIE),  # always the first one shown
        ([[A, A, A], [B, B]], TIE),  # so too, and an answer invalid: the orders still weigh the same
        ([[A, A, B], [A, B, A]], A),
        ([[A, B], [A, TIE]], TIE),
        ([[A, A], [A, TIE]], A),
        ([[B, B, A]], B),
    ],
)
def test_a_verdict_is_what_more_than_half_say_each_order_weighing_the_same(by_order, verdict):
    assert one_verdict(by_order, TIE) == verdict
    swap = {A: B, B: A, TIE: TIE}
    assert one_verdict([[swap[v] for v in codes] for codes in reversed(by_order)], TIE) == swap[verdict]


def test_a_grade_is_the_median_of_its_draws():
    assert one_grade([5, 1, 3], ordered=True) == 3
    assert one_grade([4, 3], ordered=True) == 3
    assert one_grade([2, 0, 0, 2, 1], ordered=False) == 2


def test_groups_are_of_people_and_a_models_slash_is_a_part_of_its_name():
    person, model = Asked(kind="person", model=""), Asked(kind="endpoint", model="meta-llama/Llama-3")
    assert group_of("crowd/anna", [None]) == group_of("crowd/ben", [person]) == "crowd"
    assert group_of("meta-llama/Llama-3", [model]) == "meta-llama/Llama-3"
    assert [group_of(name, [None]) for name in ("anna", "/anna", "crowd/")] == ["anna", "/anna", "crowd/"]


def test_models_named_the_other_way_round_are_the_same_comparison():
    """j shows lima first and prefers it; k has the same comparison as base against lima, and prefers lima, shown first."""
    rows = [judgment("p1", "a"), judgment("p2", "b"), judgment("p1", "b", "k", a="base", b="lima", first="b")]
    [found] = judgment_opinions(rows)
    assert [item.models for item in found.items] == [("lima", "base")] * 2
    assert found.codes_IJ.tolist() == [[A, A], [B, MISSING]]
    both = [judgment("p1", "a"), judgment("p1", "b", a="base", b="lima", first="b", draw=1), judgment("p1", "b", first="b")]
    [found] = judgment_opinions(both)
    assert found.orders["j"].codes_UR.tolist() == [[A, B], [A, MISSING]]  # draw 1 was of the first order too
    assert found.draws["j"].codes_UR.tolist() == [[A, A], [B, MISSING]]


def test_invalid_rows_are_no_opinion_and_are_counted():
    rows = [judgment("p1", None), judgment("p1", "a", first="b"), judgment("p2", None), judgment("p2", "tie", "k")]
    [found] = judgment_opinions(rows)
    assert found.codes_IJ.tolist() == [[A, MISSING], [MISSING, TIE]]
    assert [(j.name, j.items, j.rows, j.invalid) for j in found.judges] == [("j", 1, 3, 2), ("k", 1, 1, 0)]


def test_turns_samples_models_and_rubrics_are_apart():
    rows = [judgment(), judgment(turn=1), judgment(sample=1), judgment(b="other"), judgment(rubric="mine")]
    mine, pairwise = judgment_opinions(rows)
    assert (mine.rubric, len(mine.items), len(pairwise.items)) == ("mine", 1, 4)
    assert pairwise.prompts == ("p1",) * 4


def test_the_order_of_rows_changes_nothing():
    draw = random.Random(3)
    rows = [
        judgment(f"p{p}", draw.choice(["a", "b", "tie", None]), judge, first=first, draw=n)
        for p in range(6) for judge in "jkl" for first in "ab" for n in range(3)
    ]  # fmt: skip
    [before] = judgment_opinions(rows)
    draw.shuffle(rows)
    [after] = judgment_opinions(rows)
    assert (after.items, after.judges, after.codes_IJ.tolist()) == (before.items, before.judges, before.codes_IJ.tolist())
    assert {j: r.codes_UR.tolist() for j, r in after.orders.items()} == {j: r.codes_UR.tolist() for j, r in before.orders.items()}


def test_grades_have_the_scale_that_is_told_or_can_be_read_off():
    rows = [grade("p1", "4"), grade("p1", "6", "k"), grade("p2", "6")]
    [told] = grade_opinions(rows, {"helpfulness": tuple("123456")})
    assert told.scale.values == tuple("123456") and told.scale.numbers == (1, 2, 3, 4, 5, 6)
    [read] = grade_opinions(rows, {})
    assert (read.scale.values, read.scale.numbers, read.scale.ordered) == (("4", "6"), (4, 6), True)
    [words] = grade_opinions([grade("p1", "pass"), grade("p1", "fail", "k")], {})
    assert (words.scale.values, words.scale.ordered) == (("fail", "pass", "excellent"), True)
    [other] = grade_opinions([grade("p1", "safe"), grade("p1", "unsafe", "k")], {})
    assert not other.scale.ordered
    [none] = grade_opinions([grade("p1", None), grade("p1", None, "k")], {})
    assert none.codes_IJ.tolist() == [[MISSING, MISSING]]
    with pytest.raises(LimakitError, match="'7'"):
        grade_opinions([grade("p1", "7")], {"helpfulness": tuple("123456")})


def test_one_row_twice_is_refused():
    with pytest.raises(LimakitError, match="a second judgment"):
        judgment_opinions([judgment(), judgment()])
    with pytest.raises(LimakitError, match="a second grade"):
        grade_opinions([grade(), grade(value="1")], {})


def test_a_number_is_one_grade_however_it_is_written():
    [found] = grade_opinions([grade("p", "4", "j"), grade("p", "4.0", "k"), grade("q", "5.0", "j"), grade("q", None, "k")], {})
    assert found.scale.values == ("4", "5.0") and found.codes_IJ[0].tolist() == [0, 0]
