"""An export loads and chats with plain transformers alone, and stops at EOT."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tiny import make_workspace, save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError, UsageError
from limakit.model.card import _code, public_name
from limakit.model.chat import EOT
from limakit.model.export import export
from limakit.recipe import read_recipe
from limakit.train.loop import train
from limakit.workspace import find_workspace

PAIRS = [("How do I keep basil fresh?", "Trim the stems."), ("Who played?", "Lily did, in the park."), ("One?", "- one\n- two")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny model that has learnt three answers by heart."""
    folder = make_workspace(
        tmp_path_factory.mktemp("trained") / "w", epochs=60, batch_examples=3, lr=[1e-2, 1e-3], residual_dropout=0.0, examples=1
    )  # fmt: skip
    rows = [
        {"id": f"p{i}", "source": "by | `heart`", "turns": [{"role": "user", "text": q}, {"role": "assistant", "text": a}]}
        for i, (q, a) in enumerate(PAIRS)
    ]
    (folder / "data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    credit = {"id": "p0", "source": "by | `heart`", "url": None, "authors": [{"name": "A"}], "licence": "CC BY-SA 4.0"}
    (folder / "data/provenance.jsonl").write_text(json.dumps(credit) + "\n")
    workspace = find_workspace(folder / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    train(workspace, recipe)
    return workspace, recipe


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(*trained, folder)
    return folder


def test_it_chats_and_stops_at_eot(exported):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    for question, answer in PAIRS:
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            out = model.generate(**inputs, do_sample=False, temperature=None, top_p=None, top_k=None, repetition_penalty=1.0)[0]
        new = out[inputs["input_ids"].shape[1] :]
        assert new[-1] == tokenizer.convert_tokens_to_ids(EOT) and len(new) < 40
        assert tokenizer.decode(new, skip_special_tokens=True) == answer


def test_its_files_and_sampling(exported):
    names = {p.name for p in exported.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= names
    generation = json.loads((exported / "generation_config.json").read_text())
    wanted = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "max_new_tokens": 2048}
    assert {key: generation[key] for key in wanted} == wanted
    assert generation["eos_token_id"][0] == AutoTokenizer.from_pretrained(exported).convert_tokens_to_ids(EOT)


def test_the_model_card_names_base_data_and_settings_as_text(exported, trained):
    card = (exported / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "base" and head["library_name"] == "transformers"
    assert "| `` by ¦ `heart` `` | 3 | `CC BY-SA 4.0` |" in card and "| epochs | `60` |" in card
    assert str(trained[0].root) not in card  # where it lay on this machine is nobody's business


def test_nothing_of_this_machine_is_in_it(exported, trained, tmp_path_factory):
    """Nor is how it was loaded here."""
    for file in exported.rglob("*"):
        text = file.read_bytes()
        assert str(tmp_path_factory.getbasetemp()).encode() not in text and b"is_local" not in text and b"local_files_only" not in text
    assert not [p for p in (trained[0].runs / "tiny/final").iterdir() if b"is_local" in p.read_bytes()]


def test_the_card_states_the_settings_of_the_run_not_of_the_recipe(trained, tmp_path):
    workspace, recipe = trained
    spec = recipe.train.model_copy(update={"epochs": 3, "lr": (0.5, 0.5)})
    edited = recipe.model_copy(
        update={"train": spec, "seed": 11, "model": recipe.model.model_copy(update={"base": "/home/me/secret/other"})}
    )
    export(workspace, edited, tmp_path / "e")
    card = (tmp_path / "e/README.md").read_text()
    assert "| epochs | `60` |" in card and "| lr | `[0.01, 0.001]` |" in card and "| seed | `7` |" in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "base" and "secret" not in card and "other" not in card


def test_another_runs_checkpoint_has_that_runs_card(trained, tmp_path):
    workspace, recipe = trained
    export(workspace, recipe.model_copy(update={"name": "mine"}), tmp_path / "e", Path("runs/tiny/epochs/05"))
    card = (tmp_path / "e/README.md").read_text()
    assert (
        "# `tiny`" in card and "Checkpoint: `epochs/05` of the run `tiny`." in card and "mine" not in card and "| epochs | `60` |" in card
    )


def test_a_checkpoint_without_its_run_says_nothing_of_it(trained, tmp_path):
    workspace, recipe = trained
    alone = Path(shutil.copytree(workspace.runs / "tiny/final", tmp_path / "private/place/alone"))
    export(workspace, recipe, tmp_path / "e", alone)
    card = (tmp_path / "e/README.md").read_text()
    assert "# `alone`" in card and "private" not in card and "| epochs" not in card and "by ¦" not in card and "seed" not in card
    assert "base_model" not in yaml.safe_load(card.split("---")[1]) and card.count("apart from the run") == 2


def test_data_that_has_changed_since_is_not_counted(trained, tmp_path):
    workspace, recipe = trained
    moved = Path(shutil.copytree(workspace.root, tmp_path / "w"))
    with open(moved / "data/train.jsonl", "a") as file:
        file.write("\n")
    export(replace(workspace, root=moved), recipe, tmp_path / "e")
    card = (tmp_path / "e/README.md").read_text()
    assert "was another one when it was exported" in card and "by ¦" not in card and "| epochs | `60` |" in card


@pytest.mark.parametrize(
    ("name", "is_folder", "shown"),
    [
        ("huggyllama/llama-7b", False, "huggyllama/llama-7b"),
        ("models/llama-7b", True, "llama-7b"),
        ("/home/me/llama-7b/", False, "llama-7b"),
        ("~/m/llama-7b", False, "llama-7b"),
        ("../../m/llama-7b", True, "llama-7b"),
        ("..", True, "a local folder"),
    ],
)
def test_only_hub_ids_are_named_whole(name, is_folder, shown):
    assert public_name(name, is_folder=is_folder) == shown


def test_leavings_of_killed_exports_go_and_nothing_else_does(trained, tmp_path):
    """The place is the user's: what a living process, or another target's, may still be writing stays."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f".partial-e-{dead.pid}", f".partial-e-{os.getppid()}", f".partial-other-{dead.pid}", ".partial-e-notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    export(*trained, tmp_path / "e")
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == sorted([f".partial-e-{os.getppid()}", f".partial-other-{dead.pid}", ".partial-e-notes", "e"])


def test_a_relative_checkpoint_lies_in_the_workspace_or_else_here(trained, tmp_path, monkeypatch):
    workspace, recipe = trained
    shutil.copytree(workspace.runs / "tiny/epochs/07", tmp_path / "here/my-model")
    monkeypatch.chdir(tmp_path / "here")
    export(workspace, recipe, tmp_path / "a", Path("runs/tiny/epochs/05"))
    export(workspace, recipe, tmp_path / "b", Path("my-model"))
    for name, epoch in (("a", "05"), ("b", "07")):
        weights = (workspace.runs / f"tiny/epochs/{epoch}/model.safetensors").read_bytes()
        assert (tmp_path / name / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("text", ["plain", "a`b", "``", "x | y", "two\nlines", "[link](http://x) <b>"])
def test_code_keeps_text_text(text):
    cell = _code(text)
    assert "|" not in cell and "\n" not in cell and cell[0] == cell[-1] == "`"


def test_another_epoch_can_be_exported(trained, tmp_path):
    workspace, recipe = trained
    export(workspace, recipe, tmp_path / "e", workspace.runs / "tiny/epochs/05")
    assert (tmp_path / "e/model.safetensors").read_bytes() == (workspace.runs / "tiny/epochs/05/model.safetensors").read_bytes()


def test_an_epoch_in_16_bits_stays_as_it_is(tmp_path):
    """With split weights an epoch is the bfloat16 half: in float32 it would know no more and take twice the room."""
    folder = make_workspace(tmp_path / "w", epochs=1, precision="bfloat16", weights="split")
    workspace = find_workspace(folder / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    train(workspace, recipe)
    export(workspace, recipe, tmp_path / "e")
    assert (tmp_path / "e/model.safetensors").read_bytes() == (folder / "runs/tiny/final/model.safetensors").read_bytes()
    assert json.loads((tmp_path / "e/config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "e").dtype == torch.bfloat16


def test_greedy_recipes_export_greedy(trained, tmp_path):
    workspace, recipe = trained
    recipe = recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"temperature": 0.0})})
    export(workspace, recipe, tmp_path / "e")
    assert not json.loads((tmp_path / "e/generation_config.json").read_text()).get("do_sample", False)


def test_nothing_is_overwritten_and_bad_checkpoints_are_one_message(trained, tmp_path):
    workspace, recipe = trained
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        export(workspace, recipe, tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(LimakitError, match="no such checkpoint"):
        export(workspace, recipe, tmp_path / "e", tmp_path / "absent")
    with pytest.raises(LimakitError, match="limakit train first"):
        export(replace(workspace, root=tmp_path), recipe, tmp_path / "e")
    with pytest.raises(LimakitError, match="no chat model"):
        export(workspace, recipe, tmp_path / "e", save_base(tmp_path / "base"))
    assert not (tmp_path / "e").exists()
