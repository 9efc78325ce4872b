"""4-bit NormalFloat with double quantisation (Dettmers et al. 2023, "QLoRA", section 3), for weights that are frozen.

A block of 64 weights keeps its largest magnitude and, for each weight, the nearest of 16 values (the quantiles of a normal distribution, the
paper's appendix E). The magnitudes, less their mean, are themselves kept in 8 bits in blocks of 256. In all 4 + 8 / 64 + 32 / (64 * 256)
= 4.127 bits a weight. The format is that of bitsandbytes, to the bit (tests/model/test_nf4.py; its search for a scale on the CPU misses the
nearest one in about one of 500 blocks, this does not). It runs wherever torch does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

BLOCK, SCALE_BLOCK = 64, 256
BITS = 4 + 8 / BLOCK + 32 / (BLOCK * SCALE_BLOCK)
CHUNK = {"cpu": 2**18, "cuda": 2**26}  # weights that are float32 at a time: those a core's cache holds; those that fill a GPU
# the paper's appendix E
VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


@cache
def _values(device: torch.device) -> torch.Tensor:
    return torch.tensor(VALUES, device=device)


@cache
def _pairs(device: torch.device) -> torch.Tensor:
    """What each byte of two codes stands for, the first in its high half: two float32, held as one int64 to be looked up at once. [256]"""
    values_16 = _values(device)
    return torch.stack([values_16.repeat_interleave(16), values_16.repeat(16)], dim=1).view(torch.int64).flatten()


def _scale_steps() -> tuple[float, ...]:
    """The 256 values of an 8-bit scale: a decimal exponent of unary length, the bits that are left a fraction (Dettmers 2016, "dynamic tree")."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        middles = (10.0 ** (exponent - 6) * ((edges[:-1] + edges[1:]) / 2)).tolist()
        values += middles + [-middle for middle in middles]
    return tuple(sorted(values))


SCALE_VALUES = _scale_steps()


@cache
def _scale_values(device: torch.device) -> torch.Tensor:
    return torch.tensor(SCALE_VALUES, device=device)


@dataclass(frozen=True)
class Packed:
    """A weight in 4 bits. `codes`: two to a byte; `scales`: 8 bits a block; `scale_sizes`: float32 for 256 scales; `scale_mean`: a float32.

    `pairs` and `steps` are what codes and scales are looked up in, the same for every weight: at hand here, for a compiler does not find them elsewhere.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    scale_sizes: torch.Tensor
    scale_mean: torch.Tensor
    pairs: torch.Tensor
    steps: torch.Tensor


def quantise(weight: torch.Tensor) -> Packed:
    """Pack a weight of any shape, on its device. Raises ValueError where it is not finite."""
    flat_NB = _blocks(weight.detach().float(), BLOCK)
    largest_N = flat_NB.abs().amax(dim=1)
    if not bool(largest_N.isfinite().all()):
        raise ValueError("the weight is not finite")
    codes_NB = _nearest(flat_NB, largest_N, _values(weight.device))
    mean = largest_N.mean()
    rest_SB = _blocks(largest_N - mean, SCALE_BLOCK)
    sizes_S = rest_SB.abs().amax(dim=1)
    scales = _nearest(rest_SB, sizes_S, _scale_values(weight.device)).flatten()[: len(largest_N)]
    pairs = codes_NB.view(-1, 2)
    device = weight.device
    return Packed(pairs[:, 0] << 4 | pairs[:, 1], scales.clone(), sizes_S, mean, _pairs(device), _scale_values(device))


def _blocks(flat: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of `size` numbers, the last filled with zeros."""
    flat = flat.flatten()
    return F.pad(flat, (0, -len(flat) % size)).view(-1, size)


