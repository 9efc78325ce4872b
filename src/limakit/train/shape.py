"""A model by its configuration alone: how many weights it has, and what a training step keeps in memory. No weights are read.

What a row of tokens keeps is not derived from a formula but from the model's own code: its forward and backward pass run on fake tensors,
which have shapes and no values, while every storage that is made and freed is counted. Of a deep model a few layers are run, for each
adds the same. Attention counts as a fused kernel's: it keeps queries, keys, values, output and a number a query; blocks.py, on the CPU in bfloat16,
keeps the attention weights besides.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode  # no public name yet; PyTorch's own memory estimates stand on it
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AttentionInterface, AutoModelForCausalLM

from ..model.head import LossHead
from ..model.loss import row_loss, takes_positions
from ..model.nf4 import BITS, linear_layers
from ..recipe import LoraSpec, TrainSpec
from .branches import decoder_layers, find_branches, on_tensor
from .dropout import ResidualDropout, depth_rates
from .optimizer import bytes_per_parameter
from .recompute import recompute_layers

SHAPES = "limakit_shapes"
FEW = (2, 4)  # layers that are run of a deep model


@dataclass(frozen=True)
class Shape:
    """The weights of a model with room for EOT."""

    parameters: int
    inner: int  # those that every token is multiplied with: not the embeddings, not the output layer, no vectors
    head: int  # the output layer's, shared with the embedding or not
    linear: dict[str, tuple[int, int]]  # (in, out) of the linear layers but the output layer, by name
    width: int
    tied: bool
    layers: int
    layer: int  # parameters of the largest decoder layer; 0 where there is no list of them
    heads: int
    attention_width: int  # heads times their width

    def adapters(self, lora: LoraSpec | None) -> int:
        """Parameters of low-rank adapters as the recipe has them, EOT's rows included."""
        if lora is None:
            return 0
        return lora.rank * sum(a + b for a, b in self._adapted(lora)) + self.width * (1 if self.tied else 2)

    def frozen_bytes(self, lora: LoraSpec, precision: str) -> int:
        """Bytes of the frozen weights: in the computation's type, linear layers in 4 bits where the recipe says so."""
        each = 2 if precision == "bfloat16" else 4
        if lora.base == "full":
            return each * self.parameters
        packed = sum(a * b for a, b in self.linear.values())
        return round(packed * BITS / 8) + each * (self.parameters - packed)

    def _adapted(self, lora: LoraSpec) -> list[tuple[int, int]]:
        return [sizes for name, sizes in self.linear.items() if lora.chooses(name)]


@dataclass(frozen=True)
class Memory:
    """Bytes on each of `devices`, by part."""

    weights: int
    remainder: int
    gradients: int
    moments: int
    adapters: int  # their weights, gradients and moments
    working: int  # 16-bit copies of the weights, a layer's gradients on their way; over several devices, the layers that are gathered
    activations: int  # of one row

    @property
    def total(self) -> int:
        return self.weights + self.remainder + self.gradients + self.moments + self.adapters + self.working + self.activations


