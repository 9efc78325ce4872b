"""Adapters: they begin as nothing, they alone are trained, EOT is learnt, a run goes on bit for bit (promises 1, 2, 4, 5 and 6), and what is written is
what was trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import leave_as_killed, rows, run, tree
from safetensors.torch import load_file
from tiny import FAMILIES, make_model, make_workspace, save_base
from torch import nn
from transformers import AutoModelForCausalLM

from limakit.cli import _message
from limakit.errors import LimakitError, UsageError
from limakit.model.load import load_causal_lm
from limakit.model.loss import row_loss
from limakit.model.nf4 import NF4Linear, linear_layers
from limakit.recipe import LoraSpec, TrainSpec
from limakit.train import adapter
from limakit.train.adapter import NAME, adapter_of, attach_adapter, lora_layers, merged_weights, trained_weights
from limakit.train.attach import attach, chosen_layers
from limakit.train.optimizer import make_optimizer
from limakit.train.steps import Document, Step
from limakit.train.update import add_gradients, take_step

EOT, SEED = 90, 7
SPEC = LoraSpec(rank=4, alpha=8.0)
IDS = torch.tensor([[5, 6, EOT, 9, 11, EOT]])
TRAINS = ("llama", "qwen3", "gpt2", "gpt_neox", "opt", "gemma2", "gemma3_text", "bloom")
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def adapted(family: str = "llama", spec: LoraSpec = SPEC, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    model = make_model(family, **changes).to(dtype).eval()
    attach_adapter(model, spec, EOT, SEED)
    return model


def shake(model: Any) -> None:
    """Give everything that is trained other values."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


@pytest.mark.parametrize("family", TRAINS)
def test_an_adapter_begins_as_nothing_and_alone_is_trained(family):
    base = make_model(family)
    model = adapted(family)
    assert torch.allclose(logits(model), logits(base.eval()), rtol=1e-5, atol=1e-6)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"weight", "eot_row"}
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    row_loss(model, [[3, 4, 5], [6, EOT, 7]][:1], [[False, True, True]], packed=False).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
    head = model.get_output_embeddings()
    names = chosen_layers(linear_layers(base), SPEC, "base")
    assert head not in list(lora_layers(model).values()) and set(lora_layers(model)) == set(names) and names


def test_the_first_values_depend_on_seed_and_name_alone():
    one, few = lora_layers(adapted()), lora_layers(adapted(spec=LoraSpec(rank=4, modules=["q_proj", "layers.2.mlp.up_proj"])))
    assert len(few) == 4 and all(torch.equal(few[name].lora_A[NAME].weight, one[name].lora_A[NAME].weight) for name in few)
    other = make_model().eval()
    attach_adapter(other, SPEC, EOT, SEED + 1)
    assert not torch.equal(next(iter(lora_layers(other).values())).lora_A[NAME].weight, next(iter(one.values())).lora_A[NAME].weight)
    weights = torch.cat([layer.lora_A[NAME].weight.detach().flatten() * layer.in_features**0.5 for layer in one.values()])
    assert float(weights.var()) == pytest.approx(1 / 3, rel=0.1) and float(weights.abs().max()) <= 1


@pytest.mark.parametrize(("family", "tied"), [("llama", False), ("llama", True), ("gpt2", True), ("gemma3_text", True)])
def test_of_the_embeddings_only_the_row_of_eot_moves(family, tied):
    """Promise 2, though the base is frozen: the gradient is that of a full fine-tune at this row, and merged no other row has changed."""
    model = adapted(family, tie_word_embeddings=tied)
    full = make_model(family, tie_word_embeddings=tied).eval()
    for each in (model, full):
        row_loss(each, [[3, EOT, 5, EOT]], [[False, True, True, True]], packed=False).backward()
    tables = {name: p.grad[EOT] for name, p in full.named_parameters() if p.shape[0] == 97 and p.ndim == 2}
    rows_ = {name.removesuffix("eot_row") + "weight": p.grad[0] for name, p in model.named_parameters() if name.endswith("eot_row")}
    assert rows_.keys() == tables.keys() and len(rows_) == (1 if tied else 2)
    for name, gradient in rows_.items():
        assert torch.allclose(gradient, tables[name], rtol=1e-4, atol=1e-6 * float(tables[name].abs().max()))
    shake(model)
    merged = merged_weights(model, adapter_of(model, trained_weights(model), SPEC, EOT), model.state_dict())
    for name in tables:
        changed = (merged[name] != full.state_dict()[name]).any(dim=1).nonzero().flatten().tolist()
        assert changed == [EOT]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", TRAINS)
