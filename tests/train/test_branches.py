"""No entry of the table of branches' ends is trusted: wherever else dropout might sit, the checks refuse it (promise 4)."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, ROW, make

from limakit.errors import LimakitError
from limakit.model.loss import row_loss
from limakit.train import branches
from limakit.train.branches import Branches, check_branches, find_branches
from limakit.train.dropout import attach_residual_dropout, residual_dropouts
from limakit.train.native import silence_native_dropout

KNOWN = [family for family in FAMILIES if family not in ("lfm2", "mamba")]
# pre-norm; post-norm with one norm and with two; parallel; a mixture of experts; a branch that is scaled after its end
QUICK = ("llama", "olmo2", "gemma2", "glm4", "gpt_neox", "cohere", "mixtral", "afmoe", "granite", "gpt2", "opt")


def outputs(model, layer):
    """What each module within the layer gives, by its name, in one pass."""
    seen, hooks = {}, []

    def keep(name, output):
        value = output[0] if isinstance(output, tuple) and output else output
        seen[name] = value.detach().clone() if isinstance(value, torch.Tensor) else None

    for name, module in layer.named_modules():
        if name:
            hooks.append(module.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output)))
    with torch.no_grad():
        model.train()(input_ids=torch.tensor([[0, 1, 2]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def every_other_place(family):
    """(branches with one end moved, what moved), to each module of a layer whose output is not the branch's own."""
    model = make(family, **({"num_dense_layers": 0} if family == "afmoe" else {}))
    silence_native_dropout(model)
    right = find_branches(model)
    seen = outputs(model, right.layers[1])
    for k in (0, 1):
        for name in seen:
            same = seen[name] is not None and torch.equal(seen[name].flatten(), seen[right.ends[k]].flatten())  # experts flatten their rows
            if not same and all(branches._has(layer, name) for layer in right.layers):
                ends = (name, right.ends[1]) if k == 0 else (right.ends[0], name)
                yield model, Branches(right.layers, ends), ends


@pytest.mark.parametrize("family", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in KNOWN])
def test_every_other_place_is_refused(family):
    moved = 0
    for model, wrong, ends in every_other_place(family):
        with pytest.raises(LimakitError, match=r"residual dropout: .*(layer|check)"):
            check_branches(model, wrong)
            pytest.fail(f"{family}: {ends} passed")
        moved += 1
    assert moved >= 8
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    check_branches(model, find_branches(model))


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4", "glm4", "afmoe"])
def test_a_norm_after_the_branch_that_the_table_lacks_is_seen(family, monkeypatch):
    """It maps 0 to 0, so with p = 1 every layer is the identity, and yet it would scale what is kept."""
    monkeypatch.setattr(branches, "BRANCH_ENDS", (("self_attn.o_proj", "mlp"),))
    with pytest.raises(LimakitError, match="is not the last module of layer 0's attention branch") as caught:
        attach_residual_dropout(make(family), 0.3)
    assert family.removesuffix("_text") in str(caught.value.where)


def test_a_layer_with_a_branch_beyond_the_dropout_is_refused():
    model = make("llama")
    layer = model.model.layers[1]
    own = layer.forward
    layer.forward = lambda hidden_states, **keywords: own(hidden_states, **keywords) + 0.01 * hidden_states
    with pytest.raises(LimakitError, match="layer 1 changes its input"):
        attach_residual_dropout(model, 0.3)
    assert not residual_dropouts(model)
    before = row_loss(model.train(), [ROW[0]], [[True] * 12], packed=False)  # and no hook stays behind
    assert torch.equal(before, row_loss(model, [ROW[0]], [[True] * 12], packed=False))


def test_branches_that_are_never_run_are_refused():
    model = make("llama")
    model.model.layers[1].forward = lambda hidden_states, **keywords: hidden_states  # a layer that does nothing
    with pytest.raises(LimakitError, match=r"is not the last module of layer 1's attention branch"):
        attach_residual_dropout(model, 0.3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_right_place_passes_whatever_the_size_of_the_residual_stream(family, scale):
    """A pretrained model's stream grows to thousands, beside which a branch's share is small, and rounds."""
    model = make(family)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(scale)
    check_branches(model, find_branches(model))
    check_branches(model.bfloat16(), find_branches(model))
