"""Low-rank adapters beside frozen weights (Hu et al. 2021; with base = "nf4": QLoRA, Dettmers et al. 2023), through peft.

The base gets no gradient. What is trained is float32: A and B of each adapted layer, B beginning at 0, and EOT's row of the embedding and of
an output layer that is not tied to it, for the base never saw that token (promise 2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import peft
import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from ..errors import LimakitError
from ..model.adapter import Adapter, Base, save_adapter
from ..model.attention import evaluating, model_name
from ..model.chat import ChatFormat, give_eot
from ..model.load import empty_causal_lm, load_causal_lm
from ..model.load_nf4 import load_nf4
from ..model.nf4 import NF4Linear, linear_layers
from ..model.save import rust_io_errors, save_model
from ..progress import warn
from ..recipe import LoraSpec, Recipe, TrainSpec
from ..workspace import Workspace
from .attach import chosen_layers, refuse_ranks
from .ranks import CPU, Ranks
from .shard import full_weights, shard_out

NAME = "default"  # peft's name of an adapter that has none
EOT_ROW = "eot_row"
TRAINED = "adapter.safetensors"  # in a run's resume folder
OTHER = "leave out [train.lora], or use a model of another family"
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # relative differences of logits that are none


@dataclass(frozen=True)
class Adapted:
    """A base with an adapter beside it, as one run trains it: the model, and what else its files need."""

    model: Any
    chat: ChatFormat
    spec: TrainSpec
    base: Base
    ranks: Ranks

    def wake_dropout(self) -> None:
        """Let dropout act before every A, as the recipe has it: silencing the model's own has silenced it too."""
        assert self.spec.lora is not None
        for layer in lora_layers(self.model).values():
            if isinstance(dropout := layer.lora_dropout[NAME], nn.Dropout):
                dropout.p = self.spec.lora.dropout

    def save_weights(self, folder: Path) -> None:
        """Write an epoch: a whole model that plain transformers loads, or the adapter's folder. Every rank has to call it, and rank 0 writes.

        Merged, a base in 4 bits is written as what its 4 bits stand for: that is what was trained beside.
        """
        spec = self.spec.lora
        assert spec is not None
        trained = trained_weights(self.model)
        adapter = adapter_of(self.model, trained, spec, self.chat.eot_id)
        if spec.save == "merged":
            weights = full_weights(self.model, self.ranks)  # None for one process
            if self.ranks.first:
                merged = merged_weights(self.model, adapter, weights if weights is not None else self.model.state_dict())
                save_model(folder, self.model, self.chat, weights=merged)
        elif self.ranks.first:
            save_adapter(folder, adapter, self.base, self.model, self.chat, rank=spec.rank, alpha=spec.alpha, dropout=spec.dropout)

    def save_trained(self, folder: Path) -> None:
        """Beside the optimiser's state: merged into a base they cannot be told from it any more. Every rank has to call it."""
        weights = trained_weights(self.model)
        if self.ranks.first:
            with rust_io_errors():
                save_file(weights, folder / TRAINED)


