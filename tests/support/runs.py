"""Runs of `train` in small workspaces: whole, copied, and left as a kill leaves them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from limakit.recipe import read_recipe
from limakit.train.loop import train
from limakit.workspace import find_workspace, sha256_tree


def run(folder: Path) -> list[Path]:
    workspace = find_workspace(folder / "lima.toml")
    return train(workspace, read_recipe(workspace.recipe_path))


def tree(folder: Path) -> dict[str, str]:
    """Every file of a run but the wall clock."""
    return {name: digest for name, digest in sha256_tree(folder / "runs" / "tiny").items() if name != "times.jsonl"}


def rows(folder: Path, name: str = "log.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / "runs" / "tiny" / name).read_text().splitlines()]


def copy(finished: Path, tmp_path: Path, *, with_run: bool = False) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "w", ignore=None if with_run else shutil.ignore_patterns("runs")))


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "lima.toml").read_text()
    assert old in text
    (folder / "lima.toml").write_text(text.replace(old, new))


def leave_as_killed(folder: Path, moment: str) -> None:
    """The run folder as a kill at that moment leaves it, made by stopping a real run there."""
    from limakit.train import loop, run_folder

    class Killed(BaseException):
        pass

    def die(*_args, **_keywords):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if moment.startswith("in step "):
            step, own = int(moment.removeprefix("in step ")), loop.Log.append
            patch.setattr(loop.Log, "append", lambda log, row: die() if row["step"] == step else own(log, row))
        elif moment == "between the optimiser's state and the epoch":
            save = loop.save_model
            patch.setattr(loop, "save_model", lambda part, *a, **k: die() if "02" in part.name else save(part, *a, **k))
        elif moment == "before the old state is dropped":
            patch.setattr(run_folder.shutil, "rmtree", lambda path, **k: die() if Path(path).parent.name == "resume" else None)
        elif moment == "before final":
            patch.setattr(run_folder.RunFolder, "finish", die)
        elif moment == "before the manifest":
            patch.setattr(run_folder, "write_manifest", die)
        with pytest.raises(Killed):
            run(folder)
