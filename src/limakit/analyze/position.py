"""Does a judge prefer what it is shown first? Told by pairs of responses that it judged in both orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..progress import show_table
from ..records import Judgment
from .heading import heading
from .intervals import Estimate, cluster_bootstrap
from .people import voices
from .preference import percent
from .rows import one_way, refuse_repeats
from .significance import shown_p, sign_test

Pair = tuple[str, str, str, int, int, int, str]  # prompt, two models, sample, turn, draw, judge


@dataclass(frozen=True)
class Position:
    """One judge and rubric, over all models. `prompts` is the n of the estimates; `pairs` counts pairs of responses judged validly in both orders.

    `agree`: the share of pairs with the same verdict in both. `first`: the share of verdicts for the response that was shown first, a tie as half:
    with both orders there, 0.5 whatever the responses are worth, unless the place counts; `p` tests that. Of the pairs that do not agree,
    `to_first` went to the first place in both orders, `to_second` to the second, and in `to_tie` one of the two verdicts is a tie.
    """

    judge: str
    rubric: str
    prompts: int
    pairs: int
    agree: Estimate
    first: Estimate
    p: float
    to_first: int
    to_second: int
    to_tie: int


def positions(judgments: Sequence[Judgment], *, seed: int = 0) -> list[Position]:
    """One Position for each (judge, rubric) that has pairs in both orders, sorted; the order of the judgments does not matter.

    A pair is a prompt, sample, turn and draw of two models, judged by one person where a group of people is the judge (`people.voices`). A prompt contributes the mean over its pairs, those of all models together, and
    the intervals resample prompts (`intervals.cluster_bootstrap`). Test: the exact sign test over prompts of verdicts for the first place minus verdicts
    for the second. A judge that takes the first place where it cannot decide is not told by agreement alone: two ties agree too.

    Raises LimakitError for two of the same judgment.
    """
    refuse_repeats(judgments)
    orders: dict[tuple[str, str], dict[Pair, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    voice = voices(judgments)
    for row in one_way(judgments):
        if row.verdict is not None:
            pair = (row.prompt_id, row.a, row.b, row.sample, row.turn, row.draw, row.judge)
            orders[voice[row.judge], row.rubric][pair][row.first] = row.verdict
    found = (_position(*key, orders[key], seed) for key in sorted(orders))
    return [position for position in found if position is not None]


def _position(judge: str, rubric: str, orders: dict[Pair, dict[str, str]], seed: int) -> Position | None:
    lean: dict[str, list[int]] = defaultdict(list)  # -2 to 2: verdicts for the first place minus those for the second; 0: both say the same
    for (prompt_id, *_), verdicts in orders.items():
        if len(verdicts) == 2:
            lean[prompt_id].append(sum(0 if v == "tie" else 1 if v == first else -1 for first, v in verdicts.items()))
    if not lean:
        return None
    prompts = sorted(lean)
    all_leans = [one for leans in lean.values() for one in leans]
    return Position(
        judge, rubric,
        prompts=len(prompts),
        pairs=len(all_leans),
        agree=cluster_bootstrap([sorted(float(one == 0) for one in lean[p]) for p in prompts], bounds=(0, 1), seed=seed),
        first=cluster_bootstrap([sorted(0.5 + one / 4 for one in lean[p]) for p in prompts], bounds=(0, 1), seed=seed),
        p=sign_test([sum(lean[p]) for p in prompts]).p,
        to_first=all_leans.count(2),
        to_second=all_leans.count(-2),
        to_tie=sum(abs(one) == 1 for one in all_leans),
    )  # fmt: skip


def show_positions(found: Sequence[Position]) -> None:
    """A row a judge and rubric."""
    names, said = heading(found, {"rubric": lambda x: x.rubric})
    title = f"Position: pairs judged in both orders, percent of prompts [95 % interval]{said}"
    title += "\nfirst: verdicts for what was shown first, tie as half; 50 if places do not count"
    title += "\nflips: pairs that the first place won both times, and the second"
    columns = ["judge", *names, "n", "pairs", "orders agree", "first", "p", "flips"]
    rows = []
    for x in found:
        cells = [x.prompts, x.pairs, percent(x.agree), percent(x.first), shown_p(x.p), f"{x.to_first}, {x.to_second}"]
        rows.append([x.judge, *(pick(x) for pick in names.values()), *cells])
    show_table(title, columns, rows)
