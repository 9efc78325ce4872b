"""What each judge thinks of each item: one opinion, however often and in whichever order it was asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..errors import LimakitError
from ..records import Asked, Grade, Judgment
from .agreement import MISSING, Codes, Scale
from .grades import WORDS, in_order, numeric
from .people import group_of
from .rows import one_way, refuse_repeats

VERDICTS = Scale(("a", "b", "tie"), tie=2)


class Item(NamedTuple):
    """What opinions are about. `models`: the two that are compared, in the order that most rows name them, or the one that is graded."""

    prompt_id: str
    models: tuple[str, ...]
    sample: int
    turn: int


@dataclass(frozen=True)
class Judge:
    """`group`: whom its agreement is pooled with (`people.group_of`). `items`: with a valid opinion; `one_order`: those of them whose valid judgments all
    show the same model first (0 for grades)."""

    name: str
    group: str
    items: int
    rows: int
    invalid: int
    one_order: int = 0


@dataclass(frozen=True)
class Repeats:
    """A judge's opinions about one and the same: a row each, MISSING where one is invalid or was not asked, and the row's prompt."""

    codes_UR: Codes
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Opinions:
    """All that was said under one rubric. `codes_IJ`: the place in `scale.values` of each judge's opinion of each item, or MISSING.

    `orders` and `draws`, by judge: the same draw with either model shown first, and the same question drawn several times.
    """

    kind: Literal["judgments", "grades"]
    rubric: str
    scale: Scale
    items: tuple[Item, ...]
    judges: tuple[Judge, ...]
    codes_IJ: Codes
    orders: dict[str, Repeats]
    draws: dict[str, Repeats]

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of each item: what intervals are clustered by."""
        return tuple(item.prompt_id for item in self.items)


class _Said(NamedTuple):
    """A row. `code` is None where it is invalid; `first` is the model shown first, by its place in the item's models."""

    item: Item
    judge: str
    first: int
    draw: int
    code: int | None
    asked: Asked | None


def one_verdict(by_order: Sequence[Sequence[int]], tie: int) -> int:
    """A judge's verdict on one comparison: what more than half of its valid rows say, where each order weighs the same; else a tie.

    `by_order[i]` holds the valid verdicts (all draws) of one order, none empty. Asked once in either order that is: what both say, else a tie (Zheng et al.
    2023, "Judging LLM-as-a-judge", section 3.4: a win only if in both orders). A judge that always prefers the first one shown has ties only.
    """
    shares: dict[int, float] = defaultdict(float)
    for codes in by_order:
        for code in codes:
            shares[code] += 1 / len(codes)
    code, share = max(shares.items(), key=lambda pair: pair[1])
    return code if share > len(by_order) / 2 + 1e-9 else tie


