"""A small workspace whose epochs are looked at: dev prompts and held-out examples beside the training set."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tiny import CORPUS, make_workspace

from limakit.generate.dev import each_epoch
from limakit.recipe import Recipe, read_recipe
from limakit.train.loop import train
from limakit.workspace import Workspace, find_workspace

WORDS = " ".join(CORPUS[:2]).split()


def dev_workspace(folder: Path, *, prompts: int = 6, held_out: int = 5, dev: str = "max_tokens = 16", **more: Any) -> Path:
    make_workspace(folder, **more)
    draw = random.Random(1)

    def turn(role: str, most: int) -> dict[str, str]:
        return {"role": role, "text": " ".join(draw.choices(WORDS, k=draw.randint(2, most)))}

    asked = [{"id": f"d{i}", "source": "dev", "turns": [turn("user", 9)]} for i in range(prompts)]
    unseen = [{"id": f"h{i}", "source": "held", "turns": [turn("user", 5), turn("assistant", 12)]} for i in range(held_out)]
    for name, rows in (("dev", asked), ("held_out", unseen)):
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open(folder / "lima.toml", "a") as recipe:
        recipe.write(f'[dev]\n{dev}\n[judge]\nmodel = "referee"\n')
    return folder


def opened(folder: Path) -> tuple[Workspace, Recipe]:
    workspace = find_workspace(folder / "lima.toml")
    return workspace, read_recipe(workspace.recipe_path)


def run_looked_at(folder: Path) -> list[Path]:
    workspace, recipe = opened(folder)
    return train(workspace, recipe, each_epoch(workspace, recipe))
