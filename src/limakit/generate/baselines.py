"""The recipe's [[baselines]]: other models that answer the same prompts (paper, section 4.1)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import LimakitError, UsageError
from ..progress import say, visible, warn
from ..recipe import BaselineSpec, Recipe
from ..records import Response
from ..workspace import Workspace, sha256_file
from .frame import Job, Question, fill, read_prompts, sampling_of
from .prompting import examples_hash


def generate_baselines(workspace: Workspace, recipe: Recipe, names: Sequence[str]) -> list[Path]:
    """Answer with the named baselines, one after the other; returns the files that were written, two for each.

    One that fails is told, and the others go on; at the end LimakitError names those that failed. Raises UsageError, with nothing done, for a name
    the recipe does not have, and under torchrun for several at once, or one that is not a model here.
    """
    chosen = _chosen(recipe, names)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (len(chosen) > 1 or chosen[0].kind != "local"):
        remedy = "torchrun ... limakit generate --baseline NAME for each local one, and no torchrun for the others"
        raise UsageError("several processes share one local baseline at a time", where="torchrun", remedy=remedy)
    if len(chosen) == 1:
        return answer_as(workspace, recipe, chosen[0])
    wrote: list[Path] = []
    failed = []
    for spec in chosen:
        try:
            wrote += answer_as(workspace, recipe, spec)
        except (LimakitError, ModuleNotFoundError, MemoryError, OSError, RuntimeError) as error:
            told = _told(error)
            if told is None:
                raise
            failed.append(spec.name)
            warn("\n".join(visible(line) for line in f"{spec.name} failed, and the others go on: {told}".split("\n")))
    if failed:
        for path in wrote:
            say(visible(f"wrote {path}"))
        remedy = "the same command does what is missing; what is there stays"
        raise LimakitError(f"{len(failed)} of {len(chosen)} failed: {', '.join(failed)}", where="baselines", remedy=remedy)
    return wrote


def answer_as(workspace: Workspace, recipe: Recipe, spec: BaselineSpec) -> list[Path]:
    """Answer the recipe's prompts with one baseline; returns what was written. Raises what its way raises."""
    if spec.kind == "local":
        from .run import generate

        return generate(workspace, recipe, model=spec.model, name=spec.name, prompting=spec.prompting)
    if spec.kind == "file":
        from .imported import import_responses

        return import_responses(workspace, recipe, workspace.path(spec.path), spec.name)
    from .remote import answer

    prompts = read_prompts(workspace, recipe.generate.prompts)
    prompts_path = workspace.path(recipe.generate.prompts)
    prompting = "chat" if spec.prompting == "auto" else spec.prompting
    settings = {
        "model": spec.model, "base_url": spec.base_url, "name": spec.name, "seed": recipe.seed, "prompting": prompting,
        "sampling": sampling_of(recipe.generate),
    } | ({"examples_sha256": examples_hash()} if prompting == "urial" else {})  # fmt: skip
    inputs = {workspace.relative(prompts_path): sha256_file(prompts_path)}

    job = Job(workspace, spec.name, prompts, recipe.generate.samples, settings=settings, inputs=inputs)

    def ask(questions: Sequence[Question]) -> Iterator[Response]:
        began = questions[0].turn > 0 or len(questions) < len(prompts) * job.samples
        return answer(questions, spec, recipe.generate, recipe.seed, spent=workspace.spent, work=job.work, began=began)

    return fill(job, ask)


def _chosen(recipe: Recipe, names: Sequence[str]) -> list[BaselineSpec]:
    known = {spec.name: spec for spec in recipe.baselines}
    if not known:
        remedy = 'add [[baselines]] with name, kind = "local", "endpoint" or "file", and model or path'
        raise UsageError("the recipe has no baselines", where="baselines", remedy=remedy)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"no baseline called {unknown[0]!r}", where="baselines", remedy=f"the recipe has: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _told(error: Exception) -> str | None:
    """What a user is told of a baseline that failed; None for what nobody foresaw."""
    if isinstance(error, LimakitError):
        return error.message
    if isinstance(error, ModuleNotFoundError):
        return f"it needs {error.name}, which is not installed"
    if isinstance(error, OSError):
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
        return "out of memory"
    return None
