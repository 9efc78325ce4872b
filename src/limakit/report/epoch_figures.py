"""The figures of a choice: perplexity and grades over the epochs, as the paper's figure 9, and the one against the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..analyze.intervals import Estimate
from .canvas import ACCENT, INK, LINE, LOSE, MUTED, Drawing, finish, new_axes, new_figure, style
from .text import shorten

CROWDED = 18  # epochs on an axis


@dataclass(frozen=True)
class Series:
    """One measure over the epochs; an epoch without it is left out. `title` and `note` stand above its panel."""

    title: str
    note: str
    values: dict[int, Estimate]


@style()
def draw_epochs(series: Sequence[Series], epochs: Sequence[int], chosen: int | None, name: str, label: str) -> Drawing:
    """A panel a series, each over the same epochs, with 95 % intervals; the chosen epoch is marked."""
    width, panel, drawn = (
        400,
        176,
        116,
    )  # pixels: a panel with its title and numbers, and its axes alone; it shrinks to a phone's width and is read
    height = panel * len(series) + 20
    figure = new_figure(width, height)
    for i, one in enumerate(series):
        top = 30 + panel * i
        axes = new_axes(figure, width, height, (48, top, 12, height - top - drawn))
        color = (ACCENT, LOSE)[i % 2]
        at = sorted(one.values)
        axes.plot(at, [one.values[epoch].value for epoch in at], color=color, linewidth=1.6, marker="o", markersize=4)
        highest = max(one.values[epoch].value for epoch in at)
        for epoch in at:
            estimate = one.values[epoch]
            axes.plot([epoch, epoch], [estimate.low, min(estimate.high, 4 * highest)], color=color, linewidth=1.2, alpha=0.55)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        every = -(-len(epochs) // CROWDED)
        axes.set_xticks(list(epochs)[::every])
        axes.locator_params(axis="y", nbins=4)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        if chosen is not None:
            axes.axvline(chosen, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
            if i == 0:
                axes.annotate("chosen", (chosen, 1), xycoords=("data", "axes fraction"), xytext=(4, -9), textcoords="offset points",
                              color=MUTED, fontsize=10)  # fmt: skip
        figure.text(0, 1 - (top - 16) / height, one.title, va="center", color=INK, fontsize=13, fontweight="bold", parse_math=False)
        figure.text(1, 1 - (top - 16) / height, shorten(one.note, 30), va="center", ha="right", color=MUTED, fontsize=11, parse_math=False)
    axes.set_xlabel("epoch", color=MUTED)
    return finish(figure, name, label, width)


@style()
def draw_against(perplexity: Series, grades: Series, chosen: int | None, name: str, label: str) -> Drawing:
    """Perplexity against the mean grade, a point an epoch with its number; a line leads from epoch to epoch."""
    width, height = 400, 374
    figure = new_figure(width, height)
    axes = new_axes(figure, width, height, (48, 34, 14, 42))
    at = sorted(perplexity.values.keys() & grades.values.keys())
    x, y = [perplexity.values[e].value for e in at], [grades.values[e].value for e in at]
    axes.plot(x, y, color=LINE, linewidth=1.2, zorder=1)
    for epoch, one, two in zip(at, x, y, strict=True):
        axes.plot([one], [two], color=ACCENT, marker="o", markersize=8 if epoch == chosen else 5, linewidth=0)
        text = f"{epoch} (chosen)" if epoch == chosen else str(epoch)
        axes.annotate(text, (one, two), xytext=(6, 5), textcoords="offset points", color=INK, fontsize=11)
    axes.margins(0.12)
    axes.locator_params(nbins=5)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_xlabel("held-out perplexity", color=MUTED)
    figure.text(0, 1 - 10 / height, "Mean grade against perplexity", va="center", color=INK, fontsize=13, fontweight="bold")
    figure.text(1, 1 - 10 / height, "by epoch", va="center", ha="right", color=MUTED, fontsize=11)
    return finish(figure, name, label, width)
