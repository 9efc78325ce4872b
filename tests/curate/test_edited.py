"""A candidate as a file and back: every text comes back as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.edited import as_markdown, from_markdown, same_words
from limakit.curate.review import review_item
from limakit.errors import LimakitError
from limakit.records import Turn

LINES = st.lists(
    st.sampled_from(
        ["## Prompt", "\\## Response", "## Reference ##", "# Steps", "text", "", "  indented", "-->", "<!--", "---", "[red]", "\u2028", "é"]
    )
    | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="`~\r"), max_size=12),
    min_size=1,
    max_size=6,
).map("\n".join)
TEXT = LINES.filter(lambda text: text.strip())


def round_trip(words, split, id="id -->", label="<!-- x"):
    item = review_item(id=id, label=label, split=split, why="", turns=words[0], reference=words[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.md"
        path.write_bytes(as_markdown(item, words).encode())
        return from_markdown(path, split)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_an_example_comes_back(pairs):
    turns = tuple(Turn(role=role, text=text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True))
    assert same_words(round_trip((turns, None), "train"), (turns, None))


@settings(max_examples=80, deadline=None)
@given(TEXT, st.none() | TEXT)
def test_a_prompt_and_its_reference_come_back(text, reference):
    words = (Turn(role="user", text=text),), reference
    assert same_words(round_trip(words, "test"), words)


def test_code_comes_back_to_the_byte():
    code = "Do this:\n\n```\n## Prompt\n\\## Response\n\ttab  \n```"
    words = (Turn(role="user", text="How?"), Turn(role="assistant", text=code)), None
    assert round_trip(words, "train") == words


@pytest.mark.parametrize(
    ("text", "split", "match"),
    [
        ("## Prompt\n\nWhy?\n", "train", "the last turn must be the assistant's\n.*ends with ## Response"),
        ("## Prompt\n\nWhy?\n\n## Response\n\nSo.\n\n## Reference\n\nNo.\n", "train", "has no ## Reference"),
        ("## Prompt\n\nWhy?\n\n## Response\n\n```\n", "train", "line 7: the code fence ``` is never closed"),
        ("", "train", "no ## Prompt heading"),
    ],
)
def test_what_is_no_example_is_told(tmp_path, text, split, match):
    path = tmp_path / "x.md"
    path.write_text(text)
    with pytest.raises(LimakitError, match=match):
        from_markdown(path, split)
