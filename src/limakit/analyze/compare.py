"""`limakit compare`: what judgments and grades say, in the order in which a reader asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import LimakitError, UsageError
from ..progress import escape_json, say, visible
from ..records import Grade, Judgment, Response, read_jsonl
from ..workspace import name_for_file
from .differences import GradeDifference, differences, show_differences
from .grades import GradeSummary, by_turn, show_grades, show_turns, summarise
from .length import Answer, LengthEffect, length_effects, show_lengths
from .people import voices
from .position import Position, positions, show_positions
from .preference import Preference, preferences, show_preferences
from .ranking import Ranking, rankings, show_ranking
from .results import Results, read_results
from .rows import refuse_repeats
from .significance import shown_p
from .structure import Features, Structure, features, show_structure, structures


@dataclass(frozen=True)
class Comparison:
    """All there is to say. `lengths_left_out`: whose lengths nobody knows, and why. `turns`: the grades of each turn of dialogues alone. `format`: what
    goes with headings and lists, of graded responses that lie there. `people`: the preferences of each one in a group, where that was asked for."""

    preferences: list[Preference]
    people: list[Preference]
    positions: list[Position]
    lengths: list[LengthEffect]
    lengths_left_out: list[str]
    rankings: list[Ranking]
    grades: list[GradeSummary]
    turns: dict[int, list[GradeSummary]]
    differences: list[GradeDifference]
    format: list[Structure]


def show_comparison(files: Sequence[Path] | None, recipe_path: Path | None, *, as_json: bool, prior: float = 0.0) -> None:
    """Print what `files` say, or the workspace's judgments/*.jsonl and grades/*.jsonl. With files no workspace is needed.

    Rows about other responses than those that lie there now are counted, with a warning. `prior`: as in `ranking.rankings`. Raises LimakitError for a
    missing, unreadable or empty file, for a row that is there twice, or where there is nothing yet; UsageError for a negative prior.
    """
    if not 0 <= prior < float("inf"):
        raise UsageError(f"--prior {prior:g} is no number of games", remedy="give a number from 0, e.g. --prior 1")
    found = compare(read_results(files, recipe_path), prior=prior, people=as_json)
    if as_json:
        say(escape_json(json.dumps(asdict(found), indent=2, ensure_ascii=False, allow_nan=False)))
    else:
        _show(found)


def compare(results: Results, *, prior: float = 0.0, people: bool = False) -> Comparison:
    """Everything `limakit compare` says of these rows."""
    judgments = [row.record for row in results.judgments]
    voice = voices(judgments)
    lengths, known, left_out = _lengths(results)
    by_rubric: dict[str, list[Grade]] = {}
    for row in results.grades:
        by_rubric.setdefault(row.record.rubric, []).append(row.record)
    scaled = [(rows, results.scales.get(rubric, ())) for rubric, rows in sorted(by_rubric.items())]
    looks = _looks(results)
    turns: dict[int, list[GradeSummary]] = {}
    for rows, scale in scaled:
        if any(row.turn for row in rows):
            for turn, found in by_turn(rows, scale=scale).items():
                turns.setdefault(turn, []).extend(found)
    return Comparison(
        preferences(judgments),
        preferences([row for row in judgments if voice[row.judge] != row.judge], apart=True) if people else [],
        positions(judgments),
        length_effects(known, lengths),
        left_out,
        rankings(judgments, prior=prior),
        [found for rows, scale in scaled for found in summarise(rows, scale=scale)],
        dict(sorted(turns.items())),
        [found for rows, scale in scaled for found in differences(rows, scale=scale)],
        [found for rows, scale in scaled for found in structures(rows, looks, scale=scale)] if looks else [],
    )


def _lengths(results: Results) -> tuple[dict[Answer, int], list[Judgment], list[str]]:
    """Characters of the judged responses, the judgments that are about them, and which are left out and why.

    WORKSPACE/judgments/x.jsonl is about WORKSPACE/responses/*.jsonl, unless its manifest says that they have changed since.
    """
    judged = {row.file for row in results.judgments}
    stale = [f"{visible(str(path))}: the responses have changed since" for path in results.stale if path in judged]
    rows = [row for row in results.judgments if row.file not in results.stale]
    folders = {row.file.absolute().parent.parent / "responses" for row in rows}
    if len(folders) > 1:
        return {}, [], [*stale, "the judgments come from more than one workspace"]
    if not folders:
        return {}, [], stale
    [folder] = folders
    if not folder.is_dir():
        return {}, [], [*stale, f"there are no responses in {visible(str(folder))}"]
    responses, reasons = _responses(folder, {name for row in rows for name in (row.record.a, row.record.b)})
    lengths: dict[Answer, int] = {(one.model, one.prompt_id, one.sample, one.turn): len(one.text) for one in responses}
    there = {model for model, *_ in lengths}
    known = [row.record for row in rows if {row.record.a, row.record.b} <= there]
    return lengths, known, [*stale, *reasons]


def _looks(results: Results) -> dict[Answer, Features]:
    """What the graded responses look like, of those that lie beside the grades and have not changed since."""
    rows = [row for row in results.grades if row.file not in results.stale]
    folders = {row.file.absolute().parent.parent / "responses" for row in rows}
    if len(folders) != 1:
        return {}
    responses, _ = _responses(folders.pop(), {row.record.model for row in rows})
    return {(one.model, one.prompt_id, one.sample, one.turn): features(one.text) for one in responses}


def _responses(folder: Path, models: AbstractSet[str]) -> tuple[list[Response], list[str]]:
    """The models' responses; whose cannot be read, and why: the figures do not depend on them, so what is wrong is said and the rest goes on."""
    found: list[Response] = []
    reasons = []
    for model in sorted(models):
        try:
            rows = read_jsonl(folder / f"{name_for_file(model)}.jsonl", Response)
            refuse_repeats(rows)
        except LimakitError as error:
            reasons.append(visible(f"{model}: {error.where}: {error.what}" if error.where else f"{model}: {error.what}"))
            continue
        found += rows
    return found, reasons


def _show(found: Comparison) -> None:
    if found.preferences:
        show_preferences(found.preferences)
        for p in found.preferences:
            if p.signs_holm is not None and p.flips_holm is not None and (p.signs_holm < 0.05) != (p.flips_holm < 0.05):
                who = f"{p.a} against {p.b}, {p.judge}, {p.rubric}"
                say(visible(f"  {who}: p {shown_p(p.flips_holm)} by sign flips, which weigh by how much"))
        say("")
    if found.positions:
        show_positions(found.positions)
        say("")
    if found.lengths:
        show_lengths(found.lengths)
    if found.lengths_left_out:
        say("\n".join(["Length effects leave out:", *(f"  {reason}" for reason in found.lengths_left_out)]))
    if found.lengths or found.lengths_left_out:
        say("")
    for ranking in found.rankings:
        show_ranking(ranking)
        say("")
    if found.grades:
        show_grades(found.grades)
    show_turns(found.turns)
    if found.differences:
        say("")
        show_differences(found.differences)
    if found.format:
        say("")
        show_structure(found.format)
