"""The optimiser's state on disk: safetensors, no pickle, readable by any number of ranks; what is damaged is one message."""

from __future__ import annotations

import json
import pickletools
import shutil

import pytest
import torch
from crowd import Crowd
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import make_model

from limakit.errors import LimakitError
from limakit.train import state
from limakit.train.optimizer import make_optimizer, optimizer_tensors
from limakit.train.state import load_state, save_state


def stepped(seed: int = 0, **how):
    model = make_model("llama", seed=seed)
    optimizer = make_optimizer(model, (0.9, 0.95), 0.1, **how)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("how", [{}, {"weights": "split"}, {"moments": "bfloat16"}])
def test_it_comes_back_bit_for_bit_in_files_of_any_size(tmp_path, monkeypatch, how):
    model, optimizer = stepped(**how)
    before = {name: tensor.clone() for name, tensor in optimizer_tensors(model, optimizer).items()}
    for size in (2**32, 20_000, 1):
        monkeypatch.setattr(state, "FILE_BYTES", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        save_state(folder, model, optimizer)
        files = sorted(folder.glob("*.safetensors"))
        assert len(files) == 1 if size == 2**32 else len(files) > 3
        other, second = stepped(seed=1, **how)
        load_state(folder, other, second, "again")
        after = optimizer_tensors(other, second)
        assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
        assert all(after[name].dtype == before[name].dtype for name in before)


def test_no_file_is_a_pickle(tmp_path):
    save_state(tmp_path, *stepped())
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    for path in tmp_path.iterdir():
        with pytest.raises(Exception):  # noqa: B017 (any of pickle's)
            pickletools.dis(path.read_bytes(), out=open("/dev/null", "w"))  # noqa: SIM115


def spoil(folder, kind):
    [path] = folder.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        rows = json.loads(file.metadata()["rows"])
    tensors = load_file(path)
    name = "model.layers.0.mlp.down_proj.weight.exp_avg"
    if kind == "rows missing":
        tensors[name] = tensors[name][:-1].contiguous()
    elif kind == "tensor missing":
        del tensors[name], rows[name]
    elif kind == "another shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif kind == "a stranger":
        tensors["no.such.exp_avg"], rows["no.such.exp_avg"] = torch.ones(2), [0, 2]
    elif kind == "a stray file":
        shutil.copy(path, folder / "optimizer-00007-000.safetensors")
        return
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:3000])
        return
    elif kind == "no names":
        (folder / "parameters.json").write_text("[")
        return
    save_file(tensors, path, metadata={"rows": json.dumps(rows)})


@pytest.mark.parametrize("kind", ["rows missing", "tensor missing", "another shape", "a stranger", "a stray file", "cut", "no names"])
def test_what_is_damaged_is_one_message(tmp_path, kind):
    model, optimizer = stepped()
    save_state(tmp_path, model, optimizer)
    spoil(tmp_path, kind)
    with pytest.raises(LimakitError, match="cannot read the optimiser's state") as caught:
        load_state(tmp_path, *stepped(seed=1), "train again")
    assert caught.value.where == tmp_path and caught.value.remedy == "train again"


@pytest.mark.parametrize(
    ("wrote", "reads", "split"),
    [(2, 1, True), pytest.param(1, 2, False, marks=pytest.mark.slow), pytest.param(3, 2, True, marks=pytest.mark.slow)],
)
def test_other_ranks_go_on_to_the_same_losses(tmp_path, wrote, reads, split):
    saved = Crowd(tmp_path / "save", wrote, "state", str(tmp_path), "save", split).answers()
    assert len(list((tmp_path / "state").glob("*.safetensors"))) == wrote
    again = Crowd(tmp_path / "load", reads, "state", str(tmp_path), "load", split).answers()
    for answer in again:
        assert answer["losses"] == pytest.approx(saved[0]["losses"], rel=1e-2 if split else 1e-5)


@pytest.mark.slow
def test_three_ranks_go_on_bit_for_bit_from_three(tmp_path):
    saved = Crowd(tmp_path / "save", 3, "state", str(tmp_path), "save", True).answers()
    assert Crowd(tmp_path / "load", 3, "state", str(tmp_path), "load", True).answers() == saved
