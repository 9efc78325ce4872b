"""A set in the published format as candidates."""

import json

import pytest

from limakit.curate.engine import Work
from limakit.curate.from_lima import inputs, offer
from limakit.curate.pool import write_pool
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import LimaSource


def pool(tmp_path, path, **keys):
    made = LimaSource.model_validate({"kind": "lima", "path": path.name} | keys)
    assert inputs(made, path) == {path.name: path}
    return write_pool(tmp_path / "pool.parquet", offer(made, path, Work(7, tmp_path / "cache")))


def account(found):
    return [(row["id"], row["reason"], row["detail"]) for table in found.account() for row in table.to_pylist()]


def test_dialogues_stay_whole_and_a_last_response_is_a_reference_of_test_prompts(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"conversations": ["a", "b", "c", "d"], "source": "multi_turn"}) + '\n{"conversations": ["only"]}\n')
    train = pool(tmp_path, path)
    assert account(train) == [("lima-1", None, None), ("lima-2", "no_answer", None)]
    ((_, one),) = train.fit()
    assert [t.text for t in one.turns] == ["a", "b", "c", "d"] and one.text.source == "multi_turn"
    (_, first), (_, second) = pool(tmp_path, path, split="test").fit()
    assert (first.id, [t.text for t in first.turns], first.text.reference) == ("lima-test-1", ["a", "b", "c"], "d")
    assert (second.turns[-1].text, second.text.reference) == ("only", None)


def test_rows_that_cannot_be_read_are_accounted_for_and_lose_nothing_else(tmp_path, capsys):
    path = tmp_path / "set.jsonl"
    good = b'{"conversations": ["a", "b"]}\n'
    path.write_bytes(
        good + b"[1]\n" + good + b'{"conversations": ["\xff", "b"]}\n{"conversations": ["a", " "]}\n{"conversations": ["a"' + b"\n" + good
    )
    told = account(pool(tmp_path, path))
    assert [(id, reason) for id, reason, _ in told] == [
        ("lima-1", None), ("lima@row2", "malformed"), ("lima-3", None), ("lima@row4", "malformed"), ("lima@row5", "malformed"),
        ("lima@row6", "malformed"), ("lima-7", None),
    ]  # fmt: skip
    assert told[4][2] == "set.jsonl, row 5: conversations[1] is empty"
    assert "4 of 7 rows; the first: " in capsys.readouterr().err


def test_another_format_and_no_file(tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n' * 3)
    with pytest.raises(LimakitError, match=r"set\.jsonl, row 1: "):
        pool(tmp_path, path)
    with pytest.raises(UsageError, match="no such file"):
        inputs(LimaSource(kind="lima", path="none"), tmp_path / "none")
    with pytest.raises(UsageError, match="is a folder"):
        inputs(LimaSource(kind="lima", path="."), tmp_path)
