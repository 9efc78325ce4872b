"""Sheets: the files of rows that a run has to fill, planned whole before anything is asked. A sheet knows which of its rows are open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import LimakitError, UsageError
from ..generate.look import Place, read_look
from ..progress import warn
from ..recipe import JudgeSpec, Recipe
from ..records import Comparison, Grade, Judgment, Prompt, Response, jsonl_lines, parse_row, read_jsonl, write_jsonl
from ..workspace import LONGEST_NAME, Workspace, is_done, name_for_file, sha256_file, sha256_json, write_manifest
from .rubric import GRADE, LIKERT, PAIRWISE, Rubric, load_rubric, rubric_name
from .verdict import Said


@dataclass(frozen=True)
class Item:
    """One row to be filled: a comparison of `a` with `b`, or, where `b` is None, a grade of `a`."""

    prompt: Prompt
    a: Response
    b: Response | None
    first: Literal["a", "b"]
    draw: int


@dataclass(frozen=True)
class Sheet:
    """One file of rows, and what they depend on."""

    path: Path
    judge: str
    rubric: Rubric
    items: tuple[Item, ...]
    settings: dict[str, Any]
    inputs: dict[str, str]

    @property
    def manifest(self) -> Path:
        return self.path.with_suffix(".manifest.json")

    @property
    def rows(self) -> Sequence[Judgment | Grade]:
        """As they were written."""
        return read_jsonl(self.path, Judgment) if self.items[0].b else read_jsonl(self.path, Grade)

    @property
    def missing(self) -> list[int]:
        """Places (from 0) of the written rows that no answer came to; all, if the sheet was never written or is of other inputs."""
        everything = list(range(len(self.items)))
        try:
            listed = json.loads(self.manifest.read_bytes())["settings"]["unanswered"]
            places = sorted({everything[row - 1] for row in listed})
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return everything
        return places if is_done(self.manifest, settings=self.settings | {"unanswered": listed}, inputs=self.inputs) else everything

    def write(self, found: dict[int, Said]) -> None:
        """Write the rows, those in `found` anew and the others as they stand, and the manifest."""
        old = list(self.rows) if len(found) < len(self.items) else []
        rows = [_record(item, self, found[i]) if i in found else old[i] for i, item in enumerate(self.items)]
        write_jsonl(self.path, rows)
        unanswered = [i + 1 for i, said in sorted(found.items()) if said.missing]  # rows from 1, as messages count them
        write_manifest(
            self.manifest, stage="judge", settings=self.settings | {"unanswered": unanswered}, inputs=self.inputs,
            outputs={self.path.name: sha256_file(self.path)},
        )  # fmt: skip


def plan(workspace: Workspace, recipe: Recipe, name: str, baselines: list[str]) -> list[Sheet]:
    """The sheets of `name` and its baselines. Says what is left out. Raises LimakitError for missing or mismatched inputs, UsageError for
    a wrong rubric, nothing to do, or names too long to make one file name of."""
    spec = recipe.judge
    prompts_path = workspace.path(recipe.generate.prompts)
    if not prompts_path.is_file():
        raise LimakitError("no prompts to judge by", where=prompts_path, remedy="run limakit curate, or set generate.prompts in the recipe")
    listed = read_jsonl(prompts_path, Prompt)
    prompts = {prompt.id: prompt for prompt in listed}
    if len(prompts) < len(listed):
        raise LimakitError(f"{len(listed) - len(prompts)} prompts share their id with another", where=prompts_path, remedy="rename them")
    paths = {who: workspace.responses / f"{name_for_file(who)}.jsonl" for who in (name, *baselines)}
    responses = {who: _responses(path, who) for who, path in paths.items()}
    hashes = {workspace.relative(path): sha256_file(path) for path in (prompts_path, *paths.values())}
    shown = workspace.relative(prompts_path)
    for who, found in responses.items():
        known = {prompt_id for prompt_id, _ in found if prompt_id in prompts}
        others = len({prompt_id for prompt_id, _ in found}) - len(known)
        if not known:
            raise LimakitError(f"none of its responses answers a prompt of {shown}", where=paths[who], remedy="generate them again")
        if others or len(known) < len(prompts):
            warn(f"{who}: answers {len(known)} of the {len(prompts)} prompts of {shown}" + (f", and {others} others" if others else ""))
    sheets = []
    by = f"by-{spec.called}"
    if spec.pairwise:
        rubric = _rubric(spec.pairwise, PAIRWISE, workspace, spec)
        for baseline in baselines:
            both = [key for key in responses[name] if key in responses[baseline] and key[0] in prompts]
            if not both:
                what = f"{name} and {baseline} have no prompt and sample in common"
                raise LimakitError(what, where=paths[baseline], remedy="generate both for the same prompts")
            _say_what_is_left_out({who: [key for key in responses[who] if key[0] in prompts] for who in (name, baseline)}, both)
            items = [
                Item(prompts[key[0]], responses[name][key], responses[baseline][key], first, draw)
                for key in _in_order(both, prompts) for draw in range(_draws(spec)) for first in ("a", "b")
            ]  # fmt: skip
            path = _file(workspace.judgments, name, "against", baseline, by, rubric.name)
            sheets.append(_sheet(workspace, spec, path, rubric, items, hashes, [prompts_path, paths[name], paths[baseline]]))
    for grade in spec.grade:
        rubric = _rubric(grade, GRADE, workspace, spec)
        for who in (name, *baselines):
            keys = _in_order([key for key in responses[who] if key[0] in prompts], prompts)
            items = [Item(prompts[key[0]], responses[who][key], None, "a", draw) for key in keys for draw in range(_draws(spec))]
            path = _file(workspace.grades, who, by, rubric.name)
            sheets.append(_sheet(workspace, spec, path, rubric, items, hashes, [prompts_path, paths[who]]))
    if not sheets:
        remedy = "name baselines (judge.against or --against), or a rubric for grades (judge.grade)"
        raise UsageError("nothing to judge: no baseline to compare with and no grades wanted", where="judge", remedy=remedy)
    return sheets


def plan_epochs(workspace: Workspace, recipe: Recipe) -> list[Sheet]:
    """A sheet of grades for what each epoch of the recipe's run said to the dev prompts. Raises as `plan`, and where no epoch was asked anything."""
    spec = recipe.judge
    if not spec.grade:
        raise UsageError("no rubric for grades", where="judge.grade", remedy='name one, e.g. grade = "helpfulness"')
    run = workspace.runs / name_for_file(recipe.name)
    prompts_path = workspace.path(recipe.dev.prompts)
    looks = {n: look for n in range(1, recipe.train.epochs + 1) if (look := read_look(Place(run, n))) and look.answered is not None}
    if not looks or not recipe.dev.prompts:
        remedy = "limakit train asks them as each epoch ends; limakit select --answer asks those whose weights are here"
        raise UsageError("no epoch has answered the dev prompts", where=workspace.relative(run / "dev"), remedy=remedy)
    listed = read_jsonl(prompts_path, Prompt)
    prompts = {prompt.id: prompt for prompt in listed}
    digest = sha256_file(prompts_path)
    rubric = _rubric(spec.grade[0], GRADE, workspace, spec)
    sheets = []
    for number, look in looks.items():
        path = Place(run, number).responses
        if look.answered is not None and look.answered.sha256 != digest:
            remedy = "limakit select --answer asks again, where the epoch's weights are here; or put the former prompts back"
            raise LimakitError(
                f"answers other prompts than {workspace.relative(prompts_path)} now holds", where=workspace.relative(path), remedy=remedy
            )
        responses = _responses(path, look.model)
        keys = _in_order([key for key in responses if key[0] in prompts], prompts)
        items = [Item(prompts[key[0]], responses[key], None, "a", draw) for key in keys for draw in range(_draws(spec))]
        hashes = {workspace.relative(prompts_path): digest, workspace.relative(path): sha256_file(path)}
        file = _file(run / "dev" / "grades", f"{number:02}", f"by-{spec.called}", rubric.name)
        sheets.append(_sheet(workspace, spec, file, rubric, items, hashes, [prompts_path, path]))
    return sheets


