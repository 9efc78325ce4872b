"""The sections of the page: from inputs to tables, figures and findings. A section whose inputs are missing is None."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

from ..analyze.intervals import Estimate
from ..analyze.preference import Preference, preferences
from ..recipe import Recipe
from ..records import Judgment
from . import paper
from .canvas import Drawing
from .figures import Bar, draw_preference
from .inputs import Found, Inputs, R, model_order
from .ledger import Ledger, Number, Rows
from .samples import Sample, samples
from .tables import Cell, Fared, Table, fared, preference_rows, preference_table, response_table
from .text import counted, plural, shorten

Finding = tuple[Cell, ...]  # a sentence: words and ledger numbers
OLD = "Out of date, so in no figure and not in short"


@dataclass(frozen=True)
class Section:
    """`stale`: what is out of date, and what to run."""

    findings: tuple[Finding, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    stale: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """The sample section."""

    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    stale: tuple[str, ...]
    how: str
    samples: tuple[Sample, ...]


def out_of_date(found: Found[R]) -> tuple[str, ...]:
    return tuple(f"{name}: {reason}" for name, reason in found.stale.items())


def baselines(inputs: Inputs, recipe: Recipe) -> list[str]:
    """What the recipe's model is compared with: the recipe's baselines, and others that it was judged against."""
    judged = {row.b for row in inputs.judgments.current.records if row.a == recipe.name}
    return [name for name in model_order(recipe, [*recipe.against, *judged]) if name != recipe.name]


def without(invalid: Cell, n: int, of: int, noun: str) -> list[Cell]:
    """ ", 2 of 48 judgments invalid", or nothing where all were valid."""
    return [", ", invalid, f" {plural(of, noun)} invalid"] if n else []


def preference_section(inputs: Inputs, recipe: Recipe, ledger: Ledger) -> Section | None:
    """Figure 1: win, tie and lose against each baseline."""
    if not inputs.judgments:
        return None
    found = _pairs(inputs.judgments.current, recipe, ledger)
    old = _pairs(inputs.judgments.old, recipe, ledger)
    tables = [preference_table("Share of prompts, with 95 % intervals that count prompts", found)] if found else []
    if old:
        table = preference_table(f"{OLD}: share of prompts", old)
        tables.append(replace(table, note="") if found else table)  # once is enough
    drawings = []
    for number, ((a, judge, rubric), group) in enumerate(groupby([p for p, _ in found], key=lambda p: (p.a, p.judge, p.rubric)), start=1):
        bars = [_bar(p, p.win, p.tie, p.lose) for p in group if p.win and p.tie and p.lose]
        if bars:
            said = "; ".join(_spoken(bar) for bar in bars)
            title = f"{shorten(a, 20)}, judged by {shorten(judge, 20)}"
            drawings.append(draw_preference(title, bars, f"preference-{number}", f"{a}, judged by {judge} (rubric {rubric}). {said}."))
    mine = sorted((row for row in found if row[0].a == recipe.name), key=lambda row: row[0].judge)
    order = baselines(inputs, recipe)
    mine.sort(key=lambda row: order.index(row[0].b))
    findings = [_verdicts(list(rows)) for _, rows in groupby(mine, key=lambda row: (row[0].b, row[0].judge))]
    return Section(tuple(findings), tuple(drawings), tuple(tables), out_of_date(inputs.judgments))


def _pairs(judgments: Found[Judgment], recipe: Recipe, ledger: Ledger) -> list[tuple[Preference, Fared]]:
    pairs = preferences(judgments.records)  # the default seed: the same intervals as limakit compare
    order = model_order(recipe, [name for p in pairs for name in (p.a, p.b)])
    pairs.sort(key=lambda p: (order.index(p.a), p.judge, p.rubric, order.index(p.b)))
    return [(p, fared(ledger, p, Rows(judgments.files(preference_rows(p)), preference_rows(p)))) for p in pairs]


@cache
def paper_drawings() -> tuple[Drawing, ...]:
    """The paper's figures 1 and 2, drawn in the same manner."""
    return tuple(_paper_drawing(figure, f"paper-{figure.place.replace(' ', '-')}") for figure in (paper.FIGURE_1, paper.FIGURE_2))


