"""The tables of the page: rows of text and ledger numbers, each number entered as its cell is made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..analyze.grades import GradeSummary, in_order
from ..analyze.intervals import Estimate, cluster_bootstrap
from ..analyze.preference import Preference
from ..records import Response
from . import paper
from .inputs import Found
from .ledger import Ledger, Number, Rows, count, percent

Cell = str | Number
OTHERS = "The paper's judges, prompts and baselines are others than ours: the shape can be compared, not one bar with another."


@dataclass(frozen=True)
class Table:
    """`texts` leading columns hold words (left), the others numbers (right); `note` stands beneath."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    texts: int = 1
    note: str = ""


@dataclass(frozen=True)
class Fared:
    """The numbers of one Preference, as cells."""

    prompts: Cell
    win: Cell
    tie: Cell
    lose: Cell
    invalid: Cell
    agree: Cell
    both_orders: Cell


def share(ledger: Ledger, group: str, what: str, estimate: Estimate | None, n: int, rows: Rows) -> Cell:
    """A share of prompts as a cell: 53 % [45, 61], or a dash where there is no estimate."""
    if estimate is None:
        return "–"
    low, high = (f"{100 * x:.0f}" for x in (estimate.low, estimate.high))
    return ledger.add(
        group, what, estimate.value, percent(estimate.value),
        low=estimate.low, high=estimate.high, interval=f"{low}, {high}", n=n, of="prompts", rows=rows,
    )  # fmt: skip


def mean(ledger: Ledger, group: str, what: str, estimate: Estimate | None, digits: int, n: int, rows: Rows) -> Cell:
    """A mean over prompts as a cell: 3.83 [3.60, 4.06], or a dash."""
    if estimate is None:
        return "–"
    value, low, high = (f"{x:,.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return ledger.add(
        group, what, estimate.value, value, low=estimate.low, high=estimate.high, interval=f"{low}, {high}", n=n, of="prompts", rows=rows
    )  # fmt: skip


def preference_rows(p: Preference) -> dict[str, str]:
    """Of a group of people, whose rows name each, all rows of the pair."""
    return {"a": p.a, "b": p.b, "rubric": p.rubric} | ({"judge": p.judge} if p.people == 1 else {})


def fared(ledger: Ledger, p: Preference, rows: Rows) -> Fared:
    """Enter the numbers of one Preference."""
    whom = f"of {p.a} against {p.b}, judged by {p.judge} (rubric {p.rubric})"
    invalid = f"{count(p.invalid)} of {count(p.judgments)}"
    return Fared(
        ledger.add("preference", f"prompts {whom}", p.prompts, count(p.prompts), of="prompts", rows=rows),
        share(ledger, "preference", f"win {whom}", p.win, p.prompts, rows),
        share(ledger, "preference", f"tie {whom}", p.tie, p.prompts, rows),
        share(ledger, "preference", f"lose {whom}", p.lose, p.prompts, rows),
        ledger.add("preference", f"invalid judgments {whom}", p.invalid, invalid, n=p.judgments, of="judgments", rows=rows),
        share(ledger, "preference", f"both orders agree {whom}", p.order_agreement, p.both_orders, rows),
        ledger.add("preference", f"prompts in both orders {whom}", p.both_orders, count(p.both_orders), of="prompts", rows=rows),
    )  # fmt: skip


def preference_table(caption: str, found: Sequence[tuple[Preference, Fared]]) -> Table:
    """One row a pair, judge and rubric. A judge or rubric that is everybody's stands in the caption, which leaves room for the numbers."""
    names: list[tuple[str, Callable[[Preference], str]]] = [("model", lambda p: p.a), ("against", lambda p: p.b)]
    common = []
    for word, said, pick in (("judge", "judged by", lambda p: p.judge), ("rubric", "rubric", lambda p: p.rubric)):
        values = {pick(p) for p, _ in found}
        if len(values) > 1:
            names.append((word, pick))
        else:
            common.append(f"{said} {min(values)}")
    body = tuple((*(pick(p) for _, pick in names), f.prompts, f.win, f.tie, f.lose, f.invalid, f.agree, f.both_orders) for p, f in found)
    columns = (*(word for word, _ in names), "prompts", "wins", "tie", "loses", "invalid", "orders agree", "in both orders")
    note = (
        "Orders agree: the same verdict whichever response came first, of the prompts judged in both orders. "
        "Invalid: no verdict could be read, so it counts for nothing else. Rubric: the instructions to the judge."
    )
    return Table("; ".join([caption, *common]), columns, body, texts=len(names), note=note)


def paper_preference_table(ledger: Ledger) -> Table:
    """Figures 1 and 2 of the paper as numbers."""
    body = []
    for people, gpt4 in zip(paper.FIGURE_1.rows, paper.FIGURE_2.rows, strict=True):
        cells: list[Cell] = [people.against]
        for figure, row in ((paper.FIGURE_1, people), (paper.FIGURE_2, gpt4)):
            for word, value in (("win", row.win), ("tie", row.tie), ("lose", row.lose)):
                what = f"{word} of LIMA against {row.against}, judged by {figure.judge}"
                cells.append(
                    ledger.add(
                        "paper-preference",
                        what,
                        value / 100,
                        f"{value} %",
                        n=figure.prompts,
                        of="prompts",
                        paper=f"{paper.PAPER}, {figure.place}",
                    )
                )
        body.append(tuple(cells))
    columns = ("LIMA 65B against", "people: wins", "tie", "loses", "GPT-4: wins", "tie", "loses")
    caption = "The paper's figures 1 (people judge) and 2 (GPT-4 judges), 300 prompts each; no intervals given"
    return Table(caption, columns, tuple(body), note=OTHERS)