def _file(folder: Path, *names: str) -> Path:
    stem = "-".join(map(name_for_file, names))
    if (length := len(stem.encode())) > LONGEST_NAME:
        raise UsageError(
            f"the names of models, judge and rubric make a file name of {length} bytes, more than {LONGEST_NAME}",
            where=f"{stem[:60]}...", remedy="shorten one of them (limakit generate --name, the rubric's file)",
        )  # fmt: skip
    return folder / f"{stem}.jsonl"


def _say_what_is_left_out(keys: dict[str, list[tuple[str, int]]], both: list[tuple[str, int]]) -> None:
    """Two files may answer other prompts or hold more samples of them; only what both hold is compared."""
    (name, mine), (baseline, theirs) = keys.items()
    if len(both) == len(mine) == len(theirs):
        return
    shared = {prompt_id for prompt_id, _ in mine} & {prompt_id for prompt_id, _ in theirs}
    samples = {who: max(sample for _, sample in found) + 1 for who, found in keys.items()}
    why = f"they share {len(shared)} prompts ({name} answers {_prompts(mine)}, {baseline} {_prompts(theirs)})"
    if len(set(samples.values())) > 1:
        why += f", with up to {samples[name]} samples of each by {name} and {samples[baseline]} by {baseline}: sample n is compared with sample n"
    warn(f"compared are {len(both)} of the {len(mine)} responses by {name} and of the {len(theirs)} by {baseline}: {why}")


