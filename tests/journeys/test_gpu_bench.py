"""bench/gpu_training.py is run where a GPU can be had, mostly once: rehearsed here on the CPU, so that it does not fail there on a slip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.append(str(BENCH))
import gpu_training  # noqa: E402

ENV = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def in_one_process(*names: str) -> dict[str, dict]:
    """Parts rehearsed in one other process: importing torch takes longer than a part, and torch.compile is switched off there."""
    code = f"import json, gpu_training as g; print(json.dumps({{name: g.run_part(name, True) for name in {names}}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, env=ENV, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_parts_run_and_their_figures_are_whole():
    found = in_one_process("numerics", "7b", "65b", "peer-padded")
    checks = found["numerics"]["checks"]
    assert found["numerics"]["failed"] == [] and len(checks) > 25
    assert all(line in gpu_training.shown("numerics", found["numerics"]) for line in checks)
    for name in ("7b", "65b", "peer-padded"):
        assert found[name]["tokens_per_s"] > 0 and all(4 < loss < 7 for loss in found[name]["losses"])
        assert found[name]["losses"][-1] < found[name]["losses"][0] or name == "65b"  # whose steps are of other examples
    last = gpu_training.summary(found)
    assert last["ours"] == "7b" and last["peer"] == "peer-padded" and last["failed"] == [] and last["device"] == "cpu"
    assert last["ratio"] == pytest.approx(found["7b"]["tokens_per_s"] / found["peer-padded"]["tokens_per_s"], rel=1e-3)


def test_the_command_writes_what_it_found(tmp_path):
    command = [sys.executable, str(BENCH / "gpu_training.py"), "--cpu-rehearsal", "--parts", "7b-eager", "--out", str(tmp_path)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=240, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["ours"] == "7b-eager" and last["tokens_per_s"] > 0 and last["peer"] is None and last["failed"] == []
    [path] = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert path.name.startswith("gpu_training-cpu-") and written["commit"] and written["date"]
    assert written["parts"]["7b-eager"]["tokens_per_s"] == last["tokens_per_s"]


def test_a_part_that_hangs_or_fails_leaves_the_others():
    assert gpu_training.in_a_process("7b", True, 0.2) == {"error": "took more than 0 s"}
    failed = gpu_training.in_a_process("no such part", True, 100)
    assert failed["error"].startswith("KeyError")
    results = {
        "7b": failed,
        "7b-eager": {"tokens_per_s": 10.0, "mfu": 0.5, "peak_gib": 1.0, "device": "d"},
        "13b": {"error": "out of memory"},
    }
    last = gpu_training.summary(results)
    assert (last["ours"], last["mfu"], last["failed"]) == ("7b-eager", 0.5, ["7b", "13b"])
    assert "out of memory" in gpu_training.shown("13b", results["13b"])


def test_the_limits_fit_the_time_there_is():
    """The parts that matter most have their whole limits within the 8.5 minutes; all are named once in the order."""
    limits = {name: seconds for part in gpu_training.PARTS.values() for name, seconds in part.items()}
    assert sorted(limits) == sorted(gpu_training.ORDER)
    assert sum(limits[name] for name in gpu_training.ORDER[:6]) <= 8.5 * 60


def test_the_documents_are_as_long_as_the_papers():
    from lima_lengths import lima_documents

    documents = lima_documents(32_001)
    assert len(documents) == 1000 and max(len(d.ids) for d in documents) == 2048
    assert 680_000 < sum(len(d.ids) for d in documents) < 770_000  # the paper: about 750,000
    assert all(0 < d.target_tokens < len(d.ids) for d in documents) and documents == lima_documents(32_001)
    assert [len(lima_documents(99, n, scale=1 / 32)) for n in (1, 7, 64)] == [1, 7, 64]


@pytest.mark.slow
def test_every_part_in_its_own_process(tmp_path):
    command = [sys.executable, str(BENCH / "gpu_training.py"), "--cpu-rehearsal", "--out", str(tmp_path)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=600, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["failed"] == [] and last["ours"] and last["peer"] and last["ratio"] > 0
