from __future__ import annotations

import json

from limakit.records import Example, read_jsonl


def test_three_tasks_ask_for_text_and_one_for_a_label(fates, reviewed, world):
    found = fates["valley tasks"]
    assert [(row["status"], row["reason"]) for row in found.values()] == [("kept", None)] * 3 + [("dropped", "not_generation")]
    taken = [e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.source == "valley tasks"]
    assert [e.tags for e in taken] == [("Data to Text",), ("Title Generation",), ("Paraphrasing",)]
    for example in taken:
        person = next(person for person in world.train if person.name in example.prompt)
        assert any(fact.value in example.response for fact in person.facts)
        assert "In this task" not in example.prompt


def test_the_files_differ_as_the_real_ones_do(dumps):
    tasks = [json.loads(path.read_text()) for path in sorted((dumps / "natural_instructions").iterdir())]
    assert {type(task["Definition"]) for task in tasks} == {str, list}
    assert {"id" in task["Instances"][0] for task in tasks} == {True, False}
    assert {"Input_language" in task for task in tasks} == {True, False}
