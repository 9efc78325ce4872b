"""What there is to choose a checkpoint by: of each epoch its loss, its perplexity on held-out examples, what it said, and what judges gave it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..choice import Choice, epoch_folder, read_choice
from ..errors import LimakitError, UsageError
from ..generate.look import Look, Place, prompt_hash, read_answers, read_look
from ..progress import warn
from ..recipe import Recipe
from ..records import Grade, Prompt, Response, jsonl_lines, read_jsonl
from ..workspace import Workspace, name_for_file, sha256_file
from .grades import GradeSummary, numeric, summarise
from .intervals import Estimate, cluster_bootstrap
from .origin import Present, read_origin
from .perplexity import Relation, perplexity, relation
from .rows import read_placed, refuse_repeats

NO_PROMPTS = "there are no dev prompts"


@dataclass(frozen=True)
class Graded:
    """The grades of one epoch's dev responses by one judge and rubric."""

    summary: GradeSummary
    by_prompt: Mapping[str, tuple[str, ...]]  # valid grades
    files: tuple[str, ...]


@dataclass(frozen=True)
class EpochSeen:
    """One epoch. `loss` is the mean over its target tokens while it was trained. What was not looked at, graded or kept is None or empty."""

    number: int
    loss: float | None
    look: Look | None
    perplexity: Estimate | None
    answers: Mapping[str, Response]  # by prompt
    tokens: Estimate | None  # mean length of an answer
    stopped: Estimate | None  # share of answers that ended by themselves
    graded: Graded | None
    kept: bool  # whether its weights are here

    @property
    def held_out(self) -> int:
        """The n of its perplexity: examples."""
        return len(self.look.held_out.each) if self.look is not None and self.look.held_out is not None else 0


@dataclass(frozen=True)
class Selection:
    """A run's epochs, in order, and the dev prompts in the order of their file."""

    run: Path
    epochs: tuple[EpochSeen, ...]
    prompts: tuple[Prompt, ...]
    choice: Choice | None
    relation: Relation | None
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # sha256 of each file that was read

    def epoch(self, number: int) -> EpochSeen:
        """Raises UsageError where the run has no such epoch."""
        for epoch in self.epochs:
            if epoch.number == number:
                return epoch
        raise no_epoch(number, self.run, [epoch.number for epoch in self.epochs])

    def prompt(self, which: str) -> Prompt:
        """By its id, or its number from 1. Raises UsageError where there is none."""
        if not self.prompts:
            remedy = 'a source with split = "dev" gives them (limakit curate), and [dev] prompts in the recipe names their file'
            raise UsageError(NO_PROMPTS, where=self.run.name, remedy=remedy)
        by_id = {prompt.id: prompt for prompt in self.prompts}
        if which in by_id:
            return by_id[which]
        if which.isdecimal() and 1 <= int(which) <= len(self.prompts):
            return self.prompts[int(which) - 1]
        raise UsageError(f"there is no dev prompt {which!r}", remedy=f"name its id, or its number from 1 to {len(self.prompts)}")

    def reworded(self, prompt: Prompt) -> str:
        """Which epochs answered another text under this prompt's id, as a note; nothing where none did."""
        now = prompt_hash(prompt)
        answered = [(epoch, epoch.look.answered) for epoch in self.epochs if epoch.look is not None and epoch.look.answered is not None]
        others = [epoch.number for epoch, of in answered if of.prompts.get(prompt.id, now) != now]
        return f"{spoken(others)} answered an earlier wording of this prompt; limakit select --answer asks again" if others else ""


def no_epoch(number: int, run: Path, numbers: Sequence[int]) -> UsageError:
    """What a user reads who names an epoch that a run does not have."""
    return UsageError(f"there is no epoch {number}", where=run.name, remedy=f"epochs here: {numbers[0]} to {numbers[-1]}")