def _bar(p: Preference, win: Estimate, tie: Estimate, lose: Estimate) -> Bar:
    note = counted(p.prompts, "prompt") + (f", {p.invalid} invalid" if p.invalid else "")
    return Bar(f"against {p.b}", note, win.value, tie.value, lose.value, (win.low, win.high), (lose.low, lose.high))


def _spoken(bar: Bar) -> str:
    return f"{bar.label}: wins {100 * bar.win:.0f} %, ties {100 * bar.tie:.0f} %, loses {100 * bar.lose:.0f} % ({bar.note})"


def _paper_drawing(figure: paper.PaperFigure, name: str) -> Drawing:
    bars = [Bar(f"against {r.against}", f"{figure.prompts} prompts", r.win / 100, r.tie / 100, r.lose / 100) for r in figure.rows]
    title = f"LIMA 65B, judged by {figure.judge} (paper, {figure.place})"
    return draw_preference(title, bars, name, f"{title}. " + "; ".join(_spoken(bar) for bar in bars) + ".")


def _verdicts(rows: Sequence[tuple[Preference, Fared]]) -> Finding:
    """One baseline and one judge: a sentence, or one for each rubric where the judge had several."""
    first = rows[0][0]
    parts: list[Cell] = [f"{first.a} against {first.b}, judged by {first.judge}: "]
    for i, (p, f) in enumerate(rows):
        parts += [" " if i else "", f"(rubric {p.rubric}) " if len(rows) > 1 else "", *_verdict(p, f)]
    return tuple(parts)


def _verdict(p: Preference, f: Fared) -> Finding:
    """ "Ahead" and "behind" only where the intervals of win and lose do not meet."""
    if p.win is None or p.lose is None:
        return (f"nothing to say, as no judgment by {p.judge} is valid (", f.invalid, " invalid).")
    if p.win.low > p.lose.high:
        word = "ahead"
    elif p.lose.low > p.win.high:
        word = "behind"
    else:
        word = "no clear difference"
    numbers: list[Cell] = ["It wins ", f.win, ", ties ", f.tie, " and loses ", f.lose, " on ", f.prompts, f" {plural(p.prompts, 'prompt')}"]
    return (f"{word}. ", *numbers, *without(f.invalid, p.invalid, p.judgments, "judgment"), ".")


def sample_section(inputs: Inputs, recipe: Recipe, ledger: Ledger) -> Shown | None:
    """How the responses ended, and some of them side by side."""
    if not inputs.responses:
        return None
    current, old = inputs.responses.current, inputs.responses.old
    models = model_order(recipe, [r.model for r in current.records])
    tables, findings = [], []
    for found, caption in ((current, "Responses, and how they ended; 95 % intervals that count prompts"), (old, f"{OLD}: responses")):
        if found:
            names = model_order(recipe, [r.model for r in found.records])
            tables.append(response_table(ledger, found, names, recipe.generate.max_tokens, caption))
    if recipe.name in models:
        _, prompts, _, ended, *_ = tables[0].rows[models.index(recipe.name)]
        assert isinstance(prompts, Number)
        findings.append(
            (
                f"Of the responses of {recipe.name}, ",
                ended,
                " ended by themselves, on ",
                prompts,
                f" {plural(int(prompts.value), 'prompt')}.",
            )
        )
    asked = inputs.prompts[1] if inputs.prompts else {}
    chosen: list[Sample] = []
    how = "None is shown: the responses are out of date."
    if models:
        judged, graded = inputs.judgments.current.records, inputs.grades.current.records
        chosen, how = samples(asked, current.records, judged, graded, models, recipe.seed)
        if not chosen:
            how = f"None can be shown: {recipe.generate.prompts} has none of the prompts that {models[0]} answered."
    return Shown(tuple(findings), tuple(tables), out_of_date(inputs.responses), how, tuple(chosen))
