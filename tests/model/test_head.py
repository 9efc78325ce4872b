"""The loss without logits: the same loss and gradients as with them, for every model it is attached to, and attached to no other."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_model

from limakit.model import head as module
from limakit.model.attention import attach_packing
from limakit.model.head import attach_loss_head, head_loss, loss_head
from limakit.model.loss import row_loss

IDS, TARGETS = [3, 9, 27, 81, 50, 60, 7], [False, False, True, True, False, True, True]


def gradients(model, **keywords):
    model.zero_grad()
    loss = row_loss(model, [IDS, IDS[:4]], [TARGETS, TARGETS[:4]], packed=True, **keywords)
    (loss * 0.25).backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 9),
    st.integers(1, 40),
    st.sampled_from([1, 8, 64, 10_000]),
    st.booleans(),
    st.floats(0.01, 300),
    st.sampled_from([1, 8, 64]),
)
def test_it_is_the_cross_entropy_and_its_gradients_whatever_the_chunk_and_the_padding(tokens, vocabulary, chunk, biased, scale, multiple):
    draw = torch.Generator().manual_seed(tokens + 100 * vocabulary)
    h = (scale * torch.randn(tokens, 5, generator=draw, dtype=torch.float64)).requires_grad_()
    w = torch.randn(vocabulary, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    b = torch.randn(vocabulary, generator=draw, dtype=torch.float64, requires_grad=True) if biased else None
    target = torch.randint(vocabulary, (tokens,), generator=draw)
    inputs = [x for x in (h, w, b) if x is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module.CHUNK, "cpu", chunk)
        patch.setitem(module.MULTIPLE, "cpu", multiple)
        got = head_loss(h, w, b, target)
    expected = F.cross_entropy(F.linear(h, w, b), target, reduction="sum")
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(torch.autograd.grad(3 * got, inputs), torch.autograd.grad(3 * expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gpt2", "gpt_neox", "opt", "gemma3_text", "olmo2"])
def test_a_models_loss_and_gradients_stay_what_they_were(family, changes):
    model = make_model(family, **changes).eval()
    attach_packing(model, longest=8)
    loss, expected = gradients(model)
    assert attach_loss_head(model)
    again, got = gradients(model)
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=0)
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    assert got.keys() == expected.keys()
    assert all((got[name] - g).norm() <= 1e-5 * g.norm() + 1e-6 * norm for name, g in expected.items())


def test_a_head_with_a_bias(monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "phi", tiny.FAMILIES["llama"])
    model = make_model("phi").eval()
    assert model.lm_head.bias is not None
    torch.nn.init.normal_(model.lm_head.bias)
    attach_packing(model, longest=8)
    loss, expected = gradients(model)
    assert attach_loss_head(model)
    again, got = gradients(model)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(got["lm_head.bias"], expected["lm_head.bias"])


CHANGED = {
    "gemma2": [{"final_logit_softcapping": 3.0}, {"final_logit_softcapping": 1e3}, {"final_logit_softcapping": 1e6}],
    "cohere": [{"logit_scale": 0.25}, {"logit_scale": 1.00001}],
    "granite": [{"logits_scaling": 4.0}],
}


@pytest.mark.parametrize(("family", "changes"), [(family, changes) for family, each in CHANGED.items() for changes in each])
def test_a_model_that_changes_its_logits_keeps_the_ordinary_way(family, changes, monkeypatch):
    """Even if little is changed in the loss of a short text: a cap of 1,000 does much to a row's loss of 10,000."""
    monkeypatch.setitem(tiny.FAMILIES, family, tiny.FAMILIES.get(family, tiny.FAMILIES["llama"]))
    model = make_model(family, **changes)
    before = row_loss(model.eval(), [IDS], [TARGETS], packed=False)
    assert not attach_loss_head(model.train()) and model.training
    assert loss_head(model) is None
    assert torch.equal(row_loss(model.eval(), [IDS], [TARGETS], packed=False), before)


def test_logits_are_still_there_for_who_asks():
    model = make_model("llama").eval()
    ids = torch.tensor([IDS])
    before = model(input_ids=ids).logits
    assert attach_loss_head(model)
    assert torch.equal(model(input_ids=ids).logits, before)
    row_loss(model, [IDS], [TARGETS], packed=False)
    assert torch.equal(model(input_ids=ids).logits, before)
    assert not attach_loss_head(model)  # once is enough


