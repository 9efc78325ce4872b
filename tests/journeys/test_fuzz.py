"""A short fuzz run over every reader; docs/fuzz.md records a long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "bench" / "fuzz.py"


@pytest.mark.slow
def test_damaged_input_gives_errors_for_users_only():
    done = subprocess.run(
        [sys.executable, FUZZ, "--seconds", "30", "--seed", "3"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["crashes"] == 0 and last["inputs"] > 100 and last["peak_rss_mb"] < 500
