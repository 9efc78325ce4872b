"""A training that goes wrong stops with the step, the example to look at and what to try; nothing wrong reaches the weights or the disk."""

from __future__ import annotations

import copy
import math
import random

import pytest
import torch
from crowd import Crowd
from hypothesis import given
from hypothesis import strategies as st
from rank_jobs import documents as rank_documents
from runs import edit, rows, run, tree
from tiny import make_model, make_workspace

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.train import loop
from limakit.train.alarm import Past, example_losses, step_loss
from limakit.train.dropout import attach_residual_dropout
from limakit.train.optimizer import linear_lr, make_optimizer
from limakit.train.steps import Document, Step, epoch_order, plan_steps
from limakit.train.update import add_gradients, run_steps, take_step

HOW = {"clip_norm": 1.0, "seed": 0, "packed": True}
RARE = 96  # a token that one document alone has


def documents(n, seed=0, longest=30):
    """Sentences of a small grammar, so that something can be learnt; example 2 has the rare token."""
    draw = random.Random(seed)
    made = []
    for i in range(n):
        ids = [draw.randrange(5, 95)]
        for _ in range(draw.randint(4, longest)):
            ids.append((ids[-1] * 3 + draw.randrange(2)) % 90 + 5)
        if i == 2:
            ids[3] = RARE
        made.append(Document(f"ex-{i}", tuple(ids), tuple(k >= 2 for k in range(len(ids)))))
    return made


def packed_model(family="llama", **changes):
    model = make_model(family, initializer_range=0.05, **changes)
    attach_packing(model, longest=40)
    return model


