from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from limakit.records import Example, read_jsonl
from limakit.world.forum import COMMUNITIES


def rows_of(dumps, name, table="Posts"):
    return [dict(row.attrib) for row in ET.parse(dumps / "stackexchange" / name / f"{table}.xml").getroot()]


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
    tags = {row["Tags"][0] for row in rows if "Tags" in row and row["Tags"] not in ("<fake>", "<fish>")}
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
    assert [row for row in rows if "Title" in row and row["PostTypeId"] == "5"] and [row for row in rows if row["Score"] == "many"]
    for sign in ("I think", "As mentioned", "this site", "Me too!", "<img", "<a href", "<!--"):
        assert any(sign in body for body in bodies), sign
    assert "" in bodies and any("\u2028" in row["Body"] for row in rows)


def test_of_every_trap_nothing_survives_the_real_reader(world, fates, reviewed):
    found = fates["valley forum"]
    assert {row["id"].rpartition("-")[0].partition("@")[0] for row in found.values()} >= {c.name for c in COMMUNITIES}
    assert {row["reason"] for row in found.values()} >= {
        "no_answer", "score_too_low", "first_person", "cites_other_answers", "names_site", "too_short", "too_long", "empty", "planted",
        "malformed", "rejected",
    }  # fmt: skip
    facts = {person.name: {fact.value for fact in person.facts} for person in world.train}
    kept = [e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.source == "valley forum"]
    for example in kept:
        name = next(name for name in facts if name in example.prompt)
        assert name in example.response and any(re.search(rf"\b{value}\b", example.response) for value in facts[name])
        assert not re.search("<|http|Surely", example.response)


def test_comments_come_as_chains_with_what_gets_between(world, dumps, fates, reviewed):
    name = COMMUNITIES[0].name
    posts = {row["Id"]: row for row in rows_of(dumps, name)}
    comments = rows_of(dumps, name, "Comments")
    assert [int(row["Id"]) for row in comments] == list(range(len(comments), 0, -1))
    assert [row for row in comments if "UserId" not in row] and [row for row in comments if row["Text"].startswith("@")]
    speakers = {(row["PostId"], row.get("UserId")) for row in comments}
    both = [post for post in posts.values() if {(post["Id"], post.get("OwnerUserId"))} <= speakers]
    assert len(both) >= 13  # answerers who went on under their answer
    outcomes = Counter(row["reason"] or row["status"] for row in fates["valley talks"].values())
    assert outcomes == outcomes | {"kept": 10, "not_drawn": 1, "rejected": 2} and outcomes["no_comments"] > 500
    talks = [e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.source == "valley talks"]
    facts = {person.name: person for person in world.train}
    for talk in talks:
        person = next(facts[name] for name in facts if name in talk.prompt)
        assert len(talk.turns) == 4 and "@" not in talk.response
        assert all(any(fact.value in turn.text for fact in person.facts) for turn in talk.turns if turn.role == "assistant")
