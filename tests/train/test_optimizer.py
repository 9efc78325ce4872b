"""AdamW in 16 bits: split weights are trained bit for bit as float32 ones (promise 5), bfloat16 moments nearly so; clipping; what each costs."""

from __future__ import annotations

import pytest
import torch
from crowd import Crowd
from runs import copy, edit, leave_as_killed, rows, run, tree
from tiny import make_workspace, save_base
from transformers import AutoConfig, AutoModelForCausalLM

from limakit.errors import LimakitError
from limakit.recipe import TrainSpec
from limakit.train import optimizer as module
from limakit.train.optimizer import (
    bytes_per_parameter,
    clip,
    linear_lr,
    make_optimizer,
    optimizer_tensors,
    parameters_with_state,
    restore_optimizer,
    set_lr,
)
from limakit.train.split import join

BETAS, DECAY, LR = (0.9, 0.95), 0.1, (1e-5, 1e-6)
SHAPES = {"odd": (7, 13), "vector": (129,), "one": (1, 1), "wide": (64, 640), "beyond a chunk": (700, 801)}


class Weights(torch.nn.Module):
    """Parameters of several shapes and magnitudes, subnormals and zeros among them; gradients are given to them, not computed."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        for number, (name, shape) in enumerate(SHAPES.items()):
            values = torch.randn(shape, generator=draw) * 10.0 ** -(number * 2)
            values.view(-1)[::11] *= 1e-38
            values.view(-1)[::17] = -0.0
            self.register_parameter(name.replace(" ", "_"), torch.nn.Parameter(values))

    def give_gradients(self, step: int) -> None:
        """Gradients a bfloat16 holds, of any size, so that they are the same for both kinds of weights; some are 0, one is tiny."""
        draw = torch.Generator().manual_seed(step)
        for parameter in self.parameters():
            gradient = torch.randn(parameter.shape, generator=draw) * 10.0 ** -(step % 5)
            gradient.view(-1)[::7] = 0.0
            gradient.view(-1)[:1] = 1e-30
            parameter.grad = gradient.bfloat16().to(parameter.dtype)


def take(model, optimizer, steps, total=40, clip_norm=1.0):
    norms = []
    for step in steps:
        model.give_gradients(step)
        norms.append(clip(optimizer, clip_norm))
        set_lr(optimizer, linear_lr(LR, step, total))
        optimizer.step()
    return norms


def masters(model, optimizer):
    return {
        name: join(p.detach(), optimizer.state[p]["remainder"]) if p.dtype == torch.bfloat16 else p.detach()
        for name, p in model.named_parameters()
    }


def assert_bits(model, optimizer, reference, other):
    """Weights and moments, bit for bit."""
    expected = dict(reference.named_parameters())
    for name, weight in masters(model, optimizer).items():
        assert torch.equal(weight.view(torch.int32), expected[name].detach().view(torch.int32)), name
    ours, theirs = optimizer_tensors(model, optimizer), optimizer_tensors(reference, other)
    assert ours.keys() - {f"{name}.remainder" for name in expected} == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name].view(torch.int32), tensor.view(torch.int32)), name


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("clip_norm", [1.0, 1e9])
def test_split_weights_train_bit_for_bit_as_float32(decay, clip_norm):
    """Against torch.optim.AdamW(fused=True) on float32 weights: 40 steps, all shapes, the schedule, clipped and not; and on from a saved state."""
    reference, model = Weights(), Weights()
    theirs = torch.optim.AdamW(
        [
            {"params": [p for p in reference.parameters() if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in reference.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.0, betas=BETAS, eps=1e-8, fused=True,
    )  # fmt: skip
    ours = make_optimizer(model, BETAS, decay, weights="split")
    norms = take(model, ours, range(1, 21), clip_norm=clip_norm)
    for step in range(1, 21):
        reference.give_gradients(step)
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), clip_norm)
        assert float(norm) == pytest.approx(norms[step - 1], rel=1e-6)
        if float(norm) != norms[step - 1]:  # the order of a sum: take the same scale
            reference.give_gradients(step)
            for p in reference.parameters():
                p.grad.mul_((clip_norm / (torch.tensor(norms[step - 1]) + 1e-6)).clamp(max=1.0))
        set_lr(theirs, linear_lr(LR, step, 40))
        theirs.step()
    assert_bits(model, ours, reference, theirs)

    # a second process goes on: bfloat16 weights from the epoch, loaded as float32, and the rest from the state
    again = Weights()
    again.load_state_dict({name: p.float() for name, p in model.state_dict().items()})
    resumed = make_optimizer(again, BETAS, decay, weights="split")
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(model, ours).items()}
    restore_optimizer(again, resumed, tensors, parameters_with_state(model, ours))
    plain = make_optimizer(reference, BETAS, decay)
    restore_optimizer(reference, plain, optimizer_tensors(reference, theirs), parameters_with_state(reference, theirs))
    take(again, resumed, range(21, 41), clip_norm=clip_norm), take(reference, plain, range(21, 41), clip_norm=clip_norm)
    assert_bits(again, resumed, reference, plain)


def test_how_much_is_float32_at_a_time_changes_no_bit(monkeypatch):
    results = []
    for size in (2**19, 2**10, 2**30):
        monkeypatch.setattr(module, "CHUNK", {"cpu": size})
        model = Weights()
        optimizer = make_optimizer(model, BETAS, DECAY, weights="split", moments="bfloat16")
        take(model, optimizer, range(1, 4))
        results.append(optimizer_tensors(model, optimizer) | {name: p.detach() for name, p in model.named_parameters()})
    for other in results[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in results[0].items())


def test_never_plain_bfloat16_at_the_papers_learning_rate():
    """Promise 5. Weights of the size a LLaMA has, the paper's first step: in plain bfloat16 five of six do not move; ours all do."""
    torch.manual_seed(0)
    start = (torch.randn(512, 512) * 0.02).bfloat16().float()
    gradient = torch.randn(512, 512).bfloat16()
    plain = torch.nn.Parameter(start.bfloat16())
    plain.grad = gradient.clone()
    torch.optim.AdamW([plain], lr=LR[0], betas=BETAS, eps=1e-8, weight_decay=DECAY).step()
    assert (plain.detach() != start.bfloat16()).double().mean() < 0.2

    model = torch.nn.Linear(512, 512, bias=False)
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = make_optimizer(model, BETAS, DECAY, weights="split")
    model.weight.grad = gradient.clone()
    set_lr(optimizer, LR[0])
    optimizer.step()
    assert bool((masters(model, optimizer)["weight"] != start).all())
    with pytest.raises(LimakitError, match="most updates vanish"):
        make_optimizer(torch.nn.Linear(4, 4).bfloat16(), BETAS, DECAY)


