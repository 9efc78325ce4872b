"""`limakit agree`: how far judges agree, people and models, with each other, by groups, and with themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import LimakitError
from ..progress import escape_json, say, show_table, visible
from ..records import Grade, Judgment
from .agreement import MANY, MISSING, Agreement, Codes, Measure, Scale, agreement
from .opinions import Opinions, grade_opinions, judgment_opinions
from .preference import percent
from .results import read_results

PAIRS_SHOWN = 28  # of 8 judges
Between = Literal["everyone", "groups", "judges", "models", "orders", "draws"]


@dataclass(frozen=True)
class Row:
    """Who was compared with whom. `between`: "everyone" (each two of all judges), "groups" (two, or one within itself: `first` equal to `second`),
    "judges" (two), "models" (each two of all judges, on items about the models that `first` names), "orders" and "draws" (of judge `first` itself)."""

    between: Between
    first: str
    second: str
    judges: int
    found: Agreement


@dataclass(frozen=True)
class Agreed:
    """Of one rubric: every Row there is, but of two judges those of the PAIRS_SHOWN pairs with the most items in common; `left_out` counts the other
    pairs, `alone` those without an item in common."""

    opinions: Opinions
    rows: tuple[Row, ...]
    alone: int
    left_out: int

    def of(self, *between: Between) -> list[Row]:
        return [row for row in self.rows if row.between in between]


def agreements(
    judgments: Sequence[Judgment], grades: Sequence[Grade], scales: Mapping[str, tuple[str, ...]], *, seed: int = 0
) -> list[Agreed]:
    """One Agreed for each rubric that anybody used, judgments before grades. `scales`: the grades there are, by rubric (`opinions.grade_opinions`).

    Rubrics are never mixed: another question may have another answer. Within one, items are (pair of models, or model; prompt, sample, turn), each
    judge has one opinion of each (`opinions.one_verdict`, `one_grade`), invalid rows are none, and figures are those of `agreement.agreement`.

    Groups (`people.group_of`) are pooled: each item weighs the same, with all its pairs of one judge from either. They are left out where they say the
    same as two judges do. Raises LimakitError for two rows about the same, and a grade that is not on its scale.
    """
    return [_agreed(one, seed) for one in (*judgment_opinions(judgments), *grade_opinions(grades, scales))]


def _agreed(opinions: Opinions, seed: int) -> Agreed:
    rows: list[Row] = []

    def add(between: Between, first: str, second: str, one: list[int], other: list[int], codes: Codes, prompts: Sequence[str]) -> bool:
        found = agreement(codes, one, other, prompts, opinions.scale, seed=seed)
        if found is not None:
            rows.append(Row(between, first, second, len({*one, *other}), found))
        return found is not None

    codes, prompts, judges = opinions.codes_IJ, opinions.prompts, opinions.judges
    everybody = list(range(len(judges)))
    if len(judges) > 2:
        add("everyone", "", "", everybody, everybody, codes, prompts)
    groups: dict[str, list[int]] = {}
    for j, judge in enumerate(judges):
        groups.setdefault(judge.group, []).append(j)
    for name in sorted(groups):
        if 2 < len(groups[name]) < len(judges):
            add("groups", name, name, groups[name], groups[name], codes, prompts)
    for first, second in combinations(sorted(groups), 2):
        if len(groups[first]) + len(groups[second]) > 2:
            add("groups", first, second, groups[first], groups[second], codes, prompts)
    there_IJ = (codes != MISSING).astype(np.int64)
    common_JJ = there_IJ.T @ there_IJ
    pairs = [(i, j) for i, j in combinations(everybody, 2) if common_JJ[i, j]]
    alone = len(everybody) * (len(everybody) - 1) // 2 - len(pairs)
    most = sorted(sorted(pairs, key=lambda pair: -common_JJ[pair])[:PAIRS_SHOWN])  # a figure takes time, and nobody reads thousands
    for i, j in most:
        add("judges", judges[i].name, judges[j].name, [i], [j], codes, prompts)
    about = sorted({item.models for item in opinions.items})
    if len(judges) > 1 and len(about) > 1:
        for models in about:
            mine = [i for i, item in enumerate(opinions.items) if item.models == models]
            add("models", " – ".join(models), "", everybody, everybody, codes[mine], [prompts[i] for i in mine])
    for name, orders in sorted(opinions.orders.items()):
        add("orders", name, name, [0], [1], orders.codes_UR, orders.prompts)
    for name, draws in sorted(opinions.draws.items()):
        many = list(range(draws.codes_UR.shape[1]))
        add("draws", name, name, many, many, draws.codes_UR, draws.prompts)
    return Agreed(opinions, tuple(rows), alone, len(pairs) - len(most))


def show_agreement(files: Sequence[Path] | None, recipe: Path | None, *, as_json: bool) -> None:
    """Print the agreement of the judges in `files`, or in the workspace's judgments/*.jsonl and grades/*.jsonl: tables, or JSON with every figure.

    Raises LimakitError as `read_results` does, and where there is nothing to compare: one judge, who was asked everything once.
    """
    results = read_results(files, recipe)
    found = agreements([row.record for row in results.judgments], [row.record for row in results.grades], results.scales)
    if not any(one.rows for one in found):
        who = sorted({judge.name for one in found for judge in one.opinions.judges})
        what = f"only {visible(who[0])} has judged" if len(who) == 1 else "no item was judged by two judges under the same rubric"
        remedy = "name files of another judge's judgments of the same responses, or add a judge: [[judge.also]] in the recipe"
        raise LimakitError(f"{what}, so there is nobody to agree with", remedy=remedy)
    if as_json:
        say(escape_json(json.dumps([_as_json(one) for one in found], indent=2, ensure_ascii=False)))
        return
    for one in found:
        if one.rows:
            _show(one)
        else:
            judges = [judge.name for judge in one.opinions.judges]
            reason = f"only {judges[0]} has judged" if len(judges) == 1 else "no item was judged by two judges"
            say(visible(f"Rubric {one.opinions.rubric}: {reason}, so there is nothing to compare"))


def _show(agreed: Agreed) -> None:
    opinions = agreed.opinions
    title = f"{'Agreement on verdicts' if opinions.kind == 'judgments' else 'Agreement on grades'}, rubric {opinions.rubric}"
    title += " [95 % interval, clustered by prompt]"
    pairs = agreed.of("judges")
    shown = [*agreed.of("everyone", "groups"), *pairs]
    if shown:
        _table(title, "judges", shown, opinions.scale)
    if by_models := agreed.of("models"):
        _table(
            f"The same by {'pair of models' if opinions.kind == 'judgments' else 'model'}, all judges", "models", by_models, opinions.scale
        )
    if itself := agreed.of("orders", "draws"):
        title = f"Each judge with itself, rubric {opinions.rubric}: the same question with either response first, or drawn again"
        _table(title, "judge", itself, opinions.scale)
    for note in _notes(agreed, pairs):
        say(f"- {note}")


def _table(title: str, about: str, rows: Sequence[Row], scale: Scale) -> None:
    named, counts = figures(scale), {row.found.items for row in rows}
    one_n = len(counts) == 1  # then it stands in the title and leaves its column to the names
    cells = [[label(row), *([] if one_n else [row.found.items]), *(_cell(row.found[name]) for name in named)] for row in rows]
    title += f"\n{min(counts)} item{'s' if min(counts) > 1 else ''}" if one_n else ""
    show_table(title, [about, *([] if one_n else ["n"]), *named.values()], cells)


def figures(scale: Scale) -> dict[str, str]:
    """Which figures a table has room for, and what it calls them. JSON has all of all."""
    if scale.tie is not None:
        return {"tie_discounted": "tie ½", "exact": "exact", "no_tie": "no tie", "kappa": "kappa", "alpha": "alpha"}
    if len(scale.values) > MANY:
        return {"exact": "exact"} | ({"alpha_interval": "interval alpha"} if scale.numbers else {})
    if scale.ordered:
        return {"exact": "exact", "kappa": "kappa", "kappa_quadratic": "weighted kappa", "alpha_ordinal": "ordinal alpha"}
    return {"exact": "exact", "kappa": "kappa", "alpha": "alpha"}


def label(row: Row) -> str:
    """A row's name in a table."""
    if row.between == "everyone":
        return f"all {row.judges} judges"
    if row.between == "groups":
        return f"{f'among {row.first}' if row.first == row.second else f'{row.first} – {row.second}'} ({row.judges} judges)"
    if row.between == "judges":
        return f"{row.first} – {row.second}"
    return row.first if row.between == "models" else f"{row.first}: {row.between}"