def read_shape(config: Any, eot_id: int, trust_remote_code: bool = False) -> Shape:
    """Count a model's weights from its configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    text = model.config.get_text_config()
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    rows, width = inputs.weight.shape
    tied = outputs is None or outputs.weight is inputs.weight
    more = max(0, eot_id + 1 - rows) * width
    total = sum(p.numel() for p in model.parameters())
    vectors = sum(p.numel() for p in model.parameters() if p.ndim < 2)
    tables = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Embedding))
    apart = 0 if tied else outputs.weight.numel()
    layers = decoder_layers(model)
    heads = getattr(text, "num_attention_heads", 1)
    return Shape(
        parameters=total + more * (1 if tied else 2),
        inner=total - vectors - tables - apart,
        head=(rows * width if tied else apart) + more,
        linear={name: _sizes(module) for name, module in linear_layers(model).items()},
        width=width,
        tied=tied,
        layers=len(layers) or getattr(text, "num_hidden_layers", 0),
        layer=max((sum(p.numel() for p in layer.parameters()) for layer in layers), default=0),
        heads=heads,
        attention_width=heads * (getattr(text, "head_dim", None) or width // heads),
    )


def _sizes(module: Any) -> tuple[int, int]:
    rows, columns = module.weight.shape
    return (columns, rows) if isinstance(module, nn.Linear) else (rows, columns)  # Conv1D keeps them the other way round


def memory(
    shape: Shape, spec: TrainSpec, lengths: Sequence[int], row: tuple[int, int], *, devices: int = 1, blocks: bool = False
) -> Memory:
    """Memory of a run on so many devices, by part, for rows of documents of these lengths that take `row` (`row_bytes`). `blocks`: attention is
    that of blocks.py.

    FSDP2 shards the first four parts. It gathers one layer while the one before is still there, in the computation's type, with a layer's
    gradients in it and once more in float32; embeddings and output layer stay gathered for the whole step.
    """
    working, activations = row
    if blocks:
        activations += (1 if spec.recompute else shape.layers) * shape.heads * sum(length**2 for length in lengths)
    if devices > 1 and spec.lora is None:
        wide = 2 if spec.precision == "bfloat16" else 4
        root = shape.parameters - shape.layers * shape.layer
        working = wide * (2 * shape.layer + root) + (wide + 4) * max(shape.layer, root)
    return replace(memory_between_steps(shape, spec, devices), working=working, activations=activations)


def memory_between_steps(shape: Shape, spec: TrainSpec, devices: int = 1) -> Memory:
    """As `memory`, of what lies there whatever is computed. Weights in 4 bits are whole on every device."""
    if spec.lora is not None:
        frozen = shape.frozen_bytes(spec.lora, spec.precision) // (1 if spec.lora.base == "nf4" else devices)
        return Memory(frozen, 0, 0, 0, 16 * shape.adapters(spec.lora) // devices, 0, 0)
    each = bytes_per_parameter(spec)
    n = shape.parameters
    return Memory(
        n * each.weights // devices, n * each.remainder // devices, n * each.gradients // devices, n * each.moments // devices, 0, 0, 0
    )


def row_bytes(config: Any, spec: TrainSpec, tokens: int, targets: int, trust_remote_code: bool = False) -> tuple[int, int]:
    """What a row's forward and backward pass take at their peak beside weights and gradients: (whatever the row's length, for its tokens).

    Run at this length and at half of it: what does not shrink belongs to the weights. Each pass has a peak of its own that grows evenly with the
    layers, and which of the two is higher changes with their number: recomputed, a shallow model's is in the backward pass (one layer's
    activations), a deep one's in the forward pass, where autocast keeps its copies of all layers. Raises whatever the model's code raises where it
    does not run on shapes alone.
    """
    text = config.get_text_config()
    deep = text.num_hidden_layers
    few = FEW if deep > FEW[1] and not hasattr(text, "layers_block_type") else (deep, deep)

    def peaks(tokens: int, targets: int) -> list[float]:
        runs = [_peaks(_of_layers(config, n), spec, tokens, targets, trust_remote_code) for n in few]
        return [
            low if few[0] == few[1] else low + (high - low) / (few[1] - few[0]) * (deep - few[0]) for low, high in zip(*runs, strict=True)
        ]

    whole, half = max(zip(peaks(tokens, targets), peaks(tokens // 2, targets // 2), strict=True))  # the pass whose peak is higher
    fixed = max(0.0, 2 * half - whole)
    return round(fixed), round(whole - fixed)


def _of_layers(config: Any, number: int) -> Any:
    """The configuration of the same model with so many layers."""
    made = copy.deepcopy(config)
    text = made.get_text_config()
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:number]
    text.num_hidden_layers = number
    return made


def _peaks(config: Any, spec: TrainSpec, tokens: int, targets: int, trust_remote_code: bool) -> tuple[float, float]:
    """Bytes at the peak of one row's forward pass and at that of its backward pass, of what was not there before the row."""
    trains_16 = spec.weights == "split" or (spec.lora is not None and spec.precision == "bfloat16")
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=trust_remote_code, dtype=torch.bfloat16 if trains_16 else torch.float32
        )
        model.set_attn_implementation(SHAPES)
        if spec.lora is not None:
            _freeze(model, spec.lora)
        _drop(model, spec.residual_dropout)
        if spec.recompute:
            recompute_layers(model)
        head = model.get_output_embeddings()
        if type(head) is nn.Linear and takes_positions(model):
            head.forward = LossHead(head)
        for parameter in model.parameters():
            if parameter.requires_grad:  # a row's gradients are added to those of the rows before
                parameter.grad = torch.empty_like(parameter)
        model.train()
        ids, wanted = [1] * tokens, [i >= tokens - targets for i in range(tokens)]
        with _Storages() as storages:
            loss = row_loss(model, [ids], [wanted], packed=True, precision=spec.precision)
            forward, storages.peak = storages.peak, storages.now
            loss.backward()
    return float(forward), float(storages.peak)


