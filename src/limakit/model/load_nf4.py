"""Load a causal LM whose linear layers are packed in 4 bits as they are read, so that its weights never lie in memory whole in 16 bits."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file

from ..errors import LimakitError
from .load import load_config, locate, refusal
from .nf4 import pack_layer

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters are made empty and filled later: these take no memory. What a model computes for itself (rotary frequencies) is made as ever."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def load_nf4(
    name: str,
    *,
    root: Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: torch.device | str,
    dtype: torch.dtype = torch.bfloat16,
) -> Any:
    """The model in eval mode on `device`, frozen: linear layers but the output layer in 4-bit NormalFloat, the rest in `dtype`.

    A layer is packed from the checkpoint's own precision. Raises LimakitError if the model is absent, unreadable or incomplete, or if
    its files hold the weights in a layout that this does not read one by one (mixtures of experts).
    """
    config = load_config(name, root=root, revision=revision, trust_remote_code=trust_remote_code)
    folder = locate(name, root)
    try:
        with _EmptyOnMeta():
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, dtype=dtype)
        expected = {key: tensor.shape for key, tensor in model.state_dict().items()}
        found = set()
        for key, tensor in _tensors(_weight_files(folder, revision), _Names(model, expected), torch.device(device)):
            _put(model, key, tensor, expected[key], dtype)
            found.add(key)
    except (LimakitError, MemoryError, ModuleNotFoundError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises whatever its parsers raise
        raise refusal("the model", name, error) from error
    model.tie_weights()
    missing = sorted(expected.keys() - found - _tied_to(model, found))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        what = f"cannot load the model in 4 bits: its files lack weights, or hold them in another layout ({shown})"
        raise LimakitError(what, where=name, remedy='use base = "full" under [train.lora], or another copy of the model')
    model.name_or_path = model.config.name_or_path = folder
    return model.requires_grad_(False).to(device).eval()


def _weight_files(folder: str, revision: str | None) -> list[str]:
    """The checkpoint's safetensors, from a folder or the hub."""
    index = cached_file(folder, INDEX, revision=revision, _raise_exceptions_for_missing_entries=False)
    names = sorted(set(json.loads(Path(index).read_bytes())["weight_map"].values())) if index else [WHOLE]
    return [str(cached_file(folder, name, revision=revision)) for name in names]


class _Names:
    """The model's name of a tensor of the checkpoint: as transformers renames it, with or without the prefix of the base model."""

    def __init__(self, model: Any, expected: Container[str]):
        self._renamings = [entry for entry in get_model_conversion_mapping(model) if isinstance(entry, WeightRenaming)]
        self._prefix, self._expected = f"{model.base_model_prefix}.", expected

    def __call__(self, key: str) -> str | None:
        renamed = key
        for renaming in self._renamings:
            renamed, _ = renaming.rename_source_key(renamed)
        forms = (renamed, key, self._prefix + renamed, renamed.removeprefix(self._prefix))
        return next((form for form in forms if form in self._expected), None)


def _tensors(files: list[str], names: _Names, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor the model has a place for, one at a time."""
    for path in files:
        with safe_open(path, framework="pt", device="cpu") as file:
            for key in file.keys():  # noqa: SIM118 (it is no dict)
                if (name := names(key)) is not None:
                    yield name, file.get_tensor(key).to(device)


def _put(model: Any, key: str, tensor: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    """Place a tensor: packed where it is a linear layer's weight, else in `dtype`."""
    if tensor.shape != shape:
        raise ValueError(f"{key} has the shape {list(tensor.shape)}, its config.json says {list(shape)}")
    path, _, leaf = key.rpartition(".")
    module = model.get_submodule(path)
    if leaf == "weight" and isinstance(module, nn.Linear | Conv1D) and module is not model.get_output_embeddings():
        packed = pack_layer(module, tensor, dtype)
        packed.bias = module.bias  # filled already, or to be filled
        model.set_submodule(path, packed)
    elif leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor.to(dtype, copy=True), requires_grad=False)  # not a view of the file
    else:
        module._buffers[leaf] = tensor


def _tied_to(model: Any, found: Container[str]) -> set[str]:
    """Names of parameters that are the same as one that was found."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for group in names.values() if any(other in found for other in group) for name in group}