@pytest.mark.parametrize("weights", ["float32", "split"])
def test_moments_in_bfloat16_follow_float32_ones_for_480_steps(weights):
    """Gradients with a steady part and noise ten times as large. What is told apart from float32 moments is far less than what was learnt."""
    learnt = {}
    for moments in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 64, bias=False)
        start = model.weight.detach().clone()
        steady = torch.randn(64, 64)
        optimizer = make_optimizer(model, BETAS, 0.0, weights=weights, moments=moments)
        for step in range(1, 481):
            model.weight.grad = (steady + 10 * torch.randn(64, 64)).to(model.weight.dtype)
            clip(optimizer, 1.0)
            set_lr(optimizer, linear_lr(LR, step, 480))
            optimizer.step()
        learnt[moments] = masters(model, optimizer)["weight"] - start
        assert {t.dtype for n, t in optimizer_tensors(model, optimizer).items() if "exp_avg" in n} == {getattr(torch, moments)}
    assert (learnt["bfloat16"] - learnt["float32"]).norm() < 0.01 * learnt["float32"].norm()


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["float32", "split"])
def test_the_bytes_that_are_planned_are_the_bytes_that_lie_there(weights, moments):
    precision = "bfloat16" if weights == "split" else "float32"
    planned = bytes_per_parameter(TrainSpec(weights=weights, moments=moments, precision=precision))
    model = Weights()
    optimizer = make_optimizer(model, BETAS, DECAY, weights=weights, moments=moments)
    take(model, optimizer, [1])
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert parameter.element_size() == planned.weights and parameter.grad.element_size() == planned.gradients
        assert sum(state[key].element_size() for key in ("exp_avg", "exp_avg_sq")) == planned.moments
        assert ("remainder" in state) == (planned.remainder > 0)
        assert planned.total == parameter.element_size() + parameter.grad.element_size() + sum(
            t.element_size() for t in state.values() if t.ndim
        )


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
@pytest.mark.parametrize("weights", ["float32", "split"])
def test_clipping_is_done_in_float32_whatever_the_gradients_are(weights, moments):
    """A norm in bfloat16 would be off by up to 0.4 %, and gradients scaled in place would be rounded again."""
    model = torch.nn.Linear(300, 300)
    optimizer = make_optimizer(model, BETAS, DECAY, weights=weights, moments=moments)
    torch.manual_seed(0)
    gradients = [torch.randn(p.shape).bfloat16() for p in model.parameters()]
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        p.grad = gradient.to(p.dtype)
    norm = torch.cat([g.double().view(-1) for g in gradients]).norm()
    assert clip(optimizer, 1.0) == pytest.approx(float(norm), rel=1e-6)
    optimizer.step()  # lr 0: the moments are what is left of it
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        expected = gradient.double() / norm * 0.1
        tolerance = 2.0**-8 if moments == "bfloat16" else 1e-6
        torch.testing.assert_close(optimizer.state[p]["exp_avg"].double(), expected, rtol=tolerance, atol=0)