def _drop(model: Any, p: float) -> None:
    """Residual dropout without its checks, which look at values."""
    branches = find_branches(model) if p > 0 else None
    for layer, rate in zip(branches.layers, depth_rates(p, len(branches.layers)), strict=True) if branches else ():
        for end in branches.modules(layer) if branches else ():
            dropout = ResidualDropout(rate)
            end.register_forward_hook(lambda _module, _inputs, output, dropout=dropout: on_tensor(dropout, output))


def _freeze(model: Any, lora: LoraSpec) -> None:
    """Freeze the weights and put a float32 adapter beside each linear layer that gets one."""
    model.requires_grad_(False)
    for name, module in linear_layers(model).items():
        if not lora.chooses(name):
            continue
        sizes = _sizes(module)
        down, up = nn.Parameter(torch.empty(lora.rank, sizes[0])), nn.Parameter(torch.empty(sizes[1], lora.rank))
        module.register_parameter("down", down)
        module.register_parameter("up", up)
        module.register_forward_hook(_beside)


def _beside(module: Any, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return output + F.linear(F.linear(inputs[0].to(module.down.dtype), module.down), module.up).to(output.dtype)


class _Kernel(torch.autograd.Function):
    """What a fused attention kernel keeps."""

    @staticmethod
    def forward(ctx: Any, q_BHLD: torch.Tensor, k_BHLD: torch.Tensor, v_BHLD: torch.Tensor) -> torch.Tensor:
        out_BHLD = torch.empty(*q_BHLD.shape[:-1], v_BHLD.shape[-1], dtype=q_BHLD.dtype)
        ctx.save_for_backward(q_BHLD, k_BHLD, v_BHLD, out_BHLD, torch.empty(q_BHLD.shape[:-1], dtype=torch.float32))
        return out_BHLD

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


def _attention(
    module: nn.Module, query_BHLD: torch.Tensor, key_BHLD: torch.Tensor, value_BHLD: torch.Tensor, mask: None, **_: Any
) -> tuple[torch.Tensor, None]:
    query_BHLD, key_BHLD = query_BHLD.to(value_BHLD.dtype), key_BHLD.to(value_BHLD.dtype)
    return _Kernel.apply(query_BHLD, key_BHLD, value_BHLD).transpose(1, 2), None


AttentionInterface.register(SHAPES, _attention)


class _Storages(TorchDispatchMode):
    """Counts the bytes of storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: tuple = (), keywords: dict[str, Any] | None = None) -> Any:
        outputs = operation(*inputs, **(keywords or {}))
        given = {x.untyped_storage()._cdata for x in tree_iter((inputs, keywords)) if isinstance(x, torch.Tensor)}
        for tensor in tree_iter(outputs):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in given | self._seen.keys():
                self._count(storage)
        return outputs

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _freed(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size
