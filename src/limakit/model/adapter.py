"""A low-rank adapter (Hu et al. 2021): what it adds to its base, and the folder it is kept in apart from it.

    adapter_model.safetensors, adapter_config.json   as peft reads and writes them
    base.json                                        the base: its name, its fingerprint, and in what precision it was held
    tokenizer, config.json, generation_config.json   those of the merged model
    README.md                                        how to load it with peft alone

The row of EOT in the embedding, and in an output layer of its own, is part of the adapter: the base never saw that token.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GenerationConfig
from transformers.pytorch_utils import Conv1D

from ..errors import LimakitError
from ..workspace import write_json, write_text
from .chat import ChatFormat, chat_format, give_eot
from .fingerprint import fingerprint
from .load import ADAPTER_CONFIG, find_folder, load_causal_lm, load_config, load_tokenizer
from .load_nf4 import load_nf4
from .nf4 import unpack_layers
from .save import rust_io_errors, save_tokenizer, stop_at_eot

WEIGHTS, BASE = "adapter_model.safetensors", "base.json"
PREFIX = "base_model.model."  # what peft puts before the names of the base's modules
LOW_A, LOW_B, ROW = ".lora_A.weight", ".lora_B.weight", ".token_adapter.trainable_tokens_delta"


@dataclass(frozen=True)
class Adapter:
    """`layers`: for each adapted layer A [rank, in] and B [out, rank], which add scale * B A to its weight [out, in]. `rows`: EOT's row [1, width]
    of the embedding and of an output layer that is not tied to it, by the module's name. Float32."""

    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    rows: Mapping[str, torch.Tensor]
    scale: float
    eot_id: int

    def merged(self, module: str, weight: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """The weight of a module of the base with what the adapter adds, computed in float32 and rounded to the weight's own precision.

        `transposed`: the weight is [in, out] (Conv1D). A module that the adapter does not touch keeps its tensor.
        """
        if module in self.layers:
            low_RI, low_OR = (low.to(weight.device) for low in self.layers[module])
            added = low_OR @ low_RI * self.scale
            return (weight.float() + (added.T if transposed else added)).to(weight.dtype)
        if module in self.rows:
            weight = weight.clone()
            weight[self.eot_id] = self.rows[module][0].to(weight)
        return weight


class Base(BaseModel):
    """base.json. `fingerprint`: fingerprint.fingerprint of the base; how its frozen weights lay in memory: `held` the linear layers, `dtype` the rest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    fingerprint: dict[str, str]
    held: Literal["float32", "bfloat16", "nf4"]
    dtype: Literal["float32", "bfloat16"]
    eot_is_new: bool


def save_adapter(
    folder: Path, adapter: Adapter, base: Base, model: Any, chat: ChatFormat, *, rank: int, alpha: float, dropout: float
) -> None:
    """Write the folder. `model` is the base, adapted or not: its config and the layout of its layers are asked for."""
    tensors = {PREFIX + name + end: low for name, lows in adapter.layers.items() for end, low in zip((LOW_A, LOW_B), lows, strict=True)}
    tensors |= {PREFIX + name + ROW: row for name, row in adapter.rows.items()}
    with rust_io_errors():
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in sorted(tensors.items())}, folder / WEIGHTS, metadata={"format": "pt"}
        )
    (folder / WEIGHTS).chmod(0o644)  # as the files beside it; safetensors makes it private
    place = base.name if "commit" in base.fingerprint else os.path.abspath(model.name_or_path)  # peft may look from elsewhere
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": place,
        "revision": base.fingerprint.get("commit"),
        "r": rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": any(_is_transposed(model, name) for name in adapter.layers),
        "target_modules": sorted(adapter.layers),
        "trainable_token_indices": {name: [adapter.eot_id] for name in sorted(adapter.rows)},
        "inference_mode": True,
    }
    write_json(folder / ADAPTER_CONFIG, config)
    write_text(folder / BASE, base.model_dump_json(indent=2) + "\n")
    write_text(folder / "README.md", _readme(place, base, model.get_input_embeddings().num_embeddings))
    model.config.save_pretrained(folder)
    stop_at_eot(model, chat).save_pretrained(folder)
    save_tokenizer(folder, chat)


def _readme(place: str, base: Base, rows: int) -> str:
    """How plain peft loads the folder. `rows`: of the embedding, with EOT's."""
    revision = f", revision={base.fingerprint['commit']!r}" if "commit" in base.fingerprint else ""
    rounded = (
        ["", "The base's linear layers were held in 4 bits while this was trained; beside the base's own weights it says much the same, not just the same.",
         "`limakit export` merges it into what the 4 bits stood for."]
        if base.held == "nf4"
        else []
    )  # fmt: skip
    lines = [
        "# A low-rank adapter, written by limakit",
        "",
        "limakit takes this folder for the whole model (`limakit generate --model`, `limakit export --checkpoint`). With peft alone:",
        "",
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({place!r}{revision})",
        f"base.resize_token_embeddings({rows}, mean_resizing=False)  # room for <|eot|>, whose row comes with the adapter",
        'model = PeftModel.from_pretrained(base, ".")  # this folder',
        "```",
        *rounded,
        "",
    ]
    return "\n".join(lines)


def _is_transposed(model: Any, name: str) -> bool:
    module = model.get_submodule(name)
    module = getattr(module, "base_layer", module)
    return isinstance(module, Conv1D) or getattr(module, "transposed", False)


def load_merged(
    folder: Path,
    *,
    root: Path | None,
    trust_remote_code: bool,
    device: torch.device | str,
    dtype: torch.dtype,
    local_only: bool,
) -> Any:
    """The base of an adapter's folder with the adapter merged into it, in eval mode on `device`.

    The base is found by its recorded name: on the hub, or a folder below `root`, the current folder, or one of those the adapter lies in.
    Raises LimakitError where it is not there or no longer what it was, and for a folder that is damaged or that limakit did not write.
    """
    adapter, base = read_adapter(folder)
    name = _find_base(base, folder, root)
    config = load_config(name, revision=base.fingerprint.get("commit"), trust_remote_code=trust_remote_code)
    now = fingerprint(name, config)
    if changed := sorted(file for file in base.fingerprint.keys() | now.keys() if base.fingerprint.get(file) != now.get(file)):
        raise LimakitError(
            f"its base {base.name} is not what it was when the adapter was trained ({', '.join(changed[:3])})",
            where=folder,
            remedy="put back the base it was trained from, or train again",
        )
    held = torch.bfloat16 if base.dtype == "bfloat16" else torch.float32
    where: dict[str, Any] = {"revision": base.fingerprint.get("commit"), "trust_remote_code": trust_remote_code}
    if base.held == "nf4":
        model = unpack_layers(load_nf4(name, **where, device=device, dtype=held))
    else:
        model = load_causal_lm(name, **where, device=device, dtype=held, local_only=local_only)
    with torch.no_grad():
        model.to(dtype)
        chat = chat_format(load_tokenizer(str(folder)))
        if chat is None or chat.eot_id != adapter.eot_id:
            raise LimakitError("its tokenizer is not the one it was trained with", where=folder, remedy=_REMEDY)
        give_eot(model, replace(chat, eot_is_new=base.eot_is_new))
        merge_into(model, adapter, folder)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    model.name_or_path = model.config.name_or_path = str(folder)
    return model


_REMEDY = "copy the folder again from where limakit train wrote it"


def read_adapter(folder: Path) -> tuple[Adapter, Base]:
    """Raises LimakitError for a folder that is damaged, or that limakit did not write."""
    if not (folder / BASE).is_file():
        raise LimakitError(f"an adapter that limakit did not write ({BASE} is not there)", where=folder,
                           remedy="merge it into its base with the tool that made it, and name the merged model")  # fmt: skip
    try:
        base = Base.model_validate_json((folder / BASE).read_bytes())
        config = json.loads((folder / ADAPTER_CONFIG).read_bytes())
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        rows = {name.removesuffix(ROW): tensors.pop(name) for name in list(tensors) if name.endswith(ROW)}
        layers = {name.removesuffix(LOW_A): (tensors.pop(name), tensors.pop(name.removesuffix(LOW_A) + LOW_B))
                  for name in list(tensors) if name.endswith(LOW_A)}  # fmt: skip
        [eot_id] = {number for numbers in config["trainable_token_indices"].values() for number in numbers}
        if tensors or sorted(layers) != config["target_modules"] or sorted(rows) != sorted(config["trainable_token_indices"]):
            raise ValueError("its weights and its configuration name different layers")
        return Adapter(layers, rows, config["lora_alpha"] / config["r"], int(eot_id)), base
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, SafetensorError, ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise LimakitError(f"the adapter cannot be read: {reason}", where=folder, remedy=_REMEDY) from error


def _find_base(base: Base, folder: Path, root: Path | None) -> str:
    """The base's name on the hub, or the folder of that name: from `root`, from here, or from where the adapter lies upwards."""
    if "commit" in base.fingerprint:
        return base.name
    for place in (root, *folder.resolve().parents):
        if (found := find_folder(base.name, place)) is not None:
            return str(found)
    raise LimakitError(
        f"its base is not there: {base.name}", where=folder, remedy="put the base back where it was, or the adapter into its workspace"
    )


def merge_into(model: Any, adapter: Adapter, where: object) -> None:
    """Add the adapter to a plain model's weights, in place. Raises LimakitError where it does not fit the model."""
    modules = dict(model.named_modules())
    for name in [*adapter.layers, *adapter.rows]:
        module = modules.get(name)
        try:
            if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
                raise ValueError("the model has no such layer")
            module.weight.data = adapter.merged(name, module.weight.data, transposed=isinstance(module, Conv1D))
        except (ValueError, RuntimeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise LimakitError(
                f"the adapter does not fit its base at {name}: {str(error).splitlines()[0]}", where=where, remedy=_REMEDY
            ) from error
    model.tie_weights()