def test_a_scale_holds_for_one_step():
    model = torch.nn.Linear(3, 3)
    optimizer = make_optimizer(model, BETAS, DECAY, weights="split")
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)
    clip(optimizer, 1.0)
    assert optimizer.scale < 0.01
    optimizer.step()
    assert optimizer.scale == 1.0


def test_a_state_that_lacks_a_remainder_is_noticed():
    model = Weights()
    optimizer = make_optimizer(model, BETAS, DECAY, weights="split")
    take(model, optimizer, [1])
    tensors, names = optimizer_tensors(model, optimizer), parameters_with_state(model, optimizer)
    again = make_optimizer(Weights(), BETAS, DECAY, weights="split")
    with pytest.raises(KeyError):
        restore_optimizer(model, again, {n: t for n, t in tensors.items() if n != "odd.remainder"}, names)
    plain = Weights()
    with pytest.raises(KeyError):  # a state of split weights for weights that are not
        restore_optimizer(plain, make_optimizer(plain, BETAS, DECAY), tensors, names)


def test_a_parameter_without_a_gradient_keeps_its_remainder_through_a_resume():
    model = Weights()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, BETAS, DECAY, weights="split")
    model.give_gradients(1)
    model.odd.grad = None
    optimizer.step()
    names = parameters_with_state(model, optimizer)
    assert "odd" not in names and len(names) == len(SHAPES) - 1
    again = Weights()
    again.load_state_dict({name: p.float() for name, p in model.state_dict().items()})
    resumed = make_optimizer(again, BETAS, DECAY, weights="split")
    restore_optimizer(again, resumed, optimizer_tensors(model, optimizer), names)
    assert torch.equal(masters(again, resumed)["odd"], before["odd"])


def test_averages_that_bfloat16_cannot_hold_are_refused_by_the_recipe():
    with pytest.raises(ValueError, match="lower betas"):
        TrainSpec(moments="bfloat16", betas=(0.9, 0.999))


# whole runs

