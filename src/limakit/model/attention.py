"""Attention for packed rows: several documents in one row, none of which sees another; positions restart in each.

transformers lets a named function stand in for attention and hands it the keyword arguments of the model's forward. Ours reads the
documents' boundaries from `cu_seq_lens_q` and attends document by document, so a row costs what its documents cost apart: torch's varlen
kernel on CUDA in half precision, blocks of our own on the CPU in bfloat16 (blocks.py), else one SDPA call a document. Whether a model really
passes the boundaries on is not assumed but checked when packing is attached.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from ..errors import LimakitError
from ..progress import warn
from .blocks import block_attention
from .scores import scored_attention

PACKED, VARLEN = "limakit_packed", "limakit_varlen"
# largest relative difference between a packed and an apart document's logits that rounding explains
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
CHECKED = 64  # positions a document at which logits are compared: over a whole long document they would take gigabytes
NO_PACKING = "set pack = false under [train]; then each row holds one example"

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # built without it
    varlen_attn = None
# torch 2.11's wants as many heads of keys and values as of queries
VARLEN_GROUPS = varlen_attn is not None and "enable_gqa" in inspect.signature(varlen_attn).parameters


def packed_attention(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,  # transformers passes whatever the model's forward was given
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document of a one-row batch; returns (output_BLHD, None). One SDPA call a document, but on the CPU in
    bfloat16, where `block_attention` is quicker.

    `cu_seq_lens_q` holds the documents' boundaries (0, end of the first, ...); without it the row is one document.
    Soft-capped scores and attention sinks, for which SDPA has no place, are computed by `scored_attention`; additive biases are refused.
    """
    _refuse("packed attention", position_bias=position_bias)
    bounds = cu_seq_lens_q.tolist() if cu_seq_lens_q is not None else [0, query_BHLD.shape[2]]
    lengths = [end - start for start, end in pairwise(bounds)]
    windowed = sliding_window is not None and max(lengths) > sliding_window
    by_hand = softcap is not None or s_aux is not None
    if value_BHLD.dtype is torch.bfloat16 and value_BHLD.device.type == "cpu" and not windowed and not by_hand:
        scale = scaling if scaling is not None else query_BHLD.shape[3] ** -0.5
        q, k, v = (x[0].to(value_BHLD.dtype, memory_format=torch.contiguous_format) for x in (query_BHLD, key_BHLD, value_BHLD))
        return block_attention(q, k, v, bounds, scale)[None], None
    # rotary embeddings leave query and key in float32 under autocast
    query_BHLD, key_BHLD = query_BHLD.to(value_BHLD.dtype), key_BHLD.to(value_BHLD.dtype)
    grouped = query_BHLD.shape[1] != key_BHLD.shape[1]
    parts_BLHD = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query_BHLD, key_BHLD, value_BHLD)), strict=True):
        length = q.shape[2]
        if by_hand:
            scale = scaling if scaling is not None else q.shape[3] ** -0.5
            parts_BLHD.append(scored_attention(q, k, v, scale, sliding_window, softcap, s_aux).transpose(1, 2))
            continue
        mask = _window_mask(length, sliding_window, q.device) if sliding_window is not None and length > sliding_window else None
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped)
        parts_BLHD.append(out.transpose(1, 2))
    return torch.cat(parts_BLHD, dim=1), None


