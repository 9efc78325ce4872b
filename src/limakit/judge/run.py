"""Judge a model's responses: against each baseline in both orders, and each response on its own. judgments/*.jsonl, grades/*.jsonl."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from ..analyze.grades import show_grades, summarise
from ..analyze.origin import Present
from ..analyze.preference import preferences, show_preferences
from ..errors import UsageError
from ..progress import say, visible, warn
from ..recipe import JudgeSpec, Recipe
from ..records import Grade, Judgment
from ..workspace import Workspace, name_for_file, stage_lock
from .rubric import Rubric, fill
from .sheet import Item, Sheet, plan, plan_epochs
from .verdict import Parsed, Said

MANY_INVALID = 0.1  # of a run's rows: more than that, and the figures rest on a part that may differ from the rest


def judge(workspace: Workspace, recipe: Recipe, *, model: str | None, against: list[str] | None) -> list[Path]:
    """Judge `model` (default the recipe's name) against `against` (default the recipe's); returns the files of rows.

    Every comparison is asked in both orders; the model and every baseline are graded. Done and unchanged: nothing is asked, but for the rows
    that no answer came to. Killed: the same command asks what is still open. Raises UsageError (nothing asked) where the cost could exceed
    the cap, LimakitError for missing or mismatched inputs and an endpoint that cannot be used.
    """
    spec = recipe.judge
    name, baselines = model or recipe.name, list(dict.fromkeys(spec.against if against is None else against))
    if name in baselines:
        raise UsageError(f"{name!r} cannot be compared with itself", where="judge.against", remedy="name the baselines' responses")
    if spec.kind == "endpoint":
        from .llm import check_endpoint

        check_endpoint(spec)
    sheets = plan(workspace, recipe, name, baselines)
    present = Present(workspace.root)
    for who in (name, *baselines):
        path = workspace.responses / f"{name_for_file(who)}.jsonl"
        if reason := present.out_of_date(path):
            warn(visible(f"{workspace.relative(path)}: {reason}, then limakit judge"))
    _fill(workspace, spec, sheets, (workspace.judgments, workspace.grades))
    _show(workspace, sheets)
    return [sheet.path for sheet in sheets]


def judge_epochs(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Grade what each epoch said to the dev prompts, as the recipe's judge grades; returns the files of grades, in runs/NAME/dev/grades/.

    Asked and asked again as by `judge`. Raises UsageError where the recipe names no rubric for grades or nothing was answered, and as `judge` does.
    """
    if recipe.judge.kind == "endpoint":
        from .llm import check_endpoint

        check_endpoint(recipe.judge)
    sheets = plan_epochs(workspace, recipe)
    _fill(workspace, recipe.judge, sheets, (sheets[0].path.parent,))
    _show(workspace, sheets)
    return [sheet.path for sheet in sheets]


def _fill(workspace: Workspace, spec: JudgeSpec, sheets: list[Sheet], folders: tuple[Path, ...]) -> None:
    """Have every open row of the sheets answered, and write them."""
    with ExitStack() as stack:
        for folder in (_cache_folder(workspace), *folders):
            stack.enter_context(stage_lock(folder, "judge"))
        still_open = [(sheet, i) for sheet in sheets for i in sheet.missing]
        if still_open:
            fresh = len(still_open) == sum(len(sheet.items) for sheet in sheets)
            found = _by_oracle(still_open) if spec.kind == "oracle" else _by_endpoint(workspace, spec, still_open, fresh=fresh)
            for sheet in sheets:
                if now := {i: said for (path, i), said in found.items() if path == sheet.path}:
                    sheet.write(now)
        else:
            say("already judged, and nothing has changed since")


def _cache_folder(workspace: Workspace) -> Path:
    return workspace.root / ".cache" / "judge"


Found = dict[tuple[Path, int], Said]  # by sheet and place in it


def _by_oracle(places: list[tuple[Sheet, int]]) -> Found:
    from ..world.oracle import grade_response, verdict

    found: Found = {}
    for sheet, i in places:
        item = sheet.items[i]
        if item.b is None:
            value = grade_response(item.prompt, item.a)
        else:
            first, second = (item.a, item.b) if item.first == "a" else (item.b, item.a)
            value = {"a": "A", "b": "B", "tie": "tie"}[verdict(item.prompt, first, second)]
        found[sheet.path, i] = Said(Parsed(value))
    return found


def _by_endpoint(workspace: Workspace, spec: JudgeSpec, places: list[tuple[Sheet, int]], *, fresh: bool) -> Found:
    """`fresh`: no row stands from an earlier run."""
    from .ask import Question, ask

    questions = []
    for sheet, i in places:
        item = sheet.items[i]
        questions.append(Question(_message(item, sheet.rubric), "Verdict" if item.b else "Grade", sheet.rubric.values, item.draw))
    said = ask(questions, spec, _cache_folder(workspace), fresh=fresh)
    return {(sheet.path, i): one for (sheet, i), one in zip(places, said, strict=True)}


def _message(item: Item, rubric: Rubric) -> str:
    if item.b is None:
        return fill(rubric, item.prompt, {"response": item.a.text})
    first, second = (item.a, item.b) if item.first == "a" else (item.b, item.a)
    return fill(rubric, item.prompt, {"response_a": first.text, "response_b": second.text})


def _show(workspace: Workspace, sheets: list[Sheet]) -> None:
    written = {sheet.path: sheet.rows for sheet in sheets}
    rows = [row for found in written.values() for row in found]
    if judgments := [row for row in rows if isinstance(row, Judgment)]:
        show_preferences(preferences(judgments))
    if grades := [row for row in rows if isinstance(row, Grade)]:
        scale = next(sheet.settings["scale"] for sheet in sheets if "scale" in sheet.settings)  # one rubric grades a run
        show_grades(summarise(grades, scale=scale))
    invalid = []
    for sheet in sheets:
        if n := sum(row.status == "invalid" for row in written[sheet.path]):
            again = f", {len(missing)} of them without an answer" if (missing := sheet.missing) else ""
            invalid.append(f"  {workspace.relative(sheet.path)}: {n} of {len(written[sheet.path])}{again}")
    if invalid:
        what = (
            "answers that are invalid count for nothing; the rows keep their text. Those that no answer came to are asked again by the same"
        )
        warn("\n".join([f"{what} command; to ask the others again, and only them, delete the file", *invalid]))
    problems = Counter(row.problem or "" for row in rows if row.status == "invalid")
    if problems.total() > MANY_INVALID * len(rows):
        share = f"{problems.total()} of {len(rows)} rows ({problems.total() / len(rows):.0%}) are invalid"
        most = "".join(f"\n  {n} times: {problem}" for problem, n in problems.most_common(3))
        warn(f"WARNING: {share}. What the figures say rests on the others alone, and those may be a biased choice.{most}")
