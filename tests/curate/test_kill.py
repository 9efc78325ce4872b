"""kill -9 at any moment, then the same command: byte for byte what an uninterrupted run gives, and never half a file."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from dumps import LONG, answer, question, recipe, stackexchange, write_site

from limakit.curate.pipeline import MANIFEST, OUTPUTS, curate
from limakit.errors import LimakitError
from limakit.recipe import read_recipe
from limakit.workspace import CURATING, check_data, find_workspace, sha256_file

ALL = (*OUTPUTS, MANIFEST)


def workspace(root, questions):
    for site in ("coffee", "travel"):
        rows = [
            r
            for i in range(1, questions + 1)
            for r in (question(2 * i, f"{site} {i}?", score=i % 97), answer(2 * i + 1, 2 * i, f"{LONG}<p>{site} {i}.</p>"))
        ]
        write_site(root / "dumps", site, rows)
    (root / "mine.jsonl").write_text("".join(json.dumps({"prompt": f"p{i}", "response": "r"}) + "\n" for i in range(20)))
    return recipe(root, stackexchange(take=60), 'kind = "authored"\npath = "mine.jsonl"')


def run(path):
    return curate(find_workspace(path), read_recipe(path))


def bytes_of(root):
    return {p.name: p.read_bytes() for p in (root / "data").iterdir() if not p.name.startswith(".")}


def names(root):
    return {p.name for p in (root / "data").iterdir()}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A workspace whose curation takes a second or more, what an uninterrupted run gives, and how long that took."""
    root = tmp_path_factory.mktemp("large")
    path = workspace(root, 600)
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "limakit.cli", "curate"], cwd=root, check=True, capture_output=True)
    seconds = time.monotonic() - start
    expected = bytes_of(root)
    assert set(expected) == set(ALL)
    return path, expected, seconds


@pytest.mark.parametrize("moment", [0.3, 0.6, 0.8, 0.95])
def test_killed_at_a_moment_in_time(large, moment):
    path, expected, seconds = large
    root = path.parent
    for name in ALL:
        (root / "data" / name).unlink()
    started = subprocess.Popen(
        [sys.executable, "-m", "limakit.cli", "curate"], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(moment * seconds)
    started.send_signal(signal.SIGKILL)
    started.wait()
    left = bytes_of(root)
    assert all(left[name] == expected[name] for name in ALL if name in left)
    run(path)
    assert bytes_of(root) == expected and names(root) == {*ALL, ".lock"}


KILL_AT = """
import os, signal, sys
from limakit.cli import main
from limakit.curate import pipeline
phase, call, n = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
real, write, seen = getattr(os, call), pipeline._write_all, 0
def killing(*args, **keys):
    global seen
    seen += 1
    if seen == n:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **keys)
def writing(*args):
    setattr(os, call, killing)
    return write(*args)
if phase == "reading":
    setattr(os, call, killing)
pipeline._write_all = writing
main()
"""


MOMENTS = [("reading", call, n) for call in ("fsync", "replace") for n in (1, 2, 3)]
MOMENTS += [("writing", "fsync", n) for n in (1, 9, 19, 20, 21, 22)] + [("writing", "replace", n) for n in (5, 10, 11, 14, 18)]


@pytest.mark.parametrize(("phase", "call", "n"), MOMENTS)
def test_killed_while_it_writes(tmp_path, phase, call, n):
    """Over a set of other settings that was there before, at the n-th sync or rename: while results are kept in the cache, or after that.

    Then 9 files are written aside (a rename and 2 syncs each); then a sync before and after the old manifest goes, 9 files are moved into place,
    and a sync before and after the marker goes. A set that is not whole is marked as such, and no stage reads it.
    """
    path = workspace(tmp_path, 100)
    recipe(tmp_path, stackexchange(take=50, min_answer_score=11), seed=1)  # other candidates too, so that the cache is written to
    run(path)
    before = bytes_of(tmp_path)
    text = workspace(tmp_path, 100).read_text()
    command = [sys.executable, "-c", KILL_AT, phase, call, str(n), "curate"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    after = bytes_of(tmp_path)
    marked = (tmp_path / "data" / CURATING).exists()
    if marked:
        with pytest.raises(LimakitError, match="curate was interrupted"):
            check_data(find_workspace(path))
    run(path)
    check_data(find_workspace(path))
    result = bytes_of(tmp_path)
    assert names(tmp_path) == {*ALL, ".lock"}, "what the killed run left aside is swept away"
    assert all(after.get(name) in (before[name], result[name]) for name in OUTPUTS), "each file is a whole one, old or new"
    assert after.get(MANIFEST) in (before[MANIFEST], result[MANIFEST], None)
    whole = after in (before, result)
    assert whole or (marked and MANIFEST not in after)
    if phase == "reading":
        assert (whole, marked) == (True, False)
    else:
        assert (whole, marked) == {
            ("fsync", 1): (True, False), ("fsync", 9): (True, False), ("replace", 5): (True, False),
            ("fsync", 19): (True, True), ("fsync", 20): (False, True),
            ("replace", 10): (False, True), ("replace", 11): (False, True), ("replace", 14): (False, True), ("replace", 18): (False, True),
            ("fsync", 21): (True, True), ("fsync", 22): (True, False),
        }[call, n]  # fmt: skip
    fresh = tmp_path / "fresh"
    workspace(fresh, 100).write_text(text)
    run(fresh / "lima.toml")
    assert bytes_of(fresh) == result
    outputs = json.loads(result[MANIFEST])["outputs"]
    assert {name: sha256_file(tmp_path / "data" / name) for name in OUTPUTS} == outputs
