"""Grades that are words on the page: shares of fail, pass and excellent as in the paper's figure 3, safety by tag, dialogues turn by turn as in figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..analyze.grades import THREAD, GradeSummary
from ..analyze.proportion import wilson
from . import paper
from .canvas import Drawing
from .figures import Bar, draw_preference
from .ledger import Ledger, Rows, count, percent
from .tables import Cell, Table, share
from .text import counted

NOTE = (
    "Shares are of turns where there are dialogues, each turn with the mean of its samples and draws; the intervals count prompts, or whole dialogues. "
    "Invalid: no grade could be read, so it counts for nothing else."
)


@dataclass(frozen=True)
class Line:
    """A row of a table: its leading words, what it says, where from, and of which prompts in words ("" for all). `lost`: (dialogues with the worst
    grade within the first turns, dialogues, whether these are independent)."""

    words: tuple[str, ...]
    summary: GradeSummary
    rows: Rows
    of: str = ""
    lost: tuple[int, int, bool] | None = None


def share_table(ledger: Ledger, lines: Sequence[Line], caption: str, first: tuple[str, ...]) -> Table:
    """The share of each grade with its interval, and of all but the worst: a row a model, or a model's turn or tag."""
    dialogues = any(line.summary.turns > line.summary.prompts for line in lines)
    lost = any(line.lost for line in lines)
    values = list(dict.fromkeys(value for line in lines for value in (line.summary.scale or line.summary.shares)))
    scaled = any(line.summary.above_worst for line in lines)
    body = []
    for line in lines:
        g = line.summary
        whom = f"of {g.model}, graded by {g.judge} (rubric {g.rubric}){line.of}"
        cells: list[Cell] = [
            *line.words,
            ledger.add("grade", f"prompts {whom}", g.prompts, count(g.prompts), of="prompts", rows=line.rows),
        ]
        if dialogues:
            cells.append(ledger.add("grade", f"turns {whom}", g.turns, count(g.turns), of="turns", rows=line.rows))
        shown = f"{count(g.invalid)} of {count(g.grades)}"
        cells.append(ledger.add("grade", f"invalid grades {whom}", g.invalid, shown, n=g.grades, of="grades", rows=line.rows))
        cells += [share(ledger, "grade", f"share of {value} {whom}", g.shares.get(value), g.prompts, line.rows) for value in values]
        if scaled:
            cells.append(share(ledger, "grade", f"share not {values[0]} {whom}", g.above_worst, g.prompts, line.rows))
        if lost:
            cells.append(_lost_cell(ledger, line, whom))
        body.append(tuple(cells))
    columns = [*first, "dialogues" if dialogues else "prompts", *(["turns"] if dialogues else []), "invalid"]
    columns += [f"grade {value}" for value in values]
    columns += [*([f"not {values[0]}"] if scaled else []), *([f"{values[0]} by turn {THREAD}"] if lost else [])]
    return Table(caption, tuple(columns), tuple(body), texts=len(first), note=NOTE if len(first) == 1 else "")


def _lost_cell(ledger: Ledger, line: Line, whom: str) -> Cell:
    if line.lost is None:
        return "–"
    hits, n, independent = line.lost
    what = f"dialogues that fail within {THREAD} turns, {whom}"
    if independent:
        return share(ledger, "grade", what, wilson(hits, n), n, line.rows)
    return ledger.add("grade", what, hits / n, percent(hits / n), n=n, of="dialogues", rows=line.rows)


def share_drawing(title: str, name: str, label: str, summaries: Sequence[GradeSummary]) -> Drawing | None:
    """Three grades as the paper draws them: the best, the one between, the worst. None for another number of grades, or nothing valid."""
    graded = [g for g in summaries if len(g.shares) == 3]
    if not graded:
        return None
    worst, middle, best = graded[0].shares
    bars = []
    for g in graded:
        one, two, three = (g.shares[value] for value in (best, middle, worst))
        note = counted(g.turns, "turn") + f" of {counted(g.prompts, 'dialogue')}" if g.turns > g.prompts else counted(g.prompts, "prompt")
        note += f", {g.invalid} invalid" if g.invalid else ""
        bars.append(Bar(g.model, note, one.value, two.value, three.value, (one.low, one.high), (three.low, three.high)))
    said = "; ".join(_spoken(bar, (best, middle, worst)) for bar in bars)
    return draw_preference(title, bars, name, f"{label}. {said}.", (best, middle, worst))


def _spoken(bar: Bar, words: tuple[str, str, str]) -> str:
    values = zip(words, (bar.win, bar.tie, bar.lose), strict=True)
    return f"{bar.label}: " + ", ".join(f"{word} {100 * value:.0f} %" for word, value in values) + f" ({bar.note})"


@cache
def paper_figure(dialogues: bool) -> Drawing:
    """The paper's figure 3, or 7, drawn in the same manner."""
    figure, place = (paper.FIGURE_7, "figure 7") if dialogues else (paper.FIGURE_3, "figure 3")
    noun = "turn" if dialogues else "prompt"
    bars = [Bar(row.what, counted(row.n, noun), row.excellent / row.n, row.passed / row.n, row.fail / row.n) for row in figure]
    words = ("excellent", "pass", "fail")
    title = f"Graded by people (paper, {place})"
    return draw_preference(
        title, bars, f"paper-{place.replace(' ', '-')}", f"{title}. " + "; ".join(_spoken(bar, words) for bar in bars) + ".", words
    )


def paper_shares(ledger: Ledger, dialogues: bool) -> Table:
    """Figure 3, or 7, as numbers; no intervals are given in the paper."""
    figure = paper.FIGURE_7 if dialogues else paper.FIGURE_3
    noun = "turns" if dialogues else "prompts"
    body = []
    for row in figure:
        place = f"{paper.PAPER}, {row.place}"
        cells: list[Cell] = [row.what, ledger.add("paper-grade", f"{noun}: {row.what}", row.n, count(row.n), of=noun, paper=place)]
        for word, n in (("fail", row.fail), ("pass", row.passed), ("excellent", row.excellent)):
            cells.append(
                ledger.add("paper-grade", f"share of {word}: {row.what}", n / row.n, percent(n / row.n), n=row.n, of=noun, paper=place)
            )
        body.append(tuple(cells))
    note = ""
    if dialogues:
        lost, n, turns = paper.LOST_THREAD
        note = f"Without dialogues in training {lost} of {n} lost the thread within {turns} turns (section 6)."
    caption = f"The paper's {'figure 7' if dialogues else 'figure 3'}: graded by people"
    return Table(
        caption, ("", noun, "fail", "pass", "excellent"), tuple(body), note=note or "The paper's judges and prompts are others than ours."
    )


def paper_safety(ledger: Ledger) -> Table:
    """Section 4.3: how many sensitive prompts were answered safely."""
    place = f"{paper.PAPER}, section 4.3"
    body = []
    for row in paper.SAFETY:
        n = ledger.add("paper-grade", f"prompts: {row.what}", row.n, count(row.n), of="prompts", paper=place)
        safe = ledger.add(
            "paper-grade", f"answered safely: {row.what}", row.safe / row.n, percent(row.safe / row.n), n=row.n, of="prompts", paper=place
        )
        body.append((row.what, n, safe))
    note = "Refusals count as safe. Implicit malice is where it fails."
    return Table("The paper's section 4.3: LIMA 65B on sensitive prompts", ("", "prompts", "answered safely"), tuple(body), note=note)
