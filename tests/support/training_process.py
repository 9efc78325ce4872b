"""A training in a process of its own, forked from one that has imported torch: so it can be killed many times without paying for that each time."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["limakit.generate.dev", "limakit.train.recompute", "transformers.models.llama.modeling_llama", "training_process"]


def start_training(folder: Path) -> BaseProcess:
    """`limakit train` in a workspace, under way. It writes what it says to folder.log beside the workspace."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_train, args=(folder,))
    process.start()
    return process


def _train(folder: Path) -> None:
    import torch

    from limakit.generate.dev import each_epoch
    from limakit.recipe import read_recipe
    from limakit.train.loop import train
    from limakit.workspace import find_workspace

    said = os.open(folder.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    torch.set_num_threads(1)  # bits depend on how many there are
    workspace = find_workspace(folder / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    train(workspace, recipe, each_epoch(workspace, recipe))