def test_no_logits_of_a_row_are_ever_made(monkeypatch):
    """A vocabulary of 4,096, 300 targets: the largest tensor that is made has a chunk's size."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.size = max(self.size, tensor.numel())
            return out

    monkeypatch.setitem(module.CHUNK, "cpu", 64 * 4096)
    model = make_model("llama", vocabulary=4096, max_position_embeddings=512)
    assert attach_loss_head(model)
    with Largest() as made:
        row_loss(model, [[5] * 301], [[False] + [True] * 300], packed=False).backward()
    assert made.size == 64 * 4096


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_of_logits_are_aligned_where_there_are_tensor_cores(monkeypatch, precision):
    """As on CUDA: 97 tokens become 128 in all three products, and loss and gradients stay what they were."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.out or func is torch.ops.aten.mm.default:
                sizes.append({*args[0].shape, *args[1].shape})
            return func(*args, **(kwargs or {}))

    assert module.MULTIPLE["cuda"] % (16 // torch.bfloat16.itemsize) == 0
    model = make_model("llama").eval()
    assert attach_loss_head(model)
    sizes: list[set[int]] = []
    plain = gradients_of(model, precision)
    monkeypatch.setitem(module.MULTIPLE, "cpu", 64)
    with Products():
        padded = gradients_of(model, precision)
    assert sum(128 in found for found in sizes) == 3 and not any(97 in found for found in sizes)
    torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-6)


def test_a_frozen_head_gets_no_gradient():
    """As under adapters."""
    model = make_model("llama")
    assert attach_loss_head(model)
    model.lm_head.weight.requires_grad_(False)
    row_loss(model, [IDS], [TARGETS], packed=False).backward()
    assert model.lm_head.weight.grad is None and model.model.layers[0].mlp.up_proj.weight.grad.norm() > 0


def test_in_bfloat16_it_is_as_near_the_truth_as_with_logits():
    model = make_model("llama", vocabulary=997, tie_word_embeddings=False).eval()
    _, truth = gradients_of(model, "float32")
    _, plain = gradients_of(model, "bfloat16")
    assert attach_loss_head(model)
    loss, ours = gradients_of(model, "bfloat16")
    assert loss.dtype is torch.float32
    error = {name: ((g - truth["lm_head.weight"]).norm() / truth["lm_head.weight"].norm()).item() for name, g in
             (("plain", plain["lm_head.weight"]), ("ours", ours["lm_head.weight"]))}  # fmt: skip
    assert error["ours"] < 1.2 * error["plain"], error


def gradients_of(model, precision):
    model.zero_grad()
    loss = row_loss(model, [IDS], [TARGETS], packed=False, precision=precision)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def test_perplexity_without_gradients():
    model = make_model("llama").eval()
    with torch.no_grad():
        before = row_loss(model, [IDS], [TARGETS], packed=False)
        assert attach_loss_head(model)
        after = row_loss(model, [IDS], [TARGETS], packed=False)
    torch.testing.assert_close(after, before)
    assert not after.requires_grad


def test_perplexity_makes_no_gradients():
    """Of a weight that is trained the gradient would be another two thirds of the work, and a float32 matrix of its size."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        made = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.made += func in (torch.ops.aten.mm.out, torch.ops.aten.mm.default)
            return func(*args, **(kwargs or {}))

    h, w, target = torch.randn(5, 4), torch.randn(9, 4, requires_grad=True), torch.randint(9, (5,))
    with torch.no_grad(), Products() as products:
        loss = head_loss(h, w, None, target)
    assert products.made == 1 and not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(h @ w.T, target, reduction="sum").detach())


def test_a_second_backward_is_refused():
    """The gradients are given out, not kept: a second use of them would be wrong."""
    w = torch.randn(9, 4, requires_grad=True)
    loss = 0.5 * head_loss(torch.randn(5, 4), w, None, torch.randint(9, (5,)))
    loss.backward(retain_graph=True)
    once = w.grad.clone()
    with pytest.raises(RuntimeError, match="second backward"):
        loss.backward()
    assert torch.equal(w.grad, once)
