"""Win, tie and lose of one model against another, from any judgments: a model's, an oracle's or people's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..progress import say, show_table, visible
from ..records import Judgment
from .heading import heading
from .intervals import Estimate, cluster_bootstrap
from .people import voices
from .rows import one_way, refuse_repeats
from .significance import SignTest, holm, shown_p, sign_flip_test, sign_test

NET = {"a": 1.0, "tie": 0.0, "b": -1.0}


@dataclass(frozen=True)
class Preference:
    """How `a` fares against `b` with one judge and rubric. `prompts` is the n of the estimates: prompts with a valid judgment.

    `invalid` judgments are counted and enter nothing else. The estimates are None where no judgment was valid. `win_or_tie` is 1 - lose,
    `net` is wins minus losses, from -1 to 1. `signs` counts the prompts that favour each, and tests whether one is favoured more often; `flips`
    is the p of the test that also weighs by how much. `signs_holm` and `flips_holm` are these p-values adjusted for all the pairs of the
    same judge and rubric. `both_orders` is the n of `order_agreement`: prompts with a sample, turn and draw judged validly in both orders;
    where there are none the agreement is None. `one_order` counts prompts whose valid judgments all show the same model first, `a_first` those of
    them that show a: what a judge thinks of the place is in their verdicts. `people`: how many judges these are, 1 unless `judge` is a group.
    """

    a: str
    b: str
    judge: str
    rubric: str
    prompts: int
    judgments: int
    invalid: int
    win: Estimate | None
    tie: Estimate | None
    lose: Estimate | None
    win_or_tie: Estimate | None
    net: Estimate | None
    signs: SignTest | None
    signs_holm: float | None
    flips: float | None
    flips_holm: float | None
    order_agreement: Estimate | None
    both_orders: int
    one_order: int
    a_first: int
    people: int


def preferences(judgments: Sequence[Judgment], *, apart: bool = False, seed: int = 0) -> list[Preference]:
    """One Preference for each (a, b, judge, rubric), sorted; the order of the judgments does not matter. A group of people is one judge (`people.voices`),
    or, where `apart`, each of its people.

    A prompt contributes the mean over its valid judgments (orders, draws, samples, turns of a dialogue, people), so win + tie + lose is 1; the
    intervals resample prompts (`intervals.cluster_bootstrap`), and the tests take one value a prompt: its wins minus losses
    (`significance.sign_test`, `sign_flip_test`). Order agreement: of the (sample, turn, draw) judged validly in both orders, the share
    with one verdict, a mean over prompts again.

    Raises LimakitError for two judgments of the same prompt, pair, sample, turn, order, judge, rubric and draw.
    """
    refuse_repeats(judgments)
    groups: dict[tuple[str, str, str, str], list[Judgment]] = defaultdict(list)
    voice = {row.judge: row.judge for row in judgments} if apart else voices(judgments)
    for row in one_way(judgments):
        groups[row.a, row.b, voice[row.judge], row.rubric].append(row)
    return _adjusted([_preference(*key, groups[key], seed) for key in sorted(groups)])


def _preference(a: str, b: str, judge: str, rubric: str, rows: list[Judgment], seed: int) -> Preference:
    verdicts: dict[str, list[str]] = defaultdict(list)
    orders: dict[tuple[str, str, int, int, int], dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row.verdict is not None:
            verdicts[row.prompt_id].append(row.verdict)
            orders[row.prompt_id, row.judge, row.sample, row.turn, row.draw][row.first] = row.verdict
    firsts: dict[str, set[str]] = defaultdict(set)
    agreements: dict[str, list[float]] = defaultdict(list)
    for (prompt_id, *_), by_order in orders.items():
        firsts[prompt_id] |= by_order.keys()
        if len(by_order) == 2:
            agreements[prompt_id].append(float(by_order["a"] == by_order["b"]))

    def share(verdict: str) -> Estimate | None:
        return _estimate({p: [float(v == verdict) for v in given] for p, given in verdicts.items()}, (0, 1), seed)

    net = {p: [NET[v] for v in given] for p, given in verdicts.items()}
    votes = [sum(net[p]) / len(net[p]) for p in sorted(net)]  # sums of whole numbers: a prompt that is even is at 0 exactly
    lose = share("b")
    return Preference(
        a, b, judge, rubric,
        prompts=len(verdicts),
        judgments=len(rows),
        invalid=sum(row.status == "invalid" for row in rows),
        win=share("a"),
        tie=share("tie"),
        lose=lose,
        win_or_tie=Estimate(1 - lose.value, 1 - lose.high, 1 - lose.low) if lose else None,  # the interval mirrors too
        net=_estimate(net, (-1, 1), seed),
        signs=sign_test(votes) if votes else None,
        signs_holm=None,
        flips=sign_flip_test(votes, seed=seed) if votes else None,
        flips_holm=None,
        order_agreement=_estimate(agreements, (0, 1), seed),
        both_orders=len(agreements),
        one_order=sum(len(shown) == 1 for shown in firsts.values()),
        a_first=sum(shown == {"a"} for shown in firsts.values()),
        people=len({row.judge for row in rows}),
    )  # fmt: skip


def _adjusted(found: list[Preference]) -> list[Preference]:
    """With the p-values adjusted over the pairs of the same judge and rubric: what a table holds beside each other, and a reader picks from."""
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, p in enumerate(found):
        if p.signs is not None:
            families[p.judge, p.rubric].append(i)
    adjusted = list(found)
    for members in families.values():
        signs = holm([test.p for i in members if (test := found[i].signs) is not None])
        flips = holm([flip for i in members if (flip := found[i].flips) is not None])
        for i, sign, flip in zip(members, signs, flips, strict=True):
            adjusted[i] = replace(found[i], signs_holm=sign, flips_holm=flip)
    return adjusted


def _estimate(by_prompt: dict[str, list[float]], bounds: tuple[float, float], seed: int) -> Estimate | None:
    # sorted, so that neither the order of prompts nor of rows within one changes a digit
    clusters = [sorted(by_prompt[p]) for p in sorted(by_prompt)]
    return cluster_bootstrap(clusters, bounds=bounds, seed=seed) if clusters else None


def percent(estimate: Estimate | None) -> str:
    """53 [47–59]: whole percents, or a dash where there is no estimate. No space in the brackets: a narrow table breaks lines at spaces."""
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.0f} [{100 * estimate.low:.0f}–{100 * estimate.high:.0f}]"


def points(estimate: Estimate | None) -> str:
    """+27 [18,36], -8 [-17,1]: percent points, as `percent` otherwise."""
    if estimate is None:
        return "-"
    value, low, high = (round(100 * x) for x in (estimate.value, estimate.low, estimate.high))
    return f"{'+' if value > 0 else ''}{value} [{low},{high}]"


def show_preferences(found: Sequence[Preference]) -> None:
    """The table of `limakit compare`, one a judge and rubric: shares of prompts in percent, wins minus losses, and the p of the sign test after Holm."""
    for judge, rubric in dict.fromkeys((p.judge, p.rubric) for p in found):
        _show([p for p in found if (p.judge, p.rubric) == (judge, rubric)])


def _show(found: Sequence[Preference]) -> None:
    names, said = heading(found, {"model": lambda p: p.a, "judge": lambda p: p.judge, "rubric": lambda p: p.rubric})
    title = f"Preference, percent of prompts [95 % interval, clustered by prompt]{said}"
    title += "\nwin or tie: 100 less lose; net: win less lose; p: sign test over prompts" + (" (Holm)" if len(found) > 1 else "")
    if (people := max(p.people for p in found)) > 1:
        title += f"\n{visible(found[0].judge)}: {people} people, a prompt's value is the mean of their verdicts"
    columns = [*names, "baseline", "n", "win", "tie", "lose", "net", "p"]
    rows = []
    for p in found:
        p_shown = "-" if p.signs_holm is None else shown_p(p.signs_holm)
        cells = [p.b, p.prompts, percent(p.win), percent(p.tie), percent(p.lose), points(p.net), p_shown]
        rows.append([*(pick(p) for pick in names.values()), *cells])
    show_table(title, columns, rows)
    for p in found:
        who = ", ".join([*(pick(p) for pick in names.values()), p.b])
        if p.invalid:
            say(visible(f"  {who}: {p.invalid} of {p.judgments} judgments are invalid, and in no figure"))
        if p.one_order:
            say(visible(f"  {who}: {p.one_order} of {p.prompts} prompts rest on one order, {p.a_first} of them with {p.a} first"))