def _prompts(keys: list[tuple[str, int]]) -> int:
    return len({prompt_id for prompt_id, _ in keys})


def _responses(path: Path, name: str) -> dict[tuple[str, int], Response]:
    """Responses by prompt and sample. Raises LimakitError for a missing or empty file, a repeated response, or another model's row."""
    if not path.is_file():
        remedy = f"limakit generate, with --name {name} and --model for a baseline, or put a file of responses there"
        raise LimakitError(f"no responses by {name!r}", where=path, remedy=remedy)
    found: dict[tuple[str, int], Response] = {}
    for row, line in jsonl_lines(path):
        response = parse_row(Response, line, path, row)
        key = response.prompt_id, response.sample
        if response.model != name:
            remedy = f'the file of a model holds its rows alone: "model" has to be {name!r}'
            raise LimakitError(f"model: a response by {response.model!r}", where=f"{path}, row {row}", remedy=remedy)
        if key in found:
            raise LimakitError(f"a second response to prompt {key[0]!r}, sample {key[1]}", where=f"{path}, row {row}", remedy="remove one")
        found[key] = response
    if not found:
        raise LimakitError("no responses in it", where=path, remedy="generate them again")
    return found


def _in_order(keys: Sequence[tuple[str, int]], prompts: dict[str, Prompt]) -> list[tuple[str, int]]:
    place = {prompt_id: i for i, prompt_id in enumerate(prompts)}
    return sorted(keys, key=lambda key: (place[key[0]], key[1]))


def _draws(spec: JudgeSpec) -> int:
    return 1 if spec.kind == "oracle" else spec.draws  # the oracle has one opinion


def _rubric(name: str, needs: tuple[str, ...], workspace: Workspace, spec: JudgeSpec) -> Rubric:
    if spec.kind == "oracle":  # it reads no rubric, as it knows the facts
        return Rubric(rubric_name(name), "", LIKERT if needs is GRADE else ("A", "B", "tie"))
    return load_rubric(name, needs, workspace.root)


def _sheet(
    workspace: Workspace, spec: JudgeSpec, path: Path, rubric: Rubric, items: list[Item], hashes: dict[str, str], made_from: list[Path]
) -> Sheet:
    settings: dict[str, Any] = {"judge": spec.called, "kind": spec.kind, "rubric": rubric.name, "draws": _draws(spec)}
    if items[0].b is None:
        settings["scale"] = list(rubric.values)  # worst to best: what the report orders and bounds grades by
    if spec.kind == "endpoint":
        settings |= {
            "base_url": spec.base_url,
            "temperature": spec.temperature,
            "max_tokens": spec.max_tokens,
            "rubric_sha256": sha256_json([rubric.text, *rubric.values]),
        }
    return Sheet(
        path, spec.called, rubric, tuple(items), settings, {workspace.relative(p): hashes[workspace.relative(p)] for p in made_from}
    )


def _record(item: Item, sheet: Sheet, said: Said) -> Judgment | Grade:
    """The row. The judge saw the responses as A and B; the row says which model that was."""
    parsed, raw = said.parsed, said.raw
    status: Literal["ok", "invalid"] = "ok" if parsed.value is not None else "invalid"
    who, rubric = sheet.judge, sheet.rubric.name
    if item.b is None:
        return Grade(
            prompt_id=item.prompt.id, model=item.a.model, sample=item.a.sample, judge=who, rubric=rubric, draw=item.draw,
            status=status, value=parsed.value, problem=parsed.problem, raw=raw,
        )  # fmt: skip
    asked = Comparison(prompt_id=item.prompt.id, a=item.a.model, b=item.b.model, sample=item.a.sample, first=item.first)
    verdict: Literal["a", "b", "tie"] | None = None
    if parsed.value is not None:
        shown_as: dict[str, Literal["a", "b", "tie"]] = {"A": "a", "B": "b", "tie": "tie"}
        if item.first == "b":
            shown_as |= {"A": "b", "B": "a"}
        verdict = shown_as[parsed.value]
    return Judgment(
        prompt_id=asked.prompt_id, a=asked.a, b=asked.b, sample=asked.sample, first=asked.first, judge=who, rubric=rubric, draw=item.draw,
        status=status, verdict=verdict, problem=parsed.problem, raw=raw,
    )  # fmt: skip