def spoken(epochs: Sequence[int]) -> str:
    """ "epochs 1 to 4", "epochs 1, 3", "epoch 2"."""
    if len(epochs) > 2 and epochs[-1] - epochs[0] == len(epochs) - 1:
        return f"epochs {epochs[0]} to {epochs[-1]}"
    return f"epoch{'s' if len(epochs) > 1 else ''} {', '.join(map(str, epochs))}"


def grades_folder(run: Path) -> Path:
    """Where grades of dev responses lie, apart from those of what is compared with baselines."""
    return run / "dev" / "grades"


def read_selection(workspace: Workspace, recipe: Recipe) -> Selection:
    """Read what a recipe's run left. Raises UsageError where nothing is trained yet, LimakitError for a file that cannot be read."""
    run = workspace.runs / name_for_file(recipe.name)
    numbers = epoch_numbers(workspace, run)
    files: dict[str, str] = {}
    notes: list[str] = []
    losses = _losses(run / "log.jsonl")
    graded, old = _graded(workspace, recipe, run)
    notes += old
    path = workspace.path(recipe.dev.prompts) if recipe.dev.prompts else None
    prompts = tuple(read_jsonl(path, Prompt)) if path is not None and path.is_file() else ()
    digest = sha256_file(path) if prompts and path is not None else ""
    epochs, others = [], []
    for number in numbers:
        place = Place(run, number)
        look = read_look(place)
        answers = {response.prompt_id: response for response in read_answers(place, look)} if look is not None else {}
        if look is not None and look.answered is not None and digest and look.answered.sha256 != digest:
            others.append(number)
        for file in (place.look, place.responses, *(workspace.root / name for name in (graded[number].files if number in graded else ()))):
            if file.is_file():
                files[workspace.relative(file)] = sha256_file(file)
        epochs.append(_seen(run, number, losses.get(number), look, answers, graded.get(number)))
    for name in (run / "log.jsonl", path):
        if name is not None and name.is_file():
            files[workspace.relative(name)] = sha256_file(name)
    if others:
        notes.append(f"{spoken(others)} answered other prompts than {recipe.dev.prompts} now holds; limakit select --answer asks again")
    return Selection(run, tuple(epochs), prompts, read_choice(run), _relation(epochs), tuple(notes), files)


def epoch_numbers(workspace: Workspace, run: Path) -> list[int]:
    """Every epoch that is whole, in order: its weights are here, were dropped, or it was looked at. Raises UsageError where there is none."""
    places = [*(run / "epochs").glob("*"), *(path.with_suffix("") for path in (run / "dev").glob("*.json"))]
    found = {int(path.name) for path in places if path.name.isdigit()}
    try:
        found |= {int(number) for number in json.loads((run / "dropped.json").read_bytes())}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError):
        raise LimakitError("is not readable", where=run / "dropped.json", remedy="limakit train says what to do") from None
    if not found:
        raise UsageError("no epoch is trained yet", where=workspace.relative(run), remedy="run limakit train")
    return sorted(found)


def _losses(log: Path) -> dict[int, float]:
    """The mean training loss of each epoch, over target tokens. A run may still be going on: an unfinished last line is no step yet."""
    sums: dict[int, list[float]] = {}
    for _, line in jsonl_lines(log) if log.is_file() else ():
        try:
            row = json.loads(line)
            epoch, loss, targets = int(row["epoch"]), float(row["loss"]), int(row["target_tokens"])
        except (ValueError, KeyError, TypeError):
            break
        total = sums.setdefault(epoch, [0.0, 0.0])
        total[0] += loss * targets
        total[1] += targets
    return {epoch: loss / targets for epoch, (loss, targets) in sums.items() if targets}


def _seen(run: Path, number: int, loss: float | None, look: Look | None, answers: dict[str, Response], graded: Graded | None) -> EpochSeen:
    held_out = look.held_out if look is not None else None
    ppl = perplexity([one.nll for one in held_out.each], [one.tokens for one in held_out.each]) if held_out and held_out.each else None
    tokens = stopped = None
    if answers and look is not None and look.answered is not None:
        rows = [answers[i] for i in sorted(answers)]
        counts = [row.tokens or 0 for row in rows]  # an epoch's responses are ours and have a count
        tokens = cluster_bootstrap([[float(n)] for n in counts], bounds=(0, max(look.answered.sampling.max_tokens, *counts)))
        stopped = cluster_bootstrap([[float(row.finish == "eot")] for row in rows], bounds=(0, 1))
    return EpochSeen(number, loss, look, ppl, answers, tokens, stopped, graded, epoch_folder(run, number).is_dir())


