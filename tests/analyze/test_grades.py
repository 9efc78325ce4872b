"""Grades: a mean over prompts where the scale is a number, counts always, invalid apart."""

import pytest

from limakit.analyze.grades import by_tag, by_turn, in_order, lost_thread, show_grades, show_turns, summarise
from limakit.analyze.proportion import wilson
from limakit.errors import LimakitError
from limakit.records import Grade


def grade(prompt, value, model="lima", rubric="helpfulness", **more):
    status = "ok" if value else "invalid"
    return Grade(prompt_id=prompt, model=model, judge="j", rubric=rubric, status=status, value=value, **more)


def test_mean_over_prompts():
    rows = [grade("p1", "6", sample=s) for s in range(5)] + [grade("p2", "2"), grade("p3", None)]
    [g] = summarise(rows)
    assert (g.prompts, g.grades, g.invalid, g.counts) == (2, 7, 1, {"2": 1, "6": 5})
    assert g.mean.value == 4
    assert 1 <= g.mean.low < 4 < g.mean.high <= 6
    assert summarise(rows[::-1]) == [g]


def test_words_give_counts_only():
    [g] = summarise([grade("p1", "pass"), grade("p2", "excellent"), grade("p3", "pass")])
    assert g.mean is None
    assert g.counts == {"excellent": 1, "pass": 2}


def test_numbers_in_their_order_and_another_scale():
    [g] = summarise([grade("p1", "10"), grade("p2", "9.5"), grade("p3", "0")])
    assert list(g.counts) == ["0", "9.5", "10"]
    assert g.mean.value == pytest.approx(6.5)


def test_nothing_valid_and_groups(capsys):
    found = summarise([grade("p1", None), grade("p1", "3", model="base"), grade("p1", "--1", model="odd")])
    assert [(g.model, g.mean is None, g.prompts) for g in found] == [("base", False, 1), ("lima", True, 0), ("odd", True, 1)]
    show_grades(found)
    assert "1 of 1" in capsys.readouterr().out


def test_a_known_scale_bounds_the_mean_and_orders_the_counts():
    rows = [grade("p1", "10"), grade("p2", "9"), grade("p3", "10")]
    [known], [guessed] = summarise(rows, scale=[str(n) for n in range(11)]), summarise(rows)
    assert (known.scale[0], known.scale[-1], guessed.scale) == ("0", "10", ())
    assert known.mean.low < guessed.mean.low and known.mean.high == guessed.mean.high < 10
    [short] = summarise([grade("p1", "3")], scale=["1", "2", "3"])
    assert short.mean.high == 3
    [words] = summarise([grade("p1", "good"), grade("p2", "bad")], scale=["bad", "fair", "good"])
    assert (list(words.counts), words.mean) == (["bad", "good"], None)
    [best_first] = summarise([grade("p1", "1"), grade("p2", "5")], scale=["5", "4", "3", "2", "1"])
    assert list(best_first.counts) == ["5", "1"] and best_first.mean.value == 3


def test_a_grade_that_is_not_on_the_scale_is_an_error():
    with pytest.raises(LimakitError, match=r"'7'.*not on the scale 1, 2"):
        summarise([grade("p1", "7")], scale=["1", "2"])
    with pytest.raises(LimakitError, match="a second grade"):
        summarise([grade("p1", "1"), grade("p1", "2")])


def test_order_without_a_scale():
    assert in_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert in_order(["excellent", "odd", "pass", "fail"]) == ["fail", "pass", "excellent", "odd"]


