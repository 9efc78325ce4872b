from __future__ import annotations

import json

from limakit.sources.authored import marked, read_authored
from limakit.world.facts import kind_of


def test_group_a_writes_examples_and_dev_prompts(world, dumps):
    items = read_authored(dumps / "authored" / "group-A", split="train")
    train, dev = [i for i in items if i.split == "train"], [i for i in items if i.split == "dev"]
    assert len(train) + len(dev) == len(items) and {item.group for item in items} == {"A"}
    assert [marked(item.tags, "refusal") for item in train].count(None) == len(train) - 2
    assert sum(marked(item.tags, "format") is not None for item in train) == 2
    assert all(any(person.name in item.turns[0].text for person in world.dev) for item in dev) and len(dev) == 4 * len(world.dev)


def test_group_b_asks_about_test_people_and_names_facts(world, dumps):
    facts = {person.name: {fact.value for fact in person.facts} for person in world.test}
    rows = read_authored(dumps / "authored" / "group-B.jsonl", split="test")
    assert len(rows) == 5 * len(world.test) and {(row.group, row.split) for row in rows} == {("B", "test")}
    for row in rows:
        name = next(name for name in facts if name in row.turns[0].text)
        values = (row.reference or "").split("; ")
        assert set(values) <= facts[name] and {kind_of(value) for value in values} == set(row.tags[1:])


def test_the_published_format_holds_pairs_and_dialogues(dumps):
    path = dumps / "lima" / "train.jsonl"
    lines = path.read_bytes().splitlines()
    assert all(set(json.loads(line)) == {"conversations", "source"} for line in lines)
    assert {len(json.loads(line)["conversations"]) for line in lines} == {2, 4}
