"""Attention in blocks is causal attention within each document: exactly in float64, and in bfloat16 as near the truth as SDPA is."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_model

from limakit.model.attention import attach_packing, packed_attention
from limakit.model.blocks import BLOCK, block_attention


def reference(q, k, v, bounds):
    """One document at a time, as [L, H, D]."""
    parts = [
        F.scaled_dot_product_attention(q[:, a:b], k[:, a:b], v[:, a:b], is_causal=True, scale=1.0, enable_gqa=True)
        for a, b in pairwise(bounds)
    ]  # fmt: skip
    return torch.cat(parts, dim=1).transpose(0, 1)


def tensors(lengths, heads, groups, width, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    bounds = [0, *accumulate(lengths)]
    sizes = [(heads, width), (groups, width), (groups, width + 3)]
    made = [torch.randn(n, bounds[-1], d, generator=draw, dtype=torch.float64) for n, d in sizes]
    made[0] = made[0] * 1.5
    return [x.to(dtype).requires_grad_() for x in made], bounds


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]), min_size=1, max_size=4),
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
)
def test_it_is_attention_within_each_document_forward_and_backward(lengths, heads):
    inputs, bounds = tensors(lengths, *heads, width=5)
    expected, got = reference(*inputs, bounds), block_attention(*inputs, bounds)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn(got.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(torch.autograd.grad(got, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("sharpness", [0.1, 1.0])
def test_in_bfloat16_its_error_is_of_the_size_of_sdpas(heads, sharpness):
    """Scores of up to about 6, and of up to about 60, where bfloat16 itself has steps of a quarter."""
    exact, bounds = tensors([300, 40, 513], *heads, width=64)
    with torch.no_grad():
        exact[0].mul_(sharpness)
    truth = reference(*exact, bounds)
    weight = torch.randn(truth.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    truths = [truth, *torch.autograd.grad(truth, exact, weight)]
    errors = {}
    for name, attend in (("sdpa", reference), ("blocks", block_attention)):
        rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
        out = attend(*rounded, bounds)
        found = [out, *torch.autograd.grad(out, rounded, weight.bfloat16())]
        errors[name] = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, truths, strict=True)]
    assert all(ours < 1.5 * theirs for ours, theirs in zip(errors["blocks"], errors["sdpa"], strict=True)), errors


def test_scores_of_any_size_give_no_nan():
    q = torch.full((1, 200, 4), 100.0, dtype=torch.bfloat16, requires_grad=True)
    out = block_attention(q, q, q, [0, 200])
    assert out.isfinite().all() and torch.autograd.grad(out.sum(), q)[0].isfinite().all()


def test_a_model_in_bfloat16_on_the_cpu_uses_it_and_others_do_not(monkeypatch):
    from limakit.model import attention

    seen = []
    monkeypatch.setattr(attention, "block_attention", lambda *a: (seen.append(a[0].dtype), block_attention(*a))[1])
    for precision in ("float32", "bfloat16"):
        attach_packing(make_model("llama"), precision, longest=12)
    assert set(seen) == {torch.bfloat16}


def test_a_window_that_a_document_exceeds_goes_another_way():
    q = torch.randn(1, 2, 9, 4, dtype=torch.bfloat16)
    cu = torch.tensor([0, 3, 9])
    out, _ = packed_attention(torch.nn.Module(), q, q, q, None, 0.5, cu_seq_lens_q=cu, sliding_window=4)
    longer, _ = packed_attention(torch.nn.Module(), q, q, q, None, 0.5, cu_seq_lens_q=cu, sliding_window=6)
    assert torch.equal(out[:, :7], longer[:, :7].to(out.dtype)) or torch.allclose(
        out[:, :7].float(), longer[:, :7].float(), rtol=2e-2, atol=2e-2
    )
    assert not torch.allclose(out[:, 7:].float(), longer[:, 7:].float(), rtol=2e-2, atol=2e-2)
