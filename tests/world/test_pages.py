from __future__ import annotations

import json
from collections import Counter

from limakit.records import Example, read_jsonl
from limakit.world.pages import PAGES


def test_articles_and_rows_that_are_none_meet_their_fates(fates, dumps):
    found = fates["valley howto"].values()
    outcomes = Counter(row["reason"] or row["status"] for row in found)
    assert outcomes == {"kept": 8, "not_drawn": 4, "malformed": 1, "no_steps": 1, "this_article": 1, "duplicate_title": 1}
    assert {row["stratum"] for row in found if row["reason"] is None} == set(PAGES)
    kept = Counter(row["stratum"] for row in found if row["status"] == "kept")
    assert max(kept.values()) - min(kept.values()) <= 2 or len(kept) == len(PAGES)
    good = [line for line in (dumps / "wikihow" / "articles.jsonl").read_bytes().split(b"\n") if line.endswith(b"}")]
    assert all({"goal", "goal_description", "category_hierarchy", "methods"} <= set(json.loads(line)) for line in good)


def test_pages_lose_what_is_not_their_text(reviewed):
    pages = [e for e in read_jsonl(reviewed.data / "train.jsonl", Example) if e.source == "valley howto"]
    for page in pages:
        assert page.prompt.startswith("How to ") and page.prompt.endswith("?")
        assert page.response.startswith(("The following answer", "In the following answer")) and "\n1. **" in page.response
        assert not any(sign in page.response for sign in ("<", "http", "[1]", "This ", "wikiHow", "Tips", "Please close"))
