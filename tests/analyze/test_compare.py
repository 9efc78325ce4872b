"""limakit compare: judgments and grades in, tables that a person reads and complete JSON out; nothing in a name acts, nothing counts twice."""

import json
import math
import re

import pytest

from limakit.analyze.compare import show_comparison
from limakit.errors import LimakitError, UsageError
from limakit.records import Grade, Judgment, Response, write_jsonl
from limakit.workspace import sha256_file, write_manifest


def judgment(prompt="p1", verdict="a", first="a", **more):
    status = "ok" if verdict else "invalid"
    return Judgment(**{"prompt_id": prompt, "a": "lima", "b": "base", "judge": "j", "rubric": "pairwise"} | more, first=first, status=status, verdict=verdict)  # fmt: skip


def grade(prompt, model, value, **more):
    return Grade(**{"prompt_id": prompt, "model": model, "judge": "j", "rubric": "helpfulness", "status": "ok", "value": value} | more)


def read(capsys):
    return json.loads(capsys.readouterr().out)


def cells(out, heading, row):
    """One row of a table by its columns: the first line below a heading that starts with these words."""
    lines = [re.split("[┃│]", line) for line in out.splitlines()]
    names = next(line for line in lines if len(line) > 2 and heading in [word.strip() for word in line])
    found = next(line for line in lines[lines.index(names) :] if len(line) > 2 and line[1].strip() == row)
    return {name.strip(): cell.strip() for name, cell in zip(names, found, strict=True)}


@pytest.fixture
def workspace(tmp_path):
    """Three models, 30 prompts, both orders: lima is longer than base, and the judge counts length; other is undefeated but once."""
    (tmp_path / "lima.toml").write_text('name = "lima"\n[model]\nbase = "b"\n')
    lengths = {"lima": lambda i: 200 + 37 * (i % 8), "base": lambda i: 160 + 40 * (i % 5), "other": lambda i: 150 + 50 * (i % 2)}
    for model, length in lengths.items():
        rows = [Response(prompt_id=f"p{i}", model=model, text="x" * length(i), finish="eot", tokens=9) for i in range(30)]
        write_jsonl(tmp_path / "responses" / f"{model}.jsonl", rows)
    long = [i for i in range(30) if lengths["lima"](i) / lengths["base"](i) > 1.3]
    base = [judgment(f"p{i}", "a" if (i in long) != (i % 7 == 0) else "b", first) for i in range(30) for first in "ab"]
    other = [judgment(f"p{i}", "a" if i == 0 else "b" if i % 3 else first, first, b="other") for i in range(30) for first in "ab"]
    write_jsonl(tmp_path / "judgments" / "lima--base.jsonl", base)
    write_jsonl(tmp_path / "judgments" / "lima--other.jsonl", other)
    for model, worse in (("lima", 0), ("base", 1)):
        write_jsonl(tmp_path / "grades" / f"{model}.jsonl", [grade(f"p{i}", model, str(4 + i % 3 - worse)) for i in range(30)])
    return tmp_path


