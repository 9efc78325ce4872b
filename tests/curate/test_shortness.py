"""What is said to be surely too short is, and says something."""

import html
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.html import to_markdown
from limakit.curate.shortness import most_characters
from limakit.sources.dump import Table, scan_of
from limakit.sources.scan import parse_row

TAGS = ["p", "ul", "ol", "li", "blockquote", "pre", "code", "tt", "table", "tr", "td", "caption", "sup", "br", "hr", "b", "a", "div", "h1", "dl", "dd", "menu", "dir",
        "listing", "samp", "s", "img", "thead", "section", "details", "template", "nobr", "button", "select", "option", "frameset", "plaintext"]  # fmt: skip
WORDS = st.sampled_from(
    [
        "x",
        "word",
        " ",
        "\n",
        "\n\n",
        "a\nb",
        "1. ",
        "<",
        "&lt;",
        "&nGt;",
        "&amp;",
        "&#10;",
        "https://a.b/c",
        "www.x.y",
        "(",
        ")",
        "\r",
        "9",
        "i",
        "th",
        "+",
        "$",
    ]
)
PIECES = st.lists(
    st.one_of(
        WORDS,
        st.sampled_from(TAGS).map(lambda t: f"<{t}>"),
        st.sampled_from(TAGS).map(lambda t: f"</{t}>"),
        st.sampled_from(["<ol start=999999999>", "<OL start='7'>", "<pre class=lang-c>", "<td><td>", "<li><li>", "<!-- x -->", "<code>", "</p>", "</br>", "<sup>2</sup>", "<p>y"]),
    ),
    max_size=40,
).map("".join)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(["<p>So ", "<p>Don’t,", "<p>I'd ", "<p><strong>No, "]), PIECES)
def test_no_text_becomes_longer_than_said(begin, pieces):
    body = begin + pieces
    most = most_characters(body)
    text = to_markdown(body)
    assert text.strip()
    assert most is not None and len(text) <= most, (len(text), most)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(["<ol>", "<li>", "\n", "x", "<blockquote>", "<pre>"]), max_size=80).map("".join))
def test_nor_any_other(text):
    for body in (text, "<p>It " + text, "<p>It " + html.escape(text)):
        most = most_characters(body)
        if most is not None:
            assert len(to_markdown(body).strip()) > 0 and len(to_markdown(body)) <= most


@pytest.mark.parametrize(
    "body",
    ["", "<p></p>", "<p>https://x.org </p>", "<p>Word</p>", "<p><s>gone away</s></p>", "<p>A `tick` </p>", "<s><p>gone away</p></s>"],
)
def test_where_it_is_not_known_nothing_is_said(body):
    assert most_characters(body) is None


def test_real_answers(shared):
    """All of them keep to it, and it decides for a good part of the short ones."""
    decided = short = 0
    for path in sorted(Path(shared / "stackexchange").glob("*/Posts.xml")):
        for block in scan_of(Table(path), "posts"):
            for i in range(len(block)):
                body = parse_row(block.row(i)).get("Body", "")
                length, most = len(to_markdown(body)), most_characters(body)
                assert most is None or 0 < length <= most
                short += length < 1200
                decided += most is not None and most < 1200
    assert decided > 0.5 * short, (decided, short)