def load_adapted(
    workspace: Workspace, recipe: Recipe, chat: ChatFormat, ranks: Ranks, fingerprint: dict[str, str], state: Path | None, remedy: str
) -> Adapted:
    """The recipe's base as it is held, with room for EOT, and beside it a new adapter or that of `state`, a run's resume folder; sharded where
    several ranks train it. `fingerprint`: the base's. Raises LimakitError, with `remedy`, for a state that is unreadable."""
    spec, model = recipe.train, recipe.model
    lora = spec.lora
    assert lora is not None
    refuse_ranks(lora, ranks.size)
    where: dict[str, Any] = {"root": workspace.root, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
    dtype = torch.bfloat16 if spec.precision == "bfloat16" else torch.float32

    def load(device: torch.device) -> Any:
        base = (load_nf4 if lora.base == "nf4" else load_causal_lm)(model.base, **where, device=device, dtype=dtype)
        give_eot(base, chat)
        attach_adapter(base, lora, chat.eot_id, recipe.seed)
        if state is not None:
            load_trained(state, base, remedy)
        return base

    def shell() -> Any:
        base = empty_causal_lm(model.base, **where).to(dtype)
        give_eot(base, chat)
        attach_adapter(base, lora, chat.eot_id, recipe.seed)
        return base

    alone = ranks.size == 1
    adapted = load(ranks.device) if alone else shard_out(lambda: load(CPU), shell, ranks, kind=spec.shard, precision=spec.precision)
    if lora.save == "apart" and getattr(adapted.get_output_embeddings(), "bias", None) is not None:
        warn(
            f"{model.base}: its output layer has a bias, which peft leaves out beside a trained row; load the adapter with limakit, or merge it first"
        )
    held: Literal["float32", "bfloat16", "nf4"] = "nf4" if lora.base == "nf4" else spec.precision
    return Adapted(
        adapted,
        chat,
        spec,
        Base(name=model.base, fingerprint=fingerprint, held=held, dtype=spec.precision, eot_is_new=chat.eot_is_new),
        ranks,
    )


def attach_adapter(model: Any, spec: LoraSpec, eot_id: int, seed: int) -> None:
    """Freeze the model and put adapters beside its layers, in place; on the "meta" device without values.

    The model then gives what it gave before. Raises UsageError for a name in spec.modules that no linear layer has, LimakitError, naming
    the model, where EOT's row cannot be trained apart from its table.
    """
    names = chosen_layers(linear_layers(model), spec, model_name(model))
    model.requires_grad_(False)
    config = peft.LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=names,  # type: ignore[arg-type]  # it takes 0.5 too
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in linear_layers(model).values()),
    )  # fmt: skip
    meta = model.get_input_embeddings().weight.is_meta
    before = None if meta else _logits(model, eot_id)
    try:
        peft.inject_adapter_in_model(config, model, NAME, low_cpu_mem_usage=meta)
    except ValueError as error:  # a family it knows not to work with
        raise LimakitError(f"peft: {error}", where=model_name(model), remedy=OTHER) from error
    for name, layer in lora_layers(model).items():
        for low in (layer.lora_A[NAME], layer.lora_B[NAME]):
            low.weight = nn.Parameter(low.weight.detach().float())
        if not meta:
            _draw(layer.lora_A[NAME].weight, f"{seed}/{name}")
            nn.init.zeros_(layer.lora_B[NAME].weight)
    _give_eot_rows(model, eot_id)
    if before is not None:
        _check_eot_rows(model, eot_id, before)


def _draw(weight_RI: torch.Tensor, key: str) -> None:
    """A's first values, as peft draws them: uniform with a variance of 1 / (3 in). From the seed and the layer's name alone, on the CPU, so they are the
    same on every device and whichever layers there are besides."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1)
    bound = 1 / math.sqrt(weight_RI.shape[1])
    with torch.no_grad():
        weight_RI.copy_(torch.rand(weight_RI.shape, generator=generator) * 2 * bound - bound)


def lora_layers(model: Any) -> dict[str, LoraLayer]:
    """The adapted layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _give_eot_rows(model: Any, eot_id: int) -> None:
    """Make EOT's rows parameters of their own, and let them stand in for the tables' rows in what the embedding and the output layer give.

    Not peft's trainable tokens: they copy the whole table in every forward pass, take its whole gradient, and leave out an output layer's bias.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is embedding.weight
    for module in (embedding,) if tied else (embedding, head):
        module.register_parameter(EOT_ROW, nn.Parameter(module.weight.detach()[eot_id : eot_id + 1].float().clone()))

    def in_embedding(module: Any, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        row_1D = getattr(module, EOT_ROW) * getattr(module, "embed_scale", 1.0)  # Gemma scales what it has looked up
        return torch.where((inputs[0] == eot_id)[..., None], row_1D.to(output.dtype), output)

    def in_output(module: Any, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        if output.ndim != inputs[0].ndim:
            raise RuntimeError("the output layer gives something other than logits")
        row_1D = getattr(embedding if tied else module, EOT_ROW)
        bias = None if module.bias is None else module.bias[eot_id : eot_id + 1].to(inputs[0].dtype)
        output[..., eot_id : eot_id + 1] = F.linear(inputs[0], row_1D.to(inputs[0].dtype), bias)
        return output

    embedding.register_forward_hook(in_embedding)
    if head is not None:
        head.register_forward_hook(in_output)


def _check_eot_rows(model: Any, eot_id: int, before: torch.Tensor) -> None:
    """The rows stand in exactly, and they act: unchanged they change nothing, and turned round they change what follows EOT and EOT's own logits."""
    rows = [getattr(module, EOT_ROW) for module in model.modules() if EOT_ROW in module._parameters]
    rounding = ROUNDING[model.get_input_embeddings().weight.dtype]
    same = [_difference(*pair) for pair in _parts(_logits(model, eot_id), before, eot_id)]
    with torch.no_grad():
        for row in rows:
            row.copy_(row.flip(-1))
        acts = [_difference(*pair) for pair in _parts(_logits(model, eot_id), before, eot_id)]
        for row in rows:
            row.copy_(row.flip(-1))
    if not (max(same) <= rounding and min(acts) > rounding):
        raise LimakitError(
            "EOT's row cannot be trained apart from its table: the model uses its embedding or its output layer in a way of its own",
            where=model_name(model),
            remedy=OTHER,
        )


