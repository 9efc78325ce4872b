"""Residual dropout by depth: what it does to the branches of every family, and that nothing of it stays behind (promise 4)."""

from __future__ import annotations

import copy

import pytest
import torch
from families import FAMILIES, ROW, make

from limakit.errors import LimakitError
from limakit.model.loss import row_loss
from limakit.train.branches import find_branches
from limakit.train.dropout import (
    ResidualDropout,
    attach_residual_dropout,
    depth_rates,
    detach_residual_dropout,
    residual_dropouts,
)

UNKNOWN = ("lfm2", "mamba")
KNOWN = [family for family in FAMILIES if family not in UNKNOWN]
IDS = torch.tensor([ROW[0]])


def first(output):
    return output[0] if isinstance(output, tuple) else output


def test_depth_rates():
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == [0]


@pytest.mark.parametrize("family", KNOWN)
def test_with_p_1_every_layer_is_the_identity(family):
    model = make(family)
    attach_residual_dropout(model, 0.3)
    dropouts = residual_dropouts(model)
    assert [d.rate for d in dropouts] == pytest.approx([0, 0, 0.15, 0.15, 0.3, 0.3])
    assert all(d.p.ndim == 0 and d.p.item() == pytest.approx(d.rate) for d in dropouts)
    for dropout in dropouts:
        dropout.set_rate(1.0)
    seen = []
    for layer in find_branches(model).layers:
        layer.register_forward_hook(
            lambda _l, inputs, keywords, output: seen.append(
                torch.equal(inputs[0] if inputs else keywords["hidden_states"], first(output))
            ),
            with_kwargs=True,
        )
    model.train()(input_ids=IDS, use_cache=False)
    assert seen == [True] * 3


@pytest.mark.parametrize("family", KNOWN)
def test_what_is_dropped_is_0_the_rest_is_scaled_and_gradients_go_the_same_way(family):
    """Both branches of each layer; so their expectation is what they are without dropout."""
    model = make(family)
    attach_residual_dropout(model, 0.6)
    calls = []

    def keep(module, inputs, output):
        if module.rate:
            gradients = {}
            for tensor, name in ((inputs[0], "x"), (output, "y")):
                tensor.register_hook(lambda gradient, name=name, of=gradients: of.setdefault(name, gradient))
            # copies: Falcon adds to the output in place
            calls.append((module.rate, inputs[0].detach().clone(), output.detach().clone(), gradients))

    for dropout in residual_dropouts(model):
        dropout.register_forward_hook(keep)
    model.train()
    row_loss(model, [ROW[0] * 3], [[True] * 36], packed=False).backward()
    assert [rate for rate, *_ in calls] == pytest.approx([0.3, 0.3, 0.6, 0.6])
    for rate, x, y, gradients in calls:
        kept, n = y != 0, x.numel()
        assert abs((x != 0).sum().item() * (1 - rate) - kept.sum().item()) < 5 * (n * rate * (1 - rate)) ** 0.5
        scale = 1 / (1 - round(rate * 2**16) / 2**16)
        torch.testing.assert_close(y[kept], x[kept] * scale, rtol=1e-6, atol=0)
        assert gradients["x"][kept].norm() > 0
        torch.testing.assert_close(gradients["x"][kept], gradients["y"][kept] * scale, rtol=1e-6, atol=0)
        assert not gradients["x"][~kept & (x != 0)].any()


@pytest.mark.parametrize("family", KNOWN)
def test_it_is_the_only_dropout_and_off_in_eval_mode(family):
    plain, model = make(family).eval(), make(family)
    attach_residual_dropout(model, 0.5)
    with torch.no_grad():
        expected = plain(input_ids=IDS).logits
        assert torch.equal(model.eval()(input_ids=IDS).logits, expected)
        model.train()
        once = model(input_ids=IDS, use_cache=False).logits
        assert not torch.allclose(once, expected) and not torch.equal(once, model(input_ids=IDS, use_cache=False).logits)
        for dropout in residual_dropouts(model):
            dropout.set_rate(0.0)
        torch.testing.assert_close(model(input_ids=IDS, use_cache=False).logits, expected)  # so nothing of the model's own is left


