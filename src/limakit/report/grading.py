"""The grades section: one table and one figure for each judge, rubric and scale, so that two scales never share a column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..analyze.grades import GradeSummary, in_order, numeric, summarise
from ..recipe import Recipe
from ..records import Grade
from .canvas import Drawing
from .figures import Distribution, draw_grades
from .inputs import Found, Inputs, model_order
from .ledger import Ledger, Rows
from .sections import OLD, Finding, Section, baselines, out_of_date, without
from .tables import Cell, Table, grade_table, paper_grade_table
from .text import counted, plural, shorten

Scale = tuple[str, ...]  # every grade there is, worst to best; () where that is not known


@dataclass(frozen=True)
class Graded:
    """The grades by one judge and rubric, on one scale: a summary a model, and the rows it was made from."""

    judge: str
    rubric: str
    scale: Scale
    rows: Found[Grade]
    models: tuple[GradeSummary, ...]

    def name(self) -> str:
        return f"{self.judge} (rubric {self.rubric})"

    def on(self) -> str:
        """The scale in words, to stand after "grade"."""
        if self.scale:
            return f"on {self.scale[0]} to {self.scale[-1]}" if numeric(self.scale) else f"on {', '.join(self.scale)}"
        given = in_order(value for g in self.models for value in g.counts)
        return f"on a scale that is not known (given: {given[0]} to {given[-1]})" if given else "on a scale that is not known"

    def cells(self, ledger: Ledger, caption: str) -> tuple[Table, tuple[Cell, ...]]:
        found = []
        for g in self.models:
            where = {"model": g.model, "judge": g.judge, "rubric": g.rubric}
            found.append((g, Rows(self.rows.files(where), where)))
        return grade_table(ledger, found, f"{caption}; graded by {self.judge}, rubric {self.rubric}, {self.on()}")


def grade_section(inputs: Inputs, recipe: Recipe, ledger: Ledger) -> Section | None:
    """Grades by model: the distribution, and the mean with its interval where the scale is numeric."""
    if not inputs.grades:
        return None
    tables: list[Table] = []
    findings: list[Finding] = []
    drawings: list[Drawing] = []
    for group in _groups(inputs.grades.current, recipe):
        table, means = group.cells(ledger, "Mean grade over prompts, with 95 % intervals that count prompts")
        tables.append(table)
        drawings += _drawings(group, f"grades-{len(tables)}")
        if finding := _finding(group, table, means, recipe.name, baselines(inputs, recipe)):
            findings.append(finding)
    tables += [group.cells(ledger, f"{OLD}: mean grade over prompts")[0] for group in _groups(inputs.grades.old, recipe)]
    return Section(tuple(findings), tuple(drawings), (*tables, paper_grade_table(ledger)), out_of_date(inputs.grades))


def _groups(grades: Found[Grade], recipe: Recipe) -> list[Graded]:
    """Rows whose file names no scale take that of the others by the same judge and rubric, where these have one."""
    named = {name: _scale(grades, name) for name in dict.fromkeys(name for name, _ in grades.rows)}
    known: dict[tuple[str, str], set[Scale]] = defaultdict(set)
    for name, row in grades.rows:
        known[row.judge, row.rubric] |= {named[name]} - {()}
    groups: dict[tuple[str, str, Scale], list[tuple[str, Grade]]] = defaultdict(list)
    for name, row in grades.rows:
        common = known[row.judge, row.rubric]
        groups[row.judge, row.rubric, named[name] or (min(common) if len(common) == 1 else ())].append((name, row))
    found = []
    for (judge, rubric, scale), rows in sorted(groups.items()):
        summaries = {g.model: g for g in summarise([row for _, row in rows], scale=scale)}
        models = tuple(summaries[model] for model in model_order(recipe, list(summaries)))
        found.append(Graded(judge, rubric, scale, Found(tuple(rows)), models))
    return found


def _scale(grades: Found[Grade], name: str) -> Scale:
    """What the judge wrote into the manifest."""
    scale = grades.origins[name].settings.get("scale") if name in grades.origins else None
    known = isinstance(scale, list) and len(scale) > 1 and all(isinstance(value, str) for value in scale)
    return tuple(scale) if scale and known else ()


def _finding(group: Graded, table: Table, means: Sequence[Cell], mine: str, others: Sequence[str]) -> Finding | None:
    """The recipe's model and its baselines in one sentence; None where the grades are words, or not the model's."""
    place = {g.model: i for i, g in enumerate(group.models) if g.mean}
    if mine not in place:
        return None
    parts: list[Cell] = [f"Mean grade by {group.name()}, {group.on()}: "]
    for model in (mine, *(other for other in others if other in place)):
        g, row = group.models[place[model]], table.rows[place[model]]
        parts += ["" if model == mine else "; ", f"{model} ", means[place[model]], " on ", row[1], f" {plural(g.prompts, 'prompt')}"]
        parts += without(row[3], g.invalid, g.grades, "grade")
    return (*parts, ".")


def _drawings(group: Graded, name: str) -> list[Drawing]:
    graded = [g for g in group.models if g.counts]
    if not graded:
        return []
    values = group.scale or tuple(in_order(value for g in graded for value in g.counts))
    rows = [_distribution(g, values) for g in graded]
    said = "; ".join(f"{g.model}: " + ", ".join(f"{n} times {value}" for value, n in g.counts.items()) for g in graded)
    title = f"Grades by {shorten(group.judge, 20)}, {shorten(group.rubric, 20)}"
    return [draw_grades(title, rows, name, f"Grades by {group.name()}. {said}.")]


def _distribution(g: GradeSummary, values: Scale) -> Distribution:
    total = sum(g.counts.values())
    shares: Mapping[str, float] = {value: g.counts.get(value, 0) / total for value in values}
    note = counted(g.prompts, "prompt") + (f", {g.invalid} invalid" if g.invalid else "")
    if g.mean is None:
        return Distribution(g.model, note, dict(shares), None, None)
    note = f"mean {g.mean.value:.2f}, {note}"
    # without a scale the bounds of the mean are a guess, and the axis ends where the grades do: the interval may not fit on it
    fits = bool(g.scale)
    return Distribution(g.model, note, dict(shares), g.mean.value if fits else None, (g.mean.low, g.mean.high) if fits else None)