def _logits(model: Any, eot_id: int) -> torch.Tensor:
    """Logits of a short text with EOT in it. [4, V]"""
    ids_BL = torch.tensor([[0, eot_id, 1, 2]], device=model.get_input_embeddings().weight.device)
    with evaluating(model):
        return model(input_ids=ids_BL, use_cache=False).logits[0].float()


def _parts(now_LV: torch.Tensor, before_LV: torch.Tensor, eot_id: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """EOT's logits, and those of the other tokens after EOT."""
    others = [i for i in range(now_LV.shape[1]) if i != eot_id]
    return [(now_LV[:, eot_id], before_LV[:, eot_id]), (now_LV[2:, others], before_LV[2:, others])]


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


# what is trained, and what is written


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """What is trained, by parameter name, whole and in host memory. Where the model is sharded every rank has to call it."""
    return {
        name: (p.detach().full_tensor() if isinstance(p, DTensor) else p.detach()).cpu()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def load_trained(folder: Path, model: Any, remedy: str) -> None:
    """Take the trained weights of a resume folder. Raises LimakitError, with this remedy, if it is unreadable or not that of this model."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    try:
        weights = load_file(folder / TRAINED)
        if weights.keys() != parameters.keys():
            raise ValueError(f"it is of another model ({min(weights.keys() ^ parameters.keys())})")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise LimakitError(f"cannot read the adapter: {error}", where=folder / TRAINED, remedy=remedy) from error


def adapter_of(model: Any, weights: Mapping[str, torch.Tensor], spec: LoraSpec, eot_id: int) -> Adapter:
    """The adapter of an adapted model whose trained weights are `weights`."""
    layers = {
        name: (weights[f"{name}.lora_A.{NAME}.weight"], weights[f"{name}.lora_B.{NAME}.weight"]) for name in lora_layers(model)
    }  # fmt: skip
    rows = {name.removesuffix(f".{EOT_ROW}"): row for name, row in weights.items() if name.endswith(f".{EOT_ROW}")}
    return Adapter(layers, rows, spec.alpha / spec.rank, eot_id)


def merged_weights(model: Any, adapter: Adapter, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of the base with the adapter in it; tied weights stay tied. The model is left as it is."""
    modules = dict(model.named_modules())
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    merged: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        path, _, leaf = name.rpartition(".")
        module = modules[path]
        own = path.removesuffix(".base_layer")
        if leaf == EOT_ROW or ".lora_" in path or (isinstance(module, NF4Linear) and leaf != "bias"):
            continue
        transposed = type(module).__name__ == "Conv1D"
        merged[f"{own}.{leaf}"] = adapter.merged(own, tensor, transposed=transposed) if leaf == "weight" else tensor
    for path, module in modules.items():
        if isinstance(module, NF4Linear):
            own = path.removesuffix(".base_layer")
            weight = adapter.merged(own, module.weight)
            merged[f"{own}.weight"] = (weight.T.contiguous() if module.transposed else weight).cpu()
    if head is not None and head.weight is embedding.weight:
        places = {module: path for path, module in modules.items()}
        merged[f"{places[head]}.weight"] = merged[f"{places[embedding]}.weight"]
    return merged
