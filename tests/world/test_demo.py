"""The demo with a base of a few seconds: everything runs for real, only the base knows next to nothing."""

from __future__ import annotations

import json

import pytest

from limakit.curate.decisions import read_decisions
from limakit.errors import UsageError
from limakit.recipe import read_recipe
from limakit.records import Example, Grade, Judgment, Prompt, Provenance, read_jsonl
from limakit.workspace import sha256_tree
from limakit.world.demo import run_demo

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def small():
    from limakit.world.pretrain import Pretraining

    return Pretraining(documents=200, epochs=1, vocabulary=500, width=16, layers=2, heads=2, inner=32)


@pytest.fixture(scope="module")
def out(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert run_demo(folder, small) == folder / "report" / "index.html"
    return folder


def test_it_leaves_a_workspace_with_every_stage_done(out):
    recipe = read_recipe(out / "lima.toml")
    train, test = read_jsonl(out / "data" / "train.jsonl", Example), read_jsonl(out / "data" / "test.jsonl", Prompt)
    assert len(train) > 700 and len(test) == 95 and all(prompt.reference for prompt in test)
    credited = {row.id: row for row in read_jsonl(out / "data" / "provenance.jsonl", Provenance)}
    assert all(credited[example.id].licence and credited[example.id].authors for example in train)
    assert {example.source for example in train} == {
        "valley talks", "valley forum", "valley howto", "valley tales", "valley tasks", "valley", "authored",
    }  # fmt: skip
    assert {decision.reviewer for decision in read_decisions(out / "decisions.jsonl").made.values()} == {"simulated reviewer"}
    judgments = read_jsonl(out / "judgments" / "tuned-against-base-by-oracle-facts.jsonl", Judgment)
    assert len(judgments) == 2 * len(test) and all(row.status == "ok" for row in judgments)
    for model in (recipe.name, "base"):
        assert len(read_jsonl(out / "grades" / f"{model}-by-oracle-facts.jsonl", Grade)) == len(test)
    assert (out / "report" / "index.html").read_text().startswith("<!DOCTYPE html>") or (
        out / "report" / "index.html"
    ).stat().st_size > 1000


def test_a_second_call_makes_nothing_anew(out, small):
    def times():
        return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and not {"report", ".cache"} & {*path.parts}}

    before, stamps = sha256_tree(out), times()
    run_demo(out, small)
    assert sha256_tree(out) == before
    assert times() == stamps  # the report alone is written again, and is the same


def test_decisions_that_are_lost_are_made_again_by_a_reviewer_that_says_it_is_simulated(out, small, capsys):
    before = sha256_tree(out)
    (out / "decisions.jsonl").unlink()
    run_demo(out, small)
    said = capsys.readouterr().out
    assert "review by a simulated reviewer" in said and "a joke" in said and "put into the tone of the assistant" in said
    assert sha256_tree(out) == before


def test_the_recipe_in_it_is_the_users_to_change(out, small):
    text = (out / "lima.toml").read_text()
    try:
        (out / "lima.toml").write_text(text.replace("repetition_penalty = 1.0", "repetition_penalty = 1.1"))
        run_demo(out, small)
        assert "repetition_penalty = 1.1" in (out / "lima.toml").read_text()
        assert json.loads((out / "responses" / "tuned.manifest.json").read_text())["settings"]["sampling"]["repetition_penalty"] == 1.1
    finally:
        (out / "lima.toml").write_text(text)


def test_a_folder_with_something_else_is_left_alone(tmp_path, small):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="something else than a demo"):
        run_demo(tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_of_another_version_is_left_alone(tmp_path, small):
    (tmp_path / "demo.json").write_text('{"demo": "limakit", "limakit": "0.0.0"}')
    with pytest.raises(UsageError, match="another version"):
        run_demo(tmp_path, small)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_a_file_is_no_folder(tmp_path, small):
    (tmp_path / "out").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        run_demo(tmp_path / "out", small)
