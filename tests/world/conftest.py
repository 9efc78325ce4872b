"""The world of the demo, its raw sources, and what the real curate makes of them with the demo's recipe."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from limakit.curate.pipeline import curate
from limakit.recipe import read_recipe
from limakit.workspace import Workspace, find_workspace
from limakit.world.dumps import write_dumps
from limakit.world.facts import World, make_world
from limakit.world.reviewer import review


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(7)


@pytest.fixture(scope="session")
def dumps(world: World, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "dumps"
    write_dumps(folder, world)
    return folder


@pytest.fixture(scope="session")
def waiting(world: World, dumps: Path) -> Workspace:
    """A workspace that has been curated once, with the queue of what a person must see; not to be changed."""
    return _curated(dumps, dumps.parent / "waiting")


@pytest.fixture(scope="session")
def reviewed(world: World, dumps: Path) -> Workspace:
    """Another one, reviewed and curated again."""
    workspace = _curated(dumps, dumps.parent / "reviewed")
    review(workspace, world)
    curate(workspace, read_recipe(workspace.recipe_path))
    return workspace


def _curated(dumps: Path, root: Path) -> Workspace:
    root.mkdir()
    (root / "dumps").symlink_to(dumps)
    (root / "lima.toml").write_text((resources.files("limakit") / "recipes" / "world.toml").read_text(encoding="utf-8"))
    workspace = find_workspace(root / "lima.toml")
    curate(workspace, read_recipe(workspace.recipe_path))
    return workspace


@pytest.fixture(scope="session")
def fates(reviewed: Workspace) -> dict[str, dict[str, dict]]:
    """source -> id -> the row of candidates.parquet, of the reviewed workspace."""
    found: dict[str, dict[str, dict]] = {}
    for row in pq.read_table(reviewed.data / "candidates.parquet").to_pylist():
        found.setdefault(row["source"], {})[row["id"]] = row
    return found
