"""An adapter's folder: peft reads it, every stage takes it for the model it stands for, and it is refused where its base is not what it was."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from runs import run
from tiny import make_workspace, save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.generate.run import generate
from limakit.model.chat import EOT, chat_format
from limakit.model.export import export
from limakit.model.load import load_causal_lm, load_tokenizer
from limakit.recipe import read_recipe
from limakit.workspace import find_workspace

IDS = torch.arange(3, 15)[None]


def make_run(folder: Path, family: str, **train: object) -> Path:
    context = {"n_positions": 128} if family == "gpt2" else {"max_position_embeddings": 128}
    base = save_base(folder / "w" / "base", family=family, **context)
    settings = {"epochs": 2, "lr": [3e-2, 3e-3], "residual_dropout": 0.1, "lora.rank": 4, "lora.alpha": 8.0, "lora.save": "apart"}
    run(make_workspace(folder / "w", base=base, **settings | train))
    return folder / "w"


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox", "gemma3_text"])
def workspace(request, tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("llama"), "llama")


def final(workspace: Path) -> Path:
    return workspace / "runs/tiny/final"


def logits(model) -> torch.Tensor:
    ids = torch.cat([IDS, torch.tensor([[420, 5, 420, 6]])], dim=1)  # with EOT
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def test_peft_alone_loads_it(workspace, monkeypatch):
    """Nothing of limakit, from anywhere: as the folder's README shows it, and by the name of the base alone."""
    peft = pytest.importorskip("peft")
    expected = logits(load_causal_lm(str(final(workspace)), root=workspace, device="cpu"))
    [code] = re.findall(r"```python\n(.*?)```", (final(workspace) / "README.md").read_text(), re.S)
    monkeypatch.chdir(final(workspace))
    shown: dict = {}
    exec(code, shown)
    assert torch.allclose(logits(shown["model"]), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.chdir("/")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(final(workspace))
    assert torch.allclose(logits(theirs), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(logits(theirs.merge_and_unload()), expected, rtol=1e-4, atol=1e-4)


def test_it_is_the_model_for_every_stage_by_its_path(llama, tmp_path):
    """generate and export take the folder; the export is whole, needs neither base nor peft, and is the merged model."""
    workspace = find_workspace(llama / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    (llama / "data/test.jsonl").write_text(json.dumps({"id": "p", "source": "t", "turns": [{"role": "user", "text": "Hi"}]}) + "\n")
    short = recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"max_tokens": 4, "device": "cpu"})})
    [responses, manifest] = generate(workspace, short, model="runs/tiny/epochs/01", name="one")
    assert json.loads(responses.read_text())["model"] == "one"
    inputs = json.loads(manifest.read_text())["inputs"]
    assert {"runs/tiny/epochs/01/adapter_model.safetensors", "runs/tiny/epochs/01/base.json"} <= inputs.keys()
    export(workspace, short, tmp_path / "out", final(llama))
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "elsewhere")
    assert torch.equal(logits(whole), logits(load_causal_lm(str(final(llama)), device="cpu")))
    card = (tmp_path / "out/README.md").read_text()
    assert "low-rank adapter" in card and "| lora rank | `4` |" in card and str(llama) not in card
    assert not (tmp_path / "out/adapter_config.json").exists()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids(EOT) == 420


def test_the_card_says_what_four_bits_were(tmp_path):
    folder = make_run(tmp_path, "llama", **{"lora.base": "nf4", "epochs": 1})
    workspace = find_workspace(folder / "lima.toml")
    export(workspace, read_recipe(workspace.recipe_path), tmp_path / "out", final(folder))
    assert "4-bit NormalFloat" in (tmp_path / "out/README.md").read_text()


def test_the_workspace_may_move(llama, tmp_path):
    moved = Path(shutil.copytree(llama, tmp_path / "moved"))
    for folder in ("runs/tiny/final", "runs/tiny/epochs/01"):
        model = load_causal_lm(str(moved / folder), device="cpu")
        assert torch.equal(logits(model), logits(load_causal_lm(str(llama / folder), device="cpu")))
    apart = Path(shutil.copytree(final(llama), tmp_path / "adapter"))
    with pytest.raises(LimakitError, match="base is not there: base") as caught:
        load_causal_lm(str(apart), device="cpu")
    assert caught.value.where == apart and caught.value.remedy
    assert load_causal_lm(str(apart), root=llama, device="cpu").dtype == torch.float32


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "another base": (lambda w: _edit(w / "base/config.json", rms_norm_eps=1e-3), r"not what it was .*config\.json"),
    "other weights of the base": (lambda w: os.truncate(w / "base/model.safetensors", 5000), r"not what it was .*model\.safetensors"),
    "no base": (lambda w: shutil.rmtree(w / "base"), "base is not there"),
    "truncated": (lambda w: os.truncate(final(w) / "adapter_model.safetensors", 3000), "cannot be read"),
    "another rank": (lambda w: _edit(final(w) / "adapter_config.json", r=0), "cannot be read"),
    "other layers": (lambda w: _edit(final(w) / "adapter_config.json", target_modules=["model.norm"]), "different layers"),
    "no note of its base": (lambda w: (final(w) / "base.json").unlink(), "limakit did not write"),
    "a note that is none": (lambda w: (final(w) / "base.json").write_text("[]"), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_one_message(damage, llama, tmp_path):
    folder = Path(shutil.copytree(llama, tmp_path / "w"))
    spoil, what = DAMAGE[damage]
    spoil(folder)
    with pytest.raises(LimakitError, match=what) as caught:
        load_causal_lm("runs/tiny/final", root=folder, device="cpu")
    assert Path(str(caught.value.where)) == final(folder) and caught.value.remedy and "\n" not in caught.value.what


def test_nothing_in_it_is_a_pickle_or_a_path_to_code(llama):
    assert {p.suffix for p in final(llama).iterdir()} <= {".safetensors", ".json", ".jinja", ".md"}
    chat = chat_format(load_tokenizer(str(final(llama))))
    assert chat is not None and chat.eot_id == 420
