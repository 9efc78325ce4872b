"""Devices that nobody has at hand: what their data sheets say, and how long a training takes there if all goes as assumed.

Floating point operations of a training step, for each token (Chowdhery et al. 2022, "PaLM", appendix B): 6 N + 12 L H Q T, where N are the
weights that tokens are multiplied with (input embeddings are looked up), L the layers, H Q heads times their width and T the tokens that
are attended to. Attention is causal, so half of the second term is done, and T is the document's own length, not the row's. The output layer's
share of N counts at target positions alone: elsewhere there are no logits. Frozen weights take 4 instead of 6: no gradient is theirs. MFU is
these operations (never those of recomputing) a second, over the device's peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..recipe import TrainSpec
from .shape import Shape
from .steps import Document

ASSUMED_MFU = 0.40  # of long packed rows; what others reach with 7B on one H100 lies between 35 and 50 %
TFLOP = 1e12


@dataclass(frozen=True)
class NamedDevice:
    """A GPU by its vendor's data sheet: peak TFLOP/s without sparsity (matrix units in bfloat16 with float32 sums; float32 without them), and
    the GiB that PyTorch sees of its memory."""

    title: str
    bfloat16: float
    float32: float
    gib: float


DEVICES = {
    "h100": NamedDevice("NVIDIA H100 SXM, 80 GB", 989.4, 66.9, 79.1),
    "h200": NamedDevice("NVIDIA H200 SXM, 141 GB", 989.4, 66.9, 139.8),
    "a100": NamedDevice("NVIDIA A100 SXM, 80 GB", 312.0, 19.5, 79.1),
    "4090": NamedDevice("NVIDIA GeForce RTX 4090, 24 GB", 165.2, 82.6, 23.6),
}


def epoch_flops(shape: Shape, documents: Sequence[Document], spec: TrainSpec) -> float:
    """Floating point operations of one epoch's forward and backward passes, as the formula above has them."""
    tokens = sum(len(document.ids) for document in documents)
    targets = sum(document.target_tokens for document in documents)
    squares = sum(len(document.ids) ** 2 for document in documents)
    passes = 6 if spec.lora is None else 4
    linear = passes * (shape.inner * tokens + shape.head * targets) + 6 * shape.adapters(spec.lora) * tokens
    return linear + 6 * shape.layers * shape.attention_width * squares


def seconds_on(device: NamedDevice, devices: int, shape: Shape, documents: Sequence[Document], spec: TrainSpec) -> float:
    """Seconds of all epochs' steps on so many devices at ASSUMED_MFU; loading, saving and dev responses are not in it.

    Recomputing runs the layers' forward once more: a third of the operations, or half where the weights are frozen.
    """
    again = (1.0 if not spec.recompute else 4 / 3 if spec.lora is None else 3 / 2) * spec.epochs
    peak = device.bfloat16 if spec.precision == "bfloat16" else device.float32
    return again * epoch_flops(shape, documents, spec) / (ASSUMED_MFU * peak * TFLOP * devices)