def test_merged_it_is_the_adapted_model(family, dtype):
    model = adapted(family, dtype=dtype)
    shake(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = merged_weights(model, adapter_of(model, trained_weights(model), SPEC, EOT), model.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())  # it goes on training
    plain = make_model(family).to(dtype).eval()
    assert merged.keys() == plain.state_dict().keys() and {t.dtype for t in merged.values()} == {
        t.dtype for t in plain.state_dict().values()
    }
    plain.load_state_dict(merged)
    bound = 1e-5 if dtype == torch.float32 else 0.05
    assert float((logits(plain) - logits(model)).norm() / logits(model).norm()) < bound


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_residual_dropout_acts_on_the_adapted_branch(family):
    """Promise 4: at p = 1 a layer is the identity whatever its adapters are, so the adapter's share is dropped with the branch's."""
    model = adapted(family)
    shake(model)
    attach(model, TrainSpec(residual_dropout=1.0, lora=SPEC), longest=16)
    top = next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)[-1]
    seen = []
    top.register_forward_hook(lambda _m, inputs, output: seen.append((inputs[0], output[0] if isinstance(output, tuple) else output)))
    model.train()
    row_loss(model, [[3, 4, EOT]], [[False, True, True]], packed=True)
    [(before, after)] = seen
    assert torch.equal(before, after)
    model.eval()
    logits(model)
    assert not torch.equal(*seen[1])


def test_dropout_before_the_adapters_acts_as_the_recipe_says(tmp_path, monkeypatch):
    """Silencing the model's own dropout must not silence it."""
    folder = workspace(tmp_path, epochs=1, residual_dropout=0.0, **{"lora.dropout": 0.25})
    with monkeypatch.context() as patch:
        seen: list[float] = []
        own = adapter.Adapted.wake_dropout

        def look(self):
            own(self)
            seen.extend(layer.lora_dropout[NAME].p for layer in lora_layers(self.model).values())

        patch.setattr(adapter.Adapted, "wake_dropout", look)
        run(folder)
        assert seen and set(seen) == {0.25}
    without = workspace(tmp_path / "without", epochs=1, residual_dropout=0.0)
    run(without)
    assert rows(folder)[0]["loss"] == rows(without)[0]["loss"] and rows(folder)[2]["loss"] != rows(without)[2]["loss"]  # B begins at 0


def test_the_packed_step_is_the_unpacked_one_and_the_optimiser_knows_the_adapter_alone():
    """Promises 1 and 5: equal updates however the examples are packed; state for what is trained and nothing else."""
    documents = [Document(str(i), (*tuple(range(i + 3, i + 3 + n)), EOT), (False,) + (True,) * n) for i, n in enumerate((3, 5, 2, 4))]
    moved = []
    for layout in (((0, 1, 2, 3),), ((0, 1), (2, 3)), ((2,), (0,), (3,), (1,))):
        model = adapted()
        attach(model, TrainSpec(residual_dropout=0.0, lora=SPEC), longest=8)
        optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
        for number in (1, 2):
            take_step(model, optimizer, documents, Step(number, 1, False, layout), lr=1e-3, clip_norm=1.0, seed=SEED, packed=True)
        assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters() if p.requires_grad}
        moved.append(trained_weights(model))
    for other in moved[1:]:
        assert max(float((other[name] - moved[0][name]).norm() / moved[0][name].norm()) for name in other) < 1e-5


def test_recomputed_gradients_are_the_same():
    documents = [Document("a", (3, 4, EOT, 6), (False, True, True, True))]
    gradients = []
    for recompute in (False, True):
        model = adapted()
        shake(model)
        attach(model, TrainSpec(residual_dropout=0.3, recompute=recompute, lora=SPEC), longest=8)
        model.train()
        torch.manual_seed(3)
        add_gradients(model, documents, Step(1, 1, True, ((0,),)), packed=True)
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_names_that_no_layer_has_are_told_with_those_there_are():
    with pytest.raises(UsageError, match="'wq'") as caught:
        adapted(spec=LoraSpec(modules=["q_proj", "wq"]))
    assert "down_proj, gate_proj, k_proj" in caught.value.remedy and "lm_head" not in caught.value.remedy
    with pytest.raises(UsageError, match="lm_head"):
        adapted(spec=LoraSpec(modules=["lm_head"]))


