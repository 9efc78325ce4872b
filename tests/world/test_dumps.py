from __future__ import annotations

import re

import pytest
import zstandard

from limakit.curate.lint import audit
from limakit.records import Example, Prompt, Provenance, read_jsonl
from limakit.workspace import sha256_tree
from limakit.world.dumps import write_dumps
from limakit.world.facts import make_world


def text_of(path):
    data = path.read_bytes()
    return (zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data).decode("utf-8-sig")


def names(people):
    return [word for person in people for word in (person.name, person.given)]


def mentioned(people, text):
    return [word for word in names(people) if re.search(rf"\b{word}\b", text)]


def test_equal_seeds_give_equal_bytes(world, dumps, tmp_path):
    write_dumps(tmp_path / "again", world)
    write_dumps(tmp_path / "other", make_world(8))
    assert sha256_tree(tmp_path / "again") == sha256_tree(dumps) != sha256_tree(tmp_path / "other")


def test_nobody_of_the_test_or_dev_prompts_is_spoken_of_in_a_training_source(world, dumps):
    held_out = {"group-B.jsonl", *(path.name for path in (dumps / "authored" / "group-A").glob("prompt-*.md"))}
    training = [path for path in dumps.rglob("*") if path.is_file() and path.name not in held_out]
    assert {path.relative_to(dumps).parts[0] for path in training} == {
        "stackexchange", "wikihow", "reddit", "natural_instructions", "authored", "lima",
    }  # fmt: skip
    text = "\n".join(map(text_of, training))
    assert mentioned(world.test + world.dev, text) == []
    assert all(re.search(rf"\b{person.name}\b", text) for person in world.train)  # the scan does find people


def test_nobody_held_out_occurs_in_any_training_example(world, reviewed):
    examples = read_jsonl(reviewed.data / "train.jsonl", Example)
    text = "\n".join(turn.text for example in examples for turn in example.turns)
    assert mentioned(world.test + world.dev, text) == []
    assert sum(re.search(rf"\b{person.name}\b", text) is not None for person in world.train) == len(world.train)
    for split, people in (("dev", world.dev), ("test", world.test)):
        prompts = read_jsonl(reviewed.data / f"{split}.jsonl", Prompt)
        assert all(any(person.name in prompt.text for person in people) for prompt in prompts)


def test_every_kind_of_source_is_in_the_set_and_it_is_about_as_large_as_it_was(reviewed):
    examples = read_jsonl(reviewed.data / "train.jsonl", Example)
    counts = {source: sum(e.source == source for e in examples) for source in dict.fromkeys(e.source for e in examples)}
    assert 770 <= len(examples) <= 790
    assert counts == counts | {
        "valley forum": 620,
        "valley talks": 10,
        "valley howto": 8,
        "valley tales": 6,
        "valley tasks": 3,
        "authored": 10,
    }
    assert {"refusal", "format"} <= {tag for e in examples if e.source == "authored" for tag in e.tags}
    assert sum(len(e.turns) > 2 for e in examples) == 10 + 6  # of the comments, and of the published format


def test_nobody_real_is_credited(reviewed):
    """Addresses lead below reserved domains; a subreddit with a dot in its name cannot be, and its authors get no address."""
    for row in read_jsonl(reviewed.data / "provenance.jsonl", Provenance):
        urls = [url for url in (row.url, *(author.url for author in row.authors)) if url is not None]
        hosts = {url.split("/")[2] for url in urls}
        if row.source == "valley tales":
            assert hosts == {"www.reddit.com"} and "/r/Tales.valley.example/" in str(row.url) and len(urls) == 1
        else:
            assert all(host.endswith("valley.example") for host in hosts), row
        assert row.licence != "unstated" and row.authors


@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_world_has_them_all(tmp_path, seed):
    write_dumps(tmp_path / "dumps", make_world(seed, 10))
    assert {path.name for path in (tmp_path / "dumps").iterdir()} == {
        "stackexchange", "wikihow", "reddit", "natural_instructions", "authored", "lima",
    }  # fmt: skip


def test_the_set_has_none_of_the_defects_that_lint_knows(reviewed):
    found = audit([reviewed.data / "train.jsonl", reviewed.data / "dev.jsonl", reviewed.data / "test.jsonl"])
    assert [(row, finding) for _, row, finding in found.findings] == []
