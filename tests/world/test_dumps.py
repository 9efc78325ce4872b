from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from limakit.curate.candidates import stackexchange_candidates
from limakit.recipe_sources import StackExchangeSource
from limakit.sources.authored import read_authored
from limakit.sources.lima import read_lima
from limakit.workspace import sha256_tree
from limakit.world.dumps import COMMUNITIES, write_dumps
from limakit.world.facts import World, kind_of, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(7)


@pytest.fixture(scope="module")
def dumps(world: World, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dumps")
    write_dumps(folder, world)
    return folder


def test_equal_seeds_give_equal_bytes(world, dumps, tmp_path):
    write_dumps(tmp_path / "again", world)
    write_dumps(tmp_path / "other", make_world(8))
    assert sha256_tree(tmp_path / "again") == sha256_tree(dumps) != sha256_tree(tmp_path / "other")


def test_nobody_of_the_test_or_dev_prompts_is_spoken_of_in_a_training_source(world, dumps):
    training = [*(dumps / "stackexchange").rglob("*.xml"), *(dumps / "authored" / "train").glob("*.md"), dumps / "lima" / "train.jsonl"]
    text = "\n".join(path.read_text(encoding="utf-8-sig") for path in training)
    assert len(training) == 3 + 1 + 8 + 1
    held_out = [word for person in world.test + world.dev for word in (person.name, person.given)]
    assert not [word for word in held_out if re.search(rf"\b{word}\b", text)]
    assert all(re.search(rf"\b{person.name}\b", text) for person in world.train)  # the scan does find people


def test_test_prompts_ask_about_test_people_and_name_facts(world, dumps):
    facts = {person.name: {fact.value for fact in person.facts} for person in world.test}
    rows = read_authored(dumps / "authored" / "test.jsonl", train=False)
    assert len(rows) == 5 * len(world.test)
    for row in rows:
        name = next(name for name in facts if name in row.turns[0].text)
        values = (row.reference or "").split("; ")
        assert set(values) <= facts[name] and {kind_of(value) for value in values} == set(row.tags[1:])
    dev = read_authored(dumps / "authored" / "dev.jsonl", train=False)
    assert all(any(person.name in row.turns[0].text for person in world.dev) for row in dev) and len(dev) == 4 * len(world.dev)


def rows_of(dumps: Path, name: str) -> list[dict[str, str]]:
    return [dict(row.attrib) for row in ET.parse(dumps / "stackexchange" / name / "Posts.xml").getroot()]


@pytest.mark.parametrize("community", COMMUNITIES, ids=lambda c: c.name)
def test_posts_are_xml_in_the_form_of_real_dumps(dumps, community):
    data = (dumps / "stackexchange" / community.name / "Posts.xml").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") == community.bom
    assert (b"\r\n" in data) == (community.newline == "\r\n") and data.count(b"\n") > 400
    rows = rows_of(dumps, community.name)
    ids = [int(row["Id"]) for row in rows if int(row["Id"]) < 1e9]
    assert len(ids) == len(set(ids)) and (ids == sorted(ids)) == (not community.answers_first)
    assert all(("ContentLicense" in row) == community.licence for row in rows)
    assert {row["PostTypeId"] for row in rows} == {"1", "2", "4", "5", "6", "7"}
    tags = {row["Tags"][0] for row in rows if "Tags" in row and row["Tags"] != "<fake>"}
    assert tags == ({"|"} if community.bar_tags else {"<"})


def test_the_traps_are_there(dumps):
    rows = [row for community in COMMUNITIES for row in rows_of(dumps, community.name)]
    answers = [row for row in rows if row["PostTypeId"] == "2"]
    questions = {row["Id"] for row in rows if row["PostTypeId"] == "1"}
    bodies = [row["Body"] for row in answers]
    assert {"1000000001", "1000000010"} <= {row["Id"] for row in rows}
    assert [row for row in rows if "OwnerDisplayName" in row and "OwnerUserId" not in row]
    assert [row for row in rows if row.get("OwnerUserId") == "-1"]
    assert [row for row in answers if row["ParentId"] not in questions]
    assert {row["Score"] for row in answers} >= {"9", "100"} and min(int(row["Score"]) for row in answers) < 0
    assert [row for row in rows if "Title" in row and row["PostTypeId"] == "5"]
    for sign in ("I think", "As mentioned", "this site", "Me too!", "<img", "<a href", "<!--"):
        assert any(sign in body for body in bodies), sign
    assert "" in bodies and any("\u2028" in row["Body"] for row in rows)


def test_of_every_trap_nothing_survives_the_real_reader(world, dumps):
    source = StackExchangeSource(kind="stackexchange", path="x", take=1, answer_chars=(30, 200), sites=[c.name for c in COMMUNITIES])
    candidates, sizes = stackexchange_candidates(source, dumps / "stackexchange", seed=7)
    assert set(sizes) == {community.name for community in COMMUNITIES}
    reasons = {c.reason for c in candidates}
    wanted = {
        "no_answer",
        "score_too_low",
        "first_person",
        "cites_other_answers",
        "names_site",
        "too_short",
        "too_long",
        "empty",
        "planted",
    }
    assert reasons == wanted | {None}
    kept = [c for c in candidates if c.reason is None]
    assert len(kept) > 600
    facts = {person.name: {fact.value for fact in person.facts} for person in world.train}
    for candidate in kept:
        prompt, response = (turn.text for turn in candidate.turns)
        name = next(name for name in facts if name in prompt)
        assert name in response and any(re.search(rf"\b{value}\b", response) for value in facts[name]), (prompt, response)
        assert "<" not in response and "http" not in response and "Surely" not in response


def test_the_published_format_and_the_hand_written_are_read(dumps):
    rows = list(read_lima(dumps / "lima" / "train.jsonl"))
    assert {len(turns) for _, _, turns in rows} == {2, 4}
    hand_written = read_authored(dumps / "authored" / "train", train=True)
    assert len(hand_written) == 8 and sum("refusal" in item.part for item in hand_written) == 2


def test_jsonl_is_one_object_a_line(dumps):
    for path in dumps.rglob("*.jsonl"):
        assert all(isinstance(json.loads(line), dict) for line in path.read_bytes().splitlines())
