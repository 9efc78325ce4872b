"""The plan says beforehand what the run then does, and writes nothing."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from tiny import make_workspace

from limakit.errors import LimakitError, UsageError
from limakit.recipe import LoraSpec, TrainSpec, read_recipe
from limakit.train import estimate, measure, run_folder
from limakit.train.estimate import count, options, show_plan
from limakit.train.loop import train
from limakit.train.measure import attached, sampled_rows
from limakit.train.training_set import read_training_set
from limakit.workspace import find_workspace, sha256_tree


def open_(folder):
    workspace = find_workspace(folder / "lima.toml")
    return workspace, read_recipe(workspace.recipe_path)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "MEASURE_SECONDS", 0.05)
    monkeypatch.setattr(measure, "DISK_BYTES", 2**21)
    monkeypatch.setenv("COLUMNS", "120")
    return open_(make_workspace(tmp_path / "w", response_words=60))


def test_the_counts_are_those_of_the_run(planned):
    workspace, recipe = planned
    data = read_training_set(workspace, recipe)
    counts = count(data, recipe.train)
    train(workspace, recipe)
    log = [json.loads(line) for line in (workspace.runs / "tiny/log.jsonl").read_text().splitlines()]
    assert counts.steps == len(log) and counts.examples == 20 and counts.first_step == log[0]["tokens"]
    assert counts.tokens * 3 == sum(row["tokens"] for row in log)
    assert counts.target_tokens * 3 == sum(row["target_tokens"] for row in log)
    assert 0.3 < counts.packing <= 1 and sum(counts.longest_row) <= 96


def test_the_plan_is_shown_and_nothing_is_written(planned, capsys):
    workspace, recipe = planned
    before = sha256_tree(workspace.root)
    show_plan(workspace, recipe)
    shown = capsys.readouterr()
    assert sha256_tree(workspace.root) == before and not workspace.runs.exists()
    for part in (
        "examples",
        "steps",
        "target tokens",
        "trimmed examples",
        "moments of AdamW",
        "activations",
        "it fits",
        "tokens/s",
        "time: about",
    ):
        assert part in shown.out, part
    assert "were cut" in shown.err


def test_a_named_device_is_estimated_without_weights_and_said_to_be(planned, capsys):
    workspace, recipe = planned
    (workspace.root / "base/model.safetensors").unlink()
    show_plan(workspace, recipe, "h100", 2)
    out = " ".join(capsys.readouterr().out.split())
    assert "2 x NVIDIA H100 SXM, 80 GB: an estimate, not measured" in out and "79.10 GiB" in out and "layers gathered" in out


@pytest.mark.parametrize(("asked", "message"), [(("tpu", 1), "not known"), (("h100", 0), "--devices 0")])
def test_a_device_that_is_not_known_is_refused(planned, asked, message):
    with pytest.raises(UsageError, match=message):
        show_plan(*planned, *asked)


@pytest.mark.parametrize(("epochs", "states", "keep", "kept"), [(1, 1, "all", 1), (3, 2, "all", 3), (3, 2, "picked", 3), (3, 2, 1, 2)])
def test_the_disk_it_announces_is_what_a_run_takes_at_most(planned, capsys, monkeypatch, epochs, states, keep, kept):
    """While an epoch is saved, its state and the one before lie there both. Until one is picked, "picked" keeps all."""
    workspace, recipe = planned
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs, "keep": keep})})
    most = 0
    own = run_folder.shutil.rmtree

    def look(path, **more):
        nonlocal most
        if path.parent.name == "resume":  # the older state is about to go
            most = max(most, sum(file.stat().st_size for file in (workspace.runs / "tiny").rglob("*.safetensors")))
        own(path, **more)

    monkeypatch.setattr(run_folder.shutil, "rmtree", look)
    monkeypatch.setattr(estimate, "amount", lambda size: f"{size:.0f} bytes")
    show_plan(workspace, recipe)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "on disk at most" in line]
    said = float(line.split()[4])
    train(workspace, recipe)
    assert f"{kept} epochs of" in line and f"{states} states to go on from" in line
    if epochs > 1:
        assert 0.97 * most < said < 1.03 * most  # headers apart


def test_what_does_not_fit_is_said_with_what_would(planned, capsys, monkeypatch):
    """7B's shape on an RTX 4090: no full fine-tune fits, QLoRA does."""
    workspace, recipe = planned
    path = workspace.root / "base/config.json"
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32}
    shape |= {"head_dim": 128, "vocab_size": 32000, "tie_word_embeddings": False, "max_position_embeddings": 2048}
    path.write_text(json.dumps(json.loads(path.read_text()) | shape))
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": "bfloat16"})})
    show_plan(workspace, recipe, "4090")
    out = capsys.readouterr().out
    assert "it does not fit" in out and "6,738,415,616 parameters" in out
    rows = {line.split("│")[1].strip(): line.split("│")[3].strip() for line in out.splitlines() if line.count("│") == 4}
    assert rows["as the recipe has it"] == rows["recompute = true (a third more time)"] == "no"
    assert rows['[train.lora] base = "nf4" (QLoRA)'] == "yes" and rows["as the recipe has it, on 8 devices"] == "yes"


