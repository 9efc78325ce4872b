"""Rows of Reddit dumps: recognised before they are parsed, and read with every quirk that the dumps have."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reddit import comment, submission

from limakit.errors import UsageError
from limakit.sources.reddit import base36, comment_of, files, parse, row_pattern, submission_of

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("subreddit"), inner, max_size=3),
    max_leaves=8,
)
NAME = "WritingPrompts"


@settings(max_examples=300, deadline=None)
@given(
    row=st.dictionaries(TEXT, VALUES, max_size=5),
    name=st.sampled_from(
        [NAME, NAME.lower(), NAME.upper(), "writingPrompts", "AskReddit", "WritingPrompts2", "OtherWritingPrompts", None, 7]
    ),
    first=st.booleans(),
    nested=st.booleans(),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\t"), (",  ", " : ")]),
    library=st.sampled_from(["json", "orjson", "sorted"]),
)
def test_no_row_of_the_subreddit_is_missed_however_it_is_written(row, name, first, nested, ascii_only, separators, library):
    if nested:
        row["crosspost_parent_list"] = [{"subreddit": NAME}]
    row = {"subreddit": name, **row} if first else {**row, "subreddit": name}
    if library == "json":
        line = json.dumps(row, ensure_ascii=ascii_only, separators=separators).encode()
    else:
        line = orjson.dumps(row, option=orjson.OPT_SORT_KEYS if library == "sorted" else None)
    ours = isinstance(row["subreddit"], str) and row["subreddit"].lower() == NAME.lower()
    assert (parse(line, NAME) is not None) == ours
    if ours:
        assert row_pattern(NAME.lower()).search(line)


def test_a_mention_in_a_text_is_no_hit():
    said = submission("a1", 'see "subreddit": "WritingPrompts"', subreddit="books", selftext="WritingPrompts")
    assert not row_pattern(NAME).search(orjson.dumps(said))


@pytest.mark.parametrize("value", [1400000000, 1400000000.0, "1400000000", "1400000000.0"])
def test_times_and_scores_as_whole_numbers_floats_or_text(value):
    assert comment_of(comment("c1", "a1", created_utc=value), NAME).created == 1400000000
    assert submission_of(submission("a1", "x", score=value)).score == 1400000000


@pytest.mark.parametrize("value", ["many", True, [1], {"a": 1}, 1e300])
def test_a_bad_number_names_its_key(value):
    with pytest.raises(ValueError, match="score is "):
        submission_of(submission("a1", "x", score=value))
    with pytest.raises(ValueError, match="created_utc is "):
        comment_of(comment("c1", "a1", created_utc=value), NAME)


def test_an_unknown_score_is_no_number():
    assert submission_of(submission("a1", "x", score=None)).score is None
    assert comment_of(comment("c1", "a1", score=1, score_hidden=True), NAME).score is None
    assert comment_of(comment("c1", "a1", score=40, score_hidden=False), NAME).score == 40
    row = submission("a1", "x")
    del row["score"]
    assert submission_of(row).score is None


def test_ids_with_and_without_prefix_and_as_numbers():
    assert {submission_of(submission(id, "x")).id for id in ("t0ynr", "t3_t0ynr", "T0YNR", int("t0ynr", 36))} == {int("t0ynr", 36)}
    row = submission(None, "x", name="t3_t0ynr")
    assert base36(submission_of(row).id) == "t0ynr"
    for bad in (None, "", "t1_abc!", "../etc", ["a"], -4, True):
        with pytest.raises(ValueError, match=r"(id|name) is "):
            submission_of(submission(bad, "x"))


@pytest.mark.parametrize(
    ("parent", "top"),
    [
        ("t3_abc", True),
        ("t1_abd", False),
        (None, True),  # Pushshift's later API for a reply to the submission
        (int("abd", 36), False),  # and for a reply to a comment
        (int("abc", 36), True),
        ("abc", True),
        ("abd", False),
    ],
)
def test_which_comments_stand_directly_under_the_submission(parent, top):
    assert comment_of(comment("c1", "abc", parent_id=parent), NAME).top_level is top
    assert comment_of(comment("c1", "abc", link_id="abc", parent_id=parent), NAME).submission == int("abc", 36)


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ({"author": "[deleted]"}, "deleted"),
        ({"author": None}, "deleted"),
        ({"selftext": "[deleted]"}, "deleted"),
        ({"selftext": "[removed]"}, "removed"),
        ({"selftext": "[ Removed by Reddit on account of violating the content policy ]"}, "removed"),
        ({"title": "[deleted by user]"}, "deleted"),
        ({"removed_by_category": "moderator"}, "removed"),
        ({"removed_by_category": "automod_filtered"}, "removed"),
        ({"removed_by_category": "deleted"}, "deleted"),
        ({"removed_by_category": "author"}, "deleted"),
        ({"banned_by": "aphexcoil"}, "removed"),
        ({"removal_reason": "legal"}, "removed"),
        ({"_meta": {"was_deleted_later": True, "removal_type": "deleted"}}, "deleted"),
        ({"_meta": {"was_deleted_later": True}}, "deleted"),
        ({"_meta": {"was_deleted_later": True, "removal_type": "moderator"}}, "removed"),
        ({"_meta": {"was_deleted_later": True, "removal_type": "removed by reddit"}}, "removed"),
        ({"distinguished": "moderator"}, "moderator"),
        ({"stickied": True}, "moderator"),
        ({"crosspost_parent": "t3_x"}, "crosspost"),
        ({"is_self": False, "domain": "i.redd.it"}, "link_post"),
        ({"is_self": None, "domain": "imgur.com"}, "link_post"),
        ({"poll_data": {"options": []}}, "poll"),
    ],
)
def test_what_speaks_against_a_submission(marks, reason):
    against = submission_of(submission("a1", "x") | marks).against
    assert against is not None and against[0] == reason


@pytest.mark.parametrize(
    "marks",
    [
        {"selftext": ""},
        {"selftext": "[removed] was all that the letter said."},
        {"edited": 1400000900.0},
        {"locked": True},
        {"is_self": None, "domain": "self.WritingPrompts"},
        # held back at first and there now: what removed it then says nothing
        {"_meta": {"was_initially_deleted": True, "removal_type": "moderator"}, "removed_by_category": "automod_filtered"},
        {"_meta": None},
    ],
)
def test_what_does_not_speak_against_a_submission(marks):
    assert submission_of(submission("a1", "x") | marks).against is None


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ({"body": "[deleted]"}, "deleted"),
        ({"body": "[removed]"}, "removed"),
        ({"author": "AutoModerator"}, "moderator"),
        ({"author": "WritingPromptsBot"}, "moderator"),
        ({"distinguished": "moderator"}, "moderator"),
        ({"stickied": True}, "moderator"),
        ({"collapsed_reason_code": "DELETED"}, "deleted"),
    ],
)
def test_what_speaks_against_a_comment(marks, reason):
    against = comment_of(comment("c1", "a1") | marks, NAME).against
    assert against is not None and against[0] == reason


def test_the_last_look_at_a_row_counts():
    assert submission_of(submission("a1", "x", retrieved_on=5, _meta={"retrieved_2nd_on": 9})).retrieved == 9
    assert submission_of(submission("a1", "x", retrieved_on=None)).retrieved == 0


@pytest.mark.parametrize(
    "line", [b'{"subreddit":"WritingPrompts"', b'{"subreddit":"WritingPrompts","a":"\xff"}', b'["subreddit"]', b"7", b""]
)
def test_a_line_that_is_no_object_is_said_to_be_none(line):
    with pytest.raises(ValueError, match="no JSON"):
        parse(line, NAME)


def test_files_by_their_names(tmp_path):
    for name in (
        "reddit/submissions/RS_2012-06.zst",
        "reddit/comments/RC_2012-06.zst",
        "WritingPrompts_submissions.zst",
        "writingprompts_comments.zst",
        "AskReddit_submissions.zst",
        "r_WritingPrompts_posts.jsonl",
        "RS_v2_2011-01.zst",
        "notes.jsonl",
        "RS_2012-06.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(files(tmp_path, NAME, "submissions")) == [
        "RS_v2_2011-01.zst",
        "WritingPrompts_submissions.zst",
        "r_WritingPrompts_posts.jsonl",
        "reddit/submissions/RS_2012-06.zst",
    ]
    assert list(files(tmp_path, NAME, "comments")) == ["reddit/comments/RC_2012-06.zst", "writingprompts_comments.zst"]
    one = tmp_path / "AskReddit_submissions.zst"
    assert files(one, "AskReddit", "submissions") == {"": one}
    assert files(one, NAME, "submissions") == {} == files(one, "AskReddit", "comments")
    with pytest.raises(UsageError, match="no such file or folder"):
        files(tmp_path / "nowhere", NAME, "submissions")


@given(st.integers(0, 2**53))
def test_base36_is_pythons(number):
    assert int(base36(number), 36) == number
