"""AdamW as in the paper's section 3, its schedule and the gradient clipping. What is trained is float32 throughout; how it lies in memory is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from ..errors import LimakitError
from ..recipe import TrainSpec
from .split import join, like, local, split_into, split_weights

STATE = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps for a parameter that has had a gradient
REMAINDER = "remainder"  # and for every parameter whose weights are split
CHUNK = {"cpu": 2**19, "cuda": 2**25}  # elements that are float32 at a time: those a core's cache holds; those that fill a GPU


@dataclass(frozen=True)
class Bytes:
    """Bytes for each parameter that is trained, by part."""

    weights: int
    remainder: int
    gradients: int
    moments: int

    @property
    def total(self) -> int:
        return self.weights + self.remainder + self.gradients + self.moments


def bytes_per_parameter(spec: TrainSpec) -> Bytes:
    """What a step leaves in memory for each trained parameter, under these settings; adapters are float32 like other weights."""
    split = spec.weights == "split"
    return Bytes(2 if split else 4, 2 if split else 0, 2 if split else 4, 2 * (2 if spec.moments == "bfloat16" else 4))


class CompactAdamW(torch.optim.Optimizer):
    """AdamW whose weights are split (`split.py`), whose moments are bfloat16, or both.

    The update itself is torch's own fused AdamW on float32 copies, some millions of elements at a time. So with split weights and
    float32 moments every weight and moment equals, bit for bit, what torch.optim.AdamW(fused=True) makes of float32 weights and the same gradients.

    `scale` is what the next step multiplies gradients by (clipping): in float32, where scaling bfloat16 gradients in place would round them again.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        betas: tuple[float, float],
        remainders: dict[torch.Tensor, torch.Tensor],
        moments: torch.dtype,
    ):
        super().__init__(groups, {"lr": 0.0, "betas": betas, "eps": 1e-8})
        self.moments, self.scale = moments, 1.0
        for parameter, remainder in remainders.items():
            self.state[parameter][REMAINDER] = remainder

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        self.scale = 1.0

    def _update(self, parameter: torch.nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, weight, gradient = self.state[parameter], local(parameter.detach()), local(parameter.grad.detach()).contiguous()
        if "step" not in state:
            state["step"] = torch.zeros((), device=weight.device)
            for key in STATE[1:]:
                state[key] = like(parameter, torch.zeros_like(weight, dtype=self.moments))
        parts = [weight, gradient, local(state["exp_avg"]), local(state["exp_avg_sq"])]
        parts += [local(state[REMAINDER])] if REMAINDER in state else []
        size = CHUNK["cpu" if weight.device.type == "cpu" else "cuda"]
        for chunks in zip(*(part.view(-1).split(size) for part in parts), strict=True):
            self._update_chunk(*chunks, step=state["step"].clone(), group=group)
        state["step"] += 1

    def _update_chunk(
        self,
        weight: torch.Tensor,
        gradient: torch.Tensor,
        exp_avg: torch.Tensor,
        exp_avg_sq: torch.Tensor,
        remainder: torch.Tensor | None = None,
        *,
        step: torch.Tensor,
        group: dict[str, Any],
    ) -> None:
        weight_32 = weight if remainder is None else join(weight, remainder)
        gradient_32 = gradient.float().mul_(self.scale)
        moments = (exp_avg, exp_avg_sq)
        moments_32 = [moment.float() for moment in moments]  # themselves, where they are float32
        adamw(
            [weight_32], [gradient_32], moments_32[:1], moments_32[1:], [], [step],
            fused=True, amsgrad=False, maximize=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"],
        )  # fmt: skip
        if remainder is not None:
            split_into(weight_32, weight, remainder)
        if self.moments != torch.float32:
            for moment, moment_32 in zip(moments, moments_32, strict=True):
                moment.copy_(moment_32)


def make_optimizer(
    model: Any,
    betas: tuple[float, float],
    weight_decay: float,
    *,
    weights: Literal["float32", "split"] = "float32",
    moments: Literal["float32", "bfloat16"] = "float32",
) -> torch.optim.Optimizer:
    """AdamW over all trainable parameters, which have to be float32. With weights = "split" they are split here, and the model is bfloat16 from then on.

    Raises LimakitError for weights that are not float32 (promise 5), or that cannot be split.

    Decay applies to matrices (embeddings included) and not to vectors: a norm's gain or a bias has no direction to shrink back from, and
    decay would pull gains towards 0. The paper does not say (open). With lr 1e-5 and decay 0.1 a step takes off one millionth.
    """
    if any(p.dtype != torch.float32 for p in model.parameters() if p.requires_grad):
        raise LimakitError("the weights to train must be float32: at lr 1e-5 most updates vanish in 16 bits")
    remainders = split_weights(model) if weights == "split" else {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    if isinstance(model, FSDPModule) and not all(isinstance(p, DTensor) for p in parameters):
        raise RuntimeError("weights are gathered (a forward pass did not end): an optimiser of them would never see a gradient")
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if weights == "float32" and moments == "float32":
        return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=1e-8, fused=True)
    return CompactAdamW(groups, betas, remainders, torch.bfloat16 if moments == "bfloat16" else torch.float32)


def linear_lr(lr: tuple[float, float], step: int, total: int) -> float:
    """lr[0] at step 1, lr[1] at step `total`, linear between (paper, section 3: no warm-up)."""
    return lr[0] + (lr[1] - lr[0]) * (step - 1) / max(1, total - 1)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip(optimizer: torch.optim.Optimizer, clip_norm: float) -> float:
    """Let the next step scale the gradients to a global norm of at most clip_norm; returns the norm before, taken in float32."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    scale = (clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ has it
    if isinstance(optimizer, CompactAdamW):
        optimizer.scale = float(scale)
    else:
        torch._foreach_mul_(gradients, scale)
    return float(norm)


def optimizer_tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state by parameter name, what of it lies on this rank; where it lies, not copied."""
    return {
        f"{name}.{key}": local(value.detach())
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def parameters_with_state(model: Any, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters the optimiser has moments for: those that have had a gradient (a vision tower never has one here)."""
    return [name for name, parameter in model.named_parameters() if "step" in optimizer.state.get(parameter, {})]


def restore_optimizer(model: Any, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], names: Sequence[str]) -> None:
    """The inverse of `optimizer_tensors`, for exactly the parameters of `names`, and for the remainders of all.

    Raises KeyError where a state of one of them is missing, the model has no such parameter to train, or a tensor belongs to none.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    keys = {name: [key for key in optimizer.state.get(parameter, {}) if key == REMAINDER] for name, parameter in parameters.items()}
    for name in names:
        keys[name] += STATE
    wrong = tensors.keys() ^ {f"{name}.{key}" for name, wanted in keys.items() for key in wanted}
    if wrong:
        raise KeyError(min(wrong))
    for name, wanted in keys.items():
        # AdamW keeps its step count where the fused kernel wants it: on the parameter's device
        parameter = parameters[name]
        if wanted:
            parts = {key: tensors[f"{name}.{key}"].to(parameter.device) for key in wanted}
            optimizer.state[parameter] = {key: like(parameter, part) if part.ndim else part for key, part in parts.items()}