def test_a_family_whose_embeddings_are_used_otherwise_is_refused():
    model = make_model()
    own = model.model.forward
    model.model.forward = lambda input_ids=None, **rest: own(**rest | {"inputs_embeds": model.model.embed_tokens.weight[input_ids]})
    with pytest.raises(LimakitError, match="EOT's row cannot be trained apart"):
        attach_adapter(model, SPEC, EOT, SEED)
    with pytest.raises(LimakitError, match="peft"):
        adapted("mamba")


# whole runs


def workspace(folder: Path, *, base: Path | None = None, **train: Any) -> Path:
    settings = {"lr": [3e-2, 3e-3], "lora.rank": 4, "lora.alpha": 8.0} | train
    return make_workspace(folder / "w", base=base, **settings)


def final(folder: Path, name: str = "final") -> Path:
    return folder / "runs/tiny" / name


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> Path:
    folder = workspace(tmp_path_factory.mktemp("apart"), **{"lora.save": "apart"})
    run(folder)
    return folder


def test_it_learns_and_apart_and_merged_are_the_same_run(apart, tmp_path):
    merged = workspace(tmp_path)
    run(merged)
    log = rows(merged)
    assert log == rows(apart) and log[-1]["loss"] < log[0]["loss"] - 0.5
    one = AutoModelForCausalLM.from_pretrained(final(merged))  # plain transformers
    two = load_causal_lm(str(final(apart)), device="cpu")
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    names = {p.name for p in final(apart).iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "base.json", "tokenizer.json"} <= names and "model.safetensors" not in names


def test_the_run_says_that_it_is_an_adapter(apart):
    settings = json.loads((final(apart, "run.json")).read_text())["settings"]
    assert settings["train"]["lora"] == {
        "rank": 4, "alpha": 8.0, "dropout": 0.0, "modules": [], "base": "full", "save": "apart",
    }  # fmt: skip
    assert json.loads(final(apart, "manifest.json").read_text())["settings"]["train"]["lora"]["rank"] == 4


QUANTISED = [("full", "bfloat16"), ("nf4", "float32"), ("nf4", "bfloat16")]


@pytest.mark.parametrize(("base", "precision"), QUANTISED)
def test_a_base_in_16_or_4_bits_trains_and_is_written_as_what_it_is(base, precision, tmp_path):
    """The merged model is what was trained, up to the rounding of its own precision; so is the adapter, merged when it is loaded."""
    common = {"epochs": 2, "precision": precision, "lora.base": base}
    one, two = workspace(tmp_path / "1", **common), workspace(tmp_path / "2", **common, **{"lora.save": "apart"})
    run(one), run(two)
    assert rows(one) == rows(two) and rows(one)[-1]["loss"] < rows(one)[0]["loss"] - 0.3
    merged, loaded = (load_causal_lm(str(final(folder)), device="cpu") for folder in (one, two))
    stored = AutoModelForCausalLM.from_pretrained(final(one), dtype="auto")
    assert stored.dtype == (torch.bfloat16 if precision == "bfloat16" else torch.float32)
    assert not any(isinstance(module, NF4Linear) for module in loaded.modules())
    for name, weight in merged.state_dict().items():
        assert torch.allclose(weight, loaded.state_dict()[name], rtol=2**-8 if precision == "bfloat16" else 1e-6, atol=1e-6), name
    if base == "nf4":  # a layer without an adapter would be the base's, rounded: so far are they apart
        own = load_causal_lm(str(one / "base"), device="cpu").state_dict()["model.layers.0.mlp.up_proj.weight"]
        assert float((own - merged.state_dict()["model.layers.0.mlp.up_proj.weight"]).norm() / own.norm()) > 0.05


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("kind", ["full", "nf4"])
def test_families_whole_runs(family, kind, tmp_path):
    context = {"n_positions": 128} if family == "gpt2" else {"max_position_embeddings": 128}
    base = save_base(tmp_path / "base", family=family, **context)
    folder = workspace(tmp_path, base=base, epochs=1, examples=8, **{"lora.base": kind, "lora.save": "apart"})
    run(folder)
    again = workspace(tmp_path / "recomputed", base=base, epochs=1, examples=8, recompute=True, **{"lora.base": kind, "lora.save": "apart"})
    run(again)
    assert rows(again) == rows(folder)
    model = load_causal_lm(str(final(folder)), device="cpu")
    assert model.get_input_embeddings().weight.shape[0] == 421 and torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("moment", ["in step 5", "between the optimiser's state and the epoch", "before final"])
