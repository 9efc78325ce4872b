"""What all tests share: silence, the real inputs where they exist, a quick way to call the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["LIMAKIT_PROGRESS"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
# the models are tiny, and a process of tests a core is quicker than threads that wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real public data. It exists beside the developers' checkout only."""
    if not SHARED.is_dir():
        pytest.skip("the real inputs (../shared/data) are not here; they are not part of a user's clone")
    return SHARED


@pytest.fixture
def limakit():
    """Run the real command line in a process of its own: limakit("curate", cwd=folder) -> CompletedProcess (text)."""

    def run(*args: object, cwd: Path, check: bool = True, env: dict[str, str] | None = None, timeout: float = 240):
        command = [sys.executable, "-m", "limakit.cli", *map(str, args)]
        done = subprocess.run(command, cwd=cwd, env=os.environ | (env or {}), text=True, capture_output=True, timeout=timeout, check=False)
        if check:
            assert done.returncode == 0, f"limakit {args} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run
