"""limakit agree: who is compared with whom, what it prints and writes, and what it says where there is nothing to compare."""

import json

import pandalm
import pytest

from limakit.analyze.agree import agreements, show_agreement
from limakit.errors import LimakitError
from limakit.records import Asked, Grade, Judgment, write_jsonl


def judgment(prompt="p1", verdict="a", judge="j", **more):
    about = {"prompt_id": prompt, "a": "lima", "b": "base", "judge": judge, "rubric": "pairwise"} | more
    return Judgment(**about, status="ok" if verdict else "invalid", verdict=verdict)


def grade(prompt="p1", value="4", judge="j", **more):
    about = {"prompt_id": prompt, "model": "lima", "judge": judge, "rubric": "helpfulness"} | more
    return Grade(**about, status="ok" if value else "invalid", value=value)


def agreed(*rows):
    return agreements([row for row in rows if isinstance(row, Judgment)], [row for row in rows if isinstance(row, Grade)], {})


def by_name(found, *between):
    return {(row.between, row.first, row.second): row.found for row in found.of(*between)}


def test_groups_of_judges_as_the_paper_has_them():
    """Two of the crowd, two authors and a model on three prompts."""
    gpt = Asked(kind="endpoint", model="openai/gpt-4")
    said = {"crowd/ann": "aab", "crowd/bob": "aat", "author/x": "abb", "author/y": "aab"}
    rows = [judgment(f"p{i}", {"t": "tie"}.get(v, v), who) for who, verdicts in said.items() for i, v in enumerate(verdicts)]
    rows += [judgment(f"p{i}", v, "openai/gpt-4", asked=gpt) for i, v in enumerate("aab")]
    [found] = agreed(*rows)
    groups = by_name(found, "groups")
    assert set(groups) == {
        ("groups", "author", "crowd"), ("groups", "author", "openai/gpt-4"), ("groups", "crowd", "openai/gpt-4"),
    }  # fmt: skip
    # author-crowd: p0 all four the same; p1 x says b, the others a: half the pairs; p2 b and b against b and tie: (1 + .5) / 2
    assert groups["groups", "author", "crowd"]["tie_discounted"].estimate.value == pytest.approx((1 + 0.5 + 0.75) / 3)
    pairs = by_name(found, "judges")
    assert len(pairs) == 10
    assert pairs["judges", "author/x", "author/y"]["exact"].estimate.value == pytest.approx(2 / 3)
    [everyone] = found.of("everyone")
    assert (everyone.judges, everyone.found.items) == (5, 3)


def test_a_group_within_itself():
    rows = [judgment(f"p{i}", v, f"crowd/{n}") for n, said in enumerate(["aab", "aba", "abb"]) for i, v in enumerate(said)]
    rows += [judgment(f"p{i}", "a", "oracle") for i in range(3)]
    [found] = agreed(*rows)
    groups = by_name(found, "groups")
    assert set(groups) == {("groups", "crowd", "crowd"), ("groups", "crowd", "oracle")}
    assert groups["groups", "crowd", "crowd"]["exact"].estimate.value == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)


def test_rubrics_are_never_mixed():
    mine, pairwise = agreed(judgment(), judgment(judge="k", rubric="mine"))
    assert (mine.opinions.rubric, mine.rows) == ("mine", ())
    assert (pairwise.opinions.rubric, pairwise.rows) == ("pairwise", ())
    helpful, safe = agreed(grade(), grade(judge="k"), grade(value="safe", rubric="safety"), grade(value="safe", rubric="safety", judge="k"))
    assert [(len(one.rows), one.opinions.scale.values) for one in (helpful, safe)] == [(1, ("4",)), (1, ("safe",))]


def test_orders_and_draws_of_one_judge():
    """Always the first one shown: its orders never agree, its draws always do."""
    rows = [judgment(f"p{i}", first, first=first, draw=n) for i in range(4) for first in "ab" for n in range(2)]
    [found] = agreed(*rows)
    itself = by_name(found, "orders", "draws")
    assert itself["orders", "j", "j"]["exact"].estimate.value == 0
    assert itself["draws", "j", "j"]["exact"].estimate.value == 1
    assert (itself["orders", "j", "j"].items, itself["orders", "j", "j"].prompts) == (8, 4)


def test_pairs_of_models_apart():
    rows = [judgment(f"p{i}", "a", judge) for i in range(3) for judge in "jk"]
    rows += [judgment(f"p{i}", "a" if judge == "j" else "b", judge, b="other") for i in range(3) for judge in "jk"]
    [found] = agreed(*rows)
    models = {row.first: row.found["exact"].estimate.value for row in found.of("models")}
    assert models == {"lima – base": 1, "lima – other": 0}


def test_grades_by_distance():
    rows = [grade(f"p{i}", str(value), "j") for i, value in enumerate([1, 2, 3, 4, 5, 6])]
    rows += [grade(f"p{i}", str(value), "k") for i, value in enumerate([2, 3, 4, 5, 6, 6])]
    [found] = agreed(*rows)
    measures = by_name(found, "judges")["judges", "j", "k"]
    assert measures["exact"].estimate.value == pytest.approx(1 / 6)
    assert measures["kappa"].estimate.value < 0.1 < 0.8 < measures["kappa_quadratic"].estimate.value


