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


def reference(q, k, v, bounds, scale=1.0):
    """One document at a time, as [L, H, D]."""
    parts = [
        F.scaled_dot_product_attention(q[None, :, a:b], k[None, :, a:b], v[None, :, a:b], is_causal=True, scale=scale, enable_gqa=True)[0]
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
    expected, got = reference(*inputs, bounds, 0.7), block_attention(*inputs, bounds, 0.7)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn(got.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(torch.autograd.grad(got, inputs, weight), torch.autograd.grad(expected, inputs, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def errors_in_bfloat16(inputs, bounds, scale):
    """Relative errors of the output and of the gradients of queries, keys and values (but for their first component), by who computes them."""
    rounded = [x.detach()[..., : inputs[0].shape[-1]].bfloat16() for x in inputs]  # else SDPA leaves its kernel, and computes in float32
    found = {}
    for name, attend, dtype in (("truth", reference, torch.float64), ("sdpa", reference, None), ("blocks", block_attention, None)):
        given = [x.to(dtype or x.dtype).requires_grad_() for x in rounded]
        out = attend(*given, bounds, scale)
        weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).bfloat16()
        found[name] = [out, *(g[..., 1:] for g in torch.autograd.grad(out, given, weight.to(out.dtype)))]
    return {
        name: [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found[name], found["truth"], strict=True)]
        for name in ("sdpa", "blocks")
    }


def as_good_as_sdpa(errors):
    return all(ours <= 1.5 * theirs for ours, theirs in zip(errors["blocks"], errors["sdpa"], strict=True))


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("width", [64, 80, 128])
@pytest.mark.parametrize("size", [0.5, 5, 50, 500, 2000])
def test_in_bfloat16_its_error_is_of_the_size_of_sdpas(heads, width, size):
    """Scores of up to about 2, 20, ..., 9,000. The width's root is no power of 2: queries in bfloat16 would not survive being scaled."""
    exact, bounds = tensors([300, 40, 513], *heads, width=width)
    with torch.no_grad():
        exact[0].mul_(size)
    errors = errors_in_bfloat16(exact, bounds, width**-0.5)
    assert as_good_as_sdpa(errors), errors


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("offset", [60, 250, 1000, 10_000])
def test_nor_does_a_large_score_that_all_keys_share_cost_accuracy(offset, width):
    """As a bias of the keys gives it (Qwen2): softmax does not see it, and the largest score in bfloat16 is off by up to 32."""
    exact, bounds = tensors([300, 40, 513], 4, 2, width=width)
    q, k, _ = exact
    with torch.no_grad():
        q[..., 0] = (offset * width**0.5) ** 0.5 * (1 + 0.01 * q[..., 0])
        k[..., 0] = (offset * width**0.5) ** 0.5
    errors = errors_in_bfloat16(exact, bounds, width**-0.5)
    assert as_good_as_sdpa(errors), errors


def test_scores_of_any_size_give_no_nan():
    q = torch.full((1, 200, 4), 100.0, dtype=torch.bfloat16, requires_grad=True)
    out = block_attention(q, q, q, [0, 200], 1.0)
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
