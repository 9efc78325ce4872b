"""torch.compile for the decoder layers: one graph for all layers and all lengths of rows.

Layer by layer rather than the whole model, for the layers are one code with other weights. What would make a graph a layer or a length of its
own: a dropout rate that is a Python number (dropout.ResidualDropout keeps a tensor), and attention that is traced through the boundaries of
a row's documents (it runs as it is, between two graphs), and sizes that happen to be equal in the first row (so many documents as a head is
wide) and are taken to be equal always, unless one says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.fx.experimental._config as shapes
from transformers import AttentionInterface

from ..errors import LimakitError
from ..model.attention import PACKED, VARLEN, model_name, packed_attention, varlen_attention
from .branches import decoder_layers


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Compile each decoder layer of the model, in place; it happens when a layer first runs. Before recompute.recompute_layers and FSDP.

    Raises LimakitError for a model without a list of decoder layers.
    """
    layers = decoder_layers(model)
    if not layers:
        what = "compile: its decoder layers are of no known form"
        raise LimakitError(what, where=model_name(model), remedy="set compile = false under [train]")
    _leave_attention_alone()
    shapes.use_duck_shape = False
    torch.compiler.reset()  # a graph of another model in this process would be taken for this one's: hooks, dropout's too, are not looked at
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)


@cache
def _leave_attention_alone() -> None:
    # not where they are defined: torch.compiler.disable takes a second to import, which only those who compile should wait for
    AttentionInterface.register(PACKED, torch.compiler.disable(packed_attention))
    AttentionInterface.register(VARLEN, torch.compiler.disable(varlen_attention))


@contextmanager
def eagerly(compiled: bool) -> Iterator[None]:
    """Run what was compiled as it was written, for a block: generation between epochs would make graphs of its own, for a key-value cache and
    for each length."""
    if not compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
