"""Judge a model's responses: against each baseline in both orders, and each response on its own. judgments/*.jsonl, grades/*.jsonl."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from ..analyze.grades import show_grades, summarise
from ..analyze.origin import Present
from ..analyze.position import positions, show_positions
from ..analyze.preference import preferences, show_preferences
from ..errors import UsageError
from ..progress import say, visible, warn
from ..recipe import Recipe
from ..records import Asked, Grade, Judgment
from ..workspace import Workspace, name_for_file, stage_lock
from .estimate import show_estimate
from .plan import plan, plan_epochs
from .sheet import Sheet
from .verdict import Parsed, Said
from .work import Here, Judges, Place, check_judges, find_work, name_judges

MANY_INVALID = 0.1  # of a run's rows: more than that, and the figures rest on a part that may differ from the rest


def judge(workspace: Workspace, recipe: Recipe, *, model: str | None, against: list[str] | None, estimate: bool = False) -> list[Path]:
    """Judge `model` (default the recipe's name) against `against` (default the recipe's); returns the files of rows.

    Every comparison is asked in both orders; the model and every baseline are graded; by each of the recipe's judges, one after the other.
    Done and unchanged: nothing is asked, but for the rows that no answer came to. Killed: the same command asks what is still open.
    `estimate`: what would be asked is printed, nothing is asked or written, and no file returned.

    Raises UsageError (nothing asked, of any judge) where the cost could exceed a cap, LimakitError for missing or mismatched inputs and a
    judge that cannot be used.
    """
    judges = name_judges(recipe.judge.panel)
    name, baselines = model or recipe.name, list(dict.fromkeys(recipe.against if against is None else against))
    if name in baselines:
        raise UsageError(f"{name!r} cannot be compared with itself", where="judge.against", remedy="name the baselines' responses")
    here = check_judges(workspace, recipe, judges)
    sheets = plan(workspace, recipe, judges, name, baselines, here)
    present = Present(workspace.root)
    for who in (name, *baselines):
        path = workspace.responses / f"{name_for_file(who)}.jsonl"
        if reason := present.out_of_date(path):
            warn(visible(f"{workspace.relative(path)}: {reason}, then limakit judge"))
    if estimate:
        show_estimate(workspace, find_work(workspace, judges, sheets, here), sheets)
        return []
    for spec in judges.values():
        if spec.kind != "oracle" and spec.draws > 1 and not spec.temperature:
            warn(visible(f"{spec.called}: {spec.draws} draws at temperature 0 are nearly the same answer, paid for as often"))
    _fill(workspace, judges, sheets, here, (workspace.judgments, workspace.grades))
    _show(workspace, sheets)
    return [sheet.path for sheet in sheets]


def judge_epochs(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Grade what each epoch said to the dev prompts, as the recipe's first judge grades; returns the files of grades, in runs/NAME/dev/grades/.

    Asked and asked again as by `judge`. Raises UsageError where the recipe names no rubric for grades or nothing was answered, and as `judge` does.
    """
    judges = name_judges([recipe.judge])
    here = check_judges(workspace, recipe, judges)
    sheets = plan_epochs(workspace, recipe, here)
    _fill(workspace, judges, sheets, here, (sheets[0].path.parent,))
    _show(workspace, sheets)
    return [sheet.path for sheet in sheets]


def _fill(workspace: Workspace, judges: Judges, sheets: list[Sheet], here: Here, folders: tuple[Path, ...]) -> None:
    """Have every open row of the sheets answered, and write them, judge by judge."""
    with ExitStack() as stack:
        for folder in (workspace.cache / "judge", *folders):
            stack.enter_context(stage_lock(folder, "judge"))
        work = find_work(workspace, judges, sheets, here)
        rounds = [one.round for one in work if one.round is not None]
        for asked in rounds:
            asked.check(rounds)  # all of them, before any is asked
        for one in work:
            if not one.places:
                continue
            said = one.round.ask(fresh=one.fresh) if one.round is not None else list(map(_by_oracle, one.places))
            found: dict[Path, dict[int, Said]] = {}
            for (sheet, i), answer in zip(one.places, said, strict=True):
                found.setdefault(sheet.path, {})[i] = answer
            for sheet in sheets:
                if sheet.path in found:
                    sheet.write(found[sheet.path])
        if not any(one.places for one in work):
            say("already judged, and nothing has changed since")


def _by_oracle(place: Place) -> Said:
    from ..world.oracle import grade_response, verdict

    sheet, i = place
    item = sheet.items[i]
    if item.b is None:
        value = grade_response(item.prompt, item.a[0])
    else:
        first, second = (item.a[0], item.b[0]) if item.first == "a" else (item.b[0], item.a[0])
        value = {"a": "A", "b": "B", "tie": "tie"}[verdict(item.prompt, first, second)]
    return Said(Parsed(value), asked=Asked(kind="oracle", model=sheet.judge.called))


def _show(workspace: Workspace, sheets: list[Sheet]) -> None:
    written = {sheet.path: sheet.rows for sheet in sheets}
    rows = [row for found in written.values() for row in found]
    if judgments := [row for row in rows if isinstance(row, Judgment)]:
        show_preferences(preferences(judgments))
        if found := positions(judgments):
            show_positions(found)
    for scale in dict.fromkeys(sheet.rubric.values for sheet in sheets if sheet.items[0].b is None):
        grades = [row for sheet in sheets if sheet.rubric.values == scale for row in written[sheet.path] if isinstance(row, Grade)]
        show_grades(summarise(grades, scale=scale))
    invalid = []
    for sheet in sheets:
        if n := sum(row.status == "invalid" for row in written[sheet.path]):
            again = f", {len(missing)} of them without an answer" if (missing := sheet.missing) else ""
            invalid.append(visible(f"  {workspace.relative(sheet.path)}: {n} of {len(written[sheet.path])}{again}"))
    if invalid:
        what = (
            "answers that are invalid count for nothing; the rows keep their text. Those that no answer came to are asked again by the same"
        )
        warn("\n".join([f"{what} command; to ask the others again, and only them, delete the file", *invalid]))
    problems = Counter(row.problem or "" for row in rows if row.status == "invalid")
    if problems.total() > MANY_INVALID * len(rows):
        share = f"{problems.total()} of {len(rows)} rows ({problems.total() / len(rows):.0%}) are invalid"
        most = "".join(f"\n  {n} times: {visible(problem)}" for problem, n in problems.most_common(3))
        warn(f"WARNING: {share}. What the figures say rests on the others alone, and those may be a biased choice.{most}")