def test_amounts_are_in_a_unit_that_shows_something():
    assert estimate.amount(3 * 2**20) == "3.00 MiB" and estimate.amount(79.1 * 2**30) == "79.10 GiB"


@pytest.mark.parametrize(
    ("lora", "devices", "message"), [({"modules": ["foo"]}, 1, "no linear layer of base is called 'foo'"), ({"base": "nf4"}, 2, "not sharded")]
)  # fmt: skip
def test_what_train_refuses_of_an_adapter_is_refused_for_a_named_device_too(planned, lora, devices, message):
    workspace, recipe = planned
    (workspace.root / "base/model.safetensors").unlink()
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"lora": LoraSpec(**lora)})})
    with pytest.raises(UsageError, match=message):
        show_plan(workspace, recipe, "h100", devices)


def test_compiling_is_told_apart_and_counts_no_speed(planned, monkeypatch):
    """The first row of a compiled model takes longer than all others together, and it comes once."""
    workspace, recipe = planned
    data = read_training_set(workspace, recipe)
    model = attached(workspace, recipe, data, torch.device("cpu"))
    now = [0.0]
    own, rows = measure.add_gradients, []

    def slow_at_first(model, documents, step, **how):
        rows.append(step.rows[0])
        now[0] += 60.0 if len(rows) == 1 else 0.01
        return own(model, documents, step, **how)

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure, "add_gradients", slow_at_first)
    speed = measure.measure(model, data, recipe.train.model_copy(update={"compile": True}))
    tokens = [sum(len(data.documents[i].ids) for i in row) for row in rows[1:]]
    assert speed.tokens == sum(tokens) and speed.seconds_per_token == pytest.approx(0.01 * len(tokens) / sum(tokens))
    assert speed.compiling == pytest.approx(60, rel=0.01)


def test_options_are_settings_that_a_recipe_takes():
    for spec in (TrainSpec(), TrainSpec(precision="bfloat16", weights="split", moments="bfloat16", recompute=True)):
        for _, other, _ in options(spec):
            TrainSpec.model_validate(other.model_dump())


def test_absent_weights_are_said_to_be_absent(planned, capsys):
    workspace, recipe = planned
    (workspace.root / "base/model.safetensors").unlink()
    show_plan(workspace, recipe)
    assert "time: not measured, for the weights are not here" in capsys.readouterr().out
    shutil.rmtree(workspace.root / "base")
    with pytest.raises(LimakitError, match="base"):
        show_plan(workspace, recipe)


def test_a_family_whose_code_needs_values_is_planned_without_its_activations(planned, capsys, monkeypatch):
    def refuse(*_):
        raise IndexError("a mask is looked at")

    monkeypatch.setattr(estimate, "row_bytes", refuse)
    show_plan(*planned)
    shown = capsys.readouterr()
    assert "together, without activations" in shown.out and "shapes alone (IndexError)" in shown.err


def test_measuring_leaves_the_weights_alone(planned):
    workspace, recipe = planned
    data = read_training_set(workspace, recipe)
    model = attached(workspace, recipe, data, torch.device("cpu"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    speed = measure.measure(model, data, recipe.train)
    assert speed.tokens > 0 and speed.seconds_per_token > 0 and speed.peak_bytes > 0
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_rows_it_measures_are_as_mixed_as_all(tmp_path):
    """Any first few of them have the mean of all, roughly; and in the end each comes once."""
    data = read_training_set(*open_(make_workspace(tmp_path / "w", examples=60, response_words=60, pack=False)))
    sizes = [sum(len(data.documents[i].ids) for i in row) for row in sampled_rows(data)]
    assert sorted(sizes) == sorted(len(document.ids) for document in data.documents)
    for few in (8, 16, 32):
        assert sum(sizes[:few]) / few == pytest.approx(sum(sizes) / len(sizes), rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [True, False])
def test_the_time_it_tells_is_what_the_run_then_takes(tmp_path, monkeypatch, pack):
    """Within 20 %, in CPU seconds of this one thread, so that others on the machine do not matter. bench/plan.py does it in fresh processes."""
    folder = make_workspace(
        tmp_path / "w", examples=120, response_words=60, epochs=6, pack=pack, base=_base(tmp_path)
    )  # fmt: skip
    workspace, recipe = open_(folder)
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    monkeypatch.setattr(measure, "MEASURE_SECONDS", 5.0)
    said = []
    own = estimate.time_here
    monkeypatch.setattr(estimate, "time_here", lambda *inputs: said.append(own(*inputs)) or said[0])
    show_plan(workspace, recipe)
    started = time.process_time()
    train(workspace, recipe)
    assert said[0].total == pytest.approx(time.process_time() - started, rel=0.2)


def _base(tmp_path):
    from tiny import save_base

    return save_base(
        tmp_path / "base", max_position_embeddings=128, hidden_size=128, intermediate_size=344, num_hidden_layers=4, initializer_range=0.02
    )  # fmt: skip
