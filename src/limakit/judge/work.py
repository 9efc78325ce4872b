"""What each judge has to do: its open rows, and the questions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..recipe import JudgeSpec, Recipe
from ..workspace import Workspace
from .ask import Question, Round
from .local import LocalJudge, local_judge
from .sheet import Sheet

Judges = Mapping[str, JudgeSpec]  # by the recipe's section that names each, for messages
Here = Mapping[str, LocalJudge]  # those that run in this process, by what they are called
Place = tuple[Sheet, int]  # a row of a sheet


@dataclass(frozen=True)
class Work:
    """One judge's open rows, and the questions of them (of the oracle none). `fresh`: no row stands from an earlier run."""

    judge: JudgeSpec
    places: list[Place]
    fresh: bool
    round: Round | None


def name_judges(panel: Sequence[JudgeSpec]) -> Judges:
    return {"judge" if i == 0 else f"judge.also[{i - 1}]": spec for i, spec in enumerate(panel)}


def check_judges(workspace: Workspace, recipe: Recipe, judges: Judges) -> Here:
    """Raises UsageError or LimakitError where a judge cannot be right, before anything is planned."""
    here = {}
    for what, spec in judges.items():
        if spec.kind == "endpoint":
            from ..endpoint.client import check_endpoint

            check_endpoint(spec, what)
        elif spec.kind == "local":
            here[spec.called] = local_judge(spec, recipe, workspace, what=what)
    return here


def find_work(workspace: Workspace, judges: Judges, sheets: Sequence[Sheet], here: Here) -> list[Work]:
    """Each judge's, in their order."""
    found = []
    for what, spec in judges.items():
        mine = [sheet for sheet in sheets if sheet.judge.called == spec.called]
        places = [(sheet, i) for sheet in mine for i in sheet.missing]
        fresh = len(places) == sum(len(sheet.items) for sheet in mine)
        asked = None
        if spec.kind != "oracle":
            questions = [_question(sheet, i, spec) for sheet, i in places]
            asked = Round(questions, spec, workspace.cache / "judge", what=what, spent=workspace.spent, here=here.get(spec.called))
        found.append(Work(spec, places, fresh, asked))
    return found


def _question(sheet: Sheet, i: int, spec: JudgeSpec) -> Question:
    rubric, item = sheet.rubric, sheet.items[i]
    as_json = spec.kind == "endpoint" and spec.structured == "auto" and rubric.leaves_form
    message = item.message(rubric, "json" if as_json else "line")
    return Question(message, rubric.word, rubric.values, item.draw, rubric.schema if as_json else None)
