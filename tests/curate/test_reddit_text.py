"""Reddit's Markdown: what leads elsewhere goes, the words stay; and who is spoken to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.reddit_text import plain_title, speaks_to_readers, to_markdown, untagged


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("salt &amp; pepper, 1 &lt; 2", "salt & pepper, 1 < 2"),
        ("one\n\n&amp;#x200B;\n\ntwo", "one\n\ntwo"),
        ("a&amp;nbsp;b", "a b"),
        ('read [the *old* book](https://a.b/c_(d) "title") now', "read the *old* book now"),
        ("[a \\[b\\]](http://x.y) [c][1]\n\n[1]: http://z.w 'q'", "a \\[b\\] c"),
        ("look ![gif](giphy|abc123) here", "look  here"),
        ("see http://x.y/z, then <https://q.r>.", "see, then."),
        ("hi [](/emote)", "hi"),
        ("~~no~~ yes", "yes"),
        (">!he dies!< at the end", "he dies at the end"),
        ("^(so small) and ^this but 10^3 and x^(2)", "so small and this but 10^3 and x^(2)"),
        ("&gt; quoted", "> quoted"),
        ("***\n\nstory\n\n* * *\n\nmore\n\n---\n", "story\n\n* * *\n\nmore"),
        ("code `[a](b) &amp;lt;` stays", "code `[a](b) &lt;` stays"),
        ("^^tiny and x^^2", "tiny and x^^2"),
        ("```\n[a](b) `\n```\n[c](d) `[e](f)`", "```\n[a](b) `\n```\nc `[e](f)`"),
        ("```never closed\n[a](b)", "```never closed\na"),
        ("[a\\]b](c) \\![d](e)", "a\\]b \\!d"),
        ("line\r\nnext\x00", "line\nnext"),
        ("\u00a0", ""),
    ],
)
def test_markdown(body, text):
    assert to_markdown(body) == text


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab \n[]()!<>~^`*\\&;:/.http-_=|\"'"), max_size=60))
def test_nothing_of_a_link_survives_and_cleaning_never_fails(body):
    text = to_markdown(f"before [words](https://example.org/path?q=1) {body}")
    assert "https://example.org" not in text or "`" in body
    assert text == text.strip("\n")


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "[a",
        "[](",
        "![",
        ">!",
        "~~a",
        "`",
        "http://(",
        "^(",
        "* ",
        "\n***",
        "thank you ",
        "[x](((",
        "\\",
        "```\n",
        " ",
        "[a][",
        "&amp;",
        "_ ",
        "[x](   ",
        "( ",
        '[x](a "',
        "^",
        "\\[",
        "[a\\",
        "[a\\]",
        "[a\\\\",
        "[x](a\\)",
        "[x](\\(",
        "![a\\]",
        "\n```a",
        "^^(",
        "[[a]",
        "http://,",
    ],
)
def test_hostile_texts_take_linear_time(piece):
    text = piece * (100_000 // len(piece))
    started = time.process_time()
    to_markdown(text), speaks_to_readers(text), untagged(text)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("[WP] A man &amp; his dog", ("A man & his dog", None)),
        ("[ wp ][EU] The end", ("The end", None)),
        ("[WP]/[SP] Both", ("Both", None)),
        ("{WP} Braces (TT)", ("Braces", None)),
        ("Writing Prompt: First words", ("First words", None)),
        ("[Serious] What is it?", ("What is it?", None)),
        ("What is it? [Serious]", ("What is it?", None)),
        ("[NSFW][WP] After dark", ("After dark", None)),
        ("[WP] The note: [illegible]", ("The note: [illegible]", None)),
        ("(In winter) it snows", ("(In winter) it snows", None)),
        ("[IP] A tower", ("[IP] A tower", "ip")),
        ("[WP]/[MP] The ride", ("[MP] The ride", "mp")),
        ("[Mod Post] Contest", ("[Mod Post] Contest", "mod post")),
        ("WPA builds a dam", ("WPA builds a dam", None)),
    ],
)
def test_tags(title, expected):
    assert untagged(plain_title(title)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The end.\n\nThanks for reading! Feedback is welcome.",
        "The end.\n\nEDIT: wow, thanks for the gold, kind stranger!",
        "**Edit 2**: formatting\n\nThe end.",
        "He left.\n\nMore at r/NightlyStories.",
        "He left.\n\n/u/somebody did it better",
        "First time posting here, be gentle.\n\nIt was night.",
        "Sorry for any typos, on mobile.\n\nIt was night.",
        "He left.\n\n(Part 2 below)",
        "He left.\n\n*To be continued...*",
        "Great prompt! Here goes.\n\nIt was night.",
        "It was night. OP asked for it.",
    ],
)
def test_an_author_who_turns_to_the_readers_is_noticed(text):
    assert speaks_to_readers("It began so.\n\n" + text)


@pytest.mark.parametrize(
    "text",
    [
        "I thanked her for the letter and read it twice.",
        "The king sent gold to the army. He was prompt.",
        "She edited the film at night. It was the second time he asked.",
        "They hoped for rain; I hope so too.",
        "In reply he shook his head and continued in silence.",
        "He took the and/or of it, w/o a word.",
    ],
)
def test_a_story_is_not_taken_for_a_note(text):
    assert speaks_to_readers(text) is None


def test_what_stands_in_the_middle_of_a_long_story_is_its_own():
    long = "The rain went on. " * 60
    assert speaks_to_readers(long + "Thanks for reading me that, he said. " + long) is None