@pytest.mark.parametrize("family", ["llama", "glm4", "gpt2", "mixtral"])
def test_attached_twice_is_attached_once_and_taken_away_leaves_nothing(family):
    model = make(family)
    names, modules = set(model.state_dict()), [name for name, _ in model.named_modules()]
    attach_residual_dropout(model, 0.0)  # the model's own dropout goes
    clean = copy.deepcopy(model)
    attach_residual_dropout(model, 0.3)
    assert set(model.state_dict()) == names  # it does not reach the checkpoint
    attach_residual_dropout(model, 0.5)
    assert [d.rate for d in residual_dropouts(model)] == [0, 0, 0.25, 0.25, 0.5, 0.5]
    assert all(len(m._forward_hooks) <= 1 for m in model.modules())
    detach_residual_dropout(model)
    assert [name for name, _ in model.named_modules()] == modules
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(model.train()(input_ids=IDS, use_cache=False).logits, clean.train()(input_ids=IDS, use_cache=False).logits)


def test_native_dropout_goes_even_without_residual_dropout():
    model = make("gpt2")
    attach_residual_dropout(model, 0)
    model.train()
    assert torch.equal(model(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.05, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rate_the_scale_and_the_expectation(p, dtype):
    torch.manual_seed(0)
    y = ResidualDropout(p).train()(torch.ones(1001, 999, dtype=dtype)).double()
    n = y.numel()
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5 + 2**-17)
    values = y.unique().tolist()
    assert len(values) == (1 if p < 2**-17 or p == 1 else 2) and values[-1] == pytest.approx(
        0 if p == 1 else 1 / (1 - round(p * 2**16) / 2**16), rel=1 / 256
    )
    if p < 1 and dtype == torch.float32:
        assert y.mean().item() == pytest.approx(1, abs=5 * (p / (1 - p) / n) ** 0.5 + 1e-6)


def test_entries_are_dropped_independently():
    """Of neighbours in either direction, and of the same place in the next draw: four entries share a draw of the generator."""
    torch.manual_seed(0)
    dropout = ResidualDropout(0.5).train()
    kept, again = ((dropout(torch.ones(512, 512)) != 0).double() - 0.5 for _ in range(2))
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[:, 2:], kept[:, :-2]), (kept[1:], kept[:-1]), (kept, again)):
        assert abs((a * b).mean().item()) < 5 * 0.25 / 512


def test_a_seed_gives_a_mask():
    dropout, x = ResidualDropout(0.4).train(), torch.randn(3, 5, 7)
    torch.manual_seed(11)
    once = dropout(x)
    torch.manual_seed(11)
    assert torch.equal(dropout(x), once) and not torch.equal(dropout(x), once)


def test_in_16_bits_the_scale_is_not_rounded():
    """1 - p in bfloat16 would be 0.69921875 for p = 0.3, and each kept value too small or large by up to 0.4 %."""
    dropout = ResidualDropout(0.3).train()
    x = torch.linspace(1, 2, 4000).to(torch.bfloat16)
    y = dropout(x)
    kept = y != 0
    assert y.dtype == torch.bfloat16 and 2600 < kept.sum() < 3000
    assert torch.equal(y[kept], (x[kept].double() / (1 - round(0.3 * 2**16) / 2**16)).to(torch.bfloat16))


def test_a_value_that_is_not_finite_is_not_hidden_by_being_dropped():
    y = ResidualDropout(0.5).train()(torch.full((100,), float("inf")))
    assert not y.isfinite().any()


@pytest.mark.parametrize("family", UNKNOWN)
def test_an_unknown_family_is_refused_by_name(family):
    with pytest.raises(LimakitError) as caught:
        attach_residual_dropout(make(family), 0.3)
    assert family in str(caught.value.where) and "residual_dropout = 0" in caught.value.remedy
    attach_residual_dropout(make(family), 0)  # the remedy works
