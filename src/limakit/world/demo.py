"""`limakit demo`: the whole way in the miniature world, offline, in a few minutes."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..analyze.intervals import Estimate, cluster_bootstrap
from ..errors import UsageError
from ..progress import duration, say, show_table
from ..recipe import read_recipe
from ..records import Prompt, Response, read_jsonl
from ..workspace import PARTIAL, RECIPE, Workspace, atomic_dir, find_workspace, stage_lock, write_json, write_text
from .dumps import write_dumps
from .facts import make_world
from .oracle import Reading, read_response

if TYPE_CHECKING:
    from ..curate.review import ReviewItem
    from .pretrain import Pretraining
    from .reviewer import Verdict

MARKER = "demo.json"  # says that a folder is a demo's, and of which world
SEED, PEOPLE = 7, 96
STAGES = 9
# One thread: beside other work two were measured 7 times slower than one for so small a model (they wait for each other), and
# the numbers, which depend on how many threads add them up, are then the same however many cores there are.
THREADS = 1
GROUPS = {"in_distribution": "asked as in training", "out_of_distribution": "asked otherwise"}


def run_demo(out: Path, pretraining: Pretraining | None = None) -> Path:
    """Base model, curate, review, train, generate, judge, report in `out`; returns the report's path. Run again, it goes on where it was.

    `pretraining` makes another base than the usual one (a smaller one, say).

    Raises UsageError, with nothing touched, where `out` holds something else than a demo of this version.
    """
    _claim(out)
    from ..curate.pipeline import curate
    from ..generate.dev import each_epoch
    from ..generate.run import generate
    from ..judge.run import judge
    from ..report.page import write_report
    from ..train.loop import train
    from .pretrain import Pretraining, pretrain
    from .reviewer import NAME as REVIEWER
    from .reviewer import review

    started = time.monotonic()
    world = make_world(SEED, PEOPLE)
    facts = sum(len(person.facts) for person in world.people)
    with stage_lock(out, "demo"), _threads(THREADS):
        with _stage(1, f"a valley of {len(world.people)} people and {facts} facts: its raw sources -> dumps/"):
            if not (out / "dumps").exists():
                with atomic_dir(out / "dumps") as part:
                    write_dumps(part, world)
            if not (out / RECIPE).exists():
                write_text(out / RECIPE, (resources.files("limakit") / "recipes" / "world.toml").read_text(encoding="utf-8"))
        with _stage(2, "pretraining: a tiny model from nothing on the valley's almanacs, letters and gossip -> base/"):
            pretrain(out / "base", world, pretraining or Pretraining())
        workspace = find_workspace(out / RECIPE)
        recipe = read_recipe(workspace.recipe_path)
        with _stage(3, "curate: raw sources of seven kinds -> examples and prompts, data/; what a person must see -> data/review.jsonl"):
            curate(workspace, recipe, tables=False)
        with _stage(4, f"review by a {REVIEWER}, which knows the facts, then curate again -> decisions.jsonl, data/"):
            _show_review(review(workspace, world))
            curate(workspace, recipe)
        with _stage(5, f"train: the base on the examples, {recipe.train.epochs} epochs -> runs/{recipe.name}/"):
            train(workspace, recipe, each_epoch(workspace, recipe))
        with _stage(6, f"generate: the test prompts answered after training -> responses/{recipe.name}.jsonl"):
            generate(workspace, recipe, model=None, name=None)
        with _stage(7, "generate: the same prompts answered by the base -> responses/base.jsonl"):
            generate(workspace, recipe, model=recipe.model.base, name="base")
        with _stage(8, "judge: the oracle, which knows the facts, compares and grades -> judgments/, grades/"):
            judge(workspace, recipe, model=None, against=None)
        with _stage(9, "report: every table and figure -> report/"):
            page = write_report(workspace, recipe)[0]
    _show(measure(workspace, ("base", recipe.name)))
    say(f"The whole demo took {duration(time.monotonic() - started)}. It is a workspace: edit {out / RECIPE} and run a stage again.")
    return page


def _show_review(done: Sequence[tuple[ReviewItem, Verdict]]) -> None:
    if not done:
        say("nothing waits: all of it is decided")
        return
    counts = Counter((item.label, verdict.action, verdict.why if verdict.action != "accept" else "") for item, verdict in done)
    rows = [[label, action, why, n] for (label, action, why), n in sorted(counts.items())]
    show_table("what was decided about the candidates that waited", ["source", "decision", "why", "n"], rows)


def _claim(out: Path) -> None:
    """Make `out` a demo's folder, or see that it is one."""
    world = {"demo": "limakit", "limakit": __version__, "seed": SEED, "people": PEOPLE}
    if out.exists() and not out.is_dir():
        raise UsageError("is a file", where=out, remedy="choose another folder with --out")
    if (out / MARKER).is_file():
        try:
            found = json.loads((out / MARKER).read_bytes())
        except ValueError:
            found = None
        if found != world:
            raise UsageError("holds the demo of another version of limakit", where=out, remedy="remove it, or choose another with --out")
    elif out.is_dir() and any(not path.name.startswith(PARTIAL) for path in out.iterdir()):
        raise UsageError("holds something else than a demo", where=out, remedy="choose a new folder with --out; nothing was touched")
    else:
        write_json(out / MARKER, world)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(n, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _stage(number: int, what: str) -> Iterator[None]:
    started = time.monotonic()
    say(f"{number}/{STAGES}  {what}")
    yield
    say(f"     {number}/{STAGES} done in {duration(time.monotonic() - started)}\n")


@dataclass(frozen=True)
class Share:
    """How a model did on a group of prompts (one response each): shares of responses, each with its interval over the prompts."""

    group: str
    model: str
    prompts: int
    right: Estimate
    stopped: Estimate
    both: Estimate


def measure(workspace: Workspace, models: Sequence[str]) -> list[Share]:
    """Shares of right and stopped responses for each group of test prompts and model, as the oracle reads them."""
    prompts = read_jsonl(workspace.data / "test.jsonl", Prompt)
    shares = []
    for group in GROUPS:
        for model in models:
            responses = {r.prompt_id: r for r in read_jsonl(workspace.responses / f"{model}.jsonl", Response)}
            readings = [read_response(p, responses[p.id]) for p in prompts if group in p.tags]
            if readings:
                shares.append(_share(group, model, readings))
    return shares


def _share(group: str, model: str, readings: Sequence[Reading]) -> Share:
    def estimate(hits: list[bool]) -> Estimate:
        return cluster_bootstrap([[float(hit)] for hit in hits], bounds=(0.0, 1.0))

    right, stopped = [r.right for r in readings], [r.stopped for r in readings]
    both = [r and s for r, s in zip(right, stopped, strict=True)]
    return Share(group, model, len(readings), estimate(right), estimate(stopped), estimate(both))


def _show(shares: Sequence[Share]) -> None:
    def percent(e: Estimate) -> str:
        return f"{100 * e.value:.0f} [{100 * e.low:.0f}–{100 * e.high:.0f}]"

    rows = [[GROUPS[s.group], s.model, s.prompts, percent(s.right), percent(s.stopped), percent(s.both)] for s in shares]
    title = "Facts about people of whom no training example speaks: percent of responses [95 % interval]"
    show_table(title, ["prompts", "model", "n", "right", "stopped", "both"], rows)