def _nearest(blocks_NB: torch.Tensor, sizes_N: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Index of the value nearest to each number over its block's size. uint8 [N, B]"""
    scaled_NB = (blocks_NB * (1.0 / sizes_N.clamp_min(1e-38))[:, None]).clamp_(-1, 1)
    return torch.bucketize(scaled_NB, (values[:-1] + values[1:]) / 2, out_int32=True).to(torch.uint8)


def dequantise(packed: Packed, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The weight that `packed` stands for: computed in float32, then rounded to `dtype`.

    A few passes over memory, CHUNK weights at a time. On CUDA one fused kernel would read 4 bits and write 16 where these move about 22 bytes a
    weight: the place for Triton, should long rows not hide it behind their matrix products.
    """
    device = packed.codes.device
    scales_N = packed.steps.index_select(0, packed.scales.int())
    largest_N = scales_N * packed.scale_sizes.repeat_interleave(SCALE_BLOCK)[: len(scales_N)] + packed.scale_mean
    weight_NB = torch.empty(len(largest_N), BLOCK, dtype=dtype, device=device)
    size = CHUNK.get(device.type, CHUNK["cuda"])
    chunks = (packed.codes.split(size // 2), largest_N.split(size // BLOCK), weight_NB.split(size // BLOCK))
    for codes, largest, weight in zip(*chunks, strict=True):
        values_CB = packed.pairs.index_select(0, codes.int()).view(torch.float32).view(-1, BLOCK)
        torch.mul(values_CB, largest[:, None], out=weight)
    return weight_NB.flatten()[: math.prod(shape)].view(shape)


class _FrozenLinear(torch.autograd.Function):
    """x W^T for a packed W that has no gradient. Nothing dequantised is kept for the backward pass: it dequantises again."""

    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, shape: tuple[int, int], *packed: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*packed)
        ctx.shape = shape
        return F.linear(x_TI, dequantise(Packed(*packed), shape, x_TI.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        packed = ctx.saved_tensors  # once: recomputing gives them one time
        weight_OI = dequantise(Packed(*packed), ctx.shape, gradients[0].dtype)
        return gradients[0] @ weight_OI, None, *(None for _ in packed)


class NF4Linear(nn.Linear):
    """A frozen linear layer whose weight lies in 4 bits. `transposed`: the layer it stands for keeps its weight as [in, out] (Conv1D)."""

    codes: torch.Tensor
    scales: torch.Tensor
    scale_sizes: torch.Tensor
    scale_mean: torch.Tensor
    pairs: torch.Tensor
    steps: torch.Tensor

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None, dtype: torch.dtype, *, transposed: bool = False):
        nn.Module.__init__(self)  # not Linear's, which would make a weight
        self.out_features, self.in_features = weight_OI.shape
        self.dtype, self.transposed = dtype, transposed
        for name, tensor in vars(quantise(weight_OI)).items():
            self.register_buffer(name, tensor, persistent=name not in ("pairs", "steps"))
        self.bias = None if bias_O is None else nn.Parameter(bias_O.to(dtype), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:
        """The weight, dequantised anew each time. [out_features, in_features]"""
        return dequantise(Packed(*self._packed), (self.out_features, self.in_features), self.dtype)

    @property
    def _packed(self) -> list[torch.Tensor]:
        return [self.codes, self.scales, self.scale_sizes, self.scale_mean, self.pairs, self.steps]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = x.device.type
        # autocast does not reach into a Function of ours: what it would do to a linear layer is done here
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        y = _FrozenLinear.apply(x.to(dtype), (self.out_features, self.in_features), *self._packed)
        return y if self.bias is None else y + self.bias.to(dtype)


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """The model's linear layers by name, but for the output layer."""
    head = model.get_output_embeddings()
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head}


def pack_layer(module: nn.Module, weight: torch.Tensor, dtype: torch.dtype) -> NF4Linear:
    """What stands for `module` (linear or Conv1D) with this weight, in the module's own layout; its bias is left to the caller."""
    transposed = isinstance(module, Conv1D)
    return NF4Linear(weight.T if transposed else weight, None, dtype, transposed=transposed)


def unpack_layers(model: Any) -> Any:
    """The model with plain layers again, in place; they have the weights that their 4 bits stood for."""
    for name, module in list(model.named_modules()):
        if isinstance(module, NF4Linear):
            size = (module.in_features, module.out_features)
            with torch.device("meta"):
                layer = Conv1D(size[1], size[0]) if module.transposed else nn.Linear(*size, bias=module.bias is not None)
            layer.weight = nn.Parameter(module.weight.T.contiguous() if module.transposed else module.weight, requires_grad=False)
            layer.bias = module.bias
            model.set_submodule(name, layer)
    return model