def _cell(measure: Measure) -> str:
    if not measure.name.startswith(("kappa", "alpha")):
        return percent(measure.estimate)
    return "-" if (e := measure.estimate) is None else f"{_short(e.value)} [{_short(e.low)}–{_short(e.high)}]"


def _short(value: float) -> str:
    """.85, -.12, 1.00: two decimals, no leading zero, and no minus before nothing."""
    text = f"{value:.2f}"
    return ".00" if text == "-0.00" else text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def _notes(agreed: Agreed, pairs: Sequence[Row]) -> list[str]:
    opinions = agreed.opinions
    verdicts = opinions.scale.tie is not None
    notes = []
    if verdicts:
        notes.append("tie ½: 1 where both say the same, ½ where exactly one says tie, else 0; no tie: of items where neither says tie")
    elif opinions.scale.ordered:
        notes.append("weighted kappa: by the squared distance of two grades")
    if by_chance := _chances(agreed):
        notes.append(f"judges who answer at random with the same shares of values reach {by_chance}; kappa and alpha are 0 then")
    if any(measure.estimate is None for row in agreed.rows for measure in row.found.measures):
        notes.append("-: not defined, as nothing could be disagreed about")
    if verdicts and (opinions.orders or opinions.draws):
        notes.append("a judge's verdict is what more than half of its answers say, both orders weighing the same, else a tie")
    elif opinions.draws:
        notes.append(f"a judge's grade is the {'median' if opinions.scale.ordered else 'most frequent'} of its draws")
    if len(opinions.scale.values) > MANY:
        notes.append(f"{len(opinions.scale.values)} different grades: kappa and the like are for {MANY} at most")
    if agreed.of("groups"):
        notes.append('groups: judges called "crowd/anna", "crowd/ben" are the group crowd')
    if agreed.left_out:
        notes.append(f"{len(pairs) + agreed.left_out} pairs of judges have items in common; here are the {len(pairs)} with the most")
    if agreed.alone:
        notes.append(f"{agreed.alone} pairs of judges have no item in common")
    once = []
    for group in dict.fromkeys(judge.group for judge in opinions.judges):
        of = [judge for judge in opinions.judges if judge.group == group]
        if one_order := sum(judge.one_order for judge in of):
            once.append(f"{group} {one_order} of {sum(judge.items for judge in of)}")
    if once:
        notes.append(f"items with a valid verdict in one order only: {', '.join(once)}")
    if invalid := [f"{judge.name} {judge.invalid} of {judge.rows}" for judge in opinions.judges if judge.invalid]:
        notes.append(f"invalid, and in no figure: {', '.join(invalid)}")
    return [visible(note) for note in notes]


