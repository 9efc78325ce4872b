"""A run with looks and grades as files alone, in the real formats: no model was ever there."""

from __future__ import annotations

import json
import random
from pathlib import Path

from limakit.generate.look import Answered, HeldOut, Look, Measured, Place, Sampled, prompt_hash, write_look
from limakit.recipe import read_recipe
from limakit.records import Grade, Prompt, Response, Turn, write_jsonl
from limakit.workspace import find_workspace, sha256_file

RECIPE = 'name = "tiny"\n[model]\nbase = "base"\n[train]\nepochs = 4\n[judge]\nmodel = "referee"\n'


def make_epochs(
    root: Path,
    *,
    prompts: int = 5,
    epochs: int = 4,
    grades: bool = True,
    texts: list[str] | None = None,
    kept: tuple[int, ...] = (1, 2, 3, 4),
):
    """(workspace, recipe). Perplexity and grades rise together. `texts` are the answers to the prompts, in every epoch."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "lima.toml").write_text(RECIPE)
    workspace = find_workspace(root / "lima.toml")
    recipe = read_recipe(root / "lima.toml")
    asked = [
        Prompt(id=f"dev-{i}", source="dev", turns=(Turn(role="user", text=f"What is the answer to question {i}?"),))
        for i in range(1, prompts + 1)
    ]
    path = workspace.data / "dev.jsonl"
    write_jsonl(path, asked)
    run = workspace.runs / "tiny"
    run.mkdir(parents=True)
    log = [
        {"step": e, "epoch": e, "loss": 3.0 - e / 4, "lr": 1e-5, "grad_norm": 1.0, "examples": 2, "target_tokens": 10}
        for e in range(1, epochs + 1)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log) + '{"step": 5, "ep')
    draw = random.Random(5)
    sampling = Sampled(temperature=0.7, top_p=0.9, repetition_penalty=1.2, max_tokens=64)
    for e in range(1, epochs + 1):
        each = tuple(Measured(id=f"h{x}", nll=20.0 + 3 * e + x / 10, tokens=10 + x) for x in range(6))
        held_out = HeldOut(file="data/held_out.jsonl", sha256="0" * 64, max_tokens=128, trimmed=0, each=each)
        name = f"tiny@{e}"
        said = [
            Response(
                prompt_id=p.id, model=name, text=texts[i % len(texts)] if texts else f"In epoch {e} the answer to {i + 1} is {draw.random():.3f}.",
                finish=("eot", "length")[(i + e) % 4 == 0], tokens=10 + e + i,
            )
            for i, p in enumerate(asked)
        ]  # fmt: skip
        answered = Answered(
            file="data/dev.jsonl", sha256=sha256_file(path), prompts={p.id: prompt_hash(p) for p in asked}, sampling=sampling
        )
        write_look(Place(run, e), Look(epoch=e, model=name, answered=answered, held_out=held_out), said)
        if e in kept:
            (run / "epochs" / f"{e:02}").mkdir(parents=True)
            (run / "epochs" / f"{e:02}" / "sha256.json").write_text(json.dumps({"config.json": str(e)}))
        if grades:
            rows = [
                Grade(prompt_id=p.id, model=name, judge="referee", rubric="helpfulness", status="ok", value=str(min(6, e + (i % 2))))
                for i, p in enumerate(asked)
            ]
            write_jsonl(run / "dev" / "grades" / f"{e:02}-by-referee-helpfulness.jsonl", rows)
    gone = [e for e in range(1, epochs + 1) if e not in kept]
    if gone:
        (run / "dropped.json").write_text(json.dumps({f"{e:02}": {} for e in gone}))
    return workspace, recipe
