"""Activation checkpointing changes memory, and nothing else: gradients and whole runs bit for bit, dropout and all."""

from __future__ import annotations

import copy

import pytest
import torch
from crowd import Crowd
from families import ROW, loss_and_gradients, make
from runs import copy as copy_of
from runs import edit, rows, run, tree
from tiny import make_workspace

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.train.dropout import attach_residual_dropout
from limakit.train.recompute import recompute_layers


def attached(family, p, precision="float32"):
    model = make(family)
    attach_residual_dropout(model, p)
    attach_packing(model, precision, longest=20)
    return model.train()


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "mixtral"])
def test_gradients_are_bit_for_bit_those_without(family, p):
    model = attached(family, p)
    loss, expected = loss_and_gradients(model, ROW, True)
    recompute_layers(model)
    again, got = loss_and_gradients(model, ROW, True)
    assert torch.equal(loss, again) and got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def kept_bytes(model):
    """What the graph of one row holds for the backward pass, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held = {}

    def keep(x):
        if x.untyped_storage().data_ptr() not in weights:
            held[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(input_ids=torch.tensor([list(range(60))]), use_cache=False, logits_to_keep=1)
    return sum(x.untyped_storage().nbytes() for x in held.values())


def test_a_layer_holds_its_input_alone():
    model = make("llama", num_hidden_layers=12).train()
    attach_residual_dropout(model, 0.3)
    before = kept_bytes(model)
    recompute_layers(model)
    after = kept_bytes(model)
    inputs = 12 * 60 * 32 * 4  # layers, tokens, width, bytes
    assert inputs <= after < 2 * inputs < before / 5


def test_a_layer_runs_twice_in_training_and_once_else():
    model = attached("llama", 0.3)
    ran = []
    model.model.layers[1].input_layernorm.register_forward_hook(lambda *_: ran.append(1))
    recompute_layers(model)
    loss_and_gradients(model, ROW, True)
    assert len(ran) == 2
    model.eval()(input_ids=torch.tensor([ROW[0]]))
    with torch.no_grad():
        model.train()(input_ids=torch.tensor([ROW[0]]), use_cache=False)
    assert len(ran) == 4


def test_frozen_weights_beside_an_adapter():
    """Then nothing below the first adapter needs a gradient, neither do a layer's inputs, and yet the adapters have theirs."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = peft.get_peft_model(make("llama"), peft.LoraConfig(target_modules="all-linear", init_lora_weights=False))
    attach_residual_dropout(model, 0.3)
    attach_packing(model, longest=20)
    model.train()
    _, expected = loss_and_gradients(model, ROW, True)
    recompute_layers(model)
    _, got = loss_and_gradients(model, ROW, True)
    assert len(got) == 3 * 7 * 2 and all(torch.equal(got[name], expected[name]) and got[name].any() for name in expected)


def test_in_bfloat16_too():
    model = attached("llama", 0.3, "bfloat16")
    other = copy.deepcopy(model)
    recompute_layers(other)
    for m in (model, other):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = m(input_ids=torch.tensor([ROW[0]]), use_cache=False, labels=torch.tensor([ROW[0]])).loss
        loss.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_run_with_it_writes_the_bytes_of_one_without(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    edit(folder, "[train]", "[train]\nrecompute = true")
    run(folder)
    assert rows(folder) == rows(finished)
    mine, theirs = tree(folder), tree(finished)
    weights = [name for name in theirs if name.endswith("model.safetensors")]
    assert len(weights) == 4 and all(mine[name] == theirs[name] for name in weights)


def test_a_model_without_a_list_of_layers_is_refused():
    model = make("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(LimakitError, match="no known form") as caught:
        recompute_layers(model)
    assert "recompute = false" in caught.value.remedy


def test_recompute_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    from limakit.train import recompute

    monkeypatch.setattr(recompute, "decoder_layers", lambda model: ())
    folder = make_workspace(tmp_path / "w", epochs=1, recompute=True)
    with pytest.raises(LimakitError, match="no known form"):
        run(folder)
    assert not (folder / "runs/tiny/epochs").exists()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_over_several_ranks(tmp_path, compiled):
    """Under FSDP, whose hooks gather a layer's weights before its forward and again before its backward pass."""
    for answer in Crowd(tmp_path, 2, "attached", compiled, True).answers():
        assert answer["loss"] < 1e-6 and answer["worst"] < 1e-6
