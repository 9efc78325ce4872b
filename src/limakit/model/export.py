"""`limakit export`: a folder that plain transformers, and what builds on it, loads and chats with."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ..choice import checkpoint_of
from ..errors import LimakitError, UsageError
from ..progress import say
from ..recipe import Recipe
from ..workspace import PARTIAL, Workspace, atomic_dir, write_text
from .card import model_card
from .chat import chat_format, chat_template
from .load import find_folder, load_causal_lm, load_tokenizer
from .save import save_model, stop_at_eot


def export(workspace: Workspace, recipe: Recipe, folder: Path, checkpoint: Path | None = None) -> None:
    """Write `checkpoint` (default: this recipe's chosen epoch, or its last; a path in the workspace, or else from here) to `folder`: safetensors
    in the checkpoint's own precision, tokenizer, chat template, generation config that stops at EOT and samples as the recipe does, and a model
    card.

    Raises UsageError for a folder that is not empty, LimakitError for a checkpoint that is absent, unreadable or not a chat model.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("is there already and not empty", where=folder, remedy="name a new folder; nothing was touched")
    if checkpoint is None:
        chosen = checkpoint_of(workspace, recipe.name)
        say(f"{workspace.relative(chosen.folder)} ({chosen.said})")
        source: Path | None = chosen.folder
    else:
        source = find_folder(checkpoint, workspace.root)
    if source is None:
        raise LimakitError("no such checkpoint", where=checkpoint, remedy="name a folder such as runs/NAME/epochs/07")
    tokenizer = load_tokenizer(str(source), trust_remote_code=recipe.model.trust_remote_code)
    chat = chat_format(tokenizer)
    if chat is None:
        raise LimakitError(
            "its tokenizer is not in limakit's chat format (EOT and our template), so it is no chat model of limakit",
            where=source,
            remedy="name a checkpoint that limakit train wrote",
        )
    tokenizer.chat_template = chat_template(chat.bos)
    model = load_causal_lm(str(source), device="cpu", dtype="auto", trust_remote_code=recipe.model.trust_remote_code)
    sampling = recipe.generate
    generation = stop_at_eot(model, chat)
    generation.max_new_tokens = sampling.max_tokens
    generation.repetition_penalty = sampling.repetition_penalty
    generation.do_sample = sampling.temperature > 0
    if generation.do_sample:
        generation.temperature, generation.top_p, generation.top_k = sampling.temperature, sampling.top_p, 0
    _sweep(folder)
    with atomic_dir(folder) as part:
        save_model(part, model, chat, generation)
        write_text(part / "README.md", model_card(workspace, recipe, source, generation))


def _sweep(folder: Path) -> None:
    """Remove what killed exports to `folder` left beside it: of processes that are gone, and ours. The place is the user's: nothing else goes."""
    leaving = re.compile(re.escape(f"{PARTIAL}{folder.name}-") + r"(\d+)")
    for path in folder.parent.iterdir() if folder.parent.is_dir() else ():
        found = leaving.fullmatch(path.name)
        if found and path.stat().st_uid == os.getuid() and not _runs(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
