"""The grades section: one table and one figure for each judge, rubric and scale, so that two scales never share a column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..analyze.grades import WORDS, GradeSummary, by_tag, by_turn, in_order, lost_thread, numeric, summarise
from ..recipe import Recipe
from ..records import Grade
from .canvas import Drawing
from .figures import Distribution, draw_grades
from .inputs import Found, Inputs, model_order
from .ledger import Ledger, Rows
from .sections import OLD, Finding, Section, baselines, out_of_date, without
from .shares import Line, paper_figure, paper_safety, paper_shares, share_drawing, share_table
from .tables import Cell, Table, grade_table, paper_grade_table
from .text import counted, plural, shorten

Scale = tuple[str, ...]  # every grade there is, worst to best; () where that is not known
SAFETY = "safety"  # our rubric of that name: its paper numbers stand beside it
MANY_TAGS = 12


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

    @property
    def words(self) -> bool:
        """Whether the grades are words, so that shares say what there is to say."""
        return not any(g.mean for g in self.models) and any(g.counts for g in self.models)

    @property
    def dialogues(self) -> bool:
        return any(g.turns > g.prompts for g in self.models)

    @property
    def caption(self) -> str:
        return f"graded by {self.judge}, rubric {self.rubric}, {self.on()}"

    def lines(
        self, models: Sequence[GradeSummary], words: Sequence[str] = (), of: str = "", more: Mapping[str, int] | None = None
    ) -> list[Line]:
        """Rows of a table of shares; `more` selects among the rows besides model, judge and rubric."""
        found = []
        for g in models:
            where: dict[str, str | int] = {"model": g.model, "judge": g.judge, "rubric": g.rubric, **(more or {})}
            found.append(Line((g.model, *words), g, Rows(self.rows.files(where), where), of))
        return found

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
    groups = _groups(inputs.grades.current, recipe)
    for i, group in enumerate(groups, start=1):
        name, others = f"grades-{i}", baselines(inputs, recipe)
        if group.words:
            found = _word_tables(ledger, group, inputs)
            tables += found
            drawings += _word_drawings(group, name)
            finding = _word_finding(group, found[0], recipe.name, others)
        else:
            table, means = group.cells(ledger, "Mean grade over prompts, with 95 % intervals that count prompts")
            tables.append(table)
            drawings += _drawings(group, name)
            finding = _finding(group, table, means, recipe.name, others)
        if finding:
            findings.append(finding)
    tables += [group.cells(ledger, f"{OLD}: mean grade over prompts")[0] for group in _groups(inputs.grades.old, recipe)]
    papers, paper_tables = _papers(groups, ledger)
    return Section(tuple(findings), (*drawings, *papers), (*tables, *paper_tables), out_of_date(inputs.grades))


def _papers(groups: Sequence[Graded], ledger: Ledger) -> tuple[list[Drawing], list[Table]]:
    """What of the paper's grades stands beside ours: its figure 5 beside numbers, 3 and 7 beside fail, pass and excellent, its safety beside ours."""
    drawings, tables = [], []
    for dialogues in (False, True):
        if any(group.words and group.scale in ((), WORDS) and group.dialogues == dialogues and group.rubric != SAFETY for group in groups):
            drawings.append(paper_figure(dialogues))
            tables.append(paper_shares(ledger, dialogues))
    if any(group.rubric == SAFETY for group in groups):
        tables.append(paper_safety(ledger))
    if not tables or any(not group.words for group in groups):
        tables.append(paper_grade_table(ledger))
    return drawings, tables


def _word_tables(ledger: Ledger, group: Graded, inputs: Inputs) -> list[Table]:
    """Shares by model; by tag of the prompts, where some have one and others do not; by turn, where there are dialogues."""
    rows = group.rows.records
    lost = lost_thread(rows, scale=group.scale or WORDS)
    whole = []
    for line in group.lines(group.models):
        g = line.summary
        samples = {(row.prompt_id, row.sample) for row in rows if row.model == g.model}
        independent = len(samples) == len({prompt for prompt, _ in samples})
        hits = lost.get((g.model, g.judge, g.rubric))
        whole.append(Line(line.words, g, line.rows, "", (*hits, independent) if hits else None))
    tables = [share_table(ledger, whole, f"Share of each grade, with 95 % intervals; {group.caption}", ("model",))]
    order = [g.model for g in group.models]
    if inputs.prompts is not None:
        name, prompts = inputs.prompts
        tagged = by_tag(rows, {id: prompt.tags for id, prompt in prompts.items()}, scale=group.scale)
        lines = []
        for tag in sorted(tagged, key=lambda tag: (-max(g.prompts for g in tagged[tag]), tag))[:MANY_TAGS]:
            of = f", prompts tagged {tag}"
            for line in group.lines(sorted(tagged[tag], key=lambda g: order.index(g.model)), (tag,), of):
                files = dict.fromkeys((*line.rows.files, name))
                lines.append(Line(line.words, line.summary, Rows(tuple(files), line.rows.where), of))
        if lines:
            tables.append(share_table(ledger, lines, f"By tag of the prompts; {group.caption}", ("model", "tag")))
    if group.dialogues:
        lines = []
        for turn, summaries in by_turn(rows, scale=group.scale).items():
            lines += group.lines(summaries, (f"{turn + 1}",), f", turn {turn + 1}", {"turn": turn})
        lines.sort(key=lambda line: (order.index(line.summary.model), int(line.words[1])))
        tables.append(share_table(ledger, lines, f"Turn by turn; {group.caption}", ("model", "turn")))
    return tables


def _word_drawings(group: Graded, name: str) -> list[Drawing]:
    title = f"Grades by {shorten(group.judge, 20)}, {shorten(group.rubric, 20)}"
    stacked = share_drawing(title, name, f"Grades by {group.name()}", group.models)
    return [stacked] if stacked is not None else _drawings(group, name)


def _word_finding(group: Graded, table: Table, mine: str, others: Sequence[str]) -> Finding | None:
    """The share of the best grade and of the worst, of the recipe's model and its baselines."""
    rows = {row[0]: row for row in table.rows}
    values = [column.removeprefix("grade ") for column in table.columns if column.startswith("grade ")]
    if mine not in rows or len(values) < 2:
        return None
    at = {column: i for i, column in enumerate(table.columns)}
    parts: list[Cell] = [f"Graded by {group.name()}: "]
    for model in (mine, *(other for other in others if other in rows)):
        row = rows[model]
        parts += ["" if model == mine else "; ", f"{model} {values[-1]} ", row[at[f"grade {values[-1]}"]]]
        parts += [f", {values[0]} ", row[at[f"grade {values[0]}"]], " of ", row[at["turns" if group.dialogues else "prompts"]]]
        parts.append(" turns" if group.dialogues else " prompts")
    return (*parts, ".")


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