@pytest.mark.parametrize("save", ["merged", "apart"])
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(moment, save, tmp_path, monkeypatch):
    """Promise 6. Of a merged epoch the adapter cannot be had again: it lies beside the optimiser's state."""
    base = save_base(tmp_path / "base", max_position_embeddings=128)  # apart from both, for an adapter's folder says where its base lies
    whole = workspace(tmp_path, base=base, **{"lora.save": save, "lora.dropout": 0.1})
    run(whole)
    killed = Path(shutil.copytree(whole, tmp_path / "killed", ignore=shutil.ignore_patterns("runs")))
    if moment == "between the optimiser's state and the epoch":
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            own = adapter.Adapted.save_weights
            patch.setattr(adapter.Adapted, "save_weights", lambda self, part: stop() if "02" in part.name else own(self, part))
            run(killed)
    else:
        leave_as_killed(killed, moment)
    run(killed)
    assert tree(killed) == tree(whole)


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_kill_9_of_the_real_command(tmp_path):
    base, settings = save_base(tmp_path / "base", max_position_embeddings=128), {"lora.save": "apart", "lora.base": "nf4"}
    whole = workspace(tmp_path, base=base, examples=40, response_words=60, epochs=3, batch_examples=5, **settings)
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    log = killed / "runs/tiny/log.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "limakit.cli", "train"], cwd=killed, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= 13):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run(killed), run(whole)
    assert tree(killed) == tree(whole)


def test_a_damaged_adapter_is_not_gone_on_from(tmp_path):
    folder = workspace(tmp_path)
    leave_as_killed(folder, "in step 5")
    path = folder / "runs/tiny/resume/01/adapter.safetensors"
    assert {name.rpartition(".")[2] for name in load_file(path)} == {"weight", "eot_row"}
    os.truncate(path, 3000)
    with pytest.raises(LimakitError, match="is damaged") as caught:
        run(folder)
    assert caught.value.where == path


def test_bases_it_cannot_train_beside_are_one_message(tmp_path):
    folder = workspace(tmp_path, **{"lora.modules": ["wq"]})
    with pytest.raises(UsageError, match="'wq'"):
        run(folder)
    assert not (folder / "runs/tiny/epochs").exists()


def test_where_peft_alone_would_answer_otherwise_the_run_says_so(tmp_path, monkeypatch, capsys):
    """peft's layer with a trained row drops the output layer's bias (0.21); merged, or loaded by limakit, it is there."""
    monkeypatch.setitem(FAMILIES, "phi", FAMILIES["llama"])
    base = save_base(tmp_path / "base", family="phi", max_position_embeddings=128)
    run(workspace(tmp_path, base=base, epochs=1, examples=4, **{"lora.save": "apart"}))
    assert "has a bias, which peft leaves out" in capsys.readouterr().err
    run(workspace(tmp_path / "2", base=base, epochs=1, examples=4))
    assert "peft" not in capsys.readouterr().err


def test_without_peft_the_extra_is_named(tmp_path, monkeypatch):
    folder = workspace(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "limakit.train.adapter")
    with pytest.raises(ModuleNotFoundError) as caught:
        run(folder)
    assert "limakit[lora]" in _message(caught.value)


def torchrun(folder: Path, ranks: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "limakit.cli", "train"]
    return subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=180)


@pytest.mark.slow
@pytest.mark.parametrize("save", ["merged", "apart"])
def test_two_ranks_train_what_one_trains(save, tmp_path):
    alone = workspace(tmp_path, residual_dropout=0.0, lr=[1e-3, 1e-4], **{"lora.save": save})
    together = Path(shutil.copytree(alone, tmp_path / "together"))
    run(alone)
    assert torchrun(together, 2).returncode == 0
    for a, b in zip(rows(alone), rows(together), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    one, two = (load_causal_lm(str(final(folder)), device="cpu").state_dict() for folder in (alone, together))
    assert max(float((one[name] - two[name]).norm() / one[name].norm()) for name in one) < 1e-5


@pytest.mark.slow
def test_four_bits_on_two_ranks_are_refused(tmp_path):
    folder = workspace(tmp_path, **{"lora.base": "nf4"})
    done = torchrun(folder, 2)
    assert done.returncode != 0 and "not sharded" in done.stderr and 'base = "full"' in done.stderr
    assert "gemm_4bit" not in done.stderr  # what bitsandbytes says where peft imports it