def grade_table(ledger: Ledger, found: Sequence[tuple[GradeSummary, Rows]], caption: str) -> tuple[Table, tuple[Cell, ...]]:
    """The grades of one judge, rubric and scale: a row a model, a column a grade; and the means alone.

    Where the scale is not known, the columns are the grades that were given: of others nobody knows whether they exist.
    """
    columns = found[0][0].scale or in_order(value for g, _ in found for value in g.counts)
    body, means = [], []
    for g, rows in found:
        whom = f"of {g.model}, graded by {g.judge} (rubric {g.rubric})"
        prompts = ledger.add("grade", f"prompts {whom}", g.prompts, count(g.prompts), of="prompts", rows=rows)
        means.append(mean(ledger, "grade", f"mean grade {whom}", g.mean, 2, g.prompts, rows))
        shown = f"{count(g.invalid)} of {count(g.grades)}"
        invalid = ledger.add("grade", f"invalid grades {whom}", g.invalid, shown, n=g.grades, of="grades", rows=rows)
        counts = [
            ledger.add("grade", f"grades {value} {whom}", g.counts.get(value, 0), count(g.counts.get(value, 0)), of="grades", rows=rows)
            for value in columns
        ]
        body.append((g.model, prompts, means[-1], invalid, *counts))
    note = (
        "Grade 1 and so on: how many of each. Invalid: no grade could be read, so it counts for nothing else. "
        "Rubric: the instructions to the judge."
    )
    heads = ("model", "prompts", "mean", "invalid", *(f"grade {value}" for value in columns))
    return Table(caption, heads, tuple(body), note=note), tuple(means)


def paper_grade_table(ledger: Ledger) -> Table:
    body = tuple(
        (g.trained_on, ledger.add("paper-grade", f"mean grade, trained on {g.trained_on}", g.mean, f"{g.mean:.2f}", paper=f"{paper.PAPER}, figure 5"))
        for g in paper.FIGURE_5
    )  # fmt: skip
    caption = "The paper's figure 5: 7B, 2,000 examples each, graded by ChatGPT"
    return Table(caption, ("trained on", "mean"), body, note="The paper's judge and prompts are others than ours.")


def response_table(ledger: Ledger, found: Found[Response], models: Sequence[str], max_tokens: int, caption: str) -> Table:
    """One row a model: prompts, responses, how they ended, mean length. Ending by itself means that EOT was learnt.

    A prompt weighs the same however many samples it has, and the intervals count prompts. A length lies between 0 and max_tokens (of the
    manifest, else of the recipe, else the longest there is).
    """
    return Table(
        caption,
        ("model", "prompts", "responses", "ended by itself", "cut at max_tokens", "context full", "mean tokens"),
        tuple(_response_row(ledger, found, model, max_tokens) for model in models),
        note="The upper end of mean tokens allows for prompts not seen here whose responses would run to max_tokens.",
    )


def _response_row(ledger: Ledger, found: Found[Response], model: str, max_tokens: int) -> tuple[Cell, ...]:
    by_prompt: dict[str, list[Response]] = defaultdict(list)
    for response in found.records:
        if response.model == model:
            by_prompt[response.prompt_id].append(response)
    clusters = [by_prompt[prompt_id] for prompt_id in sorted(by_prompt)]
    files = found.files({"model": model})
    rows = Rows(files, {"model": model})
    n, responses = len(clusters), sum(map(len, clusters))
    cells: list[Cell] = [model, ledger.add("response", f"prompts answered by {model}", n, count(n), of="prompts", rows=rows)]
    cells.append(ledger.add("response", f"responses of {model}", responses, count(responses), of="responses", rows=rows))
    for finish, what in (("eot", "ended by itself"), ("length", "cut at max_tokens"), ("context", "cut where the context was full")):
        ended = cluster_bootstrap([[float(r.finish == finish) for r in cluster] for cluster in clusters], bounds=(0, 1))
        cells.append(share(ledger, "response", f"{model}: {what}", ended, n, rows))
    limits = [limit for name in files if (limit := _limit(found, name))] or [max_tokens]
    counted = [counts for cluster in clusters if (counts := [float(r.tokens) for r in cluster if r.tokens is not None])]
    if not counted:  # somebody else's responses, of which nobody said
        return (*cells, "–")
    tokens = cluster_bootstrap(counted, bounds=(0, max(*limits, *(n for counts in counted for n in counts))))
    cells.append(mean(ledger, "response", f"mean tokens of {model}", tokens, 0, len(counted), rows))
    return tuple(cells)


def _limit(found: Found[Response], name: str) -> int | None:
    sampling = found.origins[name].settings.get("sampling") if name in found.origins else None
    limit = sampling.get("max_tokens") if isinstance(sampling, dict) else None
    return limit if isinstance(limit, int) else None