def test_a_workspace_is_told_in_order_and_fits_80_columns(workspace, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show_comparison(None, workspace / "lima.toml", as_json=False)
    out = capsys.readouterr().out
    titles = [out.index(word) for word in ("Preference, ", "Position: ", "Length: ", "Ranking ", "Grades: ", "Differences ")]
    assert titles == sorted(titles)
    assert max(map(len, out.splitlines())) <= 80
    assert cells(out, "orders agree", "j")["flips"] == "9, 0"
    assert cells(out, "equal length", "base")["longer"].startswith("×1.3")
    assert cells(out, "win", "base")["n"] == "30"
    assert cells(out, "places", "1")["model"] == "other"


def test_json_holds_all_of_it(workspace, capsys):
    show_comparison(None, workspace / "lima.toml", as_json=True)
    found = read(capsys)
    assert list(found) == [
        "preferences",
        "people",
        "positions",
        "lengths",
        "lengths_left_out",
        "rankings",
        "grades",
        "turns",
        "differences",
        "format",
    ]
    base, other = found["preferences"]
    assert base["net"]["value"] == pytest.approx(base["win"]["value"] - base["lose"]["value"])
    assert base["signs"]["above"] + base["signs"]["below"] == 30
    assert other["order_agreement"]["value"] == pytest.approx(21 / 30)
    assert found["lengths"][0]["odds"]["low"] > 1 and found["lengths_left_out"] == []
    assert found["rankings"][0]["models"][0]["model"] == "other"
    assert {g["model"]: g["mean"]["value"] for g in found["grades"]} == {"base": 4, "lima": 5}
    assert found["differences"][0]["difference"]["value"] == pytest.approx(1)


def test_an_undefeated_model_is_said_and_a_prior_ranks_it(workspace, capsys):
    rows = [judgment(f"p{i}", "a" if i % 2 else "b") for i in range(20)] + [judgment(f"p{i}", "b", b="god") for i in range(20)]
    write_jsonl(workspace / "x.jsonl", rows)
    show_comparison([workspace / "x.jsonl"], None, as_json=False)
    assert "god neither lost nor tied" in capsys.readouterr().out
    show_comparison([workspace / "x.jsonl"], None, as_json=True, prior=1.0)
    [ranking] = read(capsys)["rankings"]
    assert ranking["problem"] is None and ranking["models"][0]["model"] == "god"
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="--prior"):
            show_comparison([workspace / "x.jsonl"], None, as_json=True, prior=wrong)


def test_lengths_are_of_the_judged_responses_or_left_out_with_the_reason(workspace, tmp_path, capsys):
    """Missing, broken, of another model, changed since, from two workspaces, or not there at all: never a wrong length, never an error."""
    recipe, base = workspace / "lima.toml", workspace / "responses" / "base.jsonl"

    def told():
        show_comparison(None, recipe, as_json=True)
        found = read(capsys)
        return found["lengths"], "; ".join(found["lengths_left_out"])

    whole = base.read_bytes()
    base.unlink()
    lengths, reasons = told()
    assert [x["b"] for x in lengths] == ["other"] and "no such file" in reasons and "base" in reasons
    base.write_bytes(whole + b"{")
    assert "row 31" in told()[1]
    base.write_bytes(whole + whole[: whole.index(b"\n") + 1])
    assert "a second response" in told()[1]
    base.write_bytes(whole)
    inputs = {"responses/base.jsonl": sha256_file(base)}
    judged = workspace / "judgments" / "lima--base.jsonl"
    write_manifest(judged.with_suffix(".manifest.json"), stage="judge", settings={}, inputs=inputs, outputs={})
    assert told()[1] == ""
    base.write_bytes(whole.replace(b"xxxxx", b"x" * 50))
    lengths, reasons = told()
    assert [x["b"] for x in lengths] == ["other"] and "have changed since" in reasons
    elsewhere = tmp_path / "elsewhere" / "judgments"
    write_jsonl(elsewhere / "x.jsonl", [judgment(f"q{i}", b="third") for i in range(20)])
    show_comparison([elsewhere / "x.jsonl"], None, as_json=True)
    assert "no responses in" in read(capsys)["lengths_left_out"][0]
    show_comparison([elsewhere / "x.jsonl", workspace / "judgments" / "lima--other.jsonl"], None, as_json=True)
    assert "more than one workspace" in read(capsys)["lengths_left_out"][0]


def test_turns_of_dialogues_are_told_apart(tmp_path, capsys):
    values = ["excellent", "pass", "fail"]
    rows = [grade(f"d{i}", "lima", values[turn], turn=turn, rubric="dialogue") for i in range(10) for turn in range(3)]
    write_jsonl(tmp_path / "x.jsonl", rows)
    show_comparison([tmp_path / "x.jsonl"], None, as_json=True)
    turns = read(capsys)["turns"]
    assert [turns[turn][0]["counts"] for turn in ("0", "1", "2")] == [{"excellent": 10}, {"pass": 10}, {"fail": 10}]
    show_comparison([tmp_path / "x.jsonl"], None, as_json=False)
    out = capsys.readouterr().out
    assert cells(out, "excellent", "lima")["n"] == "30" and "Preference" not in out


