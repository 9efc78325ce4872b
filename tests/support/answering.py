"""Workspaces with prompts and a small trained checkpoint that answers them."""

from __future__ import annotations

import json

import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.model.chat import EOT, chat_format, give_eot
from limakit.recipe import GenerateSpec, ModelSpec, Recipe
from limakit.records import Prompt, Turn, write_jsonl
from limakit.workspace import Workspace


def save_chat(folder, likes_eot=1.0, family="llama", **changes):
    """A checkpoint as training leaves it: the base, with EOT in tokenizer and embeddings."""
    tiny.save_base(folder, family=family, max_position_embeddings=128, **changes)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    chat = chat_format(tokenizer, add_eot=True)
    give_eot(model, chat)
    with torch.no_grad():  # EOT likely enough that some responses end and some do not
        model.get_output_embeddings().weight[chat.eot_id] = model.get_output_embeddings().weight[5:8].sum(0) * likes_eot
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make(root, n=8, chat=True, **settings):
    spec = {"max_tokens": 20, "batch": 3, "device": "cpu", "samples": 2} | settings
    root.mkdir()
    lines = [f"{key} = {json.dumps(value)}" for key, value in spec.items()]
    (root / "lima.toml").write_text('name = "lima"\n[model]\nbase = "base"\n[generate]\n' + "\n".join(lines) + "\n")
    texts = [f"{tiny.CORPUS[i % 4][: 5 + 7 * i % 40]} </s> {EOT}" if i % 3 == 0 else f"How do I {i}?" for i in range(n)]
    write_jsonl(root / "data/test.jsonl", [Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text=t),)) for i, t in enumerate(texts)])
    if chat:
        save_chat(root / "runs/lima/final")
    recipe = Recipe(name="lima", model=ModelSpec(base="base"), generate=GenerateSpec(**spec))
    return Workspace(root, root / "lima.toml"), recipe


def files(workspace):
    return {p.name: p.read_bytes() for p in workspace.responses.iterdir() if p.name != ".generate"}


def kept(workspace, name="lima"):
    """Where the responses of a run that was stopped are kept."""
    return workspace.responses / ".generate" / name / "responses.jsonl"


def change(recipe, **settings):
    return recipe.model_copy(update={"generate": recipe.generate.model_copy(update=settings)})
