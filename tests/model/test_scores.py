"""Soft-capped scores and attention sinks, packed: what transformers' own attention computes for each document apart, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from families import make

from limakit.model.attention import attach_packing
from limakit.model.loss import row_loss
from limakit.model.scores import scored_attention

DOCUMENTS = [list(range(5, 22)), [30], [31, 32, 33], list(range(40, 60))]
TARGETS = [[True] * len(document) for document in DOCUMENTS]
BY_HAND = {
    "gemma2": {"attn_logit_softcapping": 1.5, "sliding_window": 8},
    "gpt_oss": {"sliding_window": 8},
}  # a cap and a window that are felt


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", BY_HAND)
def test_packed_gradients_are_those_of_the_documents_apart(family):
    model = make(family, **BY_HAND[family]).eval()
    apart = 0.0
    for document, target in zip(DOCUMENTS, TARGETS, strict=True):
        loss = row_loss(model, [document], [target], packed=False)
        loss.backward()
        apart += loss.item()
    expected = gradients(model)
    model.zero_grad()
    attach_packing(model, longest=20)
    loss = row_loss(model, DOCUMENTS, TARGETS, packed=True)
    loss.backward()
    assert loss.item() == pytest.approx(apart, rel=1e-5)
    got = gradients(model)
    for name, gradient in expected.items():
        assert (got[name] - gradient).norm() <= 1e-5 * (gradient.norm() + 1e-3), name
    assert family != "gpt_oss" or got["model.layers.0.self_attn.sinks"].norm() > 0


def test_without_cap_and_sink_it_is_plain_attention():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(scored_attention(q, k, v, 0.3, None), expected)
    assert not torch.allclose(scored_attention(q, k, v, 0.3, None, softcap=0.5), expected, rtol=1e-2)
    assert not torch.allclose(scored_attention(q, k, v, 0.3, None, sinks_H=torch.zeros(4)), expected, rtol=1e-2)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_in_bfloat16_its_error_is_of_the_size_of_sdpas(size, autocast):
    """Scores of up to about 4, 20, 80: in bfloat16 those would be off by up to a quarter."""
    torch.manual_seed(0)
    q, k, v = ((n * torch.randn(1, heads, 300, 64)).bfloat16() for n, heads in ((size, 4), (1, 2), (1, 2)))
    weight = torch.randn(1, 4, 300, 64).bfloat16()

    def sdpa(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    def ours(q, k, v):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return scored_attention(q, k, v, 64**-0.5, None)

    found = {}
    for name, attend, dtype in (("truth", sdpa, torch.float64), ("sdpa", sdpa, q.dtype), ("ours", ours, q.dtype)):
        inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        out = attend(*inputs)
        found[name] = [out, *torch.autograd.grad(out, inputs, weight.to(dtype))]
    error = {n: [((a - b).norm() / b.norm()).item() for a, b in zip(found[n], found["truth"], strict=True)] for n in ("sdpa", "ours")}
    assert all(a <= 1.5 * b for a, b in zip(error["ours"], error["sdpa"], strict=True)), error


def test_scores_are_not_kept_for_the_backward_pass():
    """Of 400 tokens in 4 heads they are 2.5 MB a document; what is kept is queries, keys and values."""
    q, k, v = (torch.randn(1, 4, 400, 8, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        scored_attention(q, k, v, 0.3, 50, softcap=2.0)
    assert 0 < sum(kept) < 400 * 400
