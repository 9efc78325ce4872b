"""What every figure is drawn on: sizes in CSS pixels, the page's colours, SVG that stands inside HTML, PNG to keep.

Colours are hex values that occur for one purpose each, so that the SVG can name the page's own
colours instead (var(--ink), ...) and follow light and dark mode.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1f2328", "#59636e", "#d5dbe1"
WIN, TIE, LOSE = "#1f6aa5", "#cfd6dd", "#b2500f"  # blue, grey, orange: told apart with every common colour blindness
ON_WIN, ON_TIE, ON_LOSE = "#fefefe", "#24292f", "#fdfdfd"
ACCENT, FAINT = "#20659b", "#9dbfdc"
VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line", WIN: "win", TIE: "tie", LOSE: "lose", ON_WIN: "on-win", ON_TIE: "on-tie",
    ON_LOSE: "on-lose", ACCENT: "accent", FAINT: "faint",
}  # fmt: skip
PX = 1 / 72  # inches: a matplotlib point becomes a CSS pixel of the SVG's view box
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Drawing:
    """A finished figure: `name` (file and id), `label` (what it says, for those who cannot see it), inline SVG, PNG bytes."""

    name: str
    label: str
    width: int
    svg: str
    png: bytes


@contextmanager
def style() -> Iterator[None]:
    """The house's style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        # text stays text in the SVG: it scales, can be searched and takes the page's font
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "limakit", "font.size": 12.0, "axes.linewidth": 0.8})
        warnings.filterwarnings("ignore", message=".*missing from")  # a name in a script that the PNG's font lacks
        yield


def new_figure(width: int, height: int) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width * PX, height * PX))


def new_axes(figure: Figure, width: int, height: int, margins: tuple[int, int, int, int]) -> Axes:
    """Axes inside margins (left, top, right, bottom) in pixels."""
    left, top, right, bottom = margins
    axes = figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=MUTED, length=0, labelsize=11)
    axes.set_axisbelow(True)
    return axes


def write_title(figure: Figure, width: int, height: int, title: str, note: str) -> None:
    figure.text(0, 1 - 10 / height, title, va="center", color=INK, fontsize=13, fontweight="bold")
    figure.text(1, 1 - 10 / height, note, va="center", ha="right", color=MUTED, fontsize=11)


def whisker(axes: Axes, at: float, low: float, high: float, y: float, color: str) -> None:
    axes.plot([low, high], [y, y], color=color, linewidth=1.6, solid_capstyle="butt", clip_on=False)
    axes.plot([at], [y], color=color, marker="o", markersize=4.5, linewidth=0, clip_on=False)


def finish(figure: Figure, name: str, label: str, width: int) -> Drawing:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return Drawing(name, label, width, _inline(svg.getvalue(), name, label), png.getvalue())


def _inline(svg: bytes, name: str, label: str) -> str:
    """SVG to stand inside HTML: no metadata or styles of its own, ids of this figure only, the page's colours and font."""
    root = ET.fromstring(svg)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if _HREF in element.attrib:
            element.set("href", element.attrib.pop(_HREF))
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href":
                value = f"#{name}-{value.removeprefix('#')}"
            else:
                value = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value)
                value = re.sub(r"font-family:[^;]*;?", "", value)
                value = re.sub("#[0-9a-f]{6}", lambda match: _variable(match[0]), value)
            element.set(key, value)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": visible(label)})
    return ET.tostring(root, encoding="unicode")


def _variable(color: str) -> str:
    return f"var(--{VARIABLES[color]})" if color in VARIABLES else color
