"""Whether a response has the structure that its prompt demands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.formats import format_problem

BULLETS = "Three things:\n\n- one\n  - nested\n- two\n- three\n"
STEPS = "Like this:\n\n1. one\n\n   more\n2. two\n"
TABLE = "Here:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
CODE = "So:\n\n```py\n- not a bullet\n# not a heading\n```\n"
PARTS = "A plan.\n\n## First\n\nText one. Text two!\n\n**Second**\n\nText three (e.g. this one)."


@pytest.mark.parametrize(
    ("constraint", "response", "kept"),
    [
        ("bulleted list", BULLETS, True),
        ("bullet points", STEPS, False),
        ("3 bullets", BULLETS, True),
        ("three bullet points", BULLETS, True),
        ("at most 2 bullets", BULLETS, False),
        ("bullets", CODE, False),
        ("numbered list", STEPS, True),
        ("a numbered list", BULLETS, False),
        ("2 steps", STEPS, True),
        ("at least 3 items", STEPS, False),
        ("three points", BULLETS, True),
        ("table", TABLE, True),
        ("in the form of a table", BULLETS, False),
        ("code block", CODE, True),
        ("2 sections", PARTS, True),
        ("headings", CODE, False),
        ("3 paragraphs", "One.\n\nTwo.\n\nThree.", True),
        ("2 paragraphs", "Gladly.\n\nOne.\n\nTwo.", True),  # the acknowledgment may stand for itself
        ("1 paragraph", "One.\n\nTwo.\n\nThree.", False),
        ("two sentences", "It is Dr. Lee's, e.g. the red one. It costs 3.50!", True),
        ("one sentence", "One. Two.", False),
        ("at most 5 words", "one two three four five", True),
        ("no more than 4 words", "one two three four five", False),
        ("100 words", "word " * 95, True),
        ("100 words", "word " * 80, False),
        ("json", '{"a": [1]}', True),
        ("JSON object", 'Here it is:\n\n```json\n{"a": 1}\n```\n', True),
        ("json", "{'a': 1}", False),
        ("json", "3", False),
        ("2 paragraphs, at most 5 words", "One two.\n\nThree four.", True),
        ("2 paragraphs and a table", "One two.\n\nThree four.", False),
        ("4 lines", "a\nb\n\nc\nd", True),
    ],
)
def test_constraints(constraint, response, kept):
    problem = format_problem(constraint, response)
    assert (problem is None) is kept, problem


def test_what_is_not_understood_is_left_to_people():
    assert format_problem("a haiku", "x") is None
    assert format_problem("2 paragraphs, in rhyme", "x") == "it has 1 paragraphs, not 2 paragraphs"


@given(st.text(), st.text())
def test_any_text_is_answered(constraint, response):
    assert format_problem(constraint, response) is None or not format_problem(constraint, response).isspace()


@given(st.integers(1, 12), st.sampled_from(["-", "*", "•"]))
def test_lists_are_counted(n, mark):
    response = "Here:\n\n" + "\n".join(f"{mark} item {i}\n    {mark} nested" for i in range(n))
    assert format_problem(f"{n} bullets", response) is None and format_problem(f"{n + 1} bullets", response) is not None
