"""What a model gets before it is trained, in the one order that is right: for a run, for a plan's measuring and for the benches alike."""

from __future__ import annotations

from typing import Any

from ..model.attention import attach_packing
from ..recipe import TrainSpec
from .compiled import compile_layers
from .dropout import attach_residual_dropout
from .native import NativeRates
from .recompute import recompute_layers


def attach(model: Any, spec: TrainSpec, longest: int) -> NativeRates:
    """Attach residual dropout, packed attention, compiling and recomputing, in place, as the recipe has them. `longest`: tokens of the longest
    document to come.

    The model has its new EOT and its adapters already; it is sharded afterwards, so that FSDP gathers a layer's weights outside what is
    compiled and run again. Compiling comes first, so that recomputing runs the compiled layer: the same code, hence the same masks.

    Returns the rates of the base's own config, with which it is saved. Raises LimakitError, naming the model, for a family that one of them
    cannot be done to.
    """
    native = attach_residual_dropout(model, spec.residual_dropout)
    if spec.pack:
        attach_packing(model, spec.precision, longest=longest)
    if spec.compile:
        compile_layers(model)
    if spec.recompute:
        recompute_layers(model)
    return native
