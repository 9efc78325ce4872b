"""What a run has to ask, planned whole: which sheets there are, and of which rows.

A dialogue (a prompt with follow-ups) is graded a turn at a time, each with what was said before it, and compared whole: its turns were
answered after other histories, so turn against turn would compare what the models did not have to answer alike. The paper does the same
(section 6: turns are graded, dialogues compared). Such a comparison's row bears the last turn's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import LimakitError, UsageError
from ..generate.look import Place, read_look
from ..progress import say, visible, warn
from ..recipe import JudgeSpec, Recipe
from ..records import Prompt
from ..workspace import LONGEST_NAME, Workspace, name_for_file, sha256_file, sha256_json
from .entries import Entries, Key, read_entries, read_prompts, shared
from .local import LocalJudge
from .rubric import DIALOGUES, GRADE, LIKERT, PAIRWISE, VERDICTS, Rubric, load_rubric, rubric_name
from .sheet import Item, Sheet


def plan(
    workspace: Workspace,
    recipe: Recipe,
    judges: Mapping[str, JudgeSpec],
    name: str,
    baselines: Sequence[str],
    here: Mapping[str, LocalJudge],
) -> list[Sheet]:
    """The sheets of `name` and its baselines, by each judge; `here` are those that run in this process, by name. Says what is left out. Raises LimakitError for missing or mismatched inputs,
    UsageError for a wrong rubric, nothing to do, or names too long to make one file name of."""
    prompts_path = workspace.path(recipe.generate.prompts)
    prompts = read_prompts(prompts_path)
    paths = {who: workspace.responses / f"{name_for_file(who)}.jsonl" for who in (name, *baselines)}
    if any(judge.kind == "oracle" for judge in judges.values()) and any(prompt.follow_ups for prompt in prompts.values()):
        warn("the oracle knows what is asked first, so it judges the first response of a dialogue alone")
    # read once for all judges: their notes are told once
    entries = {who: read_entries(workspace, who, path, prompts, prompts_path) for who, path in paths.items()}
    both = (
        {who: shared(entries[name], entries[who], prompts) for who in baselines} if any(judge.pairwise for judge in judges.values()) else {}
    )
    sheets = []
    told: set[str] = set()
    for judge in judges.values():
        by = f"by-{judge.called}"
        if judge.pairwise:
            rubric = _rubric(judge.pairwise, PAIRWISE, workspace, judge)
            for baseline in baselines:
                items = _comparisons(entries[name], entries[baseline], both[baseline], prompts, judge)
                path = _file(workspace.judgments, name, "against", baseline, by, rubric.name)
                sheets.append(_sheet(judge, path, rubric, items, entries[name].inputs | entries[baseline].inputs, here))
        for grade in judge.grade:
            rubric = _rubric(grade, GRADE, workspace, judge)
            if rubric.name not in told:
                _say_which(rubric, prompts)
                told.add(rubric.name)
            for one in entries.values():
                if items := _grades(one, prompts, rubric, judge):
                    path = _file(workspace.grades, one.model, by, rubric.name)
                    sheets.append(_sheet(judge, path, rubric, items, one.inputs, here))
    if not sheets:
        remedy = "name baselines (judge.against or --against), or a rubric for grades (judge.grade) that grades these prompts"
        raise UsageError("nothing to judge: no baseline to compare with and no grades wanted", where="judge", remedy=remedy)
    _refuse_twins(sheets)
    return sheets


def plan_epochs(workspace: Workspace, recipe: Recipe, here: Mapping[str, LocalJudge]) -> list[Sheet]:
    """A sheet of grades for what each epoch of the recipe's run said to the dev prompts, by each rubric of the recipe's (first) judge.

    Raises as `plan`, and where no epoch was asked anything.
    """
    judge = recipe.judge
    if not judge.grade:
        raise UsageError("no rubric for grades", where="judge.grade", remedy='name one, e.g. grade = "helpfulness"')
    run = workspace.runs / name_for_file(recipe.name)
    prompts_path = workspace.path(recipe.dev.prompts)
    looks = {n: look for n in range(1, recipe.train.epochs + 1) if (look := read_look(Place(run, n))) and look.answered is not None}
    if not looks or not recipe.dev.prompts:
        remedy = "limakit train asks them as each epoch ends; limakit select --answer asks those whose weights are here"
        raise UsageError("no epoch has answered the dev prompts", where=workspace.relative(run / "dev"), remedy=remedy)
    prompts = read_prompts(prompts_path)
    digest = sha256_file(prompts_path)
    rubrics = [_rubric(grade, GRADE, workspace, judge) for grade in judge.grade]
    for rubric in rubrics:
        _say_which(rubric, prompts)
    sheets = []
    for number, look in looks.items():
        path = Place(run, number).responses
        if look.answered is not None and look.answered.sha256 != digest:
            remedy = "limakit select --answer asks again, where the epoch's weights are here; or put the former prompts back"
            raise LimakitError(
                f"answers other prompts than {workspace.relative(prompts_path)} now holds", where=workspace.relative(path), remedy=remedy
            )
        entries = read_entries(workspace, look.model, path, prompts, prompts_path)
        for rubric in rubrics:
            if items := _grades(entries, prompts, rubric, judge):
                file = _file(run / "dev" / "grades", f"{number:02}", f"by-{judge.called}", rubric.name)
                sheets.append(_sheet(judge, file, rubric, items, entries.inputs, here))
    if not sheets:
        raise UsageError(
            "nothing to judge: its rubrics grade none of the dev prompts", where="judge.grade", remedy="name another rubric too"
        )
    _refuse_twins(sheets)
    return sheets


def _comparisons(mine: Entries, theirs: Entries, both: Sequence[Key], prompts: dict[str, Prompt], judge: JudgeSpec) -> list[Item]:
    turns = 1 if judge.kind == "oracle" else None
    return [
        Item(prompts[key[0]], mine.said[key][:turns], theirs.said[key][:turns], first, draw)
        for key in both for draw in range(_draws(judge)) for first in ("a", "b")
    ]  # fmt: skip


def _grades(entries: Entries, prompts: dict[str, Prompt], rubric: Rubric, judge: JudgeSpec) -> list[Item]:
    turns = 1 if judge.kind == "oracle" else None
    return [
        Item(prompts[key[0]].at([earlier.text for earlier in said[:turn]]), (response,), None, "a", draw)
        for key, said in entries.said.items() if rubric.wants(prompts[key[0]])
        for turn, response in enumerate(said[:turns])
        for draw in range(_draws(judge))
    ]  # fmt: skip


def _say_which(rubric: Rubric, prompts: dict[str, Prompt]) -> None:
    if not rubric.only:
        return
    tags = [tag for tag in rubric.only if tag != DIALOGUES]
    which = " or ".join((["dialogues"] if DIALOGUES in rubric.only else []) + ([f"prompts tagged {', '.join(tags)}"] if tags else []))
    n = sum(rubric.wants(prompt) for prompt in prompts.values())
    told = f"rubric {rubric.name} grades only {which}: {n or 'none'} of the {len(prompts)} prompts"
    (say if n else warn)(visible(told))


def _refuse_twins(sheets: Sequence[Sheet]) -> None:
    paths: set[Path] = set()
    for sheet in sheets:
        if sheet.path in paths:
            what = f"two sheets of judge {sheet.judge.called!r} would be one file, {sheet.path.name}"
            raise UsageError(what, where="judge", remedy="name each rubric once, rubrics of your own by different file names")
        paths.add(sheet.path)


def _file(folder: Path, *names: str) -> Path:
    stem = "-".join(map(name_for_file, names))
    if (length := len(stem.encode())) > LONGEST_NAME:
        raise UsageError(
            f"the names of models, judge and rubric make a file name of {length} bytes, more than {LONGEST_NAME}",
            where=f"{stem[:60]}...", remedy="shorten one of them (limakit generate --name, judge.name, the rubric's file)",
        )  # fmt: skip
    return folder / f"{stem}.jsonl"


def _draws(judge: JudgeSpec) -> int:
    return 1 if judge.kind == "oracle" else judge.draws  # the oracle has one opinion


def _rubric(name: str, needs: tuple[str, ...], workspace: Workspace, judge: JudgeSpec) -> Rubric:
    if judge.kind == "oracle":  # it reads no rubric, as it knows the facts
        return Rubric(rubric_name(name), "", LIKERT if needs is GRADE else VERDICTS)
    return load_rubric(name, needs, workspace.root)


def _sheet(
    judge: JudgeSpec, path: Path, rubric: Rubric, items: list[Item], inputs: dict[str, str], here: Mapping[str, LocalJudge]
) -> Sheet:  # fmt: skip
    settings: dict[str, Any] = {"judge": judge.called, "kind": judge.kind, "rubric": rubric.name, "draws": _draws(judge)}
    if items[0].b is None:
        settings["scale"] = list(rubric.values)  # worst to best: what the report orders and bounds grades by
    if judge.kind != "oracle":
        settings |= {
            "model": judge.model,
            "temperature": judge.temperature,
            "max_tokens": judge.max_tokens,
            "rubric_sha256": sha256_json([rubric.text, *rubric.values, *rubric.only]),
        }
    if judge.kind == "endpoint":
        settings |= {"base_url": judge.base_url, "structured": judge.structured}
    if local := here.get(judge.called):
        settings["seed"] = local.recipe.seed
        inputs = inputs | local.files
    return Sheet(path, judge, rubric, tuple(items), settings, inputs)
