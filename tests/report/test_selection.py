"""The page of a choice: self-contained, deaf to what models write, every number in numbers.json, the same bytes each time."""

from __future__ import annotations

import json
import re

import pytest
from epochs import make_epochs

from limakit.errors import LimakitError
from limakit.report.page import write_report
from limakit.report.selection import write_page
from limakit.select import desk

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></article><img src=http://evil.example/x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}{{ name }}",
    "nul \x00 esc \x1b[31m \u202e reversed \u2028 two",
    " ",
]


def page_of(workspace, recipe):
    index, numbers = write_page(workspace, recipe)
    return index.read_text(), json.loads(numbers.read_text())["numbers"]


def test_all_responses_side_by_side_and_every_number_is_traced(tmp_path):
    page, numbers = page_of(*make_epochs(tmp_path))
    for epoch in (1, 2, 3, 4):
        assert page.count(f"<h4>Epoch {epoch}</h4>") == 5
    assert len(re.findall(r'<article id="prompt-\d"', page)) == 5 and 'href="#prompt-5"' in page
    printed = set(re.findall(r'data-number="([^"]*)"', page))
    assert printed == {number["id"] for number in numbers}
    assert all(number["rows"]["files"] for number in numbers)
    ppl = [n for n in numbers if n["what"].startswith("held-out perplexity, epoch")]
    assert len(ppl) == 4 and all(n["low"] < n["value"] < n["high"] and n["n"] == 6 for n in ppl)
    [rho] = [n for n in numbers if n["id"].startswith("relation")]
    assert rho["value"] == pytest.approx(1) and rho["n"] == 4
    assert 'aria-label="Mean grade against held-out perplexity' in page and "<script" not in page


def test_it_loads_nothing_and_obeys_nobody(tmp_path):
    workspace, recipe = make_epochs(tmp_path, texts=HOSTILE)
    desk.choose(workspace, recipe, 2, "<script>alert(2)</script>{{ 7 * 7 }}", "<i>ann</i>")
    page, _ = page_of(workspace, recipe)
    assert (
        "<script" not in page and "<img" not in page and "<i>ann" not in page and "49" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S)
    )
    assert "default-src 'none'" in page and not re.search(r'(?:src|href)="(?!#)', page)
    assert "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page and "\x1b" not in page and "\u202e" not in page
    assert "(an empty response)" in page and "Epoch 2 (chosen)" in page


def test_equal_inputs_give_equal_bytes(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    assert page_of(workspace, recipe) == page_of(workspace, recipe)


def test_without_grades_there_is_perplexity_alone_and_dropped_weights_are_told(tmp_path):
    page, numbers = page_of(*make_epochs(tmp_path, grades=False, kept=(3, 4)))
    assert "grade by" not in page and not [n for n in numbers if n["id"].startswith(("grade", "relation"))]
    assert "Mean grade against" not in page and 'aria-label="By epoch. Held-out perplexity' in page and page.count(">dropped</td>") == 2


def test_the_figures_show_whole_on_a_phone(tmp_path):
    """360 pixels: the margins of page and figure take 54; page.css lets a figure shrink to 0.72 of its width, and what is wider scrolls."""
    page, _ = page_of(*make_epochs(tmp_path))
    widths = [int(width) for width in re.findall(r"--w: (\d+)px", page)]
    assert len(widths) == 2 and all(0.72 * width <= 360 - 54 for width in widths)


def test_the_report_says_which_epoch_was_chosen(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    desk.choose(workspace, recipe, 2, "<b>answers first</b>", "ann")
    index, _, _ = write_report(workspace, recipe)
    page = index.read_text()
    assert "<b>epoch 2</b>" in page and "by ann: &lt;b&gt;answers first&lt;/b&gt;" in page and "select/index.html" not in page
    write_page(workspace, recipe)
    write_report(workspace, recipe)
    [link] = re.findall(r'href="(\.\./[^"]*)"', index.read_text())
    assert (index.parent / link).resolve() == (workspace.runs / "tiny/select/index.html").resolve()
    assert "runs/tiny/choice.json" in page


def test_a_run_that_nobody_looked_at_says_what_to_run(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    for file in (workspace.runs / "tiny/dev").glob("*.json"):
        file.unlink()
    with pytest.raises(LimakitError, match="no epoch was looked at") as caught:
        write_page(workspace, recipe)
    assert "select --answer" in caught.value.remedy and not (workspace.runs / "tiny/select").exists()
