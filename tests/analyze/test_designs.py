"""limakit power: what is asked is answered, what contradicts itself is refused, a pilot tells the spread."""

import json

import numpy as np
import pytest

from limakit.analyze.designs import show_power
from limakit.errors import UsageError
from limakit.records import Grade, Judgment, write_jsonl


def ask(capsys, **given):
    nothing = dict.fromkeys(("difference", "prompts", "ties", "sd"))
    asked = nothing | {"power": 0.8, "level": 0.05, "grades": False, "pilot": [], "as_json": True} | given
    show_power(**asked)
    shown = capsys.readouterr().out
    return json.loads(shown) if asked["as_json"] else shown


def test_each_question(capsys):
    assert ask(capsys, difference=10)["designs"][0]["prompts"] == 605
    [seen] = ask(capsys, prompts=300)["designs"]
    assert seen["difference"] == pytest.approx(14.27, abs=0.01) and seen["asked"] == "difference"
    [both] = ask(capsys, prompts=300, difference=9, ties=21)["designs"]
    assert both["power"] == pytest.approx(0.393, abs=0.001)
    assert ask(capsys, grades=True, sd=1.2, difference=0.5)["designs"][0]["prompts"] == 48
    overview = ask(capsys)
    assert {d["prompts"] for d in overview["designs"] if d["asked"] == "difference"} == {50, 100, 300}


def test_the_overview_fits_and_shows_the_papers_designs(capsys):
    shown = ask(capsys, as_json=False)
    assert max(map(len, shown.split("\n"))) <= 80
    assert "DaVinci003" in shown and "39 %" in shown and "605" in shown


@pytest.mark.parametrize(
    "given",
    [
        {"difference": 90},
        {"difference": -3},
        {"power": 0.01},
        {"level": 0},
        {"ties": 100},
        {"sd": 1},
        {"grades": True},
        {"grades": True, "sd": 1, "ties": 3},
        {"grades": True, "sd": float("nan")},
        {"prompts": 10**7},
    ],
)
def test_refused(capsys, given):
    with pytest.raises(UsageError) as error:
        ask(capsys, **given)
    assert error.value.remedy


def judgments(path, votes, draws=4):
    rows = [
        Judgment(prompt_id=f"p{i:02}", a="lima", b="base", draw=d, judge="j", rubric="pairwise", status="ok", verdict=v)
        for i, vote in enumerate(votes)
        for d, v in enumerate(vote[:draws])
    ]
    write_jsonl(path, rows)
    return path


def test_a_pilot_of_judgments_counts_prompts(capsys, tmp_path):
    """Four draws a prompt: its vote is their sign, and one a, one b is a tie like any."""
    votes = [["a", "a", "b", "tie"]] * 12 + [["a", "b", "tie", "tie"]] * 6 + [["b", "b", "b", "a"]] * 2
    found = ask(capsys, pilot=[judgments(tmp_path / "j.jsonl", votes)], difference=20)
    [spread], [design] = found["spreads"], found["designs"]
    assert spread["value"] == pytest.approx(0.3) and spread["cautious"] < 0.3 and spread["prompts"] == 20
    assert design["prompts"] < design["prompts_cautious"] < 170


def grades(path, sd, prompts=40, draws=1):
    random = np.random.default_rng(1)
    rows = [
        Grade(prompt_id=f"p{i:02}", model=m, draw=d, judge="j", rubric="r", status="ok", value=f"{x:.3f}")
        for i in range(prompts)
        for m, x in (("a", random.normal(4, sd)), ("b", 3.0))
        for d in range(draws)
    ]
    write_jsonl(path, rows)
    return path


def test_a_pilot_of_grades(capsys, tmp_path):
    path = grades(tmp_path / "g.jsonl", 0.9)
    [spread] = ask(capsys, pilot=[path])["spreads"]
    assert spread["value"] == pytest.approx(0.9, rel=0.25) and spread["cautious"] > spread["value"]
    [again] = ask(capsys, pilot=[grades(tmp_path / "h.jsonl", 0.9, draws=5)])["spreads"]
    assert again["value"] == pytest.approx(spread["value"])  # the same grade five times is no further prompt
    shown = ask(capsys, pilot=[path], difference=0.3, as_json=False)
    assert "cautious" in shown and max(map(len, shown.split("\n"))) <= 80


def test_pilots_that_tell_nothing(capsys, tmp_path):
    tied, both = judgments(tmp_path / "t.jsonl", [["tie"]] * 5), judgments(tmp_path / "j.jsonl", [["a"], ["b"]])
    one = grades(tmp_path / "one.jsonl", 1.0, prompts=1)
    for files, given in (([tied], {}), ([both, one], {}), ([one], {}), ([both], {"ties": 3}), ([both], {"grades": True})):
        with pytest.raises(UsageError):
            ask(capsys, pilot=files, **given)


def test_the_command(limakit, tmp_path):
    assert "605" in limakit("power", "--difference", "10", cwd=tmp_path).stdout
    wrong = limakit("power", "--difference", "90", cwd=tmp_path, check=False)
    assert wrong.returncode == 2 and "75 at most" in wrong.stderr
