"""The judgments and grades that a command is asked about: files that are named, or what lies in the workspace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import LimakitError
from ..progress import visible, warn
from ..recipe import read_recipe
from ..records import Grade, Judgment, jsonl_lines
from ..workspace import find_workspace
from .origin import Present, read_origin
from .rows import Placed, one_way, read_placed, refuse_repeats


@dataclass(frozen=True)
class Results:
    """All rows with their places. `scales`: the grades there are, worst to best, by rubric, where the file's manifest tells. `stale`: the files
    whose rows are about other responses than those that lie there now, and why."""

    judgments: tuple[Placed[Judgment], ...]
    grades: tuple[Placed[Grade], ...]
    scales: dict[str, tuple[str, ...]]
    stale: dict[Path, str]


def read_results(files: Sequence[Path] | None, recipe_path: Path | None) -> Results:
    """The rows of `files`, or of the workspace's judgments/*.jsonl and grades/*.jsonl. With files no workspace is needed.

    Judgments name two models in one order (`rows.one_way`), in a workspace the recipe's first. Results about other responses than those that lie
    there now are taken, with a warning. Raises LimakitError for a missing, unreadable or empty file,
    for a row that is there twice, for files that give one rubric different scales, and where there is nothing yet.
    """
    own = None
    if files is None:
        workspace = find_workspace(recipe_path)
        own = read_recipe(workspace.recipe_path).name
        folders = (workspace.judgments, workspace.grades)
        paths = [path for folder in folders for path in sorted(folder.glob("*.jsonl")) if not path.name.startswith(".")]
        if not paths:
            raise LimakitError("no judgments or grades yet", where=workspace.root, remedy="run limakit judge, or name files of them")
    else:
        paths = list({path.resolve(): path for path in files}.values())  # a file named twice counts once
    judgments: list[Placed[Judgment]] = []
    grades: list[Placed[Grade]] = []
    scales: dict[str, tuple[str, ...]] = {}
    stale: dict[Path, str] = {}
    present: dict[Path, Present] = {}  # one a workspace: what several files were made from is hashed once
    for path in paths:
        if _holds_grades(path):
            placed = read_placed(path, Grade)
            grades += placed
            _learn_scale(scales, path, {row.record.rubric for row in placed})
        else:
            judgments += read_placed(path, Judgment)
        # a stage's file lies in WORKSPACE/judgments or grades; anywhere else there is no manifest beside it, or nothing to compare with
        root = path.absolute().parent.parent
        if reason := present.setdefault(root, Present(root)).out_of_date(path):
            stale[path] = reason
            warn(visible(f"{path}: out of date, {reason}"))
    refuse_repeats([row.record for row in judgments], judgments)
    named = one_way([row.record for row in judgments], own=own)
    judgments = [replace(row, record=record) for row, record in zip(judgments, named, strict=True)]
    refuse_repeats([row.record for row in grades], grades)
    return Results(tuple(judgments), tuple(grades), scales, stale)


def _holds_grades(path: Path) -> bool:
    """By the keys of its first row: a grade has a value, a judgment a verdict."""
    for row, line in jsonl_lines(path):
        try:
            keys = set(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            keys = set()
        if ("value" in keys) == ("verdict" in keys):
            remedy = 'a judgment has the keys "a", "b" and "verdict", a grade "model" and "value"'
            raise LimakitError("neither a judgment nor a grade", where=f"{path}, row {row}", remedy=remedy)
        return "value" in keys
    raise LimakitError("no judgments or grades in it", where=path, remedy="run the stage that writes it again, or take the file away")


def _learn_scale(scales: dict[str, tuple[str, ...]], path: Path, rubrics: set[str]) -> None:
    origin = read_origin(path)
    told = origin.settings.get("scale") if origin else None
    if not isinstance(told, list) or len(rubrics) != 1:
        return
    scale, rubric = tuple(map(str, told)), rubrics.pop()
    if scales.setdefault(rubric, scale) != scale:
        what = f"rubric {rubric!r} has the grades {', '.join(scale)} here, and {', '.join(scales[rubric])} in another file"
        raise LimakitError(what, where=path, remedy="give one of the rubrics another name, or name only files of the same scale")
