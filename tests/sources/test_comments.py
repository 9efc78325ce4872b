"""Comments: typed rows, and their text as the site shows it."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.html import to_markdown
from limakit.sources.comments import comment_html, comment_of, mention
from limakit.sources.scan import RowError


def shown(text: str) -> str:
    return to_markdown(comment_html(text))


def test_a_row():
    row = {"Id": "7", "PostId": "2", "Text": "Yes.", "CreationDate": "2015-03-01T10:00:00.000", "UserId": "-1"}
    comment = comment_of(row)
    assert (comment.id, comment.post, comment.user, comment.text, comment.licence) == (7, 2, -1, "Yes.", "CC BY-SA 3.0")
    del row["UserId"]  # as of deleted accounts
    assert comment_of(row | {"UserDisplayName": "user9", "ContentLicense": "CC BY-SA 4.0"}).user is None


@pytest.mark.parametrize("key", ["Id", "PostId", "UserId"])
def test_a_number_that_is_none(key):
    row = {"Id": "7", "PostId": "2", "UserId": "3", "Text": "Yes."} | {key: "x"}
    with pytest.raises(RowError, match=f"{key} is 'x', expected a whole number"):
        comment_of(row)


def test_a_text_longer_than_any_site_allows():
    row = {"Id": "7", "PostId": "2", "UserId": "3", "Text": "[]" * 5000}
    assert len(shown(comment_of(row).text)) == 10_000  # in time
    with pytest.raises(RowError, match="Text has 10001 characters"):
        comment_of(row | {"Text": row["Text"] + "x"})


@pytest.mark.parametrize(
    "text", ["`" * 9_999 + "a", "`a``" * 2_500, "[" * 10_000, "[a](" * 2_500, "[a](http://b" * 800, "@" + "a:" * 5_000]
)
def test_no_text_takes_long(text):
    began = time.process_time()
    shown(mention(text)[1])
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a < b && c > d, and <b>this</b> is text", "a < b && c > d, and <b>this</b> is text"),
        ("an entity, &lt;, is what was typed", "an entity, &lt;, is what was typed"),
        ('put it into a `<div class="x">` or ``a ` b``', 'put it into a `<div class="x">` or ``a ` b``'),
        ('see [the manual](https://example.org/a_(b)?c=d "title") for more', "see the manual for more"),
        ("see https://example.org/x, it helps", "see, it helps"),
        ("[tag:tea] and [meta-tag:bug], not [this]", "tea and bug, not [this]"),
        ("**very** _nice_", "**very** _nice_"),
        ("`[a](http://b.c)`", "`[a](http://b.c)`"),
        ("[`f(x)`](https://example.org) is it", "`f(x)` is it"),
        ("two\nlines", "two lines"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_as_the_site_shows_it(text, read):
    assert shown(text) == read


@given(st.text("ab <>&`[](){}@:/.\n\"'!-" + "é", max_size=60))
def test_no_character_of_the_text_is_lost_but_links_space_and_marks(text):
    """What a comment says stays; no markup can be made by it."""
    plain = re.sub(r"[\s`\[\]()\"]", "", text)
    if "//" not in text and "www" not in text and "](" not in text:
        assert re.sub(r"[\s`\[\]()\"]", "", shown(text)) == plain


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("@Neil - I added it.", "neil", "I added it."),
        ("@Randal'Thor: yes", "randalthor", "yes"),
        ("@Mark, yes", "mark", "yes"),
        ("@dot_Sp0T   -- well", "dotsp0t", "well"),
        ("@Ann", "ann", ""),
        ("@Neil Fein: When it gets closer", "neil", "When it gets closer"),
        ("@Neil When it gets closer, say", "neil", "When it gets closer, say"),
        ("@Neil! Yes", "neil", "Yes"),
        ("@Neil's answer is right", "", "@Neil's answer is right"),
        ("@neil is a moderator", "", "@neil is a moderator"),
        ("@moz and @neil: if so", "", "@moz and @neil: if so"),
        ("thanks @Ann", "", "thanks @Ann"),
        ("me@example.org is down", "", "me@example.org is down"),
        ("@ 5 pm", "", "@ 5 pm"),
        ("@Ann -5 is negative", "ann", "-5 is negative"),
    ],
)
def test_the_opening_mention(text, name, rest):
    assert mention(text) == (name, rest)
