"""Every kind of source, curated in one process, in several, and on a real cluster of two nodes: the same bytes."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from cluster import two_nodes

import limakit
from limakit.curate import engine
from limakit.curate.pipeline import OUTPUTS, curate
from limakit.recipe import read_recipe
from limakit.workspace import find_workspace
from limakit.world.dumps import write_dumps
from limakit.world.facts import make_world

SOURCE = str(Path(limakit.__file__).parent.parent)


def workspace(root):
    write_dumps(root / "dumps", make_world(7, 40))
    text = (resources.files("limakit") / "recipes" / "world.toml").read_text()
    (root / "lima.toml").write_text(text.replace("take = ", "allow_fewer = true\ntake = "))
    return root / "lima.toml"


def bytes_of(root):
    return {name: (root / "data" / name).read_bytes() for name in OUTPUTS}


@pytest.mark.slow
def test_the_same_set_wherever_the_work_is_done(tmp_path, monkeypatch):
    path = workspace(tmp_path / "here")
    curate(find_workspace(path), read_recipe(path))
    expected = bytes_of(path.parent)
    kinds = {source.kind for source in read_recipe(path).sources}
    assert kinds == {"stackexchange", "stackexchange_dialogues", "wikihow", "reddit", "natural_instructions", "authored", "lima"}
    assert expected["train.jsonl"].count(b"\n") > 100 and expected["review.jsonl"].count(b"\n") > 10

    path = workspace(tmp_path / "processes")
    monkeypatch.setattr(engine, "SMALL", 0)
    curate(find_workspace(path), read_recipe(path))
    assert bytes_of(path.parent) == expected

    path = workspace(tmp_path / "cluster")
    with two_nodes(SOURCE) as address:
        command = [sys.executable, "-m", "limakit.cli", "curate", "--cluster", address]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert bytes_of(path.parent) == expected
