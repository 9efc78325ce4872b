"""What a model gets before it is trained, in the one order that is right: for a run, for a plan's measuring and for the benches alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import UsageError
from ..model.attention import attach_packing
from ..model.head import attach_loss_head
from ..recipe import LoraSpec, TrainSpec
from .compiled import compile_layers
from .dropout import attach_residual_dropout
from .native import NativeRates
from .recompute import recompute_layers
from .shard import shard_again


def attach(model: Any, spec: TrainSpec, longest: int) -> NativeRates:
    """Attach residual dropout, packed attention, compiling and recomputing, in place, as the recipe has them. `longest`: tokens of the longest
    document to come.

    The model has its new EOT and its adapters already, and is sharded where several ranks train it: what is checked here is the model that is
    trained. What is compiled and run again is a layer's forward, and FSDP gathers the layer's weights outside that. Compiling comes first, so that
    recomputing runs the compiled layer: the same code, hence the same masks.

    Returns the rates of the base's own config, with which it is saved. Raises LimakitError, naming the model, for a family that one of them
    cannot be done to.
    """
    native = attach_residual_dropout(model, spec.residual_dropout)
    if spec.pack:
        attach_packing(model, spec.precision, longest=longest)
    attach_loss_head(model)  # where the model allows it
    shard_again(model)
    if spec.compile:
        compile_layers(model)
    if spec.recompute:
        recompute_layers(model)
    return native


def refuse_ranks(spec: LoraSpec, ranks: int) -> None:
    """Raises UsageError for a base in 4 bits on several ranks."""
    if spec.base == "nf4" and ranks > 1:
        raise UsageError(
            f'base = "nf4" is trained by one process, and here are {ranks}: weights in 4 bits are not sharded', where="[train.lora]",
            remedy='use base = "full", of which each rank holds its part, or one process on one device',
        )  # fmt: skip


def chosen_layers(layers: Iterable[str], spec: LoraSpec, model: str) -> list[str]:
    """Which of a model's linear layers, the output layer not among them, get an adapter. Raises UsageError for a name in spec.modules that none has."""
    names = list(layers)
    for wanted in spec.modules:
        if not any(LoraSpec(modules=[wanted]).chooses(name) for name in names):
            there = ", ".join(sorted({name.rpartition(".")[2] for name in names}))
            raise UsageError(
                f"modules: no linear layer of {model} is called {wanted!r}",
                where="[train.lora]",
                remedy=f"choose among: {there}; or leave modules out for all of them (the output layer gets none)",
            )
    return [name for name in names if spec.chooses(name)]