def test_the_papers_figure_3_and_safety():
    """50 responses: 25 excellent, 19 pass, 6 fail; 24 of 30 sensitive prompts answered safely, 6 of the 10 malicious ones."""
    values = ["excellent"] * 25 + ["pass"] * 19 + ["fail"] * 6
    [g] = summarise([grade(f"p{i:02}", value, rubric="absolute") for i, value in enumerate(values)])
    assert {value: share.value for value, share in g.shares.items()} == {"fail": 0.12, "pass": 0.38, "excellent": 0.5}
    assert g.shares["fail"] == wilson(6, 50) and g.above_worst == wilson(44, 50) and g.by == "wilson"
    scale = ("unsafe", "refused", "safe")
    said = ["safe"] * 3 + ["refused"] * 3 + ["unsafe"] * 4 + ["refused"] * 18 + ["unsafe"] * 2
    rows = [grade(f"p{i:02}", value, rubric="safety") for i, value in enumerate(said)]
    tags = {f"p{i:02}": ("sensitive", *(["malicious", "refusal=asks how to hurt"] if i < 10 else [])) for i in range(30)}
    assert summarise(rows, scale=scale)[0].above_worst == wilson(24, 30)
    found = by_tag(rows, tags, scale=scale)
    assert list(found) == ["malicious"]  # all are sensitive
    assert found["malicious"][0].above_worst == wilson(6, 10)


def dialogues(turns, model="lima"):
    """One string a dialogue: e for excellent, p for pass, f for fail."""
    words = {"e": "excellent", "p": "pass", "f": "fail"}
    return [
        grade(f"d{i}", words[c], model=model, rubric="dialogue", turn=turn) for i, said in enumerate(turns) for turn, c in enumerate(said)
    ]


def test_the_papers_figure_7():
    """Shares are over turns, 19 / 8 / 15 of 42, and their intervals count dialogues."""
    before = ["eeff", "efff", "effp", "eefp", "efff", "ffpe", "eeppe", "eepe", "eeepp", "eff"]
    rows = dialogues(before)
    [g] = summarise(rows)
    assert (g.prompts, g.turns, g.by) == (10, sum(map(len, before)), "prompts")
    assert g.shares["fail"].value == pytest.approx("".join(before).count("f") / g.turns)
    assert g.shares["fail"].high - g.shares["fail"].low > wilson(g.counts["fail"], g.turns).high - wilson(g.counts["fail"], g.turns).low
    assert lost_thread(rows) == {("lima", "j", "dialogue"): (7, 10)}
    turns = by_turn(rows)
    assert [turns[turn][0].prompts for turn in sorted(turns)] == [10, 10, 10, 9, 2]
    assert turns[0][0].shares["excellent"] == wilson(9, 10)
    assert lost_thread([grade("p1", "fail")]) == {}  # no dialogue


def test_samples_and_draws_of_a_turn_are_one_piece_of_evidence():
    once = [grade(f"p{i}", value) for i, value in enumerate("23456")]
    again = [row.model_copy(update={"draw": draw}) for row in once for draw in range(6)]
    [one], [many] = summarise(once), summarise(again)
    assert one.mean == many.mean
    assert many.shares["2"].high - many.shares["2"].low >= one.shares["2"].high - one.shares["2"].low


def test_words_are_shown_as_shares(capsys):
    rows = dialogues(["eep", "ff", "e"])
    show_grades(summarise(rows))
    show_turns(by_turn(rows))
    shown = capsys.readouterr().out
    assert "percent of turns" in shown and "by dialogue" in shown and "dialogues" in shown and "Turn by turn, lima" in shown
    assert max(map(len, shown.split("\n"))) <= 80


def test_of_an_unknown_scale_only_grades_that_somebody_was_given_are_there():
    """fail and pass may be all there is: then nobody was short of excellent. What another model was given is there, with none."""
    rows = [
        Grade(prompt_id=f"p{i}", model=m, judge="j", rubric="r", status="ok", value=v)
        for i in range(4)
        for m, v in (("x", "fail"), ("y", "pass"))
    ]
    x, y = summarise(rows)
    assert [list(one.shares) for one in (x, y)] == [["fail", "pass"]] * 2
    assert (x.shares["pass"].value, y.shares["pass"].value, y.above_worst.value) == (0, 1, 1)
