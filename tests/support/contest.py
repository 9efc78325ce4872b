"""Questions to a judge, a workspace with responses to judge, and what judging left in it."""

from __future__ import annotations

import json
import re

from limakit.recipe import JudgeSpec, ModelSpec, Recipe
from limakit.records import Grade, Judgment, Prompt, Response, Turn, read_jsonl, write_jsonl
from limakit.workspace import Workspace


def make(root, prompts=6, models=("lima", "base"), url="http://127.0.0.1:9/v1", samples=1, **more):
    """A workspace in which a model's response to prompt i has i * 17 % 90 + 20 * (place of the model) characters; returns it with the recipe."""
    root.mkdir(exist_ok=True)
    settings = {"model": "the/judge", "base_url": url, "against": list(models[1:]), "retries": 2} | more
    recipe = Recipe(name="lima", model=ModelSpec(base="b"), judge=JudgeSpec(**settings))
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (root / "lima.toml").write_text('name = "lima"\n[model]\nbase = "b"\n[judge]\n' + "\n".join(lines) + "\n")
    ids = [f"p{i}" for i in range(prompts)]
    write_jsonl(root / "data/test.jsonl", [Prompt(id=p, source="t", turns=(Turn(role="user", text=f"Question {p}?"),)) for p in ids])
    for place, model in enumerate(models):
        rows = [
            Response(
                prompt_id=p, model=model, sample=s, text=f"{model} {p} {s}: " + "x" * (i * 17 % 90 + 20 * place), finish="eot", tokens=5
            )
            for i, p in enumerate(ids)
            for s in range(samples)
        ]
        write_jsonl(root / f"responses/{model}.jsonl", rows)
    return Workspace(root, root / "lima.toml"), recipe


def rewrite(workspace, model, change):
    path = workspace.responses / f"{model}.jsonl"
    write_jsonl(path, [change(row) for row in read_jsonl(path, Response)])


def results(workspace):
    judgments = [row for p in sorted(workspace.judgments.glob("*.jsonl")) for row in read_jsonl(p, Judgment)]
    grades = [row for p in sorted(workspace.grades.glob("*.jsonl")) for row in read_jsonl(p, Grade)]
    return judgments, grades


def files(workspace):
    return {p.name: p.read_bytes() for f in (workspace.judgments, workspace.grades) for p in f.iterdir() if not p.name.startswith(".")}


def undated(files):
    """What two runs must have in common: not when they were answered, nor the hashes of rows that say when."""
    dateless = {name: re.sub(rb'"date":"[^"]*"', b'"date":"-"', text) for name, text in files.items()}
    return {name: re.sub(rb'"outputs": \{[^}]*\}', b"", text) if "manifest" in name else text for name, text in dateless.items()}
