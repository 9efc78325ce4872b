"""The plan says beforehand what the run then does, and writes nothing."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from tiny import make_model, make_workspace

from limakit.model.load import load_config
from limakit.recipe import read_recipe
from limakit.train import estimate, run_folder
from limakit.train.estimate import count, count_memory, show_plan
from limakit.train.loop import read_training_set, train
from limakit.workspace import find_workspace, sha256_tree


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "MEASURE_SECONDS", 0.05)
    monkeypatch.setenv("COLUMNS", "120")
    workspace = find_workspace(make_workspace(tmp_path / "w", response_words=60) / "lima.toml")
    return workspace, read_recipe(workspace.recipe_path)


def test_the_counts_are_those_of_the_run(planned):
    workspace, recipe = planned
    data = read_training_set(workspace, recipe)
    counts = count(data, recipe.train)
    train(workspace, recipe)
    log = [json.loads(line) for line in (workspace.runs / "tiny/log.jsonl").read_text().splitlines()]
    assert counts.steps == len(log) and counts.examples == 20
    assert counts.tokens * 3 == sum(row["tokens"] for row in log)
    assert counts.target_tokens * 3 == sum(row["target_tokens"] for row in log)
    assert 0.3 < counts.packing <= 1


def test_the_plan_is_shown_and_nothing_is_written(planned, capsys):
    workspace, recipe = planned
    before = sha256_tree(workspace.root)
    show_plan(workspace, recipe)
    shown = capsys.readouterr()
    assert sha256_tree(workspace.root) == before and not workspace.runs.exists()
    for part in ("examples", "steps", "target tokens", "trimmed examples", "moments of AdamW", "tokens/s", "time: about"):
        assert part in shown.out, part
    assert "were cut" in shown.err


@pytest.mark.parametrize(("epochs", "states"), [(1, 1), (3, 2)])
def test_the_disk_it_announces_is_what_a_run_takes_at_most(planned, capsys, monkeypatch, epochs, states):
    """While an epoch is saved, its state and the one before lie there both."""
    workspace, recipe = planned
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs})})
    most = 0
    own = run_folder.shutil.rmtree

    def look(path, **more):
        nonlocal most
        if path.parent.name == "resume":  # the older state is about to go
            most = max(most, sum(file.stat().st_size for file in (workspace.runs / "tiny").rglob("*.safetensors")))
        own(path, **more)

    monkeypatch.setattr(run_folder.shutil, "rmtree", look)
    monkeypatch.setattr(estimate, "GIB", 1)
    show_plan(workspace, recipe)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "on disk at most" in line]
    said = float(line.split()[-2].replace(",", ""))
    train(workspace, recipe)
    assert f"states of AdamW ({states})" in line
    if epochs > 1:
        assert 0.97 * most < said < 1.03 * most  # headers apart


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_memory_is_counted_without_weights(family):
    from transformers import AutoModelForCausalLM

    config = make_model(family).config
    real = AutoModelForCausalLM.from_config(copy.deepcopy(config))  # resizing changes its config
    real.resize_token_embeddings(98)
    parameters = sum(p.numel() for p in real.parameters())
    memory = count_memory(config, 97, "bfloat16")
    assert memory.parameters == parameters
    assert (memory.weights, memory.gradients, memory.moments, memory.casts) == tuple(k * parameters for k in (4, 4, 8, 2))
    assert count_memory(config, 50, "float32").parameters == sum(p.numel() for p in make_model(family).parameters())


def test_a_65b_model_is_planned_without_its_weights(planned, capsys):
    """Its shape alone: 65,285,660,672 parameters, 973 GiB of state; no machine of ours holds it, and the plan says so."""
    workspace, recipe = planned
    shape = {"hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80, "num_attention_heads": 64}
    path = workspace.root / "base/config.json"
    llama = (
        json.loads(path.read_text())
        | shape
        | {"vocab_size": 32000, "num_key_value_heads": 64, "head_dim": 128, "tie_word_embeddings": False}
    )
    path.write_text(json.dumps(llama))
    assert count_memory(load_config(str(path.parent)), 0, "float32").parameters == 65_285_660_672
    show_plan(workspace, recipe)
    assert "not measured" in capsys.readouterr().out


def test_absent_weights_are_said_to_be_absent(planned, capsys):
    workspace, recipe = planned
    (workspace.root / "base/model.safetensors").unlink()
    show_plan(workspace, recipe)
    assert "time: not measured, for the weights are not here" in capsys.readouterr().out
    shutil.rmtree(workspace.root / "base")
    with pytest.raises(Exception, match="base"):
        show_plan(workspace, recipe)


def test_measuring_leaves_the_weights_alone(planned):
    workspace, recipe = planned
    model = estimate.load_base(workspace, recipe, torch.device("cpu"))
    data = read_training_set(workspace, recipe)
    estimate.give_eot(model, data.chat)
    estimate.attach_packing(model, longest=data.longest)
    speed = estimate.measure(model, data, recipe.train)
    assert speed.tokens > 0 and speed.seconds_per_token > 0 and speed.peak_bytes is None
