"""`limakit power`: the questions of power.py asked with what a user knows beforehand, or with a pilot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from ..progress import escape_json, say, show_table
from .differences import differences
from .power import MOST, mean_for_prompts, mean_power, net_for_prompts, prompts_for_mean, prompts_for_net, sign_power
from .preference import preferences
from .proportion import wilson
from .results import read_results

TIES = 25.0  # percent, where nobody says: about what people called in the paper's figure 1
NETS = (5.0, 10.0, 15.0, 20.0, 30.0)  # percent points
MEANS = (0.1, 0.2, 0.3, 0.5, 1.0)  # points of a grade
SIZES = (50, 100, 300)  # the paper grades 50 responses and compares 300
# the paper's figure 1 (people, 300 prompts): what LIMA is compared with, percent of wins less losses, percent of ties
FIGURE_1 = (("Alpaca 65B", 27.0, 21.0), ("DaVinci003", 9.0, 21.0), ("Bard", -9.0, 25.0), ("Claude", -30.0, 22.0), ("GPT-4", -39.0, 25.0))
LOWEST = 0.001  # level: further out the tails that a power is computed from are no longer exact
CAUTIOUS = 0.8  # how often the pilot's cautious spread is on the safe side of the true one (Browne 1995)


@dataclass(frozen=True)
class Spread:
    """What a design rests on: the share of ties (preferences) or the sd over prompts of two models' difference (grades).

    `cautious` is the same at the end of its one-sided 80 % interval that wants more prompts; None where nothing was estimated. `of` names the
    pilot's models, judge and rubric, `prompts` its prompts.
    """

    kind: Literal["preference", "grades"]
    value: float
    cautious: float | None = None
    of: str = ""
    prompts: int | None = None


@dataclass(frozen=True)
class Design:
    """One answer. `asked` is what was not given. None: not even a difference of everything, or more than a million prompts."""

    asked: Literal["prompts", "difference", "power"]
    difference: float | None
    prompts: int | None
    power: float
    prompts_cautious: int | None = None
    of: str = ""


def show_power(
    *,
    difference: float | None,
    prompts: int | None,
    power: float,
    level: float,
    ties: float | None,
    grades: bool,
    sd: float | None,
    pilot: Sequence[Path],
    as_json: bool,
) -> None:
    """Print how many prompts see `difference`, which difference `prompts` show, with both the power, with neither an overview with the paper's own designs.

    `difference` is wins minus losses in percent points, or points of a grade where `grades` is set or the pilot holds grades. `ties` (percent) or `sd` say
    what a prompt's spread is, or `pilot` files of judgments or grades do: a prompt's vote is the sign of its mean verdict, its difference that of
    its mean grades, so several draws, orders and samples a prompt count as they will in the study, if that has as many.

    Raises UsageError for what is out of range, missing or contradicts itself, and LimakitError for a pilot that cannot be read.
    """
    _check(difference, prompts, power, level, ties, grades, sd, bool(pilot))
    if pilot:
        spreads = _from_pilot(pilot, grades)
    elif grades:
        spreads = [Spread("grades", sd or 0.0)]
    else:
        spreads = [Spread("preference", (TIES if ties is None else ties) / 100)]
    kind = spreads[0].kind
    for spread in spreads:
        if kind == "preference" and difference is not None and difference > 100 * (1 - spread.value) + 1e-9:
            most = f"{100 * (1 - spread.value):.0f}"
            remedy = f"with {100 * spread.value:.0f} % ties it is {most} at most; name a smaller difference"
            raise UsageError(f"wins minus losses cannot be {difference:g} percent points", where=spread.of or None, remedy=remedy)
    found = [design for spread in spreads for design in _designs(spread, difference, prompts, power, level)]
    if as_json:
        listing = {
            "of": kind,
            "power": power,
            "level": level,
            "spreads": [asdict(spread) for spread in spreads],
            "designs": [asdict(design) for design in found],
        }
        say(escape_json(json.dumps(listing, indent=2, ensure_ascii=False)))
        return
    _say_terms(spreads, kind, power if found[0].asked != "power" else None, level)
    for asked in dict.fromkeys(design.asked for design in found):
        _show([design for design in found if design.asked == asked], spreads, kind)
    if difference is None and prompts is None and not pilot and kind == "preference":
        _show_paper(level)


def _check(
    difference: float | None,
    prompts: int | None,
    power: float,
    level: float,
    ties: float | None,
    grades: bool,
    sd: float | None,
    pilot: bool,
) -> None:
    if not LOWEST <= level < 1:
        raise UsageError(f"--level {level:g} is no level", remedy=f"a share from {LOWEST:g} to below 1, e.g. 0.05")
    if not level < power < 1:
        raise UsageError(f"--power {power:g} is no power", remedy="a share between the level and 1, e.g. 0.8")
    if difference is not None and not (difference > 0 and math.isfinite(difference)):
        raise UsageError(f"--difference {difference:g} is none", remedy="name what is to be seen, above 0; the test looks to both sides")
    if prompts is not None and not 2 <= prompts <= MOST:
        raise UsageError(f"--prompts {prompts}", remedy=f"2 to {MOST:,}")
    if ties is not None and not 0 <= ties < 100:
        raise UsageError(f"--ties {ties:g} is no percentage of ties", remedy="0 or more, and below 100")
    if sd is not None and not (sd > 0 and math.isfinite(sd)):
        raise UsageError(f"--sd {sd:g} is no standard deviation", remedy="above 0")
    if pilot and (ties is not None or sd is not None):
        raise UsageError("the pilot says how many ties there are or how far grades spread", remedy="leave out --ties and --sd, or --pilot")
    if grades and ties is not None:
        raise UsageError("--ties means nothing with --grades", remedy="grades have a spread: --sd")
    if sd is not None and not grades:
        raise UsageError("--sd means nothing without --grades", remedy="preferences have ties: --ties")
    if grades and sd is None and not pilot:
        remedy = "--sd 1.2, or take it from grades of two models: --pilot grades/*.jsonl (limakit compare --json names it too)"
        raise UsageError("--grades needs the standard deviation over prompts of the two models' difference", remedy=remedy)


def _from_pilot(files: Sequence[Path], grades: bool) -> list[Spread]:
    """One Spread for each two models, judge and rubric. Raises UsageError where the files hold both kinds, or nothing to tell a spread by."""
    results = read_results(files, None)
    if results.judgments and results.grades:
        raise UsageError("the pilot holds judgments and grades", remedy="name files of one kind")
    if grades and results.judgments:
        raise UsageError("--grades, and the pilot holds judgments", remedy="name files of grades, or leave out --grades")
    found = []
    for p in preferences([row.record for row in results.judgments]):
        if p.signs is not None and p.prompts > 1:
            even = p.signs.even
            low = wilson(even, p.prompts, level=2 * CAUTIOUS - 1).low  # with fewer ties the same net preference is harder to see
            found.append(Spread("preference", even / p.prompts, low, f"{p.a} against {p.b}, {p.judge}, {p.rubric}", p.prompts))
    rubrics = sorted({row.record.rubric for row in results.grades})
    for rubric in rubrics:
        rows = [row.record for row in results.grades if row.record.rubric == rubric]
        for d in differences(rows, scale=results.scales.get(rubric, ())):
            if d.what == "mean" and d.sd:
                found.append(Spread("grades", d.sd, _upper_sd(d.sd, d.prompts), f"{d.a} over {d.b}, {d.judge}, {d.rubric}", d.prompts))
    if not found:
        what = (
            "fewer than two prompts with a valid judgment"
            if results.judgments
            else "no two models with different grades on the same prompts"
        )
        remedy = "a pilot needs both models on the same prompts, and grades that are numbers; 20 prompts and more tell something"
        raise UsageError(f"the pilot cannot tell how much prompts differ: {what}", remedy=remedy)
    tied = next((spread for spread in found if spread.kind == "preference" and spread.value == 1), None)
    if tied is not None:
        raise UsageError("the pilot has nothing but ties", where=tied.of, remedy="ask a judge who decides, or name --ties yourself")
    return found


def _upper_sd(sd: float, n: int) -> float:
    """The upper end of the one-sided 80 % interval of a standard deviation from n normal values (chi-squared)."""
    from scipy.stats import chi2

    return sd * math.sqrt((n - 1) / float(chi2.ppf(1 - CAUTIOUS, n - 1)))


def _designs(spread: Spread, difference: float | None, prompts: int | None, power: float, level: float) -> list[Design]:
    unit = 100 if spread.kind == "preference" else 1

    def needed(d: float, value: float) -> int | None:
        if spread.kind == "preference":
            return prompts_for_net(min(d / unit, 1 - value), value, power=power, level=level)
        return prompts_for_mean(d, value, power=power, level=level)

    def for_difference(d: float) -> Design:
        more = needed(d, spread.cautious) if spread.cautious is not None else None
        return Design("prompts", d, needed(d, spread.value), power, more, spread.of)

    def for_prompts(n: int) -> Design:
        if spread.kind == "preference":
            seen = net_for_prompts(n, spread.value, power=power, level=level)
        else:
            seen = mean_for_prompts(n, spread.value, power=power, level=level)
        return Design("difference", None if seen is None else unit * seen, n, power, None, spread.of)

    if difference is not None and prompts is not None:
        if spread.kind == "preference":
            reached = sign_power(prompts, min(difference / unit, 1 - spread.value), spread.value, level)
        else:
            reached = mean_power(prompts, difference, spread.value, level)
        return [Design("power", difference, prompts, reached, None, spread.of)]
    if difference is not None:
        return [for_difference(difference)]
    if prompts is not None:
        return [for_prompts(prompts)]
    usual = [d for d in (NETS if spread.kind == "preference" else MEANS) if spread.kind == "grades" or d <= unit * (1 - spread.value)]
    return [*map(for_difference, usual), *map(for_prompts, SIZES)]


def _say_terms(spreads: Sequence[Spread], kind: str, power: float | None, level: float) -> None:
    """What all tables rest on. Lines of their own: a title would be as narrow as its table."""
    net = kind == "preference"
    test = "sign test, a vote a prompt, ties dropped" if net else "sign flips, paired by prompt"
    terms = [f"two-sided, level {level:g}", *([f"seen in {100 * power:g} % of such studies"] if power is not None else [])]
    if not spreads[0].of:
        terms.append(f"{100 * spreads[0].value:g} % ties" if net else f"sd over prompts of the difference {spreads[0].value:g}")
    say(f"{'Preference' if net else 'Grades of two models'}: {test}")
    say(", ".join(terms))
    if net:
        say("difference: wins minus losses, in percent points")
    else:
        say("where most prompts do not differ at all it takes up to a fifth more")
    if spreads[0].of and power is not None:
        say(f"cautious: at the end of the spread's {100 * CAUTIOUS:.0f} % interval that wants more prompts")


def _show(found: Sequence[Design], spreads: Sequence[Spread], kind: str) -> None:
    net = kind == "preference"
    title = {"prompts": "How many prompts it takes", "difference": "What so many prompts show", "power": "How often it is seen"}[
        found[0].asked
    ]
    by_of = {spread.of: spread for spread in spreads}
    piloted = bool(spreads[0].of)
    columns = ["pilot", "n", "ties" if net else "sd"] if piloted else []
    order = {
        "prompts": ["difference to see", "prompts", *(["cautious"] if piloted else [])],
        "difference": ["prompts", "smallest difference"],
        "power": ["difference", "prompts", "seen"],
    }[found[0].asked]
    rows = []
    for d in found:
        spread = by_of[d.of]
        shown = f"{100 * spread.value:.0f} %" if net else f"{spread.value:.2f}"
        difference = "none" if d.difference is None else f"{d.difference:.3g}" if d.asked == "difference" else f"{d.difference:g}"
        cells = {"difference": difference, "difference to see": difference, "smallest difference": difference}
        cells |= {
            "prompts": f"over {MOST:,}" if d.prompts is None else f"{d.prompts:,}",
            "cautious": f"over {MOST:,}" if d.prompts_cautious is None else f"{d.prompts_cautious:,}",
            "seen": f"{100 * d.power:.0f} %",
        }
        rows.append([*([d.of, spread.prompts, shown] if piloted else []), *(cells[name] for name in order)])
    show_table(title, [*columns, *order], rows)


def _show_paper(level: float) -> None:
    rows = []
    for against, net, ties in FIGURE_1:
        seen = sign_power(300, abs(net) / 100, ties / 100, level)
        needed = prompts_for_net(abs(net) / 100, ties / 100, power=0.8, level=level)
        rows.append([against, f"{net:+.0f}", f"{ties:.0f} %", f"{100 * seen:.0f} %", f"{needed:,}" if needed else f"over {MOST:,}"])
    title = "The paper's figure 1: how often 300 prompts show\nwhat its people said, if that is the truth"
    show_table(title, ["LIMA against", "net", "ties", "seen with 300", "prompts for 80 %"], rows)
