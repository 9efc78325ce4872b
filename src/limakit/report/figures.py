"""The figures: drawn once with matplotlib, given back as SVG for the page and PNG to keep.

Nothing is told by colour alone: every segment is labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .canvas import (
    ACCENT,
    FAINT,
    INK,
    LINE,
    LOSE,
    MUTED,
    ON_LOSE,
    ON_TIE,
    ON_WIN,
    TIE,
    WIN,
    Drawing,
    finish,
    new_axes,
    new_figure,
    style,
    whisker,
    write_title,
)
from .text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = 400
CROWDED = 12  # grades on an axis: with more, not every one can have its label


@dataclass(frozen=True)
class Bar:
    """One stacked bar: fractions of 1 that sum to 1, intervals as (low, high) or None (the paper gives none)."""

    label: str
    note: str
    win: float
    tie: float
    lose: float
    win_interval: tuple[float, float] | None = None
    lose_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curve:
    """A run's log: one entry a step, in order; `ends` are the steps that end an epoch, `means` the mean loss of each epoch."""

    steps: Sequence[int]
    loss: Sequence[float]
    lr: Sequence[float]
    grad_norm: Sequence[float]
    ends: Sequence[int]
    means: Sequence[float]


@dataclass(frozen=True)
class Distribution:
    """Grades of one model: share of each value, and the mean with its interval where the scale is numeric."""

    label: str
    note: str
    shares: dict[str, float]
    mean: float | None
    interval: tuple[float, float] | None


@style()
def draw_loss(curve: Curve, name: str, label: str) -> Drawing:
    """Training loss of each step, the mean of each epoch, and where the epochs end."""
    figure = new_figure(520, 260)
    axes = new_axes(figure, 520, 260, (48, 34, 12, 40))
    axes.plot(curve.steps, curve.loss, color=FAINT, linewidth=1.2)
    starts = [curve.steps[0], *curve.ends[:-1]]
    middles = [(start + end) / 2 for start, end in zip(starts, curve.ends, strict=True)]
    if len(curve.ends) > 1:
        axes.plot(middles, curve.means, color=ACCENT, linewidth=1.8, marker="o", markersize=4)
    _epoch_marks(axes, curve, labels=True)
    axes.set_xlabel("step", color=MUTED)
    write_title(figure, 520, 260, "Training loss", "thin: each step; dots: mean of each epoch")
    return finish(figure, name, label, 520)


@style()
def draw_schedule(curve: Curve, name: str, label: str) -> Drawing:
    """Learning rate and gradient norm (before clipping) over the steps: two small panels."""
    width, height = 280, 260
    figure = new_figure(width, height)
    for title, values, top in (("Learning rate", curve.lr, 34), ("Gradient norm", curve.grad_norm, 158)):
        axes = new_axes(figure, width, height, (52, top, 10, height - top - 70))
        axes.plot(curve.steps, values, color=ACCENT, linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=3)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        _epoch_marks(axes, curve, labels=False)
        figure.text(0, 1 - (top - 14) / height, title, va="center", color=INK, fontsize=13, fontweight="bold")
    axes.set_xlabel("step", color=MUTED)
    return finish(figure, name, label, width)


