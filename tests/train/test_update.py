"""A packed step's gradients are those of one example at a time (promise 1; TRL #2175), and a loss that is not finite stops the run."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch
from tiny import make_model

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.model.load import load_causal_lm
from limakit.train.optimizer import linear_lr, make_optimizer, optimizer_tensors, parameters_with_state, restore_optimizer
from limakit.train.steps import Document, Step, plan_steps
from limakit.train.update import add_gradients, run_steps, step_seed, take_step


def documents(n, vocabulary, seed=0, longest=40):
    draw = random.Random(seed)
    made = []
    for i in range(n):
        length = draw.randint(3, longest)
        prompt = draw.randint(1, length - 1)
        ids = tuple(draw.randrange(vocabulary) for _ in range(length))
        made.append(Document(f"ex-{i}", ids, tuple(k >= prompt for k in range(length))))
    return made


def reference_gradients(model, chosen):
    """One example at a time, in plain transformers: the sum of the targets' losses over the number of all the step's targets."""
    total = sum(d.target_tokens for d in chosen)
    model.zero_grad()
    for d in chosen:
        logits = model(input_ids=torch.tensor([d.ids])).logits[0].double()
        for i in range(1, len(d.ids)):
            if d.target[i]:
                (torch.nn.functional.cross_entropy(logits[i - 1], torch.tensor(d.ids[i])) / total).backward(retain_graph=True)
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_gradients(model, expected, relative):
    total = torch.stack([g.norm() for g in expected.values()]).norm()
    for name, parameter in model.named_parameters():
        norm = expected[name].norm()
        if norm < 1e-6 * total:  # a key's bias has gradient 0 (softmax does not see a shift): rounding noise on both sides
            assert parameter.grad.norm() < 1e-6 * total, name
        else:
            difference = (parameter.grad - expected[name]).norm() / norm
            assert difference <= relative, f"{name}: {difference:.2e}"


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gpt2", "gpt_neox", "opt", "gemma3_text"])
def test_packed_gradients_equal_one_example_at_a_time(family):
    docs = documents(8, 97)
    model = make_model(family).eval()
    expected = reference_gradients(model, docs)
    attach_packing(model, longest=40)
    for budget in (1, 40, 64, 1000):  # a row each; unequal packs; one row for all
        [step] = plan_steps([len(d.ids) for d in docs], epochs=1, batch_examples=8, budget=budget, pack=True, seed=1)
        model.zero_grad()
        add_gradients(model, docs, step, packed=True)
        assert_gradients(model, expected, 1e-5)


def test_any_packing_at_all_gives_the_same_gradients():
    docs = documents(12, 97, seed=3, longest=20)
    model = make_model("llama").eval()
    expected = reference_gradients(model, docs)
    attach_packing(model, longest=40)
    draw = random.Random(0)
    for _ in range(5):
        order = draw.sample(range(12), 12)
        cuts = sorted({0, 12, *(draw.randrange(1, 12) for _ in range(3))})
        rows = tuple(tuple(order[a:b]) for a, b in pairwise(cuts))
        model.zero_grad()
        add_gradients(model, docs, Step(1, 1, True, rows), packed=True)
        assert_gradients(model, expected, 1e-5)


def test_unpacked_rows_give_them_too():
    docs = documents(5, 97)
    model = make_model("bloom").eval()  # which cannot be packed
    expected = reference_gradients(model, docs)
    model.zero_grad()
    loss = add_gradients(model, docs, Step(1, 1, True, tuple((i,) for i in range(5))), packed=False)
    assert_gradients(model, expected, 1e-5)
    assert math.isfinite(loss)


def test_on_the_real_model(shared):
    model = load_causal_lm(str(shared / "stories260K" / "hf"), device="cpu")
    docs = documents(6, 512, longest=60)
    expected = reference_gradients(model, docs)
    attach_packing(model, longest=40)
    model.zero_grad()
    add_gradients(model, docs, Step(1, 1, True, ((0, 3), (1, 2, 5), (4,))), packed=True)
    assert_gradients(model, expected, 1e-5)


def test_the_loss_is_over_the_steps_targets_not_over_rows():
    docs = documents(6, 97, seed=5)
    model = make_model("llama").eval()
    attach_packing(model, longest=40)
    losses = {add_gradients(model, docs, Step(1, 1, True, rows), packed=True) for rows in [((0, 1, 2, 3, 4, 5),), ((0,), (1, 2, 3, 4, 5))]}
    assert max(losses) - min(losses) < 1e-6


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    model = make_model("llama")
    docs = documents(4, 97)
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    before = model.lm_head.weight.detach().clone()
    with pytest.raises(
        LimakitError, match=r"step 3: the loss is nan\n  its examples, the highest loss first: ex-0 \(nan\), ex-2 \(nan\)"
    ) as caught:
        take_step(model, optimizer, docs, Step(3, 1, True, ((2,), (0,))), lr=1e-3, clip_norm=1, seed=0, packed=False)
    assert "lower lr" in caught.value.remedy
    assert torch.equal(model.lm_head.weight, before) and not optimizer.state


def test_a_step_without_targets_is_refused_not_nan():
    docs = [Document("no response", (1, 2, 3), (False, False, False))]
    with pytest.raises(LimakitError, match="no target"):
        add_gradients(make_model("llama"), docs, Step(1, 1, True, ((0,),)), packed=False)


def test_the_schedule_is_linear_without_warm_up():
    assert linear_lr((1e-5, 1e-6), 1, 480) == 1e-5
    assert linear_lr((1e-5, 1e-6), 480, 480) == pytest.approx(1e-6)
    assert linear_lr((1e-5, 1e-6), 240, 479) == pytest.approx(5.5e-6)
    assert linear_lr((1e-5, 1e-6), 1, 1) == 1e-5


def test_a_step_is_the_published_adamw():
    """Against the update written out (Loshchilov and Hutter 2019, algorithm 2), after clipping to norm 1."""
    model = make_model("llama")
    docs = documents(4, 97)
    [step] = plan_steps([len(d.ids) for d in docs], epochs=1, batch_examples=4, budget=1, pack=False, seed=0)
    before = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    gradients = reference_gradients(model.train(), docs)
    norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in gradients.values()))
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    log = take_step(model, optimizer, docs, step, lr=1e-2, clip_norm=1.0, seed=0, packed=False)
    assert log.grad_norm == pytest.approx(norm, rel=1e-4) and norm > 1
    assert (log.examples, log.tokens, log.target_tokens) == (4, sum(len(d.ids) for d in docs), sum(d.target_tokens for d in docs))
    for name, p in model.named_parameters():
        g = gradients[name].double() / norm
        m, v = 0.1 * g / (1 - 0.9), 0.05 * g**2 / (1 - 0.95)
        decay = 0.1 if p.ndim >= 2 else 0.0
        expected = before[name] * (1 - 1e-2 * decay) - 1e-2 * m / (v.sqrt() + 1e-8)
        moved = (m.abs() > 1e-5).double()  # where the gradient is rounding noise, so is its sign
        torch.testing.assert_close(p.detach().double() * moved, expected * moved, rtol=1e-4, atol=1e-5)


def test_weights_must_be_float32():
    with pytest.raises(LimakitError, match="float32"):
        make_optimizer(make_model("llama").bfloat16(), (0.9, 0.95), 0.1)


def test_bfloat16_keeps_weights_and_moments_float32():
    model = make_model("llama")
    attach_packing(model, "bfloat16", longest=40)
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    docs = documents(4, 97)
    steps = plan_steps([len(d.ids) for d in docs], epochs=3, batch_examples=4, budget=64, pack=True, seed=0)
    keywords = {"lr": lambda step: 1e-2, "clip_norm": 1.0, "seed": 0, "packed": True, "precision": "bfloat16"}
    logs = list(run_steps(model, optimizer, docs, steps, **keywords))
    assert logs[-1].loss < logs[0].loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {t.dtype for t in optimizer_tensors(model, optimizer).values()} == {torch.float32}


def test_the_optimisers_state_comes_back():
    model = make_model("llama")
    docs = documents(4, 97)
    steps = plan_steps([len(d.ids) for d in docs], epochs=4, batch_examples=4, budget=1, pack=False, seed=0)
    keywords = {"lr": lambda step: 1e-2, "clip_norm": 1.0, "seed": 0, "packed": False}
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    list(run_steps(model, optimizer, docs, steps[:2], **keywords))
    other = make_model("llama", seed=9)
    other.load_state_dict(model.state_dict())
    second = make_optimizer(other, (0.9, 0.95), 0.1)
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(model, optimizer).items()}
    restore_optimizer(other, second, tensors, parameters_with_state(model, optimizer))
    assert list(run_steps(model, optimizer, docs, steps[2:], **keywords)) == list(run_steps(other, second, docs, steps[2:], **keywords))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_exactly_the_state_that_was_saved_comes_back_and_a_loss_is_noticed():
    """A parameter that never had a gradient has no state, and that is not a loss; one that had is."""
    model = make_model("llama")
    model.unused = torch.nn.Linear(3, 3)
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
    take_step(model, optimizer, documents(4, 97), Step(1, 1, True, ((0,), (1,))), lr=1e-3, clip_norm=1, seed=0, packed=False)
    tensors, names = optimizer_tensors(model, optimizer), parameters_with_state(model, optimizer)
    assert len(names) == len(list(model.parameters())) - 2 and not any("unused" in name for name in names)
    again = make_optimizer(model, (0.9, 0.95), 0.1)
    restore_optimizer(model, again, tensors, names)
    assert optimizer_tensors(model, again).keys() == tensors.keys()
    lost = {name: tensor for name, tensor in tensors.items() if not name.startswith("lm_head.weight.exp_avg_sq")}
    for spoilt, wanted in ((lost, names), (tensors, names[:-1]), (tensors, [*names, "no.such.parameter"])):
        with pytest.raises(KeyError):
            restore_optimizer(model, make_optimizer(model, (0.9, 0.95), 0.1), spoilt, wanted)


def test_step_seeds_differ():
    assert len({step_seed(seed, step) for seed in range(5) for step in range(200)}) == 1000
