"""Agreement on the page: the figures of limakit agree, beside the paper's, and nothing where nobody can agree."""

from __future__ import annotations

import json
import re

from limakit.analyze.agree import show_agreement
from limakit.records import Asked, Grade, Judgment, write_jsonl
from limakit.report.page import write_report
from limakit.workspace import write_manifest

MODEL = Asked(kind="endpoint", model="openai/gpt-4")


def verdicts(judge: str, said: str, asked: Asked | None = None) -> list[Judgment]:
    full = {"a": "a", "b": "b", "t": "tie"}
    about = {"a": "tiny", "b": "base", "judge": judge, "rubric": "pairwise", "asked": asked, "status": "ok"}
    return [Judgment(prompt_id=f"p{i:02}", verdict=full[letter], **about) for i, letter in enumerate(said)]


def report(writer) -> tuple[str, str, dict[str, dict]]:
    """The page, its section of agreement as text, and the numbers."""
    write_report(writer.workspace, writer.recipe)
    page = (writer.workspace.report / "index.html").read_text()
    section = re.search('<h2 id="agreement">(.*?)</section>', page, re.DOTALL)[1]
    listing = json.loads((writer.workspace.report / "numbers.json").read_bytes())["numbers"]
    return page, re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", section)), {number["what"]: number for number in listing}


def test_the_pages_figures_are_those_of_the_command(writer, capsys):
    writer.prompts()
    rows = (
        verdicts("crowd/ann", "aabt")
        + verdicts("crowd/<b>", "aabb")
        + verdicts("author/x", "abba")
        + verdicts("openai/gpt-4", "aaba", MODEL)
    )
    path = writer.workspace.judgments / "x.jsonl"
    write_jsonl(path, rows)
    page, section, numbers = report(writer)
    capsys.readouterr()
    show_agreement([path], None, as_json=True)
    [found] = json.loads(capsys.readouterr().out)
    rows = {(row["between"], row["first"], row["second"]): row["measures"] for row in found["agreement"]}
    whom = {
        ("everyone", "", ""): "all 4 judges",
        ("groups", "author", "crowd"): "author – crowd (3 judges)",
        ("groups", "crowd", "openai/gpt-4"): "crowd – openai/gpt-4 (3 judges)",
        ("judges", "crowd/<b>", "crowd/ann"): "crowd/<b> – crowd/ann",
    }
    for key, name in whom.items():
        for measure, called in (("tie_discounted", "tie ½"), ("kappa", "kappa"), ("alpha", "alpha")):
            ours = numbers[f"{called}, {name} (rubric pairwise)"]
            assert (ours["value"], ours["low"], ours["high"]) == tuple(rows[key][measure][end] for end in ("value", "low", "high"))
    assert "Crowd" not in section and "<b>" not in page and "crowd – crowd" in section and "82 %" in section
    assert numbers["tie-discounted agreement, crowd – author"]["value"] == 0.81
    short = re.sub("<[^>]*>", "", page)
    assert re.search(
        r"Agreement on verdicts \(rubric pairwise\), all 4 judges: tie-discounted \d+ % \[\d+, \d+\] on 4 items, by chance \d+ %\.", short
    )


def test_one_judge_asked_once_has_nobody_to_agree_with(writer):
    writer.prompts()
    write_jsonl(writer.workspace.judgments / "x.jsonl", verdicts("j", "aab"))
    _, section, numbers = report(writer)
    assert "no two judges judged the same" in section and "limakit judge" in section
    assert not [what for what in numbers if "agreement" in what]


def test_a_rubric_with_two_scales_is_left_out_and_said(writer):
    writer.prompts()
    write_jsonl(writer.workspace.judgments / "x.jsonl", verdicts("j", "aab") + verdicts("k", "abb"))
    for name, scale in (("j", ["1", "2", "3"]), ("k", ["1", "2"])):
        path = writer.workspace.grades / f"{name}.jsonl"
        write_jsonl(path, [Grade(prompt_id="p00", model="tiny", judge=name, rubric="mine", status="ok", value="2")])
        write_manifest(path.with_suffix(".manifest.json"), stage="judge", settings={"scale": scale}, inputs={}, outputs={})
    _, section, _ = report(writer)
    assert "Left out is rubric mine: its files have different scales." in section
    assert "Agreement on verdicts" in section and "Agreement on grades" not in section