@style()
def draw_preference(
    title: str, bars: Sequence[Bar], name: str, label: str, words: tuple[str, str, str] = ("wins", "tie", "loses")
) -> Drawing:
    """Win / tie / lose in percent, one bar a baseline, 95 % intervals of win and lose beneath their bar. `words`: what the three parts are, where
    they are something else (excellent, pass and fail)."""
    row, top = 76, 52
    height = top + row * len(bars) + 24
    figure = new_figure(PANEL, height)
    axes = new_axes(figure, PANEL, height, (2, top, 6, 24))
    for i, bar in enumerate(bars):
        left = 0.0
        for value, fill, ink in ((bar.win, WIN, ON_WIN), (bar.tie, TIE, ON_TIE), (bar.lose, LOSE, ON_LOSE)):
            axes.barh(i, 100 * value, left=left, height=0.3, color=fill, linewidth=0)
            if value >= 0.09:  # narrower than its label: the table beneath has the number
                axes.text(left + 50 * value, i, f"{100 * value:.0f} %", ha="center", va="center_baseline", color=ink, fontweight="bold")
            left += 100 * value
        axes.text(0, i - 0.29, shorten(bar.label, 34), va="center", color=INK, parse_math=False)
        axes.text(100, i - 0.29, bar.note, va="center", ha="right", color=MUTED, fontsize=11, parse_math=False)
        if bar.win_interval:
            low, high = bar.win_interval
            whisker(axes, 100 * bar.win, 100 * low, 100 * high, i + 0.25, WIN)
        if bar.lose_interval:
            low, high = bar.lose_interval
            whisker(axes, 100 - 100 * bar.lose, 100 - 100 * high, 100 - 100 * low, i + 0.37, LOSE)
    axes.set(xlim=(0, 100), ylim=(len(bars) - 0.5, -0.5), yticks=[])
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    figure.text(0, 1 - 10 / height, shorten(title, 52), va="center", color=INK, fontsize=13, fontweight="bold", parse_math=False)
    x = 2.0
    for fill, word in zip((WIN, TIE, LOSE), words, strict=True):
        word = shorten(word, 14)
        figure.text(x / PANEL, 1 - 32 / height, "■", va="center", color=fill, fontsize=14)
        figure.text((x + 15) / PANEL, 1 - 32 / height, word, va="center", color=MUTED, parse_math=False)
        x += 36 + 7 * len(word)  # as wide as the word, in an ordinary font
    return finish(figure, name, label, PANEL)


@style()
def draw_grades(title: str, models: Sequence[Distribution], name: str, label: str) -> Drawing:
    """The share of each grade, one row a model, and beneath it the mean with its 95 % interval on the same scale."""
    row, top = 104, 30
    values = list(models[0].shares)
    height = top + row * len(models) + 24
    scale = 0.4 / max(share for model in models for share in model.shares.values())
    figure = new_figure(PANEL, height)
    axes = new_axes(figure, PANEL, height, (2, top, 2, 24))
    for i, model in enumerate(models):
        base = i + 0.78
        for x, share in enumerate(model.shares.values()):
            axes.bar(x, -scale * share, bottom=base, width=0.62, color=FAINT, linewidth=0)
            if share and len(values) <= CROWDED:
                axes.text(x, base - scale * share - 0.03, f"{100 * share:.0f} %", ha="center", va="bottom", color=MUTED, fontsize=11)
        axes.plot([-0.5, len(values) - 0.5], [base, base], color=LINE, linewidth=1)
        if model.mean is not None:
            low, high = model.interval or (model.mean, model.mean)
            whisker(axes, _place(model.mean, values), _place(low, values), _place(high, values), base + 0.1, ACCENT)
        axes.text(-0.5, i + 0.1, shorten(model.label, 26), va="center", color=INK, parse_math=False)
        axes.text(len(values) - 0.5, i + 0.1, model.note, va="center", ha="right", color=MUTED, fontsize=11, parse_math=False)
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(len(models), 0), yticks=[])
    every = -(-len(values) // CROWDED)
    axes.set_xticks(range(0, len(values), every), [shorten(value, 12) for value in values[::every]], parse_math=False)
    axes.spines["left"].set_visible(False)
    figure.text(0, 1 - 10 / height, shorten(title, 52), va="center", color=INK, fontsize=13, fontweight="bold", parse_math=False)
    return finish(figure, name, label, PANEL)


def _place(grade: float, values: Sequence[str]) -> float:
    """Where a number lies on an axis with one place a grade, whatever lies between two grades and whichever end is the better one."""
    import numpy as np

    numbers = [float(value) for value in values]
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return float(np.interp(grade, [numbers[i] for i in order], order))


def _epoch_marks(axes: Axes, curve: Curve, *, labels: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=7 if labels else 4, integer=True))
    every = -(-len(curve.ends) // 10)
    for epoch, end in enumerate(curve.ends, start=1):
        axes.axvline(end, color=LINE, linewidth=0.8, zorder=0)
        if labels and (epoch % every == 0 or epoch == 1 == len(curve.ends)):
            text = f"epoch {epoch}" if epoch == every else str(epoch)
            axes.annotate(text, (end, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                          ha="center", color=MUTED, fontsize=10)  # fmt: skip
