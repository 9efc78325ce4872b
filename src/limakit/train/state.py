"""The optimiser's state on disk: what a run needs, besides the newest epoch's weights, to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import LimakitError
from ..model.save import rust_io_errors
from ..workspace import write_json
from .optimizer import optimizer_tensors, parameters_with_state, restore_optimizer


def save_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    with rust_io_errors():
        save_file(optimizer_tensors(model, optimizer), folder / "optimizer.safetensors")
    write_json(folder / "parameters.json", parameters_with_state(model, optimizer))


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer, remedy: str) -> None:
    """Raises LimakitError, with this remedy, if it is unreadable or not that of this model."""
    path = folder / "optimizer.safetensors"
    try:
        names = json.loads((folder / "parameters.json").read_bytes())
        restore_optimizer(model, optimizer, load_file(path), names)
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
        raise LimakitError(f"cannot read the optimiser's state: {error}", where=path, remedy=remedy) from error