def varlen_attention(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BHLD: torch.Tensor,
    value_BHLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As `packed_attention`, in one call of torch's varlen kernel (CUDA, half precision)."""
    _refuse("torch's varlen kernel", softcap=softcap, sinks=s_aux, position_bias=position_bias)
    length = query_BHLD.shape[2]
    cu = cu_seq_lens_q if cu_seq_lens_q is not None else torch.tensor([0, length], dtype=torch.int32, device=query_BHLD.device)
    q_LHD, k_LHD, v_LHD = (x[0].transpose(0, 1).to(value_BHLD.dtype) for x in (query_BHLD, key_BHLD, value_BHLD))
    longest = max_length_q or length
    window = (sliding_window - 1 if sliding_window else -1, 0)  # (tokens to the left, to the right)
    groups = query_BHLD.shape[1] // key_BHLD.shape[1]
    if groups > 1 and not VARLEN_GROUPS:
        k_LHD, v_LHD = (x.repeat_interleave(groups, dim=1) for x in (k_LHD, v_LHD))
    more = {"enable_gqa": groups > 1} if VARLEN_GROUPS else {}
    out_LHD = varlen_attn(q_LHD, k_LHD, v_LHD, cu, cu, longest, longest, scale=scaling, window_size=window, **more)
    return out_LHD[None], None


def _refuse(by: str, *, softcap: float | None = None, sinks: torch.Tensor | None = None, position_bias: torch.Tensor | None = None) -> None:
    for name, value in (("soft-capped scores", softcap), ("attention sinks", sinks), ("position biases", position_bias)):
        if value is not None:
            raise LimakitError(f"its attention has {name}, which {by} does not compute", remedy=NO_PACKING)


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """True where a query may look: itself and the `window` - 1 tokens before it (as transformers counts)."""
    i = torch.arange(length, device=device)
    return (i[:, None] >= i[None, :]) & (i[:, None] - i[None, :] < window)


AttentionInterface.register(PACKED, packed_attention)
AttentionInterface.register(VARLEN, varlen_attention)


def row_inputs(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Keyword arguments of the model's forward that say where the documents of a row lie (one row a batch)."""
    cu = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    cu[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
    cu = cu.to(device)
    position_ids_BL = torch.cat([torch.arange(n) for n in lengths])[None].to(device)
    longest = max(lengths)
    return {
        "position_ids": position_ids_BL, "cu_seq_lens_q": cu, "cu_seq_lens_k": cu, "max_length_q": longest, "max_length_k": longest,
        "use_cache": False,
    }  # fmt: skip


def model_name(model: Any) -> str:
    """How messages name a model: where it came from, and its family."""
    family = getattr(model.config, "model_type", type(model).__name__)
    return f"{model.config.name_or_path} ({family})" if getattr(model.config, "name_or_path", "") else family


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode and no gradients for a block."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)


def autocast(model: Any, precision: str) -> torch.autocast:
    """bfloat16 computation over float32 weights; nothing for float32, and where all weights are bfloat16: there is nothing to cast then."""
    device = next(model.parameters()).device
    casts = precision == "bfloat16" and any(p.dtype != torch.bfloat16 for p in model.parameters())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=casts)


def attach_packing(model: Any, precision: str = "float32", *, longest: int) -> None:
    """Switch the model to packed attention, in place, after showing that documents packed = the same documents apart.

    `longest` is the number of tokens of the longest document to come: one as long is among the documents of the check, for some models attend
    or rotate in another way beyond a length. Apart runs under the attention the model came with. Raises LimakitError, naming the model,
    where the logits differ or where the model cannot take the documents' boundaries; the model is then left as it was. Where the varlen kernel
    could serve and does not, a warning says why: each document is then a call, which is slower.
    """
    device = next(model.parameters()).device
    own = model.config._attn_implementation
    chunk = getattr(model.config.get_text_config(), "attention_chunk_size", None)
    if chunk and longest > chunk:
        what = f"its attention works in chunks of {chunk} tokens (attention_chunk_size), packed attention does not; the longest document has {longest}"
        raise LimakitError(what, where=model_name(model), remedy=NO_PACKING)
    slower = None  # why the varlen kernel is not taken
    if _is_for_varlen(device, precision):
        slower = _packing_problem(model, VARLEN, precision, longest) if varlen_attn is not None else "this PyTorch was built without it"
        if slower is None:
            return
        model.set_attn_implementation(own)
    problem = _packing_problem(model, PACKED, precision, longest)
    if problem is not None:
        model.set_attn_implementation(own)
        raise LimakitError(problem, where=model_name(model), remedy=NO_PACKING)
    if slower is not None:
        warn(f"{model_name(model)}: its packed rows are slower than they could be, without torch's varlen kernel: {slower}")


def _is_for_varlen(device: torch.device, precision: str) -> bool:
    return device.type == "cuda" and precision == "bfloat16"


def _packing_problem(model: Any, implementation: str, precision: str, longest: int) -> str | None:
    """What is wrong with the model's packed logits under this attention, or None."""
    device = next(model.parameters()).device
    vocabulary = model.get_input_embeddings().weight.shape[0]
    draw = torch.Generator().manual_seed(0)
    lengths = [5, max(2, longest), 7]  # a short one before, so that positions have to restart, and one after
    documents = [torch.randint(vocabulary, (1, n), generator=draw).to(device) for n in lengths]
    looks = [torch.linspace(0, n - 1, min(n, CHECKED), device=device).long() for n in lengths]
    starts = [0, lengths[0], lengths[0] + lengths[1]]
    try:
        with evaluating(model), autocast(model, precision):
            apart = [_logits_at(model, ids_BL, look, {"use_cache": False}) for ids_BL, look in zip(documents, looks, strict=True)]
            model.set_attn_implementation(implementation)
            row_BL, look = torch.cat(documents, dim=1), torch.cat([look + start for look, start in zip(looks, starts, strict=True)])
            packed = _logits_at(model, row_BL, look, row_inputs(lengths, device)).split([len(look) for look in looks])
    except (LimakitError, TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = error.what if isinstance(error, LimakitError) else (str(error).splitlines() or [type(error).__name__])[0][:200]
        return f"cannot run packed rows: {reason}"
    differences = [((a - b).norm() / b.norm()).item() for a, b in zip(packed, apart, strict=True)]
    if all(difference <= TOLERANCE[precision] for difference in differences):  # false for NaN too
        return None
    return (
        f"documents in one packed row see each other, or are treated by the row's longest "
        f"(with one of {longest} tokens logits differ by {max(differences):.1e} from the same documents apart)"
    )


def _logits_at(model: Any, ids_BL: torch.Tensor, positions: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Logits of a one-row batch at some positions alone, float32. [positions, V]"""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return model(input_ids=ids_BL, **inputs, logits_to_keep=positions).logits[0].float()
    return model(input_ids=ids_BL, **inputs).logits[0, positions].float()