def spoil(model, token=RARE):
    """A weight that only one example touches is no longer a number."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token, 0] = float("nan")


@pytest.mark.parametrize("packed", [True, False])
def test_the_example_that_spoils_a_step_is_named_first_and_the_weights_stay(packed):
    """Packed, its loss is one number for the whole row: only forwarding each document apart tells whose it is."""
    docs = documents(6)
    model = packed_model() if packed else make_model("llama")
    spoil(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    rows = ((0, 1, 2), (3, 4, 5)) if packed else tuple((i,) for i in range(6))
    with pytest.raises(
        LimakitError, match=r"step 7: the loss is nan\n  its examples, the highest loss first: ex-2 \(nan\), ex-\d \(\d"
    ) as caught:
        take_step(model, optimizer, docs, Step(7, 1, True, rows), lr=3e-4, **HOW | {"packed": packed})
    assert all(f"ex-{i}" in caught.value.what for i in range(6)) and "0.0003" in caught.value.remedy
    assert not optimizer.state
    for name, p in model.named_parameters():
        assert torch.equal(p.nan_to_num(), before[name].nan_to_num()), name


@pytest.mark.parametrize("rank", [0, 1])
def test_over_ranks_the_example_is_named_whichever_has_it_and_nobody_waits(tmp_path, rank):
    """Two real ranks of a sharded model: the sums are not numbers anywhere, but only one rank has forwarded the example that makes them so."""
    docs = rank_documents(8)
    [step] = plan_steps([len(d.ids) for d in docs], epochs=1, batch_examples=8, budget=64, pack=True, seed=1, rank=rank, ranks=2)
    index = next(i for row in step.rows for i in row if len(docs[i].ids) > 4)
    crowd = Crowd(tmp_path, 2, "spoilt_example", index)
    assert crowd.wait(60) == [1, 1]
    said = crowd.said(0) + crowd.said(1)
    assert said.count("step 1: the loss is nan") == 1 and "Traceback" not in said and "lower lr" in said
    named = said.split("the highest loss first: ")[1].split("\n")[0].split(", ")
    assert named[0] == f"ex-{index} (nan)" and "nan" not in "".join(named[1:])
    assert sorted(name.split(" ")[0] for name in named) == sorted(d.id for d in docs)  # of both ranks


def test_weights_that_are_gone_are_not_blamed_on_an_example():
    docs, model = documents(4), packed_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("inf"))
    with pytest.raises(LimakitError, match="the weights rather than an example"):
        take_step(model, make_optimizer(model, (0.9, 0.95), 0.1), docs, Step(3, 1, True, ((0, 1, 2, 3),)), lr=1e-3, **HOW)


def test_a_gradient_that_is_not_finite_stops_the_step_too(monkeypatch):
    docs, model = documents(4), packed_model()
    model.lm_head.weight.register_hook(lambda grad: grad * float("inf"))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LimakitError, match=r"step 2: the gradient's norm is (nan|inf) \(the loss \d"):
        take_step(model, make_optimizer(model, (0.9, 0.95), 0.1), docs, Step(2, 1, True, ((0, 1, 2, 3),)), lr=1e-3, **HOW)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_the_losses_of_a_step_and_of_its_examples_are_those_that_are_trained():
    docs, model = documents(7), packed_model()
    step = Step(1, 1, True, ((0, 5, 2), (1, 3), (6, 4)))
    trained = add_gradients(model, docs, step, packed=True)
    assert step_loss(model, docs, step, packed=True) == pytest.approx(trained, rel=1e-5)
    apart = example_losses(model, docs, step, packed=True)
    mean = sum(loss * docs[i].target_tokens for i, loss in apart.items()) / sum(d.target_tokens for d in docs)
    assert sorted(apart) == list(range(7)) and mean == pytest.approx(trained, rel=1e-5)


@given(st.floats(0, 20), st.floats(allow_nan=True, allow_infinity=True))
def test_worse_is_by_half_and_by_a_nat_and_always_for_nan(before, now):
    worse = Past(Step(1, 1, True, ()), before, before).worse(now)
    assert worse == (math.isnan(now) or (now > 1.5 * before and now > before + 1))


@pytest.fixture(scope="module")
def bases():
    """Models that have learnt something of the grammar: an explosion costs only those who know something."""
    made = {}
    for family in ("llama", "gpt2"):
        made[family] = packed_model(family)
        train_tiny(made[family], 1e-2, dropout=0.0)
    return made


def train_tiny(model, lr, *, batch=16, epochs=3, dropout=0.3, docs=None):
    """Fine-tune on 70 documents with the real steps."""
    docs = docs or documents(70)
    attach_residual_dropout(model, dropout)
    steps = plan_steps([len(d.ids) for d in docs], epochs=epochs, batch_examples=batch, budget=128, pack=True, seed=0)
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    return list(run_steps(model, optimizer, docs, steps, lr=lambda s: linear_lr((lr, lr / 10), s, len(steps)), **HOW))


@pytest.mark.parametrize("lr", [1e-1, 1.0])
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_learning_rate_far_too_high_is_caught_within_some_steps(bases, lr, batch, family):
    """With a step of one example the first update makes that one better and all others worse, so it takes another step or two."""
    with pytest.raises(LimakitError, match=r"has run away|has spoilt the model|is nan") as caught:
        train_tiny(copy.deepcopy(bases[family]), lr, batch=batch)
    assert "lower lr" in caught.value.remedy and int(caught.value.what.split()[1].rstrip(":")) <= 4


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_no_false_alarm_with_residual_dropout_and_a_small_last_step(bases, batch):
    """70 examples in steps of 16 end in one of 6, in steps of 3 in one of a single example; with 1 the losses jump from step to step."""
    log = train_tiny(copy.deepcopy(bases["llama"]), 1e-3, batch=batch)
    assert len(log) == 3 * math.ceil(70 / batch) and log[-1].loss < log[0].loss


@pytest.mark.parametrize("lr", [3e-4, 1e-3, 3e-3])
def test_no_false_alarm_where_the_base_knows_the_first_example_and_the_others_contradict_it(lr):
    """24 answers to one prompt, one a step, the first of which the base has learnt: that one gets worse by more than a nat, the run gets better."""
    draw = random.Random(1)
    docs = [
        Document(f"ex-{i}", (7, 8, 9, 10, *(draw.randrange(5, 95) for _ in range(6))), (False,) * 4 + (True,) * 6) for i in range(24)
    ]  # fmt: skip
    first = docs[epoch_order(24, 0, 1)[0]]
    model = packed_model()
    train_tiny(model, 3e-3, batch=1, epochs=80, dropout=0.0, docs=[first])
    log = train_tiny(model, lr, batch=1, dropout=0.0, docs=docs)
    assert len(log) == 72 and log[0].loss < 1 < log[1].loss and log[-1].loss < log[1].loss


def test_a_run_that_goes_on_is_held_against_what_it_had(tmp_path, monkeypatch):
    folder = make_workspace(tmp_path / "w")
    real, given = loop.run_steps, []

    def seen(*args, past, **more):
        given.append(past)
        for row in real(*args, past=past, **more):
            if row.epoch == 2 and len(given) == 1:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(loop, "run_steps", seen)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    run(folder)
    losses = [row["loss"] for row in rows(folder) if row["epoch"] == 1]
    assert given[0] is None and (given[1].step.number, given[1].loss, given[1].highest) == (1, losses[0], max(losses))


def test_an_update_that_spoils_the_model_is_not_saved_and_the_epochs_before_stay(tmp_path, monkeypatch):
    """The last update of epoch 2 goes wrong: no step's loss tells, so the model is looked at before the epoch is written."""
    folder = make_workspace(tmp_path / "w")
    whole = make_workspace(tmp_path / "whole")
    real = loop.run_steps

    def wrong(model, optimizer, documents, steps, *, lr, **more):
        return real(model, optimizer, documents, steps, lr=lambda step: 10.0 if step == 6 else lr(step), **more)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_steps", wrong)
        with pytest.raises(LimakitError, match=r"step 6: its update has spoilt the model.*epoch 2 is not written") as caught:
            run(folder)
    assert "Epoch 1 is good and stays" in caught.value.remedy and "give the recipe another name" in caught.value.remedy
    assert [p.name for p in sorted((folder / "runs/tiny/epochs").iterdir())] == ["01"]
    run(folder), run(whole)  # what went wrong is over: the same command goes on, to the bytes of a run where it never did
    assert tree(folder) == tree(whole) and len(rows(folder)) == 9


def test_the_real_command_stops_with_one_message_and_another_rate_begins_anew(tmp_path, limakit):
    """Before the first epoch nothing binds the recipe's name, and the message does not say that it does."""
    folder = make_workspace(tmp_path / "w", lr=[10.0, 1.0])
    done = limakit("train", cwd=folder, check=False)
    assert done.returncode == 1 and "step " in done.stderr and "ex-" in done.stderr and "lower lr" in done.stderr
    assert not (folder / "runs/tiny/epochs").exists()
    assert "no epoch was complete" in done.stderr and "is good" not in done.stderr and "another name" not in done.stderr
    edit(folder, "lr = [10.0, 1.0]", "lr = [0.003, 0.0003]")
    limakit("train", cwd=folder)
