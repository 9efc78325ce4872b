"""Attention with its scores written out, for families whose scores SDPA cannot change: soft-capped ones (Gemma 2) and attention sinks (gpt-oss)."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


class Scores(torch.autograd.Function):
    """q k^T in float32, whatever the type of q and k. A product in bfloat16 is rounded to 8 bits: the weight of a score of 20 is off by 6 %, and what
    caps it or puts a sink beside it leaves no place for subtracting the largest one first (blocks.py)."""

    @staticmethod
    def forward(ctx: Any, q_BHLD: torch.Tensor, k_BHLD: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(q_BHLD, k_BHLD)
        with torch.autocast(q_BHLD.device.type, enabled=False):
            if q_BHLD.device.type == "cuda" and q_BHLD.dtype in (torch.bfloat16, torch.float16):  # tensor cores sum in float32 anyway
                product_NLL = torch.bmm(q_BHLD.flatten(0, 1), k_BHLD.flatten(0, 1).transpose(1, 2), out_dtype=torch.float32)
                return product_NLL.unflatten(0, q_BHLD.shape[:2])
            return q_BHLD.float() @ k_BHLD.float().transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q_BHLD, k_BHLD = ctx.saved_tensors
        g_BHLL = gradients[0].to(q_BHLD.dtype)
        return g_BHLL @ k_BHLD, g_BHLL.transpose(2, 3) @ q_BHLD


def scored_attention(
    q_BHLD: torch.Tensor,
    k_BGLD: torch.Tensor,
    v_BGLD: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None = None,
    sinks_H: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(scores) v of one document, the scores in float32; returns [B, H, L, D] in the type of `v_BGLD`.

    A query looks at itself and what is before it, `window` tokens in all where one is given; keys and values of G heads serve H / G query heads
    each. `softcap` c turns a score s into c tanh(s / c). A sink is a score that each head has besides, and whose weight goes nowhere. The
    scores, B * H * L^2 float32, are held while a document is run and computed again in the backward pass, so a row's memory is that of its
    longest document.
    """
    if torch.is_grad_enabled():
        return checkpoint(_scored, q_BHLD, k_BGLD, v_BGLD, scale, window, softcap, sinks_H, use_reentrant=False, preserve_rng_state=False)
    return _scored(q_BHLD, k_BGLD, v_BGLD, scale, window, softcap, sinks_H)


def _scored(
    q_BHLD: torch.Tensor,
    k_BGLD: torch.Tensor,
    v_BGLD: torch.Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks_H: torch.Tensor | None,
) -> torch.Tensor:
    k_BHLD, v_BHLD = (x.repeat_interleave(q_BHLD.shape[1] // x.shape[1], dim=1) for x in (k_BGLD, v_BGLD))
    scores_BHLL = Scores.apply(q_BHLD, k_BHLD) * scale
    if softcap is not None:
        scores_BHLL = softcap * torch.tanh(scores_BHLL / softcap)
    i_L = torch.arange(k_BHLD.shape[2], device=k_BHLD.device)
    back_LL = i_L[:, None] - i_L
    hidden_LL = (back_LL < 0) if window is None else (back_LL < 0) | (back_LL >= window)
    scores_BHLL = scores_BHLL.masked_fill(hidden_LL, -torch.inf)
    if sinks_H is not None:
        sinks_BHL1 = sinks_H.float()[None, :, None, None].expand(*scores_BHLL.shape[:3], 1)
        scores_BHLL = torch.cat([scores_BHLL, sinks_BHL1], dim=3)
    weights_BHLL = torch.softmax(scores_BHLL, dim=3)[..., : k_BHLD.shape[2]]
    return weights_BHLL.to(v_BHLD.dtype) @ v_BHLD
