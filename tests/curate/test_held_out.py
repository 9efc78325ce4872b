"""Held-out examples: a set beside the training set that changes nothing of it and repeats nothing of it."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from dumps import answer, question, recipe, stackexchange, write_site

from limakit.curate.pipeline import HELD_OUT, MANIFEST, OUTPUTS, curate
from limakit.errors import UsageError
from limakit.recipe import read_recipe
from limakit.records import Example, Provenance, read_jsonl
from limakit.workspace import find_workspace


def run(path):
    workspace = find_workspace(path)
    return curate(workspace, read_recipe(path)), workspace.data


@pytest.fixture
def dumps(tmp_path):
    """Twelve questions of falling score; the sixth has the answer of the first, the seventh its title."""
    rows = []
    for i in range(1, 13):
        title = "How hot should the water be for green tea leaves?" if i in (1, 7) else f"Question {i} about kettle number {i}?"
        body = "<p>The same long answer, word for word, given twice. " + "It goes on and on about leaves and heat. " * 40 + "</p>"
        rows += [question(i, title, score=100 - i), answer(100 + i, i, body if i in (1, 6) else None)]
    write_site(tmp_path / "dumps", "coffee", rows)
    return tmp_path


HELD = {"split": "held_out", "name": "held"}


def test_the_training_set_is_the_same_with_it_and_without(dumps):
    _, data = run(recipe(dumps, stackexchange(take=4)))
    without = {name: (data / name).read_bytes() for name in ("train.jsonl", "dev.jsonl", "test.jsonl")}
    assert not (data / HELD_OUT).exists()
    # named first in the recipe, and still drawn last
    wrote, data = run(recipe(dumps, stackexchange(take=3, **HELD), stackexchange(take=4)))
    assert {name: (data / name).read_bytes() for name in without} == without
    assert [p.name for p in wrote] == [*OUTPUTS, HELD_OUT, MANIFEST]
    train, held = read_jsonl(data / "train.jsonl", Example), read_jsonl(data / HELD_OUT, Example)
    assert len(held) == 3 and all(row.turns[-1].role == "assistant" and row.source == "held" for row in held)
    assert not {row.id for row in train} & {row.id for row in held}
    credited = [row.id for row in read_jsonl(data / "provenance.jsonl", Provenance)]
    assert credited == [row.id for row in (*train, *held)]
    assert "## held_out.jsonl" in (data / "card.md").read_text()


def test_nothing_trained_on_is_held_out(dumps):
    _, data = run(recipe(dumps, stackexchange(take=4), stackexchange(take=20, allow_fewer=True, **HELD)))
    rows = [row for row in pq.read_table(data / "candidates.parquet").to_pylist() if row["split"] == "held_out"]
    fates = {row["id"]: row["reason"] or row["status"] for row in rows}
    assert all(fates[f"coffee-{i}"] == "prompt_in_train" for i in (1, 2, 3, 4))
    assert fates["coffee-6"] == "reference_in_train" and fates["coffee-7"] == "prompt_in_train"


def test_nothing_asked_of_the_model_is_held_out(dumps):
    (dumps / "test.jsonl").write_text(json.dumps({"prompt": "Question 5 about kettle number 5?"}) + "\n")
    test = 'kind = "authored"\npath = "test.jsonl"\nsplit = "test"'
    _, data = run(recipe(dumps, stackexchange(take=2), stackexchange(take=20, allow_fewer=True, **HELD), test))
    ids = {row.id for row in read_jsonl(data / HELD_OUT, Example)}
    assert "coffee-5" not in ids and "coffee-8" in ids


def test_a_set_that_has_it_no_more_leaves_none_behind_but_what_somebody_put_there_stays(dumps):
    run(recipe(dumps, stackexchange(take=4), stackexchange(take=3, **HELD)))
    _, data = run(recipe(dumps, stackexchange(take=4)))
    assert not (data / HELD_OUT).exists()
    (data / HELD_OUT).write_text("mine\n")
    run(recipe(dumps, stackexchange(take=5)))
    assert (data / HELD_OUT).read_text() == "mine\n"


def test_written_by_hand_it_needs_a_response(dumps):
    folder = dumps / "mine"
    folder.mkdir()
    (folder / "a.md").write_text("---\nsplit: held_out\n---\n## Prompt\n\nWhy?\n\n## Response\n\nBecause.\n")
    (folder / "b.md").write_text("---\nsplit: dev\n---\n## Prompt\n\nWho?\n")
    _, data = run(
        recipe(
            dumps, 'kind = "authored"\npath = "mine"\nsplit = "held_out"', 'kind = "authored"\npath = "mine"\nsplit = "dev"\nname = "dev"'
        )
    )
    [example] = read_jsonl(data / HELD_OUT, Example)
    assert example.response == "Because."
    with pytest.raises(UsageError, match='use = "titles" gives prompts without responses'):
        read_recipe(recipe(dumps, 'kind = "reddit"\npath = "r"\nsubreddit = "AskReddit"\nuse = "titles"\ntake = 1\nsplit = "held_out"'))
