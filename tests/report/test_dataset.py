"""Table 1, drop counts, licences and trimmed examples, from what the real curate and a real tokenizer leave."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from limakit.curate.pipeline import curate
from limakit.errors import LimakitError
from limakit.recipe import read_recipe
from limakit.report.page import write_report
from limakit.workspace import sha256_file

SOURCES = """
[[sources]]
kind = "authored"
path = "hand.jsonl"
name = "by hand"
take = 2

[[sources]]
kind = "authored"
path = "test.jsonl"
name = "group B"
split = "test"
"""
FULL = 'seed = 1\nname = "tiny"\n[model]\nbase = "base"\n[train]\nepochs = 2\nmax_tokens = 8\n'


@pytest.fixture
def curated(writer):
    root = writer.workspace.root
    (root / "lima.toml").write_text(FULL + SOURCES)
    writer.recipe = read_recipe(root / "lima.toml")
    pairs = [
        ("What is an omelette", "eggs folded in a pan"),
        ("Name a colour", "blue"),
        ("Name a bird", "a small wren"),
        ("Who asks this", "x"),
    ]
    rows = [{"turns": [{"role": "user", "text": p}, {"role": "assistant", "text": r}]} for p, r in pairs]
    (root / "hand.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "test.jsonl").write_text(json.dumps({"turns": [{"role": "user", "text": "Who asks this"}]}) + "\n")
    curate(writer.workspace, writer.recipe)
    return writer


def numbers(writer) -> dict[str, dict]:
    write_report(writer.workspace, writer.recipe)
    listing = json.loads((writer.workspace.report / "numbers.json").read_bytes())
    return {number["what"]: number for number in listing["numbers"]}


def give_tokenizer(writer) -> None:
    words = sorted({w for line in (writer.workspace.root / "hand.jsonl").read_text().split('"') for w in line.split()})
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0} | {w: i for i, w in enumerate(words, start=1)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(writer.workspace.root / "base")


def test_outcomes_add_up_and_agree_with_the_files(curated):
    found = numbers(curated)
    kept = [json.loads(line) for line in (curated.workspace.data / "train.jsonl").read_text().splitlines()]
    outcomes = {
        what.split(", ")[0]: n["value"] for what, n in found.items() if what.endswith(", by hand") and n["id"].startswith("candidates")
    }
    assert outcomes.pop("candidates") == 4 == sum(outcomes.values())
    assert outcomes == {"kept": 2, "not_drawn": 1, "prompt_in_test": 1}
    assert found["training examples"]["value"] == len(kept) == 2
    licences = [n for n in found.values() if n["id"].startswith("licence")]
    assert sum(n["value"] for n in licences) == 3 and all(n["rows"]["where"]["licence"] for n in licences)


def test_words_without_a_tokenizer_tokens_with_one(curated):
    found = numbers(curated)
    page = (curated.workspace.report / "index.html").read_text()
    assert "mean prompt words, by hand (train)" in found and "Counted in words" in page and "prompt words</th>" in page
    give_tokenizer(curated)
    found = numbers(curated)
    page = (curated.workspace.report / "index.html").read_text()
    assert "mean prompt tokens, by hand (train)" in found and "Counted in words" not in page and "prompt tokens</th>" in page
    assert found["mean prompt tokens, group B (test)"]["value"] == 3


def test_trimmed_examples_are_counted_for_the_data_that_was_trained_on(curated):
    give_tokenizer(curated)
    curated.log(epochs=2)
    train = curated.workspace.data / "train.jsonl"
    run = {"settings": {"train": {"max_tokens": 8}}, "inputs": {"data/train.jsonl": sha256_file(train)}}
    (curated.workspace.runs / "tiny" / "run.json").write_text(json.dumps(run))
    lengths = [sum(len(turn["text"].split()) + 1 for turn in json.loads(line)["turns"]) for line in train.read_text().splitlines()]
    cut = numbers(curated)["cut at 8 tokens (no EOT)"]
    assert cut["value"] == sum(n > 8 for n in lengths) and cut["n"] == 2
    train.write_text(train.read_text().splitlines()[0] + "\n")
    assert "cut at 8 tokens (no EOT)" not in numbers(curated)
    assert "has changed since this run" in (curated.workspace.report / "index.html").read_text()


def test_damaged_candidates(curated):
    path = curated.workspace.data / "candidates.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LimakitError, match="cannot read the candidates") as caught:
        write_report(curated.workspace, curated.recipe)
    assert caught.value.where == path and "curate" in caught.value.remedy
    assert not (curated.workspace.report / "index.html").exists()
