"""What a run of judging would ask, cost and take; nothing is asked or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..endpoint.budget import cost, money
from ..endpoint.request import Request, most_tokens
from ..errors import UsageError
from ..progress import duration, say, show_table, visible
from ..workspace import Workspace
from .ask import Round
from .sheet import Sheet
from .work import Work

TOKEN_BYTES = 4  # of English text, about; other scripts have fewer to a token
ASSUMED_TOKENS = 300  # of an answer, where none was measured
ASSUMED_SECONDS = 5.0  # likewise


@dataclass(frozen=True)
class Load:
    """Questions and their tokens: expected, and at most. Equal ones count once, with the sheet that asks them first."""

    questions: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    most_in: int = 0
    most_out: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.questions + other.questions, self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out,
            self.most_in + other.most_in, self.most_out + other.most_out,
        )  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """What an answer of this judge takes: means over `n` answers that the cache keeps, or, where n is 0, assumptions."""

    tokens: float
    seconds: float
    n: int


def load_of(requests: Sequence[Request], pace: Pace) -> Load:
    """Expected tokens of a question are its bytes / TOKEN_BYTES, of an answer the mean of earlier ones; the bound is the cap's."""
    size = sum(len(text.encode(errors="replace")) for request in requests for _, text in request.messages)
    most = [most_tokens(request) for request in requests]
    expected = sum(min(round(pace.tokens), request.max_tokens) for request in requests)
    return Load(len(requests), size // TOKEN_BYTES, expected, sum(n for n, _ in most), sum(n for _, n in most))


def pace_of(work: Work) -> Pace:
    kept = list(work.round.kept.values()) if work.round is not None else []
    tokens = [one.tokens_out for one in kept if one.tokens_out is not None]
    seconds = [one.seconds for one in kept if one.seconds is not None]
    measured = min(len(tokens), len(seconds))
    return Pace(
        sum(tokens) / len(tokens) if tokens else min(ASSUMED_TOKENS, work.judge.max_tokens),
        sum(seconds) / len(seconds) if seconds else ASSUMED_SECONDS,
        measured,
    )


def takes(load: Load, work: Work, pace: Pace) -> float:
    """Seconds, at the judge's concurrency and within its limits. Rate limits count tokens by their bound."""
    judge = work.judge
    at_once = judge.concurrency if judge.kind == "endpoint" else 1
    least = load.questions * pace.seconds / at_once
    if judge.requests_per_minute:
        least = max(least, load.questions * 60 / judge.requests_per_minute)
    if judge.tokens_per_minute:
        least = max(least, (load.most_in + load.most_out) * 60 / judge.tokens_per_minute)
    return least


def show_estimate(workspace: Workspace, work: Sequence[Work], sheets: Sequence[Sheet]) -> None:
    """A table for each judge: rows, questions still to be asked, tokens, cost as expected and at most, time."""
    for one in work:
        mine = [sheet for sheet in sheets if sheet.judge.called == one.judge.called]
        if one.round is None:
            say(
                visible(
                    f"{one.judge.called}: {len(one.places)} of {sum(len(sheet.items) for sheet in mine)} rows are open; it is no model and costs nothing"
                )
            )
            continue
        _show_judge(workspace, one, mine, [other.round for other in work if other.round is not None])


def _show_judge(workspace: Workspace, work: Work, sheets: Sequence[Sheet], rounds: Sequence[Round]) -> None:
    assert work.round is not None
    judge, asked = work.judge, work.round
    priced = bool(judge.kind == "endpoint" and (judge.price_in or judge.price_out))
    pace = pace_of(work)
    requests: dict[Path, list[Request]] = {sheet.path: [] for sheet in sheets}
    for place in asked.open:
        requests[work.places[place][0].path].append(asked.request(place))
    total = Load()
    rows: list[list[object]] = []
    for sheet in sheets:
        load = load_of(requests[sheet.path], pace)
        total += load
        name = workspace.relative(sheet.path).removesuffix(".jsonl").replace(f"-by-{sheet.judge.called.replace('/', '--')}", "")
        rows.append([name, len(sheet.items), *_cells(load, work, priced)])
    if len(sheets) > 1:
        rows.append(["together", sum(len(sheet.items) for sheet in sheets), *_cells(total, work, priced)])
    at = f" at {judge.base_url}" if judge.kind == "endpoint" else ", in this process"
    title = f"judge {visible(judge.called)}{visible(at)}\nnothing was asked"
    show_table(title, ["", "rows", "to ask", "tokens in", "out", *(["cost", "at most"] if priced else [])], rows)
    basis = f"as {pace.n} answers before took" if pace.n else "an assumption, as nothing was measured yet"
    say(f"An answer: about {pace.tokens:.0f} tokens and {pace.seconds:.1f} s, {basis}. Tokens in: bytes / {TOKEN_BYTES}.")
    if total.questions:
        limit = f"with {judge.concurrency} at once" if judge.kind == "endpoint" else "one after the other"
        say(f"Time: about {duration(takes(total, work, pace))}, {limit}.")
    if priced and judge.max_cost is not None:
        try:
            asked.check(rounds)
            fits = "it fits"
        except UsageError as error:
            fits = f"limakit judge would refuse: {error.what}"
        say(f"max_cost = {money(judge.max_cost)}, of which {money(asked.account.spent)} were spent; {fits}.")


def _cells(load: Load, work: Work, priced: bool) -> list[object]:
    tokens = [load.questions, f"{load.tokens_in:,}", f"{load.tokens_out:,}"]
    if not priced:
        return [*tokens]
    judge = work.judge
    return [*tokens, money(cost(load.tokens_in, load.tokens_out, judge)), money(cost(load.most_in, load.most_out, judge))]
