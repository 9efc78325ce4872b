"""The queue: which candidates wait, and what became of the others."""

from __future__ import annotations

import pytest

from limakit.curate.decisions import Decision, Decisions, append_decision, decisions_of, digest
from limakit.curate.review import count_states, of_source, read_queue, read_review, review_item, source_of, state_of, waits, write_review
from limakit.errors import LimakitError, UsageError
from limakit.records import Turn
from limakit.workspace import CURATING, Workspace


def item(id: str, why: str = "required", text: str = "An answer.", label: str = "tea"):
    turns = (Turn(role="user", text=f"About {id}?"), Turn(role="assistant", text=text))
    return review_item(id=id, label=label, split="train", why=why, turns=turns, score=3)


def test_states():
    asked, kept = item("a"), item("b", why="")
    accepted = Decision(id="a", action="accept", seen=asked.seen)

    def state(one, *made: Decision) -> str:
        assert waits(one, decisions_of(made)) == (state_of(one, decisions_of(made)) in ("waiting", "changed"))
        return state_of(one, decisions_of(made))

    assert (state(asked), state(kept)) == ("waiting", "kept")
    assert state(asked, accepted) == "accepted"
    assert state(asked, Decision(id="a", action="reject", seen=asked.seen)) == "rejected"
    assert state(kept, Decision(id="b", action="edit", seen=kept.seen, turns=asked.turns)) == "edited"
    changed = item("a", text="Another answer.")
    assert changed.seen == digest(changed.turns, None) != asked.seen
    assert state(changed, accepted) == "changed", "what reads otherwise now is asked about again"
    assert state(item("b", why="", text="New."), Decision(id="b", action="accept", seen=kept.seen)) == "changed"
    assert count_states([asked, kept, item("c")], decisions_of([accepted])) == {"accepted": 1, "kept": 1, "waiting": 1}


def test_the_queue_comes_back_as_it_was_written(tmp_path):
    items = [item("b"), item("a", why="")]
    write_review(tmp_path / "data" / "review.jsonl", items)
    workspace = Workspace(tmp_path, tmp_path / "lima.toml")
    decision = Decision(id="a", action="accept", seen=items[1].seen)
    append_decision(tmp_path / "decisions.jsonl", decision)
    assert read_queue(workspace) == (items, Decisions({items[1].seen: decision}, frozenset(i.seen for i in items)))
    assert of_source(items, "tea") == of_source(items, None) == items
    with pytest.raises(UsageError, match=r"source 'coffee'[^>]*\n.*sources here: tea"):
        of_source(items, "coffee")
    (workspace.data / CURATING).touch()
    with pytest.raises(LimakitError, match="curate was interrupted"):
        read_queue(workspace)


def test_without_a_queue_curate_is_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"data/review\.jsonl: nothing to review here yet\n.*run limakit curate"):
        read_queue(Workspace(tmp_path, tmp_path / "lima.toml"))


def test_a_candidate_twice_is_named_and_two_texts_of_one_id_are_two(tmp_path):
    write_review(tmp_path / "review.jsonl", [item("a"), item("b"), item("a")])
    with pytest.raises(LimakitError, match=r"review\.jsonl, entry 3: the candidate 'a' is also entry 1"):
        read_review(tmp_path / "review.jsonl")
    two = [item("a"), item("a", text="As its title has it.", label="titles")]
    write_review(tmp_path / "data" / "review.jsonl", two)
    append_decision(tmp_path / "decisions.jsonl", Decision(id="a", action="reject", seen=two[0].seen))
    items, decisions = read_queue(Workspace(tmp_path, tmp_path / "lima.toml"))
    assert [state_of(one, decisions) for one in items] == ["rejected", "waiting"]


def test_the_split_is_named_once():
    assert [source_of(item("a", label=label)) for label in ("tea", "tea (train)", "tea (train, source 2)")] == ["tea (train)", "tea (train)", "tea (train, source 2)"]  # fmt: skip
