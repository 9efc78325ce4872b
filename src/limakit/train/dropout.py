"""Residual dropout (paper, section 3): on the output of each attention and each MLP branch, p_l = p * l / (L - 1) for layer l of L.

It acts on the last module of a branch, just before the residual sum (branches.py). The model's own dropout is set to 0, so that this is the
only one (native.py).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import LimakitError
from ..model.attention import model_name
from .branches import NO_DROPOUT, check_branches, find_branches, on_tensor
from .native import NativeRates, check_silence, probe, silence_native_dropout

NAME = "branch_dropout"  # of the child that a branch's last module gets
BITS = 2**16


class ResidualDropout(nn.Module):
    """Dropout of rate `p`: an entry is 0 with probability p, else divided by 1 - p. The identity in eval mode. Any shape and float type."""

    p: torch.Tensor  # 0-dim: as a Python number each layer's own rate would be a graph of its own under torch.compile
    rate: float  # the same for eager mode, where reading a tensor would wait for the GPU
    hook: RemovableHandle

    def __init__(self, p: float):
        super().__init__()
        self.register_buffer("p", torch.zeros(()), persistent=False)
        self.set_rate(p)

    def set_rate(self, p: float) -> None:
        self.p.fill_(p)
        self.rate = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        if torch.compiler.is_compiling():  # one kernel, whatever the steps are
            keep = torch.rand_like(x, dtype=torch.float32) >= self.p
            scaled = x.float() / (1 - self.p).clamp_min(torch.finfo(torch.float32).tiny)  # 1 - p in 16 bits would be off by up to 0.4 %
            return torch.where(keep, scaled.to(x.dtype), 0)
        return _dropout_cpu(x, self.rate) if x.device.type == "cpu" else F.dropout(x, self.rate)


def _dropout_cpu(x: torch.Tensor, p: float) -> torch.Tensor:
    """As F.dropout, in a fraction of its time: 16 random bits an entry, four entries a draw, and neither `where` nor booleans, which are scalar
    on the CPU. What is dropped is multiplied by 0, so that a value that is not finite shows all the same.

    p is rounded to a multiple of 2^-16, and the scale is that of the rounded rate, so the expectation is x exactly.
    """
    below = round(p * BITS)
    if below == 0:
        return x
    if below == BITS:
        return x * 0.0
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: x.numel()].view(x.shape)
    kept = draws.ge_(below - BITS // 2).to(x.dtype)
    return (x * kept).mul_(BITS / (BITS - below))


def _drop(module: nn.Module, _inputs: tuple, output: Any) -> Any:
    # one function for all, without a closure: torch.compile tells hooks apart by identity
    return on_tensor(module.get_submodule(NAME), output)


def depth_rates(p: float, layers: int) -> list[float]:
    """p_l = p * l / (L - 1): 0 at the bottom, p at the top. A single layer is the bottom one."""
    return [p * layer / (layers - 1) if layers > 1 else 0.0 for layer in range(layers)]


def attach_residual_dropout(model: Any, p: float) -> NativeRates:
    """Attach residual dropout of rate p at the top, in place, once the branches' ends are checked. p = 0 attaches nothing; what an earlier call
    attached goes. Adapters have to be there already, for a branch ends behind them; recomputing, compiling and sharding come after.

    Returns the rates of the model's own config that were not 0; they are 0 from now on. Raises LimakitError, naming the model, where the layers
    are not known, where dropout would not act on whole branches (branches.check_branches), or where randomness of the model's own is left.
    """
    detach_residual_dropout(model)
    expected = probe(model, training=False)
    native = silence_native_dropout(model)
    check_silence(model, expected)
    if p == 0:
        return native
    branches = find_branches(model)
    if branches is None:
        raise LimakitError("residual dropout: its decoder layers are of no known form", where=model_name(model), remedy=NO_DROPOUT)
    check_branches(model, branches)
    for layer, rate in zip(branches.layers, depth_rates(p, len(branches.layers)), strict=True):
        for end in branches.modules(layer):
            _attach(end, rate, next(layer.parameters()).device)
    return native


def _attach(end: nn.Module, rate: float, device: torch.device) -> None:
    dropout = ResidualDropout(rate).to(device)
    dropout.hook = end.register_forward_hook(_drop)
    end.add_module(NAME, dropout)


def detach_residual_dropout(model: Any) -> None:
    """Take away what attach_residual_dropout attached, hooks and all; the model's own rates stay 0."""
    for module in list(model.modules()):
        dropout = module._modules.get(NAME)
        if isinstance(dropout, ResidualDropout):
            dropout.hook.remove()
            delattr(module, NAME)


def residual_dropouts(model: Any) -> list[ResidualDropout]:
    """Those attached, from bottom to top, two a layer."""
    return [module for module in model.modules() if isinstance(module, ResidualDropout)]