def _graded(workspace: Workspace, recipe: Recipe, run: Path) -> tuple[dict[int, Graded], list[str]]:
    """The grades by epoch, of one judge and rubric: the recipe's if it has graded, else the first there is; and what was left out."""
    present = Present(workspace.root)
    notes: list[str] = []
    found: dict[tuple[str, str], dict[int, list[tuple[str, Grade, tuple[str, ...]]]]] = {}
    for file in sorted(grades_folder(run).glob("*.jsonl")):
        name = workspace.relative(file)
        if (reason := present.out_of_date(file)) is not None:
            notes.append(f"{name} is out of date and left out: {reason.partition(':')[0]}; limakit select --judge judges again")
            continue
        origin = read_origin(file)
        scale = tuple(str(value) for value in origin.settings.get("scale", ())) if origin else ()
        placed = read_placed(file, Grade)
        refuse_repeats([row.record for row in placed], placed)
        for row in placed:
            grade = row.record
            epoch = grade.model.rpartition("@")[2]
            if not epoch.isdecimal():
                raise LimakitError(f"model {grade.model!r} names no epoch", where=row, remedy='it is NAME@EPOCH, e.g. "lima@7"')
            found.setdefault((grade.judge, grade.rubric), {}).setdefault(int(epoch), []).append((name, grade, scale))
    if not found:
        return {}, notes
    rubrics = [Path(name).stem for name in recipe.judge.grade]
    key = min(found, key=lambda pair: (pair[0] != recipe.judge.called, pair[1] not in rubrics[:1], pair[1] not in rubrics, pair))
    if len(found) > 1:
        notes.append(f"{len(found)} judges or rubrics have graded; shown is {key[0]}, rubric {key[1]}")
    return {epoch: _of_epoch(rows) for epoch, rows in found[key].items()}, notes


def _of_epoch(rows: Sequence[tuple[str, Grade, tuple[str, ...]]]) -> Graded:
    [summary] = summarise([grade for _, grade, _ in rows], scale=rows[0][2])
    by_prompt: dict[str, tuple[str, ...]] = {}
    for _, grade, _ in rows:
        if grade.value is not None:
            by_prompt[grade.prompt_id] = (*by_prompt.get(grade.prompt_id, ()), grade.value)
    return Graded(summary, by_prompt, tuple(dict.fromkeys(name for name, _, _ in rows)))


def _relation(epochs: Sequence[EpochSeen]) -> Relation | None:
    """Over the epochs that have both, the prompts graded and the examples measured in all of them."""
    both = [e for e in epochs if e.graded is not None and e.graded.summary.mean is not None and e.look is not None and e.look.held_out]
    if not both:
        return None
    graded = [e.graded.by_prompt for e in both if e.graded is not None]
    measured = [{one.id: one for one in e.look.held_out.each} for e in both if e.look is not None and e.look.held_out is not None]
    if len({e.look.held_out.sha256 for e in both if e.look is not None and e.look.held_out is not None}) > 1:
        warn("the epochs were measured on different held-out examples; perplexity is compared on those that all have")
    prompts = sorted(set.intersection(*(set(of) for of in graded)))
    examples = sorted(set.intersection(*(set(of) for of in measured)))
    numbers = numeric({value for of in graded for values in of.values() for value in values})
    if not prompts or not examples or not numbers:
        return None
    grades_PE = np.array([[np.mean([numbers[v] for v in of[p]]) for of in graded] for p in prompts])
    nll_XE = np.array([[of[x].nll for of in measured] for x in examples])
    return relation(grades_PE, nll_XE, np.array([float(measured[0][x].tokens) for x in examples]))
