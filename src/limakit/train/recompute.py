"""Activation checkpointing: of each decoder layer only the input is kept for the backward pass, which runs the layer's forward again.

Gradients are the same: the random state of the forward is set again, so dropout draws the same masks, and a layer runs on the same input.
A plain use of torch.utils.checkpoint around each layer's `forward`, not transformers' own: that depends on what a family's class says it
supports, and where hooks on the layer run (FSDP's, which gather weights) differs between its versions. Here they run outside, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import LimakitError
from ..model.attention import model_name
from .branches import decoder_layers


def recompute_layers(model: Any) -> None:
    """Let each decoder layer of the model, in place, compute its activations again in the backward pass; in training only.

    After compiling, so that what is run again is the compiled layer; before FSDP. Raises LimakitError for a model without a list of decoder
    layers.
    """
    layers = decoder_layers(model)
    if not layers:
        what = "recompute: its decoder layers are of no known form"
        raise LimakitError(
            what, where=model_name(model), remedy="set recompute = false under [train]; lower pack_tokens instead, or use LoRA"
        )
    for layer in layers:
        layer.forward = partial(_recomputed, layer, layer.forward)


def _recomputed(layer: nn.Module, forward: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*inputs, **keywords)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=True, **keywords)
