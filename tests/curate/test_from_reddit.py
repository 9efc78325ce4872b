"""A subreddit's submissions with their best replies, or their titles: who is chosen, what is dropped and why, each accounted for."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from reddit import STORY, comment, submission, write_zst

from limakit.curate import reddit_rows
from limakit.curate.candidate import Candidate, Text
from limakit.curate.engine import Work
from limakit.curate.from_reddit import inputs, offer
from limakit.curate.pool import SCHEMA, write_pool
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import RedditSource


def pairs(**settings) -> RedditSource:
    settings = {
        "kind": "reddit",
        "path": "dumps",
        "subreddit": "writingprompts",
        "use": "pairs",
        "take": 3,
        "response_chars": (200, 2000),
    } | settings
    return RedditSource(**settings)


def titles(**settings) -> RedditSource:
    return pairs(**{"use": "titles", "split": "test", "subreddit": "AskReddit"} | settings)


def offered(source: RedditSource, path: Path, cache: Path) -> list[Candidate]:
    inputs(source, path)
    tables = [pa.Table.from_batches([batch]) for batch in offer(source, path, Work(7, cache))]
    assert all(table.schema == SCHEMA for table in tables)
    rows = pa.concat_tables(tables).to_pylist()
    return [
        Candidate(**row | {"detail": row["detail"] or "", "text": row["text"] and Text.model_validate_json(row["text"])}) for row in rows
    ]


def fates(source: RedditSource, posts: list, comments: list, folder: Path) -> dict[str, str | None]:
    write_zst(folder / "RS_2014-05.zst", posts)
    write_zst(folder / "RC_2014-05.zst", comments)
    return {c.id.removeprefix("reddit-"): c.reason for c in offered(source, folder, folder.parent / "cache")}


@pytest.fixture
def dumps(tmp_path) -> Path:
    return tmp_path / "dumps"


def test_a_pair_with_all_that_is_named_with_it(dumps):
    post = submission(
        "1kf52m", "[WP] A keeper&#39;s daughter &amp; her lamp", 635, selftext="Begin &amp;amp; end at sea.", author="some_one"
    )
    reply = comment("cbofj2x", "1kf52m", STORY + "\n\n[link](http://x.y)", 40, author="a-writer")
    write_zst(dumps / "RS_2013-08.zst", [post])
    write_zst(dumps / "RC_2013-08.zst", [reply])
    (found,) = offered(pairs(licence="as its authors say"), dumps, dumps.parent / "cache")
    assert (found.id, found.stratum, found.score, found.answer_score) == ("reddit-1kf52m", "WritingPrompts", 635, 40)
    assert (found.reason, found.review) == (None, "required")
    assert found.url == "https://www.reddit.com/r/WritingPrompts/comments/1kf52m/"
    assert [turn.role for turn in found.turns] == ["user", "assistant"]
    assert found.turns[0].text == "A keeper&#39;s daughter & her lamp\n\nBegin & end at sea."
    assert found.turns[1].text == STORY + "\n\nlink"
    assert found.response_chars == len(found.turns[1].text)
    provenance = found.text.provenance
    assert provenance.url == "https://www.reddit.com/r/WritingPrompts/comments/1kf52m/_/cbofj2x/"
    assert [(a.name, a.url, a.wrote) for a in provenance.authors] == [
        ("u/some_one", "https://www.reddit.com/user/some_one/", "prompt"),
        ("u/a-writer", "https://www.reddit.com/user/a-writer/", "reply"),
    ]
    assert provenance.licence == "as its authors say" and provenance.source == "reddit-writingprompts"
    assert "tags removed" in provenance.changes and "links" in provenance.changes
    assert provenance.title.startswith("[WP] A keeper")


def test_a_pair_for_the_test_set_has_its_reply_as_the_reference(dumps):
    write_zst(dumps / "RS_2013-08.zst", [submission("a1", "[WP] A lamp that never goes out")])
    write_zst(dumps / "RC_2013-08.zst", [comment("c1", "a1")])
    (found,) = offered(pairs(split="test"), dumps, dumps.parent / "cache")
    assert [turn.role for turn in found.turns] == ["user"] and found.text.reference == STORY


def test_the_best_reply_that_stands_is_chosen_before_anything_is_filtered(dumps):
    posts = [submission(id, "[WP] A lamp that never goes out") for id in ("a1", "a2", "a3", "a4", "a5", "a6")]
    said = fates(
        pairs(),
        posts,
        [
            comment("c1", "a1", STORY + " one", 90, created_utc=30),
            comment("c2", "a1", STORY + " two", 90, created_utc=20.0),  # earlier
            comment("c3", "a1", "[removed]", 500),
            comment("c4", "a1", STORY, 400, distinguished="moderator"),
            comment("c5", "a1", STORY, 400, parent_id="t1_c1"),  # not to the submission
            comment("c6", "a2", "Short and loved.", 90),  # the best is too short: a longer one does not take its place
            comment("c7", "a2", STORY, 80),
            comment("c8", "a3", STORY, 9),
            comment("c9", "a4", "[deleted]", 50),
            comment("ca", "a5", STORY, None),
            comment("cb", "a6", STORY + "\n\nThanks for reading!", 20),
            comment("cc", "zz", STORY, 20),  # of another month's submission
        ],
        dumps,
    )
    assert said == {
        "a1": None,
        "a2": "too_short",
        "a3": "reply_score_too_low",
        "a4": "no_reply",
        "a5": "no_reply",
        "a6": "speaks_to_readers",
    }
    best = next(c for c in offered(pairs(), dumps, dumps.parent / "cache") if c.id == "reddit-a1")
    assert best.turns[1].text == STORY + " two"


def test_every_submission_has_a_fate(dumps):
    good = "[WP] A lamp that never goes out"
    posts = [
        submission("b1", good, 9),
        submission("b2", good, None),
        submission("b3", good, over_18=True),
        submission("b4", good, selftext="[deleted]"),
        submission("b5", good, removed_by_category="moderator"),
        submission("b6", "[IP] A lamp", url="http://i.imgur.com/x.png"),
        submission("b7", "[WP] http://i.imgur.com/x.png describe"),
        submission("b8", "[WP] !!! ..."),
        submission("b9", "[WP] Lamp"),
        submission("ba", good, selftext="x" * 3000),
        submission("bb", "[NSFW][WP] " + good),
        submission("bc", good, selftext="Edit: front page, thanks!"),
        submission("bd", good, crosspost_parent="t3_x"),
        submission("be", "Weekly thread", stickied=True),
        submission("bf", good, subreddit="books"),  # another subreddit's: no candidate
        submission("bg", good, subreddit="WRITINGPROMPTS"),
    ]
    said = fates(pairs(), posts, [comment(f"c{n}", post["id"]) for n, post in enumerate(posts)], dumps)
    assert said == {
        "b1": "score_too_low",
        "b2": "score_unknown",
        "b3": "nsfw",
        "b4": "deleted",
        "b5": "removed",
        "b6": "tagged",
        "b7": "prompt_has_link",
        "b8": "empty_prompt",
        "b9": "prompt_too_short",
        "ba": "prompt_too_long",
        "bb": "nsfw",
        "bc": "speaks_to_readers",
        "bd": "crosspost",
        "be": "moderator",
        "bg": None,
    }
    adult = {c.id: c for c in offered(pairs(allow_nsfw=True), dumps, dumps.parent / "cache")}
    assert adult["reddit-b3"].reason is None and adult["reddit-bb"].turns[0].text == "A lamp that never goes out"


def test_the_last_retrieved_version_holds(dumps):
    good = "[WP] A lamp that never goes out"
    write_zst(
        dumps / "RS_2014-05.zst",
        [
            submission("a1", good, retrieved_on=10),
            submission("a2", good, retrieved_on=30),
            submission("a2", good, retrieved_on=20, author="[deleted]", selftext="[deleted]"),  # there again, or an older look
            submission("a3", good, retrieved_on=None),
            submission("a3", good, retrieved_on=None, selftext="[removed]"),
            submission("a4", good, 5, retrieved_on=10),
        ],
    )
    write_zst(
        dumps / "writingprompts_submissions.zst",
        [
            submission("a1", good, retrieved_on=10, _meta={"retrieved_2nd_on": 40, "was_deleted_later": True}),
            submission("a4", good, 70, retrieved_on=20),
        ],
    )
    write_zst(
        dumps / "RC_2014-05.zst",
        [comment("c2", "a2", score=90), comment("c3", "a2", STORY + " second", 50), comment("c4", "a4"), comment("c1", "a1")],
    )
    write_zst(dumps / "WritingPrompts_comments.zst", [comment("c2", "a2", "[removed]", 90, retrieved_on=1500000000)])
    found = {c.id.removeprefix("reddit-"): c for c in offered(pairs(), dumps, dumps.parent / "cache")}
    assert {id: c.reason for id, c in found.items()} == {"a1": "deleted", "a2": None, "a3": "removed", "a4": None}
    assert found["a2"].turns[1].text == STORY + " second"
    assert found["a4"].score == 70


def test_a_version_that_says_gone_and_not_when_it_was_looked_at_holds(dumps):
    """However late the other was retrieved, and however little the row that is left says."""
    good = "[WP] A lamp that never goes out"
    posts = [submission(id, good, retrieved_on=1500000000) for id in ("a1", "a2", "a3", "a4")]
    write_zst(dumps / "RS_2014-05.zst", [*posts, submission("a1", None, author=None, selftext=None, retrieved_on=None)])
    gone = {"retrieved_on": None}
    write_zst(
        dumps / "RC_2014-05.zst",
        [
            comment("c1", "a1"),
            *(comment(f"c{n}", f"a{n}", retrieved_on=1500000000) for n in (2, 3, 4)),
            comment("c2", "a2", None, author="[deleted]", **gone),
            comment("c3", "a3", "[removed]", **gone) | {"link_id": None, "parent_id": None},
        ],
    )
    found = {c.id.removeprefix("reddit-"): c.reason for c in offered(pairs(), dumps, dumps.parent / "cache")}
    assert found == {"a1": "deleted", "a2": "no_reply", "a3": "no_reply", "a4": None}


def test_of_two_versions_as_old_and_as_good_the_files_order_does_not_decide(dumps, tmp_path):
    posts = [submission("a1", f"[WP] A lamp of {what} that never goes out") for what in ("brass", "glass")]
    replies = [comment("c1", "a1", STORY + what) for what in (" Here.", " There.")]
    found = []
    for name, step in (("one", 1), ("two", -1)):
        write_zst(tmp_path / name / "RS_2014-05.zst", posts[::step])
        write_zst(tmp_path / name / "RC_2014-05.zst", replies[::step])
        found.append(offered(pairs(), tmp_path / name, tmp_path / "cache"))
    assert found[0] == found[1] and found[0][0].reason is None


def test_every_line_of_a_subreddits_own_file_has_a_fate(dumps):
    good = submission("a1", "[WP] A lamp that never goes out")
    lines = [
        good,
        b'{"id":"a2","title":"cut be',
        b"\0" * 300,
        b" ",
        b'{"id":"a3","title":"whose?"}',
        good | {"id": "a4", "subreddit": "books"},
    ]
    write_zst(dumps / "WritingPrompts_submissions.ndjson.ZST", lines)
    found = offered(titles(subreddit="WritingPrompts"), dumps, dumps.parent / "cache")
    assert [c.reason for c in found if c.reason == "malformed"] == ["malformed"] * 3
    assert len(found) == 4 and "subreddit is None" in found[3].detail


def test_files_in_another_form_are_named(dumps, capsys):
    write_zst(dumps / "RS_2014-05.zst", [submission("a1", "x")])
    for name in (
        "RS_2014-06.bz2",
        "RS_2014-07",
        "writingprompts_posts.jsonl.xz",
        "books_posts.bz2",
        "RC_2014-06.xz",
        "RS_2014-08.zst.part",
    ):
        (dumps / name).touch()
    assert list(inputs(titles(subreddit="WritingPrompts"), dumps)) == ["RS_2014-05.zst"]
    told = capsys.readouterr().err
    assert "4 files, such as RS_2014-06.bz2, RS_2014-07, RS_2014-08.zst.part" in told and told.count("\n") == 1
    (dumps / "RS_2014-05.zst").unlink()
    with pytest.raises(UsageError, match=r"no dump of r/WritingPrompts's submissions here in a form that is read, but RS_2014-06\.bz2"):
        inputs(titles(subreddit="WritingPrompts"), dumps)


def test_order_is_by_score_and_id_whatever_the_files_order(dumps, tmp_path):
    draw = random.Random(1)
    posts = [submission(format(n + 40, "x"), f"[WP] Lamp number {n} never goes out", draw.randrange(5, 30)) for n in range(60)]
    comments = [comment(f"c{n}", post["id"]) for n, post in enumerate(posts)]
    write_zst(dumps / "RS_2014-05.zst", posts)
    write_zst(dumps / "RC_2014-05.zst", comments)
    first = offered(pairs(), dumps, tmp_path / "cache")
    assert [(-c.score, int(c.id[7:], 36)) for c in first] == sorted((-p["score"], int(p["id"], 36)) for p in posts)
    other = tmp_path / "other"
    draw.shuffle(posts)
    draw.shuffle(comments)
    write_zst(other / "RS_2014-05.zst", posts[:30], frames=3)
    write_zst(other / "RS_2014-06.zst", posts[30:])
    write_zst(other / "RC_2014-05.zst", comments[:7])
    write_zst(other / "RC_2014-06.zst", comments[7:], frames=2)
    assert offered(pairs(), other, tmp_path / "cache") == first
    a = write_pool(tmp_path / "a.parquet", offer(pairs(), dumps, Work(7, tmp_path / "cache")))
    b = write_pool(tmp_path / "b.parquet", offer(pairs(), other, Work(7, tmp_path / "cache2")))
    assert a.path.read_bytes() == b.path.read_bytes()


@pytest.mark.parametrize("budget", [0, 600])
def test_texts_beyond_the_budget_are_fetched_when_they_are_chosen(dumps, tmp_path, monkeypatch, budget):
    draw = random.Random(2)
    posts = [submission(format(n + 40, "x"), f"[WP] Lamp number {n} never goes out", 20) for n in range(50)]
    comments = [
        comment(f"c{n}{m}", post["id"], STORY + str(draw.random()), draw.randrange(5, 60)) for n, post in enumerate(posts) for m in range(4)
    ]
    draw.shuffle(comments)
    write_zst(dumps / "RS_2014-05.zst", posts)
    write_zst(dumps / "RC_2014-05.zst", comments[:100])
    write_zst(dumps / "RC_2014-06.zst", comments[100:])
    expected = offered(pairs(), dumps, tmp_path / "cache")
    assert sum(c.reason is None for c in expected) > 40
    monkeypatch.setattr("limakit.curate.reddit_rows.BUDGET", budget)
    monkeypatch.setattr("limakit.curate.reddit_rows.PACK_ROWS", 10)
    calls = []
    fetch = reddit_rows.fetch_rows
    monkeypatch.setattr("limakit.curate.reddit_rows.fetch_rows", fetch)
    real = Work.run

    def run(self, function, tasks, label):
        calls.append((function.__name__, len(tasks)))
        return real(self, function, tasks, label)

    monkeypatch.setattr(Work, "run", run)
    assert offered(pairs(), dumps, tmp_path / "cache2") == expected
    assert ("fetch_rows", 2) in calls  # of the comments' two files


def test_damaged_rows_are_named_and_nothing_else_is_lost(dumps):
    good = "[WP] A lamp that never goes out"
    before = orjson.dumps(submission("a1", good)) + b"\n"
    broken = b'{"subreddit":"WritingPrompts","id":"a2","title":'
    write_zst(
        dumps / "sub" / "RS_2014-05.zst",
        [
            before[:-1],
            broken,
            orjson.dumps(submission("a3", good)).replace(b"never", b"nev\xffr"),
            submission("a4", good, "many"),
            submission("a5", None),
            b'{"subreddit":"books","id":',  # nobody knows whose, and nothing says ours
            submission("a6", good),
        ],
    )
    write_zst(dumps / "RC_2014-05.zst", [comment("c1", "a1"), comment("c6", "a6"), comment("c7", "a6", link_id=None)])
    found = offered(pairs(), dumps, dumps.parent / "cache")
    assert [(c.id, c.reason) for c in found[:2]] == [("reddit-a1", None), ("reddit-a6", None)]
    assert [c.reason for c in found[2:]] == ["malformed"] * 5
    assert found[2].id == f"sub/RS_2014-05.zst@byte{len(before)}"
    assert f"sub/RS_2014-05.zst, byte {len(before)}: no JSON" in found[2].detail
    assert "score is 'many'" in found[4].detail and "title is None" in found[5].detail
    assert found[6].id.startswith("RC_2014-05.zst@byte") and "link_id is None" in found[6].detail


def test_a_damaged_file_stops_the_run(dumps):
    write_zst(dumps / "RS_2014-05.zst", [submission("a1", "[WP] A lamp that never goes out")])
    path = write_zst(dumps / "RC_2014-05.zst", [comment(f"c{n}", "a1", str(random.Random(n).random())) for n in range(2000)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LimakitError, match="truncated") as caught:
        offered(pairs(), dumps, dumps.parent / "cache")
    assert str(path) in caught.value.message
    assert not list((dumps.parent / "cache").glob("*.parquet"))


def test_sources_that_are_not_there(dumps):
    write_zst(dumps / "RS_2014-05.zst", [submission("a1", "x", subreddit="books")])
    with pytest.raises(UsageError, match=r"no dump of r/writingprompts's comments") as caught:
        inputs(pairs(), dumps)
    assert "RC_YYYY-MM.zst or writingprompts_comments.zst" in caught.value.message
    with pytest.raises(UsageError, match="no dump of"):
        inputs(pairs(), dumps / "RS_2014-05.zst")
    assert inputs(titles(), dumps / "RS_2014-05.zst") == {"": dumps / "RS_2014-05.zst"}
    with pytest.raises(LimakitError, match="no submission of r/AskReddit in 1 files"):
        offered(titles(), dumps, dumps.parent / "cache")
    with pytest.raises(ValueError, match='set split = "test"'):
        titles(split="train")
    with pytest.raises(ValueError, match="subreddit"):
        titles(subreddit="r/AskReddit")


def test_titles(dumps):
    rows = {
        "a1": ("[Serious] Why do cats knead blankets &amp; pillows?", None),
        "a2": ("Reddit, what do you think of cats that knead?", "speaks_to_readers"),
        "a3": ("Nurses of Reddit, what surprised you?", "speaks_to_readers"),
        "a4": ("I just saw a cat and it was nice.", "no_question"),
        "a5": ("What is this I see in my garden?", "title_unclear"),
        "a6": ("What's your favourite picture? Here's mine!", "no_question"),
        "a7": ("Why?", "prompt_too_short"),
        "a8": ("What is the strangest thing about sleep? (NSFW)", "nsfw"),
        "a9": ("[Modpost] Which rules would you change this year?", "tagged"),
        "aa": ("How do magnets lose their strength over time?", None),
    }
    posts = [submission(id, title, subreddit="AskReddit", selftext="More below.") for id, (title, _) in rows.items()]
    write_zst(dumps / "AskReddit_submissions.zst", posts)
    found = {c.id.removeprefix("reddit-"): c for c in offered(titles(), dumps, dumps.parent / "cache")}
    assert {id: c.reason for id, c in found.items()} == {id: reason for id, (_, reason) in rows.items()}
    kept = found["a1"]
    assert [turn.text for turn in kept.turns] == ["Why do cats knead blankets & pillows?"]
    assert kept.review == "required" and kept.text.reference is None
    assert kept.text.provenance.url == "https://www.reddit.com/r/AskReddit/comments/a1/"


@pytest.mark.parametrize(("name", "source"), [("AskReddit", titles()), ("WritingPrompts", pairs())])
def test_real_titles(shared, dumps, name, source):
    """The thousand best submissions of 2013, put into a dump: each has a fate, many AskReddit titles are offered for review."""
    csv.field_size_limit(10**8)
    with open(shared / "reddit_top" / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    posts = [
        submission(
            row["id"],
            row["title"].replace("&", "&amp;"),
            row["score"],
            created_utc=float(row["created_utc"]),
            selftext=row["selftext"],
            over_18=row["over_18"] == "True",
            distinguished=row["distinguished"] or None,
            subreddit=name,
        )
        for row in rows
    ]
    write_zst(dumps / "RS_2013-08.zst", posts)
    write_zst(dumps / "RC_2013-08.zst", [comment(f"c{n}", post["id"], subreddit=name) for n, post in enumerate(posts)])
    found = offered(source, dumps, dumps.parent / "cache")
    assert len(found) == len({post["id"] for post in posts})
    fit = [c for c in found if c.reason is None]
    assert 250 < len(fit) < 700
    for c in fit:
        assert c.review == "required"
        assert "http" not in c.turns[0].text and not c.turns[0].text.startswith("[")
