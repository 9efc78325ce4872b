"""wikiHow articles as JSON, in the spellings of the corpora there are."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.errors import UsageError
from limakit.sources.wikihow import (
    Article,
    Fault,
    Section,
    Step,
    article_files,
    check_lines,
    read_article,
    read_files,
    read_lines,
    top_category,
)

ARTICLE = {
    "goal": "How to Brew  Tea",
    "goal_description": "Tea is easy.",
    "category_hierarchy": ["Food and Entertaining", "Drinks"],
    "methods": [{"name": "In a pot", "steps": [{"headline": "Boil water.", "description": "Fresh water.", "img": "x.jpg"}]}],
}


def read(row):
    return read_article(row if isinstance(row, bytes) else json.dumps(row).encode(), "a.jsonl@byte0")


def test_goal_and_methods():
    step = Step("Boil water.", "Fresh water.")
    assert read(ARTICLE) == Article(
        "How to Brew Tea", "Tea is easy.", "Food and Entertaining", (Section("In a pot", (step,)),), None, "a.jsonl@byte0"
    )


def test_title_and_parts_or_steps_with_nulls_and_lists_beside():
    row = {
        "title": "How to Brew Tea", "title_description": None, "category_hierarchy": None, "methods": None, "url": "https://www.wikihow.com/Brew-Tea",
        "parts": [], "steps": [{"headline": "Boil.", "description": None}, {"headline": "", "description": " "}, "Pour."],
        "tips": ["Warm the pot."], "ingredients": "Tea", "warnings": None,
    }  # fmt: skip
    made = read(row)
    assert made.category == "" and made.opening == "" and made.url == "https://www.wikihow.com/Brew-Tea"
    assert made.sections == (
        Section("Ingredients", (Step("Tea", ""),), numbered=False),
        Section("", (Step("Boil.", ""), Step("Pour.", ""))),
        Section("Tips", (Step("Warm the pot.", ""),), numbered=False),
    )
    parts = read({"title": "t", "parts": [{"name": "A", "steps": ["x"]}, {"name": "B", "steps": None}], "url": "javascript:alert(1)"})
    assert [s.name for s in parts.sections] == ["A"] and parts.url is None


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"goal": None, "title": None}, "has no goal or title"),
        ({"goal": 3}, "expected a text, got '3'"),
        ({"goal": "t", "methods": "m"}, "methods is no list"),
        ({"goal": "t", "methods": ["m"]}, r"methods\[0\] is no object"),
        ({"goal": "t", "methods": [{"steps": [4]}]}, r"methods\[0\]\.steps\[0\] is neither"),
        ([1], "is no JSON object"),
        (b'{"goal": "t"', "is no JSON, or cut short"),
        (b'{"goal": "\xff"}', "is no JSON"),
    ],
)
def test_a_damaged_row_is_a_fault_and_no_exception(row, what):
    made = read(row)
    assert isinstance(made, Fault) and made.place == "a.jsonl@byte0"
    assert re.search(what, made.what), made.what


@pytest.mark.parametrize(
    ("value", "category"),
    [
        (["Food and Entertaining", "Drinks"], "Food and Entertaining"),
        (["Category:Food and Entertaining"], "Food and Entertaining"),
        (["Categories", "Cars &amp; Other Vehicles"], "Cars & Other Vehicles"),
        (["Motorcycles", "Cars and Other Vehicles"], "Cars & Other Vehicles"),
        ([None, "", "travel "], "Travel"),
        ("Food-and-Entertaining", "Food and Entertaining"),
        ("Home_and_Garden", "Home and Garden"),
        ("Travel > Packing", "Travel"),
        ("Something New", "Something New"),
        (None, ""),
        ([], ""),
        (3, ""),
    ],
)
def test_the_top_category_in_every_spelling(value, category):
    assert top_category(value) == category


lines = st.lists(st.sampled_from([b'{"goal": "a"}', b"", b"[1]", b'{"goal": "\xe2\x80\xa8"}', b"  ", b"x" * 40]), max_size=8)


@given(lines, st.lists(st.integers(0, 300), max_size=4), st.booleans(), st.booleans())
def test_ranges_together_are_the_whole_file_however_it_is_cut(tmp_path_factory, lines, cuts, bom, newline):
    path = tmp_path_factory.mktemp("w") / "a.jsonl"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + b"\n".join(lines) + (b"\n" if newline else b""))
    size = path.stat().st_size
    bounds = sorted({0, size, *(cut for cut in cuts if cut < size)})
    pieces = [row for a, b in pairwise(bounds) for row in read_lines(path, "a.jsonl", a, b)]
    assert pieces == list(read_lines(path, "a.jsonl", 0, size))
    assert len(pieces) == sum(bool(line.strip()) for line in lines)


def test_a_folder_is_read_by_name_and_one_damaged_file_loses_nothing_else(tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.json").write_text(json.dumps(ARTICLE))
    (tmp_path / "a.json").write_text('{"goal": "cut')
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ARTICLE, indent=1).encode())
    for name in ("notes.txt", ".hidden.json"):
        (tmp_path / name).write_text("x")
    names = article_files(tmp_path)
    assert names == ["a.json", "c.json", "sub/b.json"] and "1 files, such as notes.txt" in capsys.readouterr().err
    assert [type(made).__name__ for made in read_files(tmp_path, names)] == ["Fault", "Article", "Article"]


def test_what_is_not_there_or_in_another_form_is_said(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        article_files(tmp_path / "none")
    (tmp_path / "all.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"(?s)but all\.jsonl.*name the JSONL or CSV file itself"):
        article_files(tmp_path)
    assert article_files(tmp_path / "all.jsonl") is None
    for text, kind in (('\ufeff [\n{"goal": "a"}]', "array"), ('{\n "goal": "a"\n}', "object over many lines")):
        (tmp_path / "one.json").write_text(text)
        with pytest.raises(UsageError, match=rf"(?s)is one JSON {kind}.*one article a line"):
            check_lines(tmp_path / "one.json")
    check_lines(tmp_path / "all.jsonl")