def one_grade(codes: Sequence[int], *, ordered: bool) -> int:
    """A judge's grade of one response, from its valid draws, in order: their median, of two in the middle the worse; where grades have no order
    the most frequent one, of equally frequent ones the first drawn."""
    return sorted(codes)[(len(codes) - 1) // 2] if ordered else max(codes, key=lambda code: (codes.count(code), -codes.index(code)))


def judgment_opinions(judgments: Sequence[Judgment]) -> list[Opinions]:
    """One Opinions for each rubric, sorted. Two models are named in one order (`rows.one_way`).

    Raises LimakitError for two rows about the same.
    """
    refuse_repeats(judgments)
    by_rubric: dict[str, list[_Said]] = defaultdict(list)
    for row in one_way(judgments):
        item = Item(row.prompt_id, (row.a, row.b), row.sample, row.turn)
        code = None if row.verdict is None else VERDICTS.values.index(row.verdict)
        by_rubric[row.rubric].append(_Said(item, row.judge, int(row.first == "b"), row.draw, code, row.asked))
    return [_opinions("judgments", rubric, VERDICTS, by_rubric[rubric]) for rubric in sorted(by_rubric)]


def grade_opinions(grades: Sequence[Grade], scales: Mapping[str, tuple[str, ...]]) -> list[Opinions]:
    """One Opinions for each rubric, sorted. `scales`: the grades there are, worst to best, where that is known; else they are taken for ordered
    where they are numbers, or fail, pass, excellent.

    Raises LimakitError for a grade that is not on its scale, and for two rows about the same.
    """
    refuse_repeats(grades)
    by_rubric: dict[str, list[Grade]] = defaultdict(list)
    for row in grades:
        by_rubric[row.rubric].append(row)
    return [_graded(rubric, by_rubric[rubric], scales.get(rubric, ())) for rubric in sorted(by_rubric)]


def _graded(rubric: str, rows: list[Grade], told: tuple[str, ...]) -> Opinions:
    seen = {row.value for row in rows if row.value is not None}
    if told and seen - set(told):
        what = f"a grade {min(seen - set(told))!r} under rubric {rubric!r}, whose grades are {', '.join(told)}"
        raise LimakitError(what, remedy="judge again, or give grades on another scale another rubric's name")
    written = {value: value for value in seen}
    if not told and (sizes := numeric(seen)):  # "4" and "4.0" are one grade: the shorter name
        written = {value: min((one for one in seen if sizes[one] == sizes[value]), key=lambda one: (len(one), one)) for value in seen}
        seen = set(written.values())
    words = not told and seen <= set(WORDS)
    values = told or (WORDS if words else tuple(in_order(seen)))
    numbers = numeric(values)
    scale = Scale(values, ordered=bool(told or numbers or words), numbers=tuple(numbers[v] for v in values) if numbers else None)
    place = {value: i for i, value in enumerate(values)}
    said = []
    for row in rows:
        code = None if row.value is None else place[written[row.value]]
        said.append(_Said(Item(row.prompt_id, (row.model,), row.sample, row.turn), row.judge, 0, row.draw, code, row.asked))
    return _opinions("grades", rubric, scale, said)


def _opinions(kind: Literal["judgments", "grades"], rubric: str, scale: Scale, rows: list[_Said]) -> Opinions:
    rows = sorted(rows, key=lambda row: (row[:4], MISSING if row.code is None else row.code))  # so that the order of rows changes nothing
    items = {item: i for i, item in enumerate(sorted({row.item for row in rows}))}
    by_judge: dict[str, list[_Said]] = defaultdict(list)
    for row in rows:
        by_judge[row.judge].append(row)
    names = sorted(by_judge)
    codes_IJ = np.full((len(items), len(names)), MISSING, dtype=np.intp)
    judges = []
    for j, name in enumerate(names):
        valid: dict[Item, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row in by_judge[name]:
            if row.code is not None:
                valid[row.item][row.first].append(row.code)
        for item, by_order in valid.items():
            orders = list(by_order.values())
            codes_IJ[items[item], j] = one_grade(orders[0], ordered=scale.ordered) if scale.tie is None else one_verdict(orders, scale.tie)
        mine = by_judge[name]
        group = group_of(name, [row.asked for row in mine])
        one_order = 0 if scale.tie is None else sum(len(by_order) == 1 for by_order in valid.values())
        judges.append(Judge(name, group, len(valid), len(mine), sum(row.code is None for row in mine), one_order))
    orders_of = {name: _repeats(by_judge[name], over="first") for name in names}
    draws_of = {name: _repeats(by_judge[name], over="draw") for name in names}
    return Opinions(
        kind, rubric, scale, tuple(items), tuple(judges), codes_IJ,
        orders={name: found for name, found in orders_of.items() if found is not None},
        draws={name: found for name, found in draws_of.items() if found is not None},
    )  # fmt: skip


def _repeats(rows: list[_Said], over: Literal["first", "draw"]) -> Repeats | None:
    """One judge's rows that differ in nothing but `over`, side by side; None where there is one of each."""
    place = {value: i for i, value in enumerate(sorted({getattr(row, over) for row in rows}))}
    if len(place) < 2:
        return None
    units: dict[tuple[Item, int], list[int]] = {}
    for row in rows:
        same = (row.item, row.draw if over == "first" else row.first)
        codes = units.setdefault(same, [MISSING] * len(place))
        if row.code is not None:
            codes[place[getattr(row, over)]] = row.code
    return Repeats(np.array(list(units.values()), dtype=np.intp), tuple(item.prompt_id for item, _ in units))
