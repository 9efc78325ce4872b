"""The part of gpu_training.py that checks numbers where only a GPU can tell: each check is a figure and the limit it must not pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from limakit.model import attention
from limakit.model.attention import attach_packing, packed_attention, varlen_attention
from limakit.model.nf4 import dequantise, quantise
from limakit.train.compiled import compile_layers
from limakit.train.dropout import ResidualDropout, attach_residual_dropout
from limakit.train.optimizer import clip, make_optimizer, set_lr
from limakit.train.recompute import recompute_layers
from limakit.train.split import join
from limakit.train.steps import Document, Step
from limakit.train.update import add_gradients

if TYPE_CHECKING:
    from gpu_parts import Bench

Check = tuple[str, float, float]  # what, the figure, the most it may be


def check_numerics(bench: Bench) -> dict[str, Any]:
    """Every check's figure and limit; one that raises is told with its error. `failed` names those that do not hold."""
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
    found: dict[str, dict[str, Any]] = {}
    for check in (_packed, _varlen, _adamw, _variants, _dropout, _nf4, _head):
        try:
            found |= {name: {"figure": figure, "limit": limit, "ok": figure <= limit} for name, figure, limit in check(bench)}
        except Exception as error:  # the others are still worth knowing
            found[check.__name__] = {"figure": None, "limit": None, "ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
    return {"checks": found, "failed": [name for name, one in found.items() if not one["ok"]]}


def _llama(bench: Bench, layers: int = 4) -> Any:
    width = 64 if bench.tiny else 512
    config = LlamaConfig(
        vocab_size=1001, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, initializer_range=0.05,
    )  # fmt: skip
    torch.manual_seed(0)
    with bench.device:
        return LlamaForCausalLM(config).eval()


def _documents(bench: Bench, n: int = 8) -> list[Document]:
    draw = torch.Generator().manual_seed(1)
    made = []
    for i in range(n):
        length = int(torch.randint(3, 60 if bench.tiny else 700, (), generator=draw))
        ids = torch.randint(1001, (length,), generator=draw).tolist()
        made.append(Document(f"ex-{i}", tuple(ids), tuple(k > length // 3 for k in range(length))))
    return made


def _gradients(
    model: Any, documents: list[Document], rows: tuple[tuple[int, ...], ...], precision: str, packed: bool = True
) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    loss = add_gradients(model, documents, Step(1, 1, True, rows), packed=packed, precision=precision)
    return loss, [p.grad.detach().float().clone() for p in model.parameters() if p.grad is not None]


def _far(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Relative difference."""
    return float(sum(((x - y) ** 2).sum() for x, y in zip(a, b, strict=True)) / sum((y**2).sum() for y in b)) ** 0.5


def _packed(bench: Bench) -> Iterator[Check]:
    """Promise 1: packed gradients are those of one document at a time; in bfloat16, as near to the float32 ones as those."""
    documents = _documents(bench)
    apart, rows = tuple((i,) for i in range(8)), ((0, 3, 5), (1, 2, 4, 6), (7,))
    model = _llama(bench)
    reference_loss, reference = _gradients(model, documents, apart, "float32", packed=False)
    apart_16 = _far(_gradients(model, documents, apart, "bfloat16", packed=False)[1], reference)
    attach_packing(model, "float32", longest=700)
    loss, gradients = _gradients(model, documents, rows, "float32")
    yield "packed gradients, float32", _far(gradients, reference), 1e-5
    yield "packed loss, float32", abs(loss - reference_loss) / reference_loss, 1e-6
    model = _llama(bench)
    attach_packing(model, "bfloat16", longest=700)
    if bench.device.type == "cuda":
        yield "varlen attention is what packing takes (0: yes)", float(model.config._attn_implementation != attention.VARLEN), 0.0
    loss, gradients = _gradients(model, documents, rows, "bfloat16")
    yield "packed gradients, bfloat16, over those one at a time", _far(gradients, reference) / apart_16, 1.3
    yield "packed loss, bfloat16", abs(loss - reference_loss) / reference_loss, 2e-3


def _varlen(bench: Bench) -> Iterator[Check]:
    """The kernel for whole rows against SDPA document by document, both against float64: outputs and gradients, documents of one token too."""
    if bench.device.type == "cuda" and attention.varlen_attn is None:
        raise RuntimeError("torch.nn.attention.varlen is not there")
    lengths = [1, 2, 63, 64, 65] + ([] if bench.tiny else [700, 1, 2048])
    cu = torch.tensor([0, *lengths], device=bench.device).cumsum(0).to(torch.int32)
    for name, kv_heads, window in (("", 8, None), (", grouped", 2, None), (", window", 8, 50)):
        torch.manual_seed(2)
        shapes = [(1, heads, sum(lengths), 64) for heads in (8, kv_heads, kv_heads)]
        leaves = [torch.randn(shape, device=bench.device).bfloat16() for shape in shapes]
        pull = torch.randn(1, sum(lengths), 8, 64, device=bench.device).bfloat16()

        def outcome(
            attend: Callable, leaves: list[torch.Tensor], pull: torch.Tensor = pull, window: int | None = window
        ) -> list[torch.Tensor]:
            given = [leaf.clone().requires_grad_() for leaf in leaves]
            out, _ = attend(None, *given, None, cu_seq_lens_q=cu, max_length_q=max(lengths), sliding_window=window)
            return [out.detach().double(), *(g.double() for g in torch.autograd.grad(out, given, pull.to(out.dtype)))]

        exact = outcome(_exact_attention, [leaf.double() for leaf in leaves])
        usual = outcome(packed_attention, leaves)
        kernel = outcome(varlen_attention if bench.device.type == "cuda" else packed_attention, leaves)
        for what, a, b, c in zip(("output", "dq", "dk", "dv"), kernel, usual, exact, strict=True):
            yield f"varlen {what}{name}, its error over SDPA's", _far([a], [c]) / _far([b], [c]), 1.5


def _exact_attention(_: None, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, __: None, *, cu_seq_lens_q: torch.Tensor, max_length_q: int,
                     sliding_window: int | None) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Written out, document by document."""
    parts = []
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    for start, end in pairwise(cu_seq_lens_q.tolist()):
        i = torch.arange(end - start, device=q.device)
        seen = (i[:, None] >= i) & (i[:, None] - i < (sliding_window or max_length_q))
        scores = q[:, :, start:end] @ k[:, :, start:end].transpose(2, 3) * q.shape[3] ** -0.5
        parts.append((scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v[:, :, start:end]).transpose(1, 2))
    return torch.cat(parts, 1), None


def _adamw(bench: Bench) -> Iterator[Check]:
    """Promise 5 on this device: split weights are the float32 ones to the bit, after 20 steps of the same gradients with clipping and decay."""
    models = [_llama(bench, layers=2) for _ in range(2)]
    optimizers = [make_optimizer(m, (0.9, 0.95), 0.1, weights=kind) for m, kind in zip(models, ("float32", "split"), strict=True)]
    draw = torch.Generator(bench.device).manual_seed(3)
    for step in range(20):
        for wide, narrow in zip(*(m.parameters() for m in models), strict=True):
            gradient = (torch.randn(wide.shape, device=bench.device, generator=draw) * 10.0 ** -(step % 6)).bfloat16()
            wide.grad, narrow.grad = gradient.float(), gradient
        for optimizer in optimizers:
            clip(optimizer, 1.0)
            set_lr(optimizer, 1e-5)
            optimizer.step()
    wrong = 0
    for wide, narrow in zip(*(m.parameters() for m in models), strict=True):
        state = optimizers[1].state[narrow]
        wrong += int((join(narrow.detach(), state["remainder"]) != wide.detach()).sum())
        wrong += sum(int((state[key] != optimizers[0].state[wide][key]).sum()) for key in ("exp_avg", "exp_avg_sq"))
    yield "split AdamW: weights and moments that are not the float32 ones", float(wrong), 0.0


def _variants(bench: Bench) -> Iterator[Check]:
    """Activations computed again: the same loss and, with dropout, the same masks. Compiled layers: the same up to rounding."""
    documents, rows = _documents(bench), ((0, 3, 5), (1, 2, 4, 6, 7))

    def outcome(*, again: bool = False, compiled: bool = False, p: float = 0.0) -> tuple[float, list[torch.Tensor]]:
        model = _llama(bench)
        attach_residual_dropout(model, p)
        attach_packing(model, "bfloat16", longest=700)
        if compiled:
            compile_layers(model)
        if again:
            recompute_layers(model)
        torch.manual_seed(4)
        return _gradients(model.train(), documents, rows, "bfloat16")

    plain, dropped = outcome(), outcome(p=0.3)
    for name, base, made in (("recomputed", dropped, outcome(again=True, p=0.3)), ("compiled", plain, outcome(compiled=True)),
                             ("compiled and recomputed", plain, outcome(compiled=True, again=True))):  # fmt: skip
        yield f"{name}: loss", abs(made[0] - base[0]) / base[0], 0.0 if name == "recomputed" else 2e-3
        yield (
            f"{name}: gradients",
            _far(made[1], base[1]),
            1e-3 if name == "recomputed" else 3e-2,
        )  # the kernel adds dq up in no fixed order
    twice = outcome(compiled=True, p=0.3), outcome(compiled=True, again=True, p=0.3)
    yield "compiled with dropout, recomputed: gradients", _far(twice[1][1], twice[0][1]), 3e-2


def _dropout(bench: Bench) -> Iterator[Check]:
    """The rate and the mean of what dropout leaves, eager and compiled, in standard errors; and that two calls draw two masks."""
    x = torch.ones(1 << (16 if bench.tiny else 24), device=bench.device, dtype=torch.bfloat16)
    for name, made in (("eager", ResidualDropout(0.3)), ("compiled", torch.compile(ResidualDropout(0.3)))):
        layer: Any = made.to(bench.device).train()
        first, second = layer(x), layer(x)
        share = float((first == 0).double().mean())
        yield f"dropout {name}: rate, in standard errors", abs(share - 0.3) / (0.3 * 0.7 / x.numel()) ** 0.5, 4.0
        scale = float(first[first != 0].double().mean()) * 0.7 - 1
        yield f"dropout {name}: scale", abs(scale), 2e-3
        yield (
            f"dropout {name}: overlap of two masks over chance",
            abs(float(((first == 0) & (second == 0)).double().mean()) / 0.09 - 1),
            0.05,
        )


def _nf4(bench: Bench) -> Iterator[Check]:
    """4 bits packed and unpacked on this device as on the CPU."""
    weight = torch.randn(512, 768, generator=torch.Generator().manual_seed(5))
    here, there = quantise(weight.to(bench.device)), quantise(weight)
    yield "nf4: share of codes that differ from the CPU's", float((here.codes.cpu() != there.codes).double().mean()), 1e-4
    a, b = (dequantise(packed, weight.shape, torch.float32).cpu() for packed in (here, there))
    yield "nf4: weights against the CPU's", _far([a], [b]), 1e-3
    yield "nf4: error of 4 bits", _far([a], [weight]), 0.11


def _head(bench: Bench) -> Iterator[Check]:
    """Time of the output layer's product with the rows a run has (32,001) over that with a multiple of 64 of them; what misalignment costs."""
    if bench.device.type != "cuda":
        return
    hidden = torch.randn(4096, 4096, device=bench.device).bfloat16()
    times = []
    for rows in (32_064, 32_001):
        weight = torch.randn(rows, 4096, device=bench.device).bfloat16()
        for _ in range(3):
            F.linear(hidden, weight)
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(20):
            F.linear(hidden, weight)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    yield "output layer of 32,001 rows over one of 32,064: time", times[1] / times[0], 1.5