FINAL = "runs/tiny/final"
SPLIT = {"weights": "split", "precision": "bfloat16"}
RUNS = {
    "split weights": SPLIT,
    "split weights, bfloat16 moments": SPLIT | {"moments": "bfloat16"},
    "bfloat16 moments": {"moments": "bfloat16"},
}


@pytest.fixture(scope="module", params=RUNS)
def compact(request, tmp_path_factory):
    """A finished run of the tiny workspace with these settings."""
    folder = make_workspace(tmp_path_factory.mktemp("compact") / "w", **RUNS[request.param])
    run(folder)
    return folder


@pytest.mark.parametrize("moment", ["in step 5", "between the optimiser's state and the epoch", "before the old state is dropped"])
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(compact, tmp_path, moment):
    """Promise 6."""
    folder = copy(compact, tmp_path)
    leave_as_killed(folder, moment)
    run(folder)
    assert tree(folder) == tree(compact)


def test_an_epoch_holds_the_weights_the_model_computed_with(compact):
    """bfloat16 for split weights (their remainders lie in the state of the newest epoch alone), float32 else; the config says which."""
    split = 'weights = "split"' in (compact / "lima.toml").read_text()
    wanted = torch.bfloat16 if split else torch.float32
    for name in ("epochs/01", "final"):
        folder = compact / "runs/tiny" / name
        assert AutoConfig.from_pretrained(folder).dtype == wanted
        assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(folder).parameters()} == {wanted}
    log = rows(compact)
    assert log[-1]["loss"] < log[0]["loss"] - 0.3


def test_the_kind_of_weights_is_part_of_a_run(compact, tmp_path):
    folder = copy(compact, tmp_path)
    leave_as_killed(folder, "in step 5")
    text = (folder / "lima.toml").read_text()
    edit(folder, *(('weights = "split"', 'weights = "float32"') if "split" in text else ('moments = "bfloat16"', 'moments = "float32"')))
    with pytest.raises(LimakitError, match=r"train\.(weights|moments): was"):
        run(folder)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "gpt2", "gpt_neox"])
def test_families_train_with_split_weights(family, tmp_path):
    """The same run in float32 throughout: losses and gradients apart by rounding alone, dropout and packing on."""
    positions = {"n_positions": 128} if family == "gpt2" else {"max_position_embeddings": 128}
    base = save_base(tmp_path / "base", family=family, **positions)
    logs = []
    for kind, settings in (("split", SPLIT), ("float32", {})):
        folder = make_workspace(tmp_path / kind, epochs=2, examples=12, base=base, **settings)
        run(folder)
        logs.append(rows(folder))
    for ours, theirs in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02) and ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=0.2)
    assert logs[0][-1]["loss"] < logs[0][0]["loss"]


@pytest.mark.slow
def test_split_weights_over_two_ranks_killed_and_on_with_one(tmp_path):
    """FSDP, real processes: the log and weights of one process up to rounding, and the remainders pass from two ranks to one."""
    settings = RUNS["split weights, bfloat16 moments"] | {"residual_dropout": 0.0}
    alone, together = make_workspace(tmp_path / "alone", **settings), make_workspace(tmp_path / "together", **settings)
    run(alone)
    codes = Crowd(tmp_path / "ranks", 2, "train", str(together), 1, 5, "kill").wait()
    assert codes[1] == -9 and len(rows(together)) == 4 and not (together / "runs/tiny/final").exists()
    run(together)
    for ours, theirs in zip(rows(together), rows(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02) and ours["examples"] == theirs["examples"]
    ours, theirs, base = (AutoModelForCausalLM.from_pretrained(path) for path in (together / FINAL, alone / FINAL, alone / "base"))
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    for name, start in base.named_parameters():
        if start.ndim < 2:
            continue  # a gain of about 1 has moved by a unit or two of bfloat16
        a, b = ours.get_parameter(name).float()[: len(start)], theirs.get_parameter(name).float()[: len(start)]  # but for EOT's new row
        assert (a - b).norm() < 0.2 * (b - start).norm(), name