def test_the_table_fits_a_terminal_and_says_what_its_figures_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "x.jsonl"
    names = ["crowd/somebody-with-a-long-name", "crowd/ann", "crowd/ben", "evil\x1b[31m[bold]/judge"]
    rows = [judgment(f"p{i}", "ab"[(i + n) % 7 == 0], name) for n, name in enumerate(names) for i in range(30)]
    write_jsonl(path, [*rows, judgment("p99", None, "crowd/ann"), judgment("p98", "tie", "crowd/ben", first="b")])
    show_agreement([path], None, as_json=False)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "␛[31m[bold]" in out
    assert all(len(line) <= 80 for line in out.splitlines() if line[:1] in "┃│┏└")
    assert "among crowd" in out and "invalid, and in no figure: crowd/ann 1 of 31" in out
    assert "tie ½: 1 where both say the same" in out and "reach tie ½" in out


def test_json_has_every_figure_with_n_interval_and_chance(tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [judgment(f"p{i}", "a" if i else "b", judge) for i in range(9) for judge in ("j", "\u2028k")])
    show_agreement([path], None, as_json=True)
    out = capsys.readouterr().out
    assert "\u2028" not in out
    [found] = json.loads(out)
    assert (found["of"], found["rubric"], found["items"]) == ("judgments", "pairwise", 9)
    assert [j["name"] for j in found["judges"]] == ["j", "\u2028k"]
    [row] = found["agreement"]
    assert (row["between"], row["first"], row["second"], row["items"], row["prompts"]) == ("judges", "j", "\u2028k", 9, 9)
    for measure in ("tie_discounted", "exact", "no_tie", "kappa", "alpha"):
        assert set(row["measures"][measure]) == {"n", "value", "low", "high", "chance"}
    assert row["measures"]["exact"]["value"] == 1 and row["measures"]["exact"]["low"] < 0.7


def test_nobody_to_agree_with(tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [judgment("p1"), judgment("p2")])
    with pytest.raises(LimakitError, match=r"only j has judged.*\n.*judge\.also"):
        show_agreement([path], None, as_json=False)
    write_jsonl(path, [judgment("p1"), judgment("p1", judge="k"), judgment("p1", rubric="mine")])
    show_agreement([path], None, as_json=False)
    assert "Rubric mine: only j has judged, so there is nothing to compare" in capsys.readouterr().out
    write_jsonl(path, [judgment("p1"), judgment("p2", judge="k")])
    with pytest.raises(LimakitError, match="no item was judged by two"):
        show_agreement([path], None, as_json=True)


def test_agree_prints_the_known_values_of_pandalm(shared, limakit, tmp_path):
    """From the files as PandaLM's users get them to the table: three people and two models on 999 pairs of responses."""
    for name, rows in pandalm.judgments(shared / "pandalm").items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    out = limakit("agree", "people.jsonl", "--json", cwd=tmp_path).stdout
    [found] = json.loads(out)
    pairs = [row["measures"] for row in found["agreement"] if row["between"] == "judges"]
    assert [round(measures["tie_discounted"]["value"], 3) for measures in pairs] == [0.930, 0.945, 0.935]
    assert [round(measures["kappa"]["value"], 3) for measures in pairs] == [0.852, 0.879, 0.862]
    [everyone] = [row["measures"] for row in found["agreement"] if row["between"] == "everyone"]
    assert round(everyone["alpha"]["value"], 3) == 0.864
    done = limakit("agree", "people.jsonl", "gpt-3.5-turbo.jsonl", "pandalm-7b.jsonl", cwd=tmp_path, env={"COLUMNS": "200"}).stdout
    shown = {line.split("│")[1].strip(): line for line in done.splitlines() if line.startswith("│")}
    assert "94 [90–95]" in shown["among people (3 judges)"] and ".86 [.80–.90]" in shown["among people (3 judges)"]
    assert "974" in shown["gpt-3.5-turbo – people (4 judges)"] and "pandalm/7b – people (4 judges)" in shown
    assert "gpt-3.5-turbo 25 of 999" in done


def test_items_with_one_order_are_said(tmp_path, capsys):
    rows = [judgment(f"p{i}", "a" if first == "a" else None, judge, first=first) for i in range(4) for first in "ab" for judge in "jk"]
    write_jsonl(tmp_path / "x.jsonl", rows)
    show_agreement([tmp_path / "x.jsonl"], None, as_json=False)
    assert "in one order only: j 4 of 4, k 4 of 4" in capsys.readouterr().out


def test_of_many_judges_the_pairs_with_the_most_items_are_told():
    rows = [judgment(f"p{i}", "ab"[i % 2], f"crowd/{n:02}") for n in range(12) for i in range(n + 1)]
    [found] = agreed(*rows)
    assert len(found.of("judges")) == 28 and found.left_out == 66 - 28
    assert min(row.found.items for row in found.of("judges")) == 5 and found.alone == 0
