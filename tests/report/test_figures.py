"""The figures: SVG that stands inside HTML, names no colour of its own, and takes any text as text."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET

import pytest

from limakit.report import paper
from limakit.report.canvas import VARIABLES
from limakit.report.figures import Bar, Curve, Distribution, draw_grades, draw_loss, draw_preference, draw_schedule
from limakit.report.sections import paper_drawings

BAR = Bar("against base", "20 prompts", 0.53, 0.21, 0.26, (0.4, 0.66), (0.1, 0.4))
CURVE = Curve([1, 2, 3, 4], [3.0, 2.0, 1.5, 1.0], [1e-5, 7e-6, 4e-6, 1e-6], [1.0, 2.0, float("nan"), 1.0], [2, 4], [2.5, 1.25])
ROW = Distribution("m", "mean 3.5, 4 prompts", {"1": 0.0, "2": 0.5, "3": 0.5, "4": 0.0, "5": 0.0, "6": 0.0}, 2.5, (2.0, 3.0))


def drawings():
    yield draw_preference("t", [BAR], "p", "label")
    yield draw_loss(CURVE, "l", "label")
    yield draw_schedule(CURVE, "s", "label")
    yield draw_grades("t", [ROW], "g", "label")


@pytest.mark.parametrize("drawing", list(drawings()), ids=lambda d: d.name)
def test_inline_svg(drawing):
    root = ET.fromstring(drawing.svg)
    assert root.tag == "svg" and root.attrib["role"] == "img" and root.attrib["aria-label"] == "label"
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids)) and all(i.startswith(f"{drawing.name}-") for i in ids)
    assert all(e.attrib["href"][1:] in ids for e in root.iter() if "href" in e.attrib)
    assert set(re.findall(r"url\(#([^)]*)\)", drawing.svg)) <= set(ids)
    assert "style>" not in drawing.svg and "metadata" not in drawing.svg and "font-family" not in drawing.svg
    assert set(re.findall("#[0-9a-f]{6}", drawing.svg)) <= {"#000000"}  # every visible colour is the page's
    assert set(re.findall(r"var\(--([a-z-]+)\)", drawing.svg)) <= set(VARIABLES.values())
    assert drawing.png.startswith(b"\x89PNG")


def test_bars_carry_their_labels():
    texts = [e.text for e in ET.fromstring(draw_preference("t", [BAR], "p", "label").svg).iter("text")]
    assert {"53 %", "21 %", "26 %", "wins", "tie", "loses", "against base", "20 prompts"} <= set(texts)


def test_the_papers_bars_are_the_papers_numbers():
    for drawing, figure in zip(paper_drawings(), (paper.FIGURE_1, paper.FIGURE_2), strict=True):
        texts = [e.text for e in ET.fromstring(drawing.svg).iter("text")]
        shown = [t for t in texts if t and re.fullmatch(r"\d+ %", t) and t != "100 %"]
        assert shown == [f"{n} %" for row in figure.rows for n in (row.win, row.tie, row.lose)]
        assert all(row.win + row.tie + row.lose == 100 for row in figure.rows)


def test_whiskers_of_win_and_lose_can_be_told_apart():
    """Without ties they meet at one boundary: the two lines have room between them and each its dot."""
    bar = Bar("b", "20 prompts", 0.5, 0.0, 0.5, (0.3, 0.7), (0.3, 0.7))
    root = ET.fromstring(draw_preference("t", [bar, bar], "p", "label").svg)
    lines = {}
    for path in root.iter("path"):
        for name in ("win", "lose"):
            if f"stroke: var(--{name}); stroke-width: 1.6" in (path.get("style") or ""):
                lines.setdefault(name, []).append(float(re.search(r"M [-\d.]+ ([-\d.]+)", path.get("d"))[1]))
    assert len(lines["win"]) == len(lines["lose"]) == 2
    assert all(lose - win >= 8 for win, lose in zip(sorted(lines["win"]), sorted(lines["lose"]), strict=True))


def test_a_users_matplotlib_settings_change_nothing():
    import matplotlib

    before = draw_preference("t", [BAR], "p", "label")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path", "axes.facecolor": "red"}):
        after = draw_preference("t", [BAR], "p", "label")
    assert (before.svg, before.png) == (after.svg, after.png)


@pytest.mark.parametrize(
    "name", ["$x^{2$", "a\x00b\x1b", "</svg><script>", "好的 مرحبا 😀", "x" * 500, "\ufffe\uffff", "\\frac{1}", "#1f2328"]
)
def test_any_name_is_text(name):
    bar = Bar(name, "n", 0.5, 0.2, 0.3)
    row = Distribution(name, "n", {name: 1.0}, None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawing in (draw_preference(name, [bar], "p", name), draw_grades(name, [row], "g", name)):
            root = ET.fromstring(drawing.svg)
            assert not list(root.iter("script"))
    assert all(len(e.text or "") <= 52 for e in root.iter("text"))


def test_no_share_and_all_of_it():
    for bar in (Bar("b", "1 prompt", 0, 0, 1, (0, 0.98), (0.02, 1)), Bar("b", "1 prompt", 1, 0, 0, (0.02, 1), (0, 0.98))):
        texts = [e.text for e in ET.fromstring(draw_preference("t", [bar], "p", "label").svg).iter("text")]
        assert texts.count("100 %") == 2  # the bar's and the axis's
