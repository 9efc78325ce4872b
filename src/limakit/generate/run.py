"""Answer the prompts with a checkpoint here: responses/NAME.jsonl, by one process or by all that torchrun started."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from ..choice import checkpoint_of
from ..errors import UsageError
from ..model.fingerprint import fingerprint
from ..model.load import load_config, load_tokenizer, locate
from ..progress import say, visible, warn
from ..recipe import Prompting, Recipe
from ..train.ranks import Ranks, joined
from ..workspace import Workspace, name_for_file, sha256_file
from .form import DATE, Form, form_of
from .frame import Job, fill, read_prompts, sampling_of
from .here import Here, context_of, vocabulary_of
from .prompting import examples_hash

OF_FORM = {
    "template": "its tokenizer has a chat template of its own, and is asked in that; if it is a base model, --prompting plain or urial",
    "plain": "its tokenizer has no chat format of limakit, so it is taken for a base model and goes on with the plain prompt",
}


def generate(workspace: Workspace, recipe: Recipe, *, model: str | None, name: str | None, prompting: str | None = None) -> list[Path]:
    """Answer every prompt of generate.prompts `samples` times; returns [responses/NAME.jsonl, its manifest] (nothing on ranks other than the first).

    `model` is a folder (relative to the workspace) or a hub id, default the recipe's chosen epoch, or its last. `name` is what the responses
    call it, default the recipe's name, or the folder's. `prompting` is one of recipe.Prompting, default the recipe's: "auto" asks a model whose
    tokenizer knows EOT in the chat format, any other that brings a chat template in that, and the rest are base models that go on with the plain
    text of the prompt. The manifest says which it was.

    Under torchrun each rank has the model and answers its share; the bytes are those of one process. An error in one ends all.

    Raises LimakitError for missing or empty prompts, a checkpoint that is not there or cannot be read, and a prompt that fills the model's
    context, before anything is generated; UsageError for a prompting that is none, or a chat where the tokenizer has no format.
    """
    asked = prompting or recipe.generate.prompting
    if asked not in get_args(Prompting):
        raise UsageError(f"--prompting {asked!r} is none", remedy=f"choose one of: {', '.join(get_args(Prompting))}")
    with joined(recipe.generate.device) as ranks:
        return _generate(workspace, recipe, model, name, asked, ranks)


def _generate(workspace: Workspace, recipe: Recipe, model: str | None, name: str | None, prompting: Any, ranks: Ranks) -> list[Path]:
    spec = recipe.generate
    chosen = checkpoint_of(workspace, recipe.name) if model is None else None
    checkpoint = model if chosen is None else workspace.relative(chosen.folder)
    assert checkpoint is not None
    name = name or (recipe.name if model is None else _name_of(workspace, checkpoint))
    if chosen is not None:
        say(visible(f"{name}: {checkpoint} ({chosen.said})"))
    name_for_file(name)
    prompts = read_prompts(workspace, spec.prompts)
    # code from a model's repository runs only for the one the recipe trusts, and for what was trained from it
    ours = checkpoint == recipe.model.base or _inside(workspace.path(checkpoint), workspace.runs)
    revision = recipe.model.revision if checkpoint == recipe.model.base else None
    load: dict[str, Any] = {"root": workspace.root, "revision": revision, "trust_remote_code": ours and recipe.model.trust_remote_code}
    folder = locate(checkpoint, workspace.root)
    shown = workspace.relative(Path(folder)) if Path(folder).is_dir() else checkpoint
    config = load_config(checkpoint, **load)
    files = ranks.lead(lambda: fingerprint(folder, config))
    if chosen is not None:
        chosen.check(files, shown)
    form = form_of(load_tokenizer(checkpoint, **load), prompting)
    if prompting == "auto" and form.kind in OF_FORM:
        warn(visible(f"{name}: {OF_FORM[form.kind]}"))
    if form.writes_date:
        warn(visible(f"{name}: its chat template asks for the day, and is always told {DATE:%d %B %Y}"))
    prompts_path = workspace.path(spec.prompts)
    job = Job(
        workspace, name, prompts, spec.samples, settings=_settings(shown, name, recipe, form), packages=("torch", "transformers"),
        inputs={workspace.relative(prompts_path): sha256_file(prompts_path)} | {f"{shown}/{file}": digest for file, digest in files.items()},
    )  # fmt: skip
    here = Here(checkpoint, load, name, recipe.seed, spec, form, context_of(name, config), vocabulary_of(config), ranks.device)
    here.check(prompts, prompts_path)
    return fill(job, here.answer, ranks)


def _settings(model: str, name: str, recipe: Recipe, form: Form) -> dict[str, Any]:
    settings = {"model": model, "name": name, "seed": recipe.seed, "prompting": form.kind, "sampling": sampling_of(recipe.generate)}
    settings |= {"examples_sha256": examples_hash()} if form.kind == "urial" else {}
    return settings | ({"date": DATE.isoformat()} if form.writes_date else {})


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _name_of(workspace: Workspace, checkpoint: str) -> str:
    """A checkpoint's name: the last part of its path; of one of our runs the run's (runs/a/final: a; runs/a/epochs/03: a-epochs-03)."""
    path = workspace.path(checkpoint)
    if path.is_dir() and _inside(path, workspace.runs):
        parts = path.resolve().relative_to(workspace.runs.resolve()).parts
        return "-".join(parts[:-1] if parts[-1:] == ("final",) else parts)
    return Path(checkpoint).expanduser().resolve().name if path.is_dir() else checkpoint.rstrip("/").split("/")[-1]
