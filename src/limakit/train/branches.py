"""Where the residual branches of a decoder layer end: a table of module names, and the checks by which no entry of it is trusted.

A branch's last module is the one whose output is added to the residual stream; in post-norm families that is the branch's own norm. Dropout
there and nowhere else is dropout of the branch. Which entries of a branch reach the sum, and how large, is what the checks look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import LimakitError
from ..model.attention import model_name
from ..model.loss import row_loss

# the last modules of the attention and of the MLP branch, by names within a decoder layer; the first pair that every layer has is taken
BRANCH_ENDS = (
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM4
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo2 and 3, EXAONE 4
    ("post_attention_layernorm", "post_mlp_layernorm"),  # AFMoE
    ("self_attn.o_proj", "mlp.down_proj"),  # Llama, Mistral, Qwen2, Qwen3, Phi3, Granite, SmolLM3, Cohere
    ("self_attn.dense", "mlp.fc2"),  # Phi
    ("self_attn.out_proj", "fc2"),  # OPT
    ("attn.c_proj", "mlp.c_proj"),  # GPT-2
    ("attn.attention.out_proj", "mlp.c_proj"),  # GPT-Neo
    ("attn.out_proj", "mlp.fc_out"),  # GPT-J, CodeGen
    ("attention.dense", "mlp.dense_4h_to_h"),  # GPT-NeoX
    ("self_attention.dense", "mlp.dense_4h_to_h"),  # Falcon, BLOOM
    ("self_attn.dense", "mlp.dense_4h_to_h"),  # Persimmon
    ("attn.out_proj", "ffn.down_proj"),  # MPT
    ("self_attn.o_proj", "mlp"),  # mixtures of experts; Starcoder2
    ("self_attn.o_proj", "block_sparse_moe"),  # Granite's mixture of experts
    ("self_attn.o_proj", "feed_forward"),  # Llama 4
)
NO_DROPOUT = "set residual_dropout = 0 under [train], or use a model of a family that is supported (docs/families.md)"
# largest relative difference, of a branch whose entries were scaled after its end or before it, that rounding explains
ROUNDING = {torch.float32: 1e-2, torch.bfloat16: 0.1, torch.float16: 0.1}


@dataclass(frozen=True)
class Branches:
    """The decoder's layers from bottom to top, and the names within each of the last module of the attention and of the MLP branch."""

    layers: tuple[nn.Module, ...]
    ends: tuple[str, str]

    def modules(self, layer: nn.Module) -> list[nn.Module]:
        return [layer.get_submodule(end) for end in self.ends]


def find_branches(model: Any) -> Branches | None:
    """The decoder's layers and their branches' ends, or None if the table knows no such layers."""
    layers = decoder_layers(model)
    for ends in BRANCH_ENDS if layers else ():
        if all(_has(layer, end) for layer in layers for end in ends):
            return Branches(layers, ends)
    return None


def decoder_layers(model: Any) -> tuple[nn.Module, ...]:
    """The decoder's layers from bottom to top; none where the model keeps them in no list of `num_hidden_layers`."""
    wanted = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == wanted)
    return tuple(next(lists, ()))


def _has(layer: nn.Module, path: str) -> bool:
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True


def on_tensor(act: Callable[[torch.Tensor], torch.Tensor], output: Any) -> Any:
    """`act` on a module's output, or on its first part where it returns several (a mixture of experts: its router's scores besides)."""
    return (act(output[0]), *output[1:]) if isinstance(output, tuple) else act(output)


def _numbers(x: torch.Tensor) -> torch.Tensor:
    """Random numbers in place of an output, the same ones for outputs of one shape."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)


def check_branches(model: Any, branches: Branches) -> None:
    """Show that what is done to the branches' ends is done to the branches, layer by layer, on a short text.

    With both ends' outputs replaced by 0 a layer must return its input bit for bit. With one end's replaced by random numbers, and then by the
    same of which some features are set to 0 and the others doubled, the layer must add exactly 0 in the former and twice as much in the latter.
    The second sees what the first cannot: a norm between the end and the sum, which keeps 0 at 0 but scales the rest, and an end that lies
    before the branch's last projection. A factor between the two (Granite's) is no fault.

    Raises LimakitError, naming the model, the layer and the branch.
    """
    instead: list[Callable[[torch.Tensor], torch.Tensor]] = [lambda x: x, lambda x: x]  # of each end's output
    faults: list[str] = []
    seen: set[int] = set()

    def look(number: int, layer: nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
        before_BLD = inputs[0] if inputs else keywords["hidden_states"]
        # a pretrained model's stream grows to thousands, beside which what is added would be rounded away
        before_BLD = before_BLD / before_BLD.float().square().mean().sqrt().clamp_min(1e-6).to(before_BLD.dtype)
        given = ((before_BLD, *inputs[1:]), keywords) if inputs else ((), keywords | {"hidden_states": before_BLD})

        def run(branch: int | None = None, times_D: torch.Tensor | float = 0.0) -> torch.Tensor:
            instead[:] = torch.zeros_like, torch.zeros_like
            if branch is not None:
                instead[branch] = lambda x: _numbers(x) * times_D
            output = layer.forward(*given[0], **given[1])
            instead[:] = lambda x: x, lambda x: x
            return output[0] if isinstance(output, tuple) else output

        seen.add(number)
        if not torch.equal(run(), before_BLD):
            faults.append(f"with p = 1 layer {number} changes its input")
            return
        twice_D = torch.zeros_like(before_BLD[0, 0])
        twice_D[::2] = 2.0
        for branch, name in enumerate(("attention", "MLP")):
            whole_BLD = run(branch, 1.0) - before_BLD
            part_BLD = run(branch, twice_D) - before_BLD
            rounding = ROUNDING[before_BLD.dtype] * whole_BLD.norm()
            same = (part_BLD - twice_D * whole_BLD).norm() <= rounding and not part_BLD[..., twice_D == 0].any()
            if not (same and whole_BLD.any()):
                faults.append(f"{branches.ends[branch]} is not the last module of layer {number}'s {name} branch")

    hooks = [
        end.register_forward_hook(lambda _end, _inputs, output, branch=branch: on_tensor(lambda x: instead[branch](x), output))
        for layer in branches.layers
        for branch, end in enumerate(branches.modules(layer))
    ]
    # before the layer's own forward: FSDP, whose hook comes first, has the layer's weights together then
    hooks += [
        layer.register_forward_pre_hook(lambda own, inputs, keywords, number=number: look(number, own, inputs, keywords), with_kwargs=True)
        for number, layer in enumerate(branches.layers)
    ]
    was = model.training
    try:
        model.train()
        with torch.no_grad():
            row_loss(model, [[0, 1, 2]], [[False, True, True]], packed=False)
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise LimakitError(f"residual dropout: its check does not run: {reason}", where=model_name(model), remedy=NO_DROPOUT) from error
    finally:
        model.train(was)
        for hook in hooks:
            hook.remove()
    if seen != set(range(len(branches.layers))):
        faults.append("some layers are never run")
    if faults:
        what = f"residual dropout: {faults[0]}, so it would not act on the whole branch"
        raise LimakitError(what, where=model_name(model), remedy=NO_DROPOUT)
