"""A whole run: what it writes, that it goes on after a kill to the same bytes (promise 6), and one clear message for each bad input."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import copy, edit, leave_as_killed, rows, run, tree
from tiny import make_workspace, save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.model.chat import chat_format

ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def test_the_log(finished):
    log = rows(finished)
    assert [row["step"] for row in log] == list(range(1, 10)) and [row["epoch"] for row in log] == [1] * 3 + [2] * 3 + [3] * 3
    assert [row["examples"] for row in log] == [8, 8, 4] * 3
    assert log[0]["lr"] == 3e-3 and log[-1]["lr"] == pytest.approx(3e-4)
    assert log[-1]["loss"] < log[0]["loss"] - 0.3
    assert list(log[0]) == ["step", "epoch", "loss", "lr", "grad_norm", "examples", "tokens", "target_tokens"]
    times = rows(finished, "times.jsonl")
    assert [row["step"] for row in times] == list(range(1, 10)) and all(row["tokens_per_s"] > 0 for row in times)


def test_every_checkpoint_loads_with_plain_transformers(finished):
    for folder in [finished / "runs/tiny" / name for name in ("epochs/01", "epochs/02", "epochs/03", "final")]:
        assert not [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pkl")]
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        chat = chat_format(tokenizer)
        assert (
            model.generation_config.eos_token_id == [chat.eot_id, tokenizer.eos_token_id]
            and model.generation_config.pad_token_id != chat.eot_id
        )
        assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "<s>Hi<|eot|>"
        assert model.config._attn_implementation == "sdpa" and model.dtype == torch.float32
    assert not (finished / "runs/tiny/resume").exists()


def test_a_finished_run_says_so(finished, capsys):
    before = tree(finished)
    assert run(finished) == []
    assert "is finished" in capsys.readouterr().out and tree(finished) == before


def test_equal_runs_give_equal_bytes(finished, tmp_path):
    folder = copy(finished, tmp_path)
    run(folder)
    assert tree(folder) == tree(finished)


MOMENTS = (
    "in step 5",
    "between the optimiser's state and the epoch",
    "before the old state is dropped",
    "before final",
    "before the manifest",
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(finished, tmp_path, moment):
    folder = copy(finished, tmp_path)
    leave_as_killed(folder, moment)
    assert not (folder / "runs/tiny/manifest.json").exists()
    with open(folder / "runs/tiny/log.jsonl", "ab") as log:
        log.write(b'{"step": 99, "ep')  # and a row half written
    run(folder)
    assert tree(folder) == tree(finished)
    assert [row["step"] for row in rows(folder, "times.jsonl")] == list(range(1, 10))


def test_kill_9_of_the_real_command_at_several_moments(tmp_path):
    """Real processes, killed after 3 and after 17 of 24 steps, wherever they then are; then the same again."""
    whole = make_workspace(tmp_path / "whole", examples=40, response_words=60, epochs=3, batch_examples=5)
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    log = killed / "runs/tiny/log.jsonl"
    for steps in (3, 17):
        command = [sys.executable, "-m", "limakit.cli", "train"]
        process = subprocess.Popen(command, cwd=killed, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_bytes().count(b"\n") >= steps):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "runs/tiny/final").exists()
    run(killed), run(whole)
    assert len(rows(whole)) == 24
    assert tree(killed) == tree(whole)


def test_other_settings_or_data_are_refused_and_named(finished, tmp_path):
    folder = copy(finished, tmp_path, with_run=True)
    before = tree(folder)
    edit(folder, "epochs = 3", "epochs = 4")
    with pytest.raises(LimakitError, match=r"train.epochs: was 3, is now 4") as caught:
        run(folder)
    assert "another name" in caught.value.remedy and "data" not in caught.value.what.split("\n", 1)[1]
    edit(folder, "epochs = 4", "epochs = 3")
    data = folder / "data/train.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(LimakitError, match=r"data/train.jsonl: was"):
        run(folder)
    assert tree(folder) == before


def test_an_unreadable_checkpoint_is_one_message(finished, tmp_path):
    folder = copy(finished, tmp_path)
    leave_as_killed(folder, "in step 5")
    weights, state = folder / "runs/tiny/epochs/01/model.safetensors", folder / "runs/tiny/resume/01/optimizer-00000-000.safetensors"
    for path in (weights, state):
        good = path.read_bytes()
        os.truncate(path, 3000)
        with pytest.raises(LimakitError, match="is damaged") as caught:
            run(folder)
        assert caught.value.where == path and "remove" in caught.value.remedy
        path.write_bytes(good)
    shutil.rmtree(folder / "runs/tiny/resume")
    with pytest.raises(LimakitError, match="no optimiser state"):
        run(folder)


def test_bad_inputs_are_one_message_and_leave_nothing(finished, tmp_path):
    folder = copy(finished, tmp_path)
    data = folder / "data/train.jsonl"
    text = data.read_text()
    cases = [
        (lambda: data.unlink(), "no such file", "train.jsonl"),
        (lambda: data.write_text(""), "empty", "train.jsonl"),
        (lambda: data.write_text(text[:-40]), "JSON", "row 20"),
        (lambda: edit(folder, "max_tokens = 96", "max_tokens = 129"), "128 tokens", "[train]"),
        (lambda: edit(folder, 'base = "base"', 'base = "./gone"'), "no such folder", "gone"),
    ]
    for spoil, what, where in cases:
        recipe = (folder / "lima.toml").read_text()
        spoil()
        with pytest.raises(LimakitError, match=what) as caught:
            run(folder)
        assert where in str(caught.value.where) and caught.value.remedy
        data.write_text(text)
        (folder / "lima.toml").write_text(recipe)
    assert not (folder / "runs").exists()


def test_a_full_disk_is_one_message_and_the_same_command_goes_on(finished, tmp_path):
    """The largest file that may be written is limited so that the checkpoint does not fit: the error path of a full disk."""
    folder = copy(finished, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((finished / "runs/tiny/final/model.safetensors").stat().st_size // 2, before[1]))
    try:
        with pytest.raises(LimakitError, match="cannot write: File too large") as caught:
            run(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free some space" in caught.value.remedy
    left = sorted(str(p.relative_to(folder / "runs/tiny")) for p in (folder / "runs/tiny").rglob("*") if p.is_file() and p.name != ".lock")
    assert left == ["log.jsonl", "run.json", "times.jsonl"]
    run(folder)
    assert tree(folder) == tree(finished)


def test_trimmed_examples_are_named_once(tmp_path, capsys):
    folder = make_workspace(tmp_path / "w", response_words=60, epochs=1)
    run(folder)
    note = capsys.readouterr().err
    assert note.count("were cut") == 1 and "of 20 examples" in note and "max_tokens = 96" in note and "ex-" in note
    assert len(rows(folder)) == 3 and sum(row["examples"] for row in rows(folder)) == 20  # cut, not dropped


def test_a_model_that_cannot_be_packed_trains_with_the_remedy(tmp_path):
    base = save_base(tmp_path / "bloom", family="bloom", tokenizer_kind="prepend_bos")
    folder = make_workspace(tmp_path / "w", base=base, examples=6, epochs=1, batch_examples=4)
    with pytest.raises(LimakitError, match="see each other") as caught:
        run(folder)
    assert "bloom" in str(caught.value.where) and "pack = false" in caught.value.remedy
    edit(folder, "[train]", "[train]\npack = false")
    run(folder)
    assert len(rows(folder)) == 2


def test_packing_does_not_change_the_training(tmp_path):
    """The same run, packed and not: equal losses up to rounding (no dropout, whose masks depend on the layout)."""
    packed = make_workspace(tmp_path / "packed", residual_dropout=0.0)
    apart = make_workspace(tmp_path / "apart", residual_dropout=0.0, pack=False)
    run(packed), run(apart)
    for a, b in zip(rows(packed), rows(apart), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-5) and a["target_tokens"] == b["target_tokens"]
