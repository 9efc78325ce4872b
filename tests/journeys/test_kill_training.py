"""Promise 6 with everything on: a run that is killed at random moments, and started again each time, ends as one that nobody killed.

Split weights, bfloat16 moments, activations computed again, residual dropout, packed rows, the dev prompts answered and perplexity measured after
each epoch, the two newest epochs kept. Real processes and SIGKILL; every file is compared to the bit, but times.jsonl, which is the clock.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
from runs import rows, tree
from tiny import make_workspace
from training_process import start_training

SETTINGS = {
    "epochs": 5,
    "batch_examples": 5,
    "precision": "bfloat16",
    "weights": "split",
    "moments": "bfloat16",
    "recompute": True,
    "keep": 2,
}
STEPS = 5 * 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nobody killed."""
    folder = make_workspace(tmp_path_factory.mktemp("whole") / "w", examples=40, **SETTINGS)
    with open(folder / "lima.toml", "a") as recipe:
        recipe.write("[generate]\nmax_tokens = 6\nbatch = 4\n")
    examples = [json.loads(line) for line in (folder / "data/train.jsonl").read_text().splitlines()][:4]
    prompts = [{"id": f"dev-{i}", "source": "tiny", "turns": row["turns"][:1]} for i, row in enumerate(examples)]
    held_out = [{"id": f"held-{i}", "source": "tiny", "turns": row["turns"][:2]} for i, row in enumerate(examples)]
    for name, made in (("dev", prompts), ("held_out", held_out)):
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    process = start_training(folder)
    process.join(200)
    assert process.exitcode == 0, folder.with_suffix(".log").read_text()
    return folder


def progress(folder: Path) -> int:
    log = folder / "runs/tiny/log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_somewhere(folder: Path, draw: random.Random) -> bool:
    """Start the run and kill it a random while after a random one of its steps; whether it was still there to be killed."""
    process = start_training(folder)
    step = draw.randrange(STEPS)
    deadline = time.monotonic() + 120
    while progress(folder) < step and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(draw.expovariate(1 / 0.15))  # a step, an answer or a file later
    killed = process.is_alive()
    if killed:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), folder.with_suffix(".log").read_text()
    return killed


def test_the_run_has_what_it_is_to_have(whole):
    run = whole / "runs/tiny"
    assert len(rows(whole)) == STEPS and sorted(p.name for p in (run / "epochs").iterdir()) == ["04", "05"]
    assert sorted(p.name for p in (run / "dev").iterdir()) == [f"{n:02}.{kind}" for n in range(1, 6) for kind in ("json", "jsonl")]
    look = json.loads((run / "dev/05.json").read_text())
    assert len(look["held_out"]["each"]) == 4 and look["answered"] and len((run / "dev/05.jsonl").read_text().splitlines()) == 4
    assert not (run / "resume").exists()


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_it_ends_as_if_nobody_had(whole, tmp_path, seed):
    folder = tmp_path / "w"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("runs"))
    draw = random.Random(seed)
    kills = sum(kill_somewhere(folder, draw) for _ in range(5))
    process = start_training(folder)
    process.join(200)
    assert process.exitcode == 0, folder.with_suffix(".log").read_text()
    assert kills >= 2
    assert tree(folder) == tree(whole)
    left = [p for p in (folder / "runs").rglob("*") if "partial" in p.name]
    assert left == []  # what the kills left half written is gone
