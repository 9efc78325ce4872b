"""Grades that are words on the page: figure 3, safety by tag and figure 7, each beside the paper's, every number with its rows."""

from __future__ import annotations

import json
import re

import pytest

from limakit.analyze.proportion import wilson
from limakit.records import Grade, Prompt, Turn, write_jsonl
from limakit.report import paper
from limakit.report.page import write_report
from limakit.report.shares import paper_figure
from limakit.workspace import write_manifest

ABSOLUTE, SAFETY = ["fail", "pass", "excellent"], ["unsafe", "refused", "safe"]
WORDS = {"e": "excellent", "p": "pass", "f": "fail", "u": "unsafe", "r": "refused", "s": "safe"}


def write(writer, name: str, said: list[str], rubric: str, scale: list[str], model: str = "tiny", letter: str = "p") -> None:
    """One string a prompt, one letter a turn."""
    rows = [
        Grade(prompt_id=f"{letter}{i:02}", model=model, turn=t, judge="referee", rubric=rubric, status="ok", value=WORDS[c])
        for i, turns in enumerate(said)
        for t, c in enumerate(turns)
    ]
    path = writer.workspace.grades / f"{name}.jsonl"
    write_jsonl(path, rows)
    write_manifest(path.with_suffix(".manifest.json"), stage="judge", settings={"scale": scale}, inputs={}, outputs={})


def report(writer) -> tuple[str, dict[str, dict]]:
    write_report(writer.workspace, writer.recipe)
    listing = json.loads((writer.workspace.report / "numbers.json").read_bytes())["numbers"]
    return (writer.workspace.report / "index.html").read_text(), {number["what"]: number for number in listing}


def prompts(writer, tags: list[tuple[str, ...]]) -> None:
    rows = [Prompt(id=f"p{i:02}", source="s", turns=(Turn(role="user", text="How?"),), tags=t) for i, t in enumerate(tags)]
    write_jsonl(writer.workspace.data / "test.jsonl", rows)


def test_figure_3(writer):
    """50 responses, 25 excellent, 19 pass, 6 fail: the paper's own figure comes out."""
    prompts(writer, [()] * 50)
    write(writer, "a", ["e"] * 25 + ["p"] * 19 + ["f"] * 6, "absolute", ABSOLUTE)
    page, numbers = report(writer)
    whom = "of tiny, graded by referee (rubric absolute)"
    for value, n in (("fail", 6), ("pass", 19), ("excellent", 25)):
        found, interval = numbers[f"share of {value} {whom}"], wilson(n, 50)
        assert (found["value"], found["low"], found["high"], found["n"]) == (n / 50, interval.low, interval.high, 50)
        assert numbers[f"share of {value}: LIMA 65B, 50 test prompts"]["value"] == n / 50
    assert numbers[f"share not fail {whom}"]["shown"].startswith("88 %")
    text = re.sub("<[^>]*>", "", page)
    assert re.search(r"Graded by referee \(rubric absolute\): tiny excellent 50 % \[[^]]*\], fail 12 % \[[^]]*\] of 50 prompts\.", text)
    assert "paper, figure 3" in page and "paper, figure 7" not in page
    assert "The paper's figure 5" not in text  # nothing here is on its scale


def test_safety_by_tag(writer):
    """24 of 30 sensitive prompts safely, 6 of the 10 malicious ones; refusing is safe."""
    prompts(writer, [("sensitive", "malicious")] * 10 + [("sensitive",)] * 20)
    write(writer, "s", ["s"] * 3 + ["r"] * 3 + ["u"] * 4 + ["s"] * 10 + ["r"] * 8 + ["u"] * 2, "safety", SAFETY)
    _page, numbers = report(writer)
    whom = "of tiny, graded by referee (rubric safety)"
    assert numbers[f"share not unsafe {whom}"]["value"] == 0.8
    malicious = numbers[f"share not unsafe {whom}, prompts tagged malicious"]
    assert (malicious["value"], malicious["n"]) == (0.6, 10)
    assert [file["file"] for file in malicious["rows"]["files"]] == ["grades/s.jsonl", "data/test.jsonl"]
    assert [numbers[f"answered safely: {row.what}"]["value"] for row in paper.SAFETY] == [0.8, 0.6]
    assert not [what for what in numbers if "tagged sensitive" in what]  # all are


def test_figure_7(writer):
    """Shares are of turns, intervals count dialogues; each turn stands alone too, and how many lost the thread."""
    writer.prompts()
    before, after = ["eeff", "efpp", "pppp", "ef", "eeee"], ["eeee", "eeep", "eppe", "ee", "eeef"]
    write(writer, "x", before, "dialogue", ABSOLUTE, model="base", letter="d")
    write(writer, "y", after, "dialogue", ABSOLUTE, letter="d")
    page, numbers = report(writer)
    whom = "graded by referee (rubric dialogue)"
    found = numbers[f"share of excellent of tiny, {whom}"]
    assert found["value"] == pytest.approx("".join(after).count("e") / 18) and found["n"] == 5
    assert numbers[f"turns of tiny, {whom}"]["value"] == 18
    assert numbers[f"dialogues that fail within 3 turns, of base, {whom}"]["value"] == 0.6
    turn = numbers[f"share of excellent of base, {whom}, turn 2"]
    assert (turn["value"], turn["n"], turn["rows"]["where"]["turn"]) == (0.4, 5, 1)
    assert numbers["share of excellent: LIMA 65B, 30 dialogues in training"]["value"] == pytest.approx(35 / 46)
    assert "paper, figure 7" in page and "18 turns of 5 dialogues" in page


def test_hostile_names_are_text(writer):
    writer.prompts()
    write(writer, "a", ["e", "p", "f"], "absolute", ABSOLUTE, model="</text><script>$x^{2$")
    page, _ = report(writer)
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("dialogues", [False, True])
def test_the_papers_figures_say_what_they_show(dialogues):
    assert ("76 %" if dialogues else "50 %") in paper_figure(dialogues).label
