"""Compiled layers: one set of graphs for all layers and all rows, the gradients of eager mode, and dropout that acts.

What is compiled is traced but not turned into machine code here (backend "eager"; slowly, also differentiated by "aot_eager"): that is where
recompilations show. The slow test of a run takes the compiler too.
"""

from __future__ import annotations

import copy
import random
import shutil

import pytest
import torch
from families import loss_and_gradients, make
from runs import rows, run
from tiny import make_workspace

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.train.attach import attach
from limakit.train.compiled import compile_layers, eagerly
from limakit.train.dropout import attach_residual_dropout, residual_dropouts
from limakit.train.recompute import recompute_layers

LAYERS = 9  # more than the 8 graphs after which dynamo gives a function up


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture(params=["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def backend(request):
    return request.param


@pytest.fixture
def model():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    made = make("llama", num_hidden_layers=LAYERS)
    attach_residual_dropout(made, 0.3)
    attach_packing(made, longest=20)
    return made.train()


def some_rows(n=8):
    draw = random.Random(0)
    return [[[draw.randrange(97) for _ in range(draw.randint(3, 20))] for _ in range(draw.randint(1, 5))] for _ in range(n)]


def set_rates(model, p):
    for dropout in residual_dropouts(model):
        dropout.set_rate(p)


def assert_close(got, expected):
    total = torch.stack([g.norm() for g in expected.values()]).norm()
    for name in expected:
        assert (got[name] - expected[name]).norm() <= 1e-5 * (expected[name].norm() + total), name


def test_no_layer_no_rate_and_no_length_of_row_compiles_again(model, backend):
    """Lengths, numbers of documents, a row of one document, a rate that changes; nine layers, each with a rate of its own."""
    compile_layers(model, backend)
    loss_and_gradients(model, [[5] * 9, [6] * 7, [7] * 11], True)
    made = graphs()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for row in [*some_rows(), [[8] * 16], [[9] * 2]]:
            loss_and_gradients(model, row, True)
        set_rates(model, 0.7)
        loss_and_gradients(model, [[5] * 30, [6] * 3], True)
    assert graphs() == made <= 6


def test_gradients_are_those_of_eager_mode_and_dropout_acts(model, backend):
    eager = copy.deepcopy(model)
    compile_layers(model, backend)
    rates = [dropout.rate for dropout in residual_dropouts(model)]
    row = some_rows(1)[0]
    losses = {float(loss_and_gradients(model, row, True)[0]) for _ in range(2)}
    assert len(losses) == 1  # a seed gives a mask here too
    set_rates(model, 0.0), set_rates(eager, 0.0)
    for row in some_rows(4):
        loss, got = loss_and_gradients(model, row, True)
        expected_loss, expected = loss_and_gradients(eager, row, True)
        assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6) and losses != {loss.item()}
        assert_close(got, expected)
    for dropout, rate in zip(residual_dropouts(model), rates, strict=True):
        assert dropout.p.item() == 0 != rate or rate == 0
        dropout.set_rate(1.0)
    stream = []
    model.model.layers[0].register_forward_pre_hook(lambda _m, inputs: stream.append(inputs[0]))
    model.model.norm.register_forward_pre_hook(lambda _m, inputs: stream.append(inputs[0]))
    loss_and_gradients(model, row, True)
    assert torch.equal(*stream)  # with p = 1 all layers together are the identity


def test_with_recomputing_the_masks_are_the_same(model, backend):
    compile_layers(model, backend)
    row = some_rows(1)[0]
    loss, expected = loss_and_gradients(model, row, True)
    recompute_layers(model)
    again, got = loss_and_gradients(model, row, True)
    assert torch.equal(loss, again)
    assert_close(got, expected)


def test_dropout_acts_though_a_model_without_it_was_compiled_before(backend):
    """Dynamo keeps graphs by code, not by model, and does not look at hooks."""
    losses = []
    for p in (0.0, 0.5):
        model = make("llama")
        attach_residual_dropout(model, p)
        attach_packing(model, longest=20)
        compile_layers(model.train(), backend)
        losses.append(float(loss_and_gradients(model, [[5] * 9, [6] * 7], True)[0]))
    assert losses[0] != losses[1]


def test_between_epochs_nothing_is_compiled(model, backend):
    compile_layers(model, backend)
    with eagerly(True), torch.no_grad():
        model.eval()(input_ids=torch.tensor([[3, 4, 5]]), use_cache=True)
    assert graphs() == 0
    with eagerly(False), torch.no_grad():
        model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False)
    assert graphs() > 0


def test_a_model_without_a_list_of_layers_is_refused():
    model = make("llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(LimakitError, match="no known form") as caught:
        compile_layers(model)
    assert "compile = false" in caught.value.remedy


def test_what_is_attached_and_in_which_order(monkeypatch):
    from limakit.recipe import TrainSpec
    from limakit.train import attach as module

    order = []
    names = ["attach_residual_dropout", "attach_packing", "attach_loss_head", "compile_layers", "recompute_layers"]
    for name in names:
        monkeypatch.setattr(module, name, lambda *_args, name=name, **_more: order.append(name))
    attach(torch.nn.Linear(1, 1), TrainSpec(compile=True, recompute=True), 10)
    assert order == names
    order.clear()
    attach(torch.nn.Linear(1, 1), TrainSpec(pack=False), 10)
    assert order == ["attach_residual_dropout", "attach_loss_head"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("clang") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_run_is_the_eager_one_up_to_rounding(tmp_path):
    torch._dynamo.reset()
    compiled = make_workspace(tmp_path / "compiled", residual_dropout=0.0, compile=True, recompute=True)
    eager = make_workspace(tmp_path / "eager", residual_dropout=0.0)
    run(compiled), run(eager)
    for a, b in zip(rows(compiled), rows(eager), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["target_tokens"] == b["target_tokens"]
    dropped = make_workspace(tmp_path / "dropped", residual_dropout=0.3, compile=True, epochs=1)
    run(dropped)
    assert rows(dropped)[0]["loss"] != pytest.approx(rows(eager)[0]["loss"], rel=1e-4)
