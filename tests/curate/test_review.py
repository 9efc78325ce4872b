"""The queue: which candidates wait, and what became of the others."""

from __future__ import annotations

import pytest

from limakit.curate.decisions import Decision, append_decision, digest
from limakit.curate.review import count_states, of_source, read_queue, read_review, review_item, state_of, waits, write_review
from limakit.errors import LimakitError, UsageError
from limakit.records import Turn
from limakit.workspace import CURATING, Workspace


def item(id: str, why: str = "required", text: str = "An answer.", label: str = "tea"):
    turns = (Turn(role="user", text=f"About {id}?"), Turn(role="assistant", text=text))
    return review_item(id=id, label=label, split="train", why=why, turns=turns, score=3)


def test_states():
    asked, kept = item("a"), item("b", why="")
    accepted = Decision(id="a", action="accept", seen=asked.seen)
    assert (state_of(asked, None), state_of(kept, None)) == ("waiting", "kept")
    assert state_of(asked, accepted) == "accepted" and not waits(asked, accepted)
    assert state_of(asked, Decision(id="a", action="reject", seen=asked.seen)) == "rejected"
    assert state_of(asked, Decision(id="a", action="edit", seen=asked.seen, turns=asked.turns)) == "edited"
    changed = item("a", text="Another answer.")
    assert changed.seen == digest(changed.turns, None) != asked.seen
    assert state_of(changed, accepted) == "changed" and waits(changed, accepted), "what reads otherwise now is asked about again"
    assert state_of(item("b", why="", text="New."), Decision(id="b", action="accept", seen=kept.seen)) == "changed"
    assert count_states([asked, kept, item("c")], {"a": accepted}) == {"accepted": 1, "kept": 1, "waiting": 1}


def test_the_queue_comes_back_as_it_was_written(tmp_path):
    items = [item("b"), item("a", why="")]
    write_review(tmp_path / "data" / "review.jsonl", items)
    workspace = Workspace(tmp_path, tmp_path / "lima.toml")
    decision = Decision(id="a", action="accept", seen=items[1].seen)
    append_decision(tmp_path / "decisions.jsonl", decision)
    assert read_queue(workspace) == (items, {"a": decision})
    assert of_source(items, "tea") == of_source(items, None) == items
    with pytest.raises(UsageError, match=r"source 'coffee'[^>]*\n.*sources here: tea"):
        of_source(items, "coffee")
    (workspace.data / CURATING).touch()
    with pytest.raises(LimakitError, match="curate was interrupted"):
        read_queue(workspace)


def test_without_a_queue_curate_is_the_remedy(tmp_path):
    with pytest.raises(UsageError, match=r"data/review\.jsonl: nothing to review here yet\n.*run limakit curate"):
        read_queue(Workspace(tmp_path, tmp_path / "lima.toml"))


def test_an_id_twice_is_named(tmp_path):
    write_review(tmp_path / "review.jsonl", [item("a"), item("b"), item("a")])
    with pytest.raises(LimakitError, match=r"review\.jsonl, entry 3: the id 'a' is also that of entry 1"):
        read_review(tmp_path / "review.jsonl")
