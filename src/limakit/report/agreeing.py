"""The agreement section: how far judges agree, with each other and with themselves, beside the paper's figures."""

from __future__ import annotations

from dataclasses import replace

from ..analyze.agree import Agreed, Row, agreements, figures, label
from ..analyze.agreement import Measure
from ..records import Grade
from . import paper
from .inputs import Found, Inputs
from .ledger import Ledger, Rows, count, percent
from .sections import Finding, Section
from .tables import Cell, Table
from .text import plural

_NOTE = (
    "Tie ½: 1 where both say the same, ½ where exactly one says tie, else 0. No tie: of items where neither does. By chance: what the first figure is "
    "for judges who answer at random with the same shares of values; kappa and alpha are 0 then. A judge's verdict is what more than half of its "
    "answers to a comparison say, both orders weighing the same, else a tie; its grade is the median of its draws."
)


def agreement_section(inputs: Inputs, ledger: Ledger) -> Section | None:
    """A table a rubric, of results that are not out of date; None where nobody can agree, with others or with themselves."""
    judgments, grades = inputs.judgments.current, inputs.grades.current
    scales, notes = _scales(grades)
    kept = [row for row in grades.records if row.rubric in scales]
    tables: list[Table] = []
    findings: list[Finding] = []
    for found in agreements(judgments.records, kept, {rubric: scale for rubric, scale in scales.items() if scale}):
        rubric = {"rubric": found.opinions.rubric}
        files = judgments.files(rubric) if found.opinions.kind == "judgments" else grades.files(rubric)
        table, finding = _table(found, files, ledger)
        if table is not None:
            tables.append(table)
        if finding is not None:
            findings.append(finding)
    if not tables:
        return None
    tables[-1] = replace(tables[-1], note=_NOTE)
    return Section(tuple(findings), (), (*tables, _paper_table(ledger)), notes=notes)


def _scales(grades: Found[Grade]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """By rubric the grades there are, () where no manifest tells; and a note for each rubric left out because its files tell different ones."""
    told: dict[str, set[tuple[str, ...]]] = {}
    for name, row in grades.rows:
        scale = grades.origins[name].settings.get("scale") if name in grades.origins else None
        known = told.setdefault(row.rubric, set())
        if isinstance(scale, list) and scale:
            known.add(tuple(map(str, scale)))
    notes = [f"Left out is rubric {rubric}: its files have different scales." for rubric, known in sorted(told.items()) if len(known) > 1]
    return {rubric: next(iter(known), ()) for rubric, known in told.items() if len(known) < 2}, tuple(notes)


def _table(found: Agreed, files: tuple[str, ...], ledger: Ledger) -> tuple[Table | None, Finding | None]:
    opinions, pairs = found.opinions, found.of("judges")
    rows = [*found.of("everyone", "groups"), *pairs, *found.of("orders", "draws")]
    if not rows:
        return None, None
    named = figures(opinions.scale)
    first = next(iter(named))
    body = []
    for row in rows:
        rest = Rows(files, {"rubric": opinions.rubric} | ({"judge": row.first} if row.between in ("orders", "draws") else {}))
        whom = f"{label(row)} (rubric {opinions.rubric})"
        n = ledger.add("agreement", f"items judged by {whom}", row.found.items, count(row.found.items), of="items", rows=rest)
        cells = [_figure(ledger, f"{called}, {whom}", row.found[name], rest) for name, called in named.items()]
        chance = row.found[first].chance
        by_chance: Cell = "–"
        if chance is not None:
            by_chance = ledger.add(
                "agreement", f"{named[first]} by chance, {whom}", chance, percent(chance), n=row.found.items, of="items", rows=rest
            )
        body.append((label(row), n, cells[0], by_chance, *cells[1:]))
    what = "verdicts" if opinions.kind == "judgments" else "grades"
    caption = f"Agreement on {what}, with 95 % intervals that count prompts; rubric {opinions.rubric}"
    columns = ("judges", "items", named[first], "by chance", *list(named.values())[1:])
    return Table(caption, columns, tuple(body)), _finding(found, rows[0], body[0], named[first])


def _figure(ledger: Ledger, what: str, measure: Measure, rows: Rows) -> Cell:
    e = measure.estimate
    if e is None:
        return "–"
    if measure.name.startswith(("kappa", "alpha")):
        shown, interval = f"{e.value:.2f}", f"{e.low:.2f}, {e.high:.2f}"
    else:
        shown, interval = percent(e.value), f"{100 * e.low:.0f}, {100 * e.high:.0f}"
    return ledger.add("agreement", what, e.value, shown, low=e.low, high=e.high, interval=interval, n=measure.n, of="items", rows=rows)


def _finding(found: Agreed, row: Row, cells: tuple[Cell, ...], called: str) -> Finding | None:
    """One sentence on all judges, or the two there are; None where a judge has only itself to agree with."""
    if row.between not in ("everyone", "judges"):
        return None
    what = "verdicts" if found.opinions.kind == "judgments" else "grades"
    measure = "tie-discounted " if called == "tie ½" else "the same in "
    return (
        f"Agreement on {what} (rubric {found.opinions.rubric}), {label(row)}: {measure}", cells[2], " on ", cells[1],
        f" {plural(row.found.items, 'item')}, by chance ", cells[3], ".",
    )  # fmt: skip


def _paper_table(ledger: Ledger) -> Table:
    body = tuple(
        (
            a.judges,
            ledger.add(
                "paper-agreement", f"tie-discounted agreement, {a.judges}", a.percent / 100, f"{a.percent} %",
                n=paper.AGREEMENT_ITEMS, of="items", paper=f"{paper.PAPER}, section 4.1",
            ),
        )
        for a in paper.AGREEMENT
    )  # fmt: skip
    caption = f"The paper's agreement, tie-discounted, on {paper.AGREEMENT_ITEMS} shared items; no intervals given"
    return Table(caption, ("judges", "tie ½"), body, note="The paper's judges and items are others than ours.")
