"""What a run folder accepts: whose start it binds to, what spoilt bytes do, where it may go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from crowd import Crowd
from runs import copy, edit, leave_as_killed, run, tree
from tiny import make_tokenizer, make_workspace, save_base
from transformers import AutoModelForCausalLM, Gemma3Config

from limakit.errors import LimakitError
from limakit.train import log, run_folder
from limakit.train.log import Log, readable_rows


def spoil(path: Path, start: int = -400) -> None:
    """Zero 64 bytes in place, as a bad disk does: size, header and links stay."""
    with open(path, "r+b") as file:
        file.seek(start, os.SEEK_END)
        file.write(bytes(64))


def test_a_start_that_failed_binds_nobody(finished, tmp_path):
    """The remedies that a refusal or a diverged first epoch prints must work as they are: by the same command, in the same folder."""
    folder = copy(finished, tmp_path)
    edit(folder, "[train]", "[train]\nclip_norm = 1e-30")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limakit.train.alarm.math.isfinite", lambda x: False)
        with pytest.raises(LimakitError, match="step 1: the loss"):
            run(folder)
    assert (folder / "runs/tiny/run.json").exists()
    (folder / "runs/tiny/log.jsonl").write_text('{"step": 1, "loss": 0.0}\n')
    edit(folder, "\nclip_norm = 1e-30", "")
    run(folder)
    assert tree(folder) == tree(finished)


def test_another_setting_is_refused_once_an_epoch_is_there(finished, tmp_path):
    folder = copy(finished, tmp_path)
    leave_as_killed(folder, "in step 5")
    edit(folder, "epochs = 3", "epochs = 4")
    with pytest.raises(LimakitError, match=r"train.epochs: was 3, is now 4"):
        run(folder)
    edit(folder, "epochs = 4", "epochs = 3")
    (folder / "runs/tiny/run.json").unlink()
    with pytest.raises(LimakitError, match="is gone or not readable"):
        run(folder)


SPOILT = {
    "final of a finished run, linked to its last epoch": ("finished", "final/model.safetensors", "epochs/03/model.safetensors: is damaged"),
    "an epoch of a finished run": ("finished", "epochs/02/model.safetensors", "epochs/02/model.safetensors: is damaged"),
    "the log of a finished run": ("finished", "log.jsonl", r"log.jsonl: has \d readable rows"),
    "the epoch to go on from": ("in step 8", "epochs/02/model.safetensors", "epochs/02/model.safetensors: is damaged"),
    "its configuration": ("in step 8", "epochs/02/config.json", "epochs/02/config.json: is damaged"),
    "its optimiser's state": (
        "in step 8",
        "resume/02/optimizer-00000-000.safetensors",
        "resume/02/optimizer-00000-000.safetensors: is damaged",
    ),
    "an earlier epoch": ("in step 8", "epochs/01/model.safetensors", "epochs/01/model.safetensors: is damaged"),
    "the log of a killed run": ("in step 8", "log.jsonl", r"log.jsonl: has \d readable rows"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_bytes_are_neither_gone_on_from_nor_signed(finished, tmp_path, what):
    moment, name, said = SPOILT[what]
    folder = copy(finished, tmp_path, with_run=moment == "finished")
    if moment == "finished":
        for file in (folder / "runs/tiny/final").iterdir():  # copying has undone the links
            file.unlink()
            os.link(folder / "runs/tiny/epochs/03" / file.name, file)
    else:
        leave_as_killed(folder, moment)
    spoil(folder / "runs/tiny" / name, -300)
    manifest = folder / "runs/tiny/manifest.json"
    before = manifest.read_bytes() if manifest.exists() else None
    with pytest.raises(LimakitError, match=said) as caught:
        run(folder)
    assert f"remove {folder / 'runs/tiny'} and train again" in caught.value.remedy
    assert (manifest.read_bytes() if manifest.exists() else None) == before


def test_ranks_share_out_what_is_looked_at_before_a_run_is_signed(finished, tmp_path):
    """15 epochs of 7B are 400 GB: over 8 ranks each reads an eighth. What one of them finds damaged is told once."""
    folder = copy(finished, tmp_path, with_run=True)
    path = folder / "runs/tiny"
    manifest = (path / "manifest.json").read_bytes()
    (path / "manifest.json").unlink()
    shutil.rmtree(path / "final")
    read = Crowd(tmp_path / "crowd", 2, "finish", str(folder), 3, 9).answers()
    assert all(any(name.startswith(f"epochs/{n:02}/") for name in share) for share in read for n in (1, 2, 3))
    assert sorted(read[0] + read[1]) == sorted(str(p.relative_to(path)) for p in path.glob("epochs/*/*"))
    assert (path / "manifest.json").read_bytes() == manifest and tree(folder) == tree(finished)
    (path / "manifest.json").unlink()
    damaged = next(name for name in read[1] if name.endswith(".json"))
    (path / damaged).write_bytes(b" " + (path / damaged).read_bytes()[1:])
    crowd = Crowd(tmp_path / "again", 2, "finish", str(folder), 3, 9)
    assert crowd.wait(60) == [1, 1] and not (path / "manifest.json").exists()
    said = crowd.said(0) + crowd.said(1)
    assert said.count("is damaged") == 1 and str(path / damaged) in said and "Traceback" not in said


@pytest.mark.parametrize("epoch", ["01", "03"])
def test_an_epoch_that_is_gone_is_said(finished, tmp_path, epoch):
    folder = copy(finished, tmp_path, with_run=True)
    shutil.rmtree(folder / "runs/tiny/epochs" / epoch)
    with pytest.raises(LimakitError, match=f"epochs/{epoch}: is gone"):
        run(folder)
    shutil.copytree(finished / "runs/tiny/epochs" / epoch, folder / "runs/tiny/epochs" / epoch)  # the remedy
    assert run(folder) == [] and tree(folder) == tree(finished)


def test_a_log_that_contradicts_the_manifest_is_refused(finished, tmp_path):
    folder = copy(finished, tmp_path, with_run=True)
    path = folder / "runs/tiny/log.jsonl"
    path.write_text(path.read_text().replace('"loss": ', '"loss": 1'))
    with pytest.raises(LimakitError, match=r"log.jsonl: is not what the finished run wrote"):
        run(folder)


def test_a_lost_final_is_made_again(finished, tmp_path):
    folder = copy(finished, tmp_path, with_run=True)
    spoil(folder / "runs/tiny/final/model.safetensors")  # a copy here, not a link
    assert run(folder) != [] and tree(folder) == tree(finished)
    manifest = json.loads((folder / "runs/tiny/manifest.json").read_bytes())
    assert {"log.jsonl", "final/config.json", "epochs/01/model.safetensors", "epochs/03/model.safetensors"} <= manifest["outputs"].keys()


def test_a_model_with_parts_that_are_never_trained_goes_on_after_a_kill(tmp_path):
    """The vision tower of a multimodal model has no gradient, so AdamW has no state for it."""
    tokenizer = make_tokenizer("byte_bos")
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.2}  # fmt: skip
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)).save_pretrained(
        tmp_path / "base"
    )
    tokenizer.save_pretrained(tmp_path / "base")
    whole = make_workspace(tmp_path / "whole", base=tmp_path / "base", examples=8, epochs=2, batch_examples=4)
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    run(whole)
    leave_as_killed(killed, "in step 3")
    names = json.loads((killed / "runs/tiny/resume/01/parameters.json").read_bytes())
    assert names and not any("vision" in name for name in names)
    run(killed)
    assert tree(killed) == tree(whole)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_model_with_code_of_its_own_goes_on_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    base = save_base(tmp_path / "base", max_position_embeddings=128)
    (base / "own_model.py").write_text(CODE)
    config = json.loads((base / "config.json").read_text()) | {"model_type": "own_llama", "architectures": ["OwnForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "own_model.OwnConfig", "AutoModelForCausalLM": "own_model.OwnForCausalLM"}
    (base / "config.json").write_text(json.dumps(config))
    whole = make_workspace(tmp_path / "whole", base=base, examples=20)
    with pytest.raises(LimakitError, match="trust_remote_code = true under"):
        run(whole)
    edit(whole, "[model]", "[model]\ntrust_remote_code = true")
    killed = Path(shutil.copytree(whole, tmp_path / "killed", ignore=shutil.ignore_patterns("runs")))
    run(whole)
    leave_as_killed(killed, "in step 5")
    run(killed)
    assert tree(killed) == tree(whole) and "epochs/01/own_model.py" in tree(whole)


def test_another_number_of_threads_or_version_is_told(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path)
    leave_as_killed(folder, "in step 5")
    run_json = folder / "runs/tiny/run.json"
    assert json.loads(run_json.read_bytes())["environment"]["threads"] == "1"
    capsys.readouterr()
    run_json.write_text(run_json.read_text().replace(torch.__version__.split("+")[0], "2.11.0"))
    torch.set_num_threads(2)
    try:
        run(folder)
    finally:
        torch.set_num_threads(1)
    [note] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
    assert 'threads: was "1", is now "2"' in note and 'torch: was "2.11.0' in note
    assert (folder / "runs/tiny/manifest.json").exists()


def test_only_what_decides_counts_of_the_base(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path, with_run=True)
    (folder / "base/README.md").write_text("About this model.")
    assert run(folder) == [] and "is finished" in capsys.readouterr().out
    config = folder / "base/config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(LimakitError, match=r"\n  base/config.json: was") as caught:
        run(folder)
    assert caught.value.what.count("\n") == 1  # that file and no other


def test_a_disk_that_fills_while_the_last_epoch_is_copied_is_one_message(finished, tmp_path, monkeypatch):
    """Where there are no hard links final/ is a copy."""
    folder = copy(finished, tmp_path)

    def no_link(*_):
        raise OSError(errno.EPERM, "no links here")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run_folder.os, "link", no_link)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder.shutil, "copy2", full)
        with pytest.raises(LimakitError, match="final: cannot write: No space left on device; nothing") as caught:
            run(folder)
    assert "free some space" in caught.value.remedy
    run(folder)
    assert tree(folder) == tree(finished)


def test_a_full_disk_told_only_by_fsync_is_one_message(tmp_path, monkeypatch):
    rows = Log(tmp_path / "log.jsonl", 0)
    rows.append({"step": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(log.os, "fsync", full)
    with pytest.raises(LimakitError, match=r"log.jsonl: cannot write: No space left") as caught:
        rows.sync()
    assert "free some space" in caught.value.remedy
    rows.close()


def test_rows_up_to_the_first_that_is_spoilt(tmp_path):
    path = tmp_path / "log.jsonl"
    assert readable_rows(path) == 0
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n\0\0\0\n{"step": 4}\n{"st')
    assert readable_rows(path) == 2
    Log(path, 1).close()
    assert path.read_bytes() == b'{"step": 1}\n'
