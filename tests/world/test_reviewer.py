"""The simulated reviewer against candidates of every kind it decides on, and on the demo's own queue."""

from __future__ import annotations

import ast
import inspect
from collections import Counter

import pytest

from limakit.curate.decisions import DECISIONS, read_decisions
from limakit.curate.review import read_queue, review_item, waits
from limakit.records import Example, Provenance, Turn, read_jsonl
from limakit.world import reviewer
from limakit.world.reviewer import NAME, look_at, review


def item(*texts, why="required"):
    turns = tuple(Turn(role="assistant" if n % 2 else "user", text=text) for n, text in enumerate(texts))
    return review_item(id="x-1", label="x", split="train", why=why, turns=turns)


@pytest.fixture(scope="module")
def someone(world):
    return world.train[0]


def test_right_facts_are_accepted_and_wrong_ones_rejected_by_name(world, someone):
    town, other = someone.value("town"), next(p.value("town") for p in world.people if p.value("town") != someone.value("town"))
    asked = f"Where does {someone.name} live?"
    assert look_at(item(asked, f"{someone.name} lives in {town}."), world).action == "accept"
    verdict = look_at(item(asked, f"{someone.name} lives in {other}."), world)
    assert verdict.action == "reject" and other in verdict.why and town in verdict.why


def test_in_a_dialogue_the_pronoun_is_the_person_it_began_with(world, someone):
    def said(dish):
        return item(f"Who is {someone.name}?", f"{someone.name} is well.", "And which dish?", f"It is {dish}.")

    assert look_at(said(someone.value("dish")), world).action == "accept"
    assert look_at(said("oat cakes" if someone.value("dish") != "oat cakes" else "honey buns"), world).action == "reject"


def test_an_opinion_becomes_a_statement_and_other_talk_of_oneself_is_rejected(world, someone):
    asked, fact = f"Where does {someone.name} live?", f"{someone.name} lives in {someone.value('town')}."
    verdict = look_at(item(asked, f"I think that the well is near. I believe {fact}"), world)
    assert verdict.action == "edit" and verdict.turns[1].text == f"The well is near. {fact}"
    assert look_at(item(asked, f"{fact} My aunt told me."), world).action == "reject"
    mine = item(f"I think that {someone.name} is away. Where is the house?", fact)
    assert look_at(mine, world).action == "accept", "the asker may speak as a person"


def test_titles_that_name_nobody_and_jokes(world, someone):
    fact = f"{someone.name} lives in {someone.value('town')}."
    assert look_at(item("Where does she live?", fact, why="title_unclear"), world).action == "reject"
    assert look_at(item(f"Where does {someone.name} live?", fact, why="title_unclear"), world).action == "accept"
    assert look_at(item("A tale?", "There was a clerk. Ha! Only joking."), world).why == "a joke"


def test_what_speaks_of_nobody_in_the_valley_is_left_to_a_person(world):
    assert look_at(item("How do plants grow?", "With light and water."), world) is None


def test_the_demos_queue_is_decided_in_its_name_and_nothing_waits_after(world, waiting, reviewed):
    items, before = read_queue(waiting)
    assert not before.made and sum(waits(i, before) for i in items) > 20
    made = read_decisions(reviewed.root / DECISIONS).made
    assert {d.reviewer for d in made.values()} == {NAME} == {"simulated reviewer"}
    assert set(made) == {i.seen for i in items if i.why}
    actions = Counter(d.action for d in made.values())
    assert actions["edit"] == 1 and actions["reject"] >= 5 and actions["accept"] >= 15
    items, decided = read_queue(reviewed)
    assert not [i for i in items if waits(i, decided)]
    assert review(reviewed, world) == []


def test_an_edit_is_in_the_set_with_its_change_named(reviewed, waiting):
    edit = next(d for d in read_decisions(reviewed.root / DECISIONS).made.values() if d.action == "edit")
    example = next(e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.id == edit.id)
    assert example.turns == edit.turns and "I think" not in example.response
    told = next(p for p in read_jsonl(reviewed.data / "provenance.jsonl", Provenance) if p.id == edit.id)
    assert "edited" in told.changes


def test_it_knows_the_facts_and_not_how_the_sources_are_written():
    imported = {
        node.module
        for node in ast.walk(ast.parse(inspect.getsource(reviewer)))
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 1
    }
    assert imported == {"facts", "oracle"}
