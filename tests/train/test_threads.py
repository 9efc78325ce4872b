"""`threads` under [train]: a run computes with so many, wherever it is resumed, and the plan says what is quicker."""

from __future__ import annotations

import json

import pytest
import torch
from runs import copy, edit, leave_as_killed, run, tree
from tiny import make_workspace

from limakit.recipe import read_recipe
from limakit.train import estimate, measure
from limakit.train.estimate import show_plan
from limakit.train.threads import threads
from limakit.workspace import find_workspace


def test_so_many_within_the_block_and_as_before_after_it():
    with pytest.raises(KeyError), threads(2):
        assert torch.get_num_threads() == 2
        raise KeyError
    with threads(None):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


def test_a_run_has_the_recipes_number_and_a_resume_elsewhere_has_it_too(tmp_path):
    """Here the resume is a process that would take another number by itself."""
    whole = make_workspace(tmp_path / "whole")
    edit(whole, "[train]", "[train]\nthreads = 2")
    killed = copy(whole, tmp_path)
    run(whole)
    assert json.loads((whole / "runs/tiny/manifest.json").read_bytes())["settings"]["train"]["threads"] == 2
    assert torch.get_num_threads() == 1
    torch.set_num_threads(3)
    leave_as_killed(killed, "in step 5")
    torch.set_num_threads(1)
    assert json.loads((killed / "runs/tiny/run.json").read_bytes())["environment"]["threads"] == "2"
    run(killed)
    assert tree(killed) == tree(whole)


def test_the_plan_measures_one_thread_and_all_and_says_which_is_quicker(tmp_path, monkeypatch, capsys):
    for name, value in {"MEASURE_SECONDS": 0.05, "THREADS_SECONDS": 0.05, "DISK_BYTES": 2**21}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(measure.os, "sched_getaffinity", lambda _pid: {0, 1})
    workspace = find_workspace(make_workspace(tmp_path / "w", response_words=60) / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    show_plan(workspace, recipe)
    said = " ".join(capsys.readouterr().out.split())
    assert "tokens/s with 1 thread, " in said and "tokens/s with 2 threads; threads = " in said
    assert torch.get_num_threads() == 1
    estimate._say_which_threads({1: 900.0, 2: 1500.0}, 2)
    assert "900 tokens/s with 1 thread, 1,500 tokens/s with 2 threads; as the recipe has it" in capsys.readouterr().out
