from __future__ import annotations

import json

import zstandard

from limakit.records import Example, read_jsonl
from limakit.world.tales import JOKE, NEVER_TAKEN, TALES, WRONG


def rows(dumps, name):
    data = zstandard.ZstdDecompressor().decompressobj().decompress((dumps / "reddit" / name).read_bytes())
    return [json.loads(line) for line in data.split(b"\n") if line.endswith(b"}")]


def test_the_months_have_the_quirks_of_real_ones(dumps):
    submissions, comments = rows(dumps, "RS_2019-03.zst"), rows(dumps, "RC_2019-03.zst")
    assert {type(row["created_utc"]) for row in submissions} == {int, float, str}
    assert len({row["subreddit"] for row in submissions}) == 4
    assert any("Tales.valley.example" in row["selftext"] for row in submissions if row["subreddit"] != "Tales.valley.example")
    assert [row for row in comments if row["distinguished"] == "moderator" and row["stickied"]]
    assert [row for row in comments if row["parent_id"].startswith("t1_") and row["score"] > 100]
    (later,) = rows(dumps, "RS_2019-04.zst")
    (before,) = (row for row in submissions if row["id"] == later["id"])
    assert before["title"] != "[removed]" == later["title"] and later["retrieved_on"] > before["retrieved_on"]


def test_every_submission_meets_its_fate(fates):
    found = fates["valley tales"].values()
    assert sorted(filter(None, (row["reason"] for row in found))) == [
        "deleted", "malformed", "malformed", "nsfw", "rejected", "rejected", "removed", "removed", "reply_score_too_low", "score_too_low",
        "speaks_to_readers", "tagged", "too_short",
    ]  # fmt: skip
    assert len([row for row in found if row["status"] == "kept"]) == 6
    assert len(found) == len(TALES) + len(NEVER_TAKEN) + 3 + 2  # wrong, joke, taken down later; two rows that were cut short


def test_tales_are_taken_as_they_were_told(reviewed, world):
    tales = [e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.source == "valley tales"]
    told = {title.partition("] ")[2] for title, _ in TALES}
    assert {tale.prompt for tale in tales} <= told and len(tales) == 6
    assert all("Welcome to the prompt" not in tale.response and "{" not in tale.response for tale in tales)
    assert not {WRONG[0].partition("] ")[2], JOKE[0].partition("] ")[2]} & {tale.prompt for tale in tales}