def _chances(agreed: Agreed) -> str:
    """ "tie ½ 50 to 51 %, exact 41 %", over the rows."""
    parts = []
    for name, called in figures(agreed.opinions.scale).items():
        levels = [level for row in agreed.rows if (level := row.found[name].chance) is not None]
        if levels and not name.startswith(("kappa", "alpha")):
            low, high = f"{100 * min(levels):.0f}", f"{100 * max(levels):.0f}"
            parts.append(f"{called} {low} %" if low == high else f"{called} {low} to {high} %")
    return ", ".join(parts)


def _as_json(agreed: Agreed) -> dict[str, Any]:
    opinions = agreed.opinions
    return {
        "of": opinions.kind,
        "rubric": opinions.rubric,
        "values": list(opinions.scale.values),
        "items": len(opinions.items),
        "judges": [
            {"name": j.name, "group": j.group, "items": j.items, "rows": j.rows, "invalid": j.invalid, "one_order": j.one_order} for j in opinions.judges
        ],
        "agreement": [
            {
                "between": row.between,
                "first": row.first,
                "second": row.second,
                "judges": row.judges,
                "items": row.found.items,
                "prompts": row.found.prompts,
                "measures": {m.name: _measure_json(m) for m in row.found.measures},
            }
            for row in agreed.rows
        ],
        "pairs_without_common_items": agreed.alone,
        "pairs_left_out": agreed.left_out,
    }  # fmt: skip


def _measure_json(measure: Measure) -> dict[str, Any]:
    e = measure.estimate
    value, low, high = (None, None, None) if e is None else (e.value, e.low, e.high)
    return {"n": measure.n, "value": value, "low": low, "high": high, "chance": measure.chance}