def test_table_and_json_outside_a_workspace(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "mine.jsonl"
    name = "[red]judge[/red]"
    write_jsonl(path, [judgment(f"p{i}", "a", judge=name) for i in range(20)] + [judgment("p21", None, judge=name)])
    show_comparison([path, path], None, as_json=True)
    [found] = read(capsys)["preferences"]
    assert (found["a"], found["prompts"], found["judgments"], found["invalid"]) == ("lima", 20, 21, 1)
    assert found["win"]["value"] == 1
    show_comparison([path], None, as_json=False)
    out = capsys.readouterr().out
    assert "100 [83–100]" in out and "+100 [66,100]" in out and "<.001" in out
    assert "1 of 21" in out
    assert name in out


def test_names_do_not_act_on_the_terminal(tmp_path, capsys):
    name = "\x1b]0;owned\x07\u202e\x9b31m[bold]\u2028"
    rows = [judgment(f"p{i}", "ab"[i % 2], first, a=name, b=b, judge=name, rubric=name) for i in range(12) for b in ("b" + name, "c") for first in "ab"]  # fmt: skip
    write_jsonl(tmp_path / "judgments" / "x.jsonl", rows)
    write_jsonl(tmp_path / "grades" / "y.jsonl", [grade("p1", model, "4", judge=name, rubric=name) for model in (name, "b")])
    write_jsonl(tmp_path / "responses" / "c.jsonl", [Response(prompt_id="p1", model="c", text=name, finish="eot", tokens=1)])
    for as_json in (False, True):
        show_comparison([tmp_path / "judgments" / "x.jsonl", tmp_path / "grades" / "y.jsonl"], None, as_json=as_json)
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e", "\x9b", "\u2028"} & set(out)
    assert json.loads(out)["preferences"][0]["a"] == name


def test_out_of_date_judgments_are_counted_with_a_warning(tmp_path, capsys):
    (tmp_path / "lima.toml").write_text('name = "lima"\n[model]\nbase = "b"\n')
    responses, path = tmp_path / "responses" / "lima.jsonl", tmp_path / "judgments" / "x.jsonl"
    responses.parent.mkdir()
    responses.write_text("as judged\n")
    write_jsonl(path, [judgment()])
    inputs = {"responses/lima.jsonl": sha256_file(responses)}
    write_manifest(path.with_suffix(".manifest.json"), stage="judge", settings={}, inputs=inputs, outputs={})
    for files, recipe in (([path], None), (None, tmp_path / "lima.toml")):
        responses.write_text("as judged\n")
        show_comparison(files, recipe, as_json=False)
        assert capsys.readouterr().err == ""
        responses.write_text("others\n")
        show_comparison(files, recipe, as_json=False)
        out, err = capsys.readouterr()
        assert "judged other responses than those now in responses/lima.jsonl: run limakit judge" in err and "lima" in out


def test_the_command_and_its_mistakes(tmp_path, limakit):
    empty, cut, twice = tmp_path / "empty.jsonl", tmp_path / "cut.jsonl", tmp_path / "twice.jsonl"
    empty.write_text("\n")
    write_jsonl(cut, [judgment()])
    cut.write_bytes(cut.read_bytes() + b'{"prompt_id": "p2", "a"')
    write_jsonl(twice, [judgment("p0"), judgment("p1"), judgment("p1", "b")])
    for path, what in [(tmp_path / "no.jsonl", "no such file"), (empty, "no judgments"), (cut, "row 2"), (twice, "row 3")]:
        with pytest.raises(LimakitError) as error:
            show_comparison([path], None, as_json=False)
        assert str(path) in str(error.value)
        assert what in str(error.value)
    assert limakit("compare", cwd=tmp_path, check=False).returncode == 2
    (tmp_path / "lima.toml").write_text('name = "x"\n[model]\nbase = "b"\n')
    done = limakit("compare", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "no judgments or grades yet" in done.stderr
    write_jsonl(tmp_path / "judgments" / "x.jsonl", [judgment()])
    assert json.loads(limakit("compare", "--json", "--prior", "1", cwd=tmp_path).stdout)["preferences"][0]["prompts"] == 1


def test_models_named_either_way_are_one_pair(tmp_path, capsys):
    """What is shown first is always called a, and always wins: nobody is better, and every pair flips."""
    named = [{"a": "lima", "b": "base"}, {"a": "base", "b": "lima"}]
    write_jsonl(tmp_path / "x.jsonl", [judgment(f"p{i}", **names) for i in range(20) for names in named])
    show_comparison([tmp_path / "x.jsonl"], None, as_json=True)
    found = read(capsys)
    [p] = found["preferences"]
    assert (p["prompts"], p["win"]["value"], p["lose"]["value"], p["net"]["value"]) == (20, 0.5, 0.5, 0)
    assert [x["to_first"] for x in found["positions"]] == [20]


def test_a_workspace_names_its_own_model_first(workspace, capsys):
    for path in workspace.glob("judgments/*"):
        path.unlink()
    write_jsonl(workspace / "judgments" / "people.jsonl", [judgment(f"p{i}", "b", a="other", b="lima") for i in range(12)])
    show_comparison(None, workspace / "lima.toml", as_json=True)
    [p] = read(capsys)["preferences"]
    assert (p["a"], p["b"], p["win"]["value"]) == ("lima", "other", 1)


def test_a_crowd_is_one_judge_and_its_people_are_in_json(tmp_path, capsys, monkeypatch):
    """Twelve people judge a few prompts each; two vote on every prompt. A model whose name holds a slash is nobody's group."""
    path = tmp_path / "people.jsonl"
    votes = [judgment(f"p{i}", "a" if k else "tie", "ab"[i % 2], judge=f"crowd/w{(i + k) % 12}") for i in range(36) for k in (0, 1)]
    write_jsonl(path, votes)
    show_comparison([path], None, as_json=True)
    found = read(capsys)
    [p] = found["preferences"]
    assert (p["judge"], p["people"], p["prompts"], p["win"]["value"], p["tie"]["value"]) == ("crowd", 12, 36, 0.5, 0.5)
    assert [one["judge"] for one in found["people"]] == sorted(f"crowd/w{i}" for i in range(12))
    assert found["positions"] == []  # nobody judged a pair in both orders; that two people did is no order
    monkeypatch.setenv("COLUMNS", "80")
    show_comparison([path], None, as_json=False)
    out = capsys.readouterr().out
    assert "crowd: 12 people" in out and "crowd/w" not in out and max(map(len, out.split("Length")[0].splitlines())) <= 80


def test_verdicts_in_one_order_only_are_said(tmp_path, capsys):
    """A judge that answers properly only where lima comes first: all its wins may be the place."""
    rows = [judgment(f"p{i}", "a" if first == "a" else None, first) for i in range(20) for first in "ab"]
    write_jsonl(tmp_path / "x.jsonl", rows)
    show_comparison([tmp_path / "x.jsonl"], None, as_json=False)
    assert "20 of 20 prompts rest on one order, 20 of them with lima first" in capsys.readouterr().out
    write_jsonl(tmp_path / "y.jsonl", [judgment(f"p{i}", "a", first) for i in range(20) for first in "ab"])
    show_comparison([tmp_path / "y.jsonl"], None, as_json=False)
    assert "one order" not in capsys.readouterr().out


def test_cells_are_whole_at_80_columns_with_several_judges_and_invalid_rows(tmp_path, capsys, monkeypatch):
    rows = [judgment(f"p{i}", "a" if first == "a" else None, first, judge=judge) for i in range(20) for first in "ab" for judge in "jk"]
    write_jsonl(tmp_path / "x.jsonl", rows)
    monkeypatch.setenv("COLUMNS", "80")
    show_comparison([tmp_path / "x.jsonl"], None, as_json=False)
    out = capsys.readouterr().out
    assert out.count("100 [83–100]") == 2 and out.count("20 of 40 judgments are invalid") == 2
    assert "judge j, rubric pairwise" in out and "judge k, rubric pairwise" in out
