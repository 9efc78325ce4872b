"""Bad input and a full disk, through the command itself: one clear message, the right exit code, nothing half written."""

import os
import re
import resource
import subprocess
import sys

import pytest
from dumps import answer, question, recipe, stackexchange, write_site

AUTHORED = 'kind = "authored"\npath = "mine"\n'


def good_dump(root, n=1):
    return write_site(root / "dumps", "coffee", [r for i in range(1, n + 1) for r in (question(2 * i), answer(2 * i + 1, 2 * i))])


def outputs(root):
    return [p.name for p in (root / "data").iterdir() if p.name != ".lock"] if (root / "data").exists() else []


def cut(root):
    path = good_dump(root)
    path.write_bytes(path.read_bytes()[:-40])


def bad_row(root):
    (root / "mine").write_text('{"prompt": "p", "response": "r"}\n{"prompt": "p", "respons": "r"}\n')


def declared(root, encoding):
    path = good_dump(root)
    path.write_bytes(path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"utf-8", encoding.encode()))


def bad_markdown(root):
    (root / "mine").mkdir()
    (root / "mine" / "one.md").write_text("## Prompt\n\nx\n\n## Prompt\n\ny\n")


@pytest.mark.parametrize(
    ("source", "prepare", "code", "message"),
    [
        (stackexchange(), lambda root: None, 2, r"dumps: no such folder"),
        (stackexchange(), lambda root: (root / "dumps" / "coffee").mkdir(parents=True), 2, "dumps: no Posts.xml in any folder here"),
        (stackexchange(), cut, 1, "dumps/coffee/Posts.xml: is truncated"),
        (stackexchange(take=5), good_dump, 1, "had 1 fit of 1 candidates, and the recipe asks for 5"),
        (stackexchange(group="stem"), good_dump, 2, "no community of the group 'stem'"),
        (AUTHORED, lambda root: None, 2, "mine: no such file or folder"),
        (AUTHORED, bad_row, 1, "mine, row 2: respons: unknown key"),
        (AUTHORED, bad_markdown, 1, "one.md: heading 2 is ## Prompt, expected ## Response"),
        (AUTHORED, lambda root: (root / "mine").write_text(""), 1, "had 0 fit of 0 candidates"),
        (AUTHORED + "allow_fewer = true", lambda root: (root / "mine").write_text(""), 1, "the set is empty"),
        ('kind = "lima"\npath = "mine"', lambda root: (root / "mine").mkdir(), 2, "is a folder, expected a JSONL file"),
        ('kind = "lima"\npath = "none"', lambda root: None, 2, "none: no such file"),
        (stackexchange(path="x" * 300), lambda root: None, 2, "cannot read: File name too long"),
        ('kind = "authored"\npath = "' + "x" * 300 + '"', lambda root: None, 2, "cannot read: File name too long"),
        ('kind = "lima"\npath = "' + "x" * 300 + '"', lambda root: None, 2, "cannot read: File name too long"),
        (AUTHORED, lambda root: (root / "mine").write_text('{"prompt":' + "[" * 100_000 + "\n"), 1, "mine, row 1: "),
        (stackexchange(), lambda root: declared(root, "foo"), 1, "dumps/coffee/Posts.xml: declares an encoding that cannot be read"),
        (stackexchange(), lambda root: declared(root, "shift_jis"), 1, "dumps/coffee/Posts.xml: declares an encoding that cannot be read"),
        (
            stackexchange(),
            lambda root: write_site(root / "dumps", "coffee", [question(1), answer(2, 1, score=10**20)]),
            1,
            "had 0 fit of 2 candidates (dropped: 1 malformed, 1 no_answer)",
        ),
        (
            stackexchange(),
            lambda root: write_site(root / "dumps", "my-old-copy", [question(1), answer(2, 1)]),
            2,
            "no community that is known: my-old-copy",
        ),
    ],
)
def test_one_message_and_nothing_written(limakit, tmp_path, source, prepare, code, message):
    recipe(tmp_path, source)
    prepare(tmp_path)
    done = limakit("curate", cwd=tmp_path, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("limakit: ") and message in done.stderr, done.stderr
    assert "\n  -> " in done.stderr
    assert done.stderr.count("limakit:") == 1 and outputs(tmp_path) == []


@pytest.mark.parametrize(("limit", "take", "file"), [(0, 90, ""), (60_000, 90, "data/train.jsonl"), (2_200, 1, "data/candidates.parquet")])
def test_disk_full(tmp_path, limit, take, file):
    """A write fails with EFBIG after `limit` bytes of any one file, as with ENOSPC on a disk that is full. The old set stays as it was."""
    good_dump(tmp_path, 100)
    path = recipe(tmp_path, stackexchange(take=3, prompt="title"))
    command = [sys.executable, "-m", "limakit.cli", "curate"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    before = {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()}
    recipe(tmp_path, stackexchange(take=take, prompt="title"))

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, preexec_fn=full, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.startswith("limakit: ")
    assert f"{file}: cannot write: File too large; nothing was left half written\n  -> free some space" in done.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == before
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert path.exists()


def test_no_extra_installed_is_said_before_anything_is_read(tmp_path):
    recipe(tmp_path, stackexchange())
    code = "import sys; sys.modules['selectolax'] = None; from limakit.cli import main; sys.argv = ['limakit', 'curate']; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 1 and "limakit[curate]" in done.stderr and "Traceback" not in done.stderr


def test_owners_that_are_no_numbers_and_a_tiny_temperature_are_no_obstacle(limakit, tmp_path):
    rows = [question(1, OwnerUserId="²"), answer(2, 1, OwnerUserId="--5")]
    write_site(tmp_path / "dumps", "coffee", rows)
    recipe(tmp_path, stackexchange(prompt="title", temperature=1e-9))
    limakit("curate", cwd=tmp_path)
    assert "a deleted account" in (tmp_path / "data" / "provenance.jsonl").read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(
    "source", [stackexchange(path="locked"), 'kind = "authored"\npath = "locked"', 'kind = "authored"\npath = "locked/in"']
)
def test_a_folder_that_may_not_be_read_is_said(limakit, tmp_path, source):
    recipe(tmp_path, source)
    (tmp_path / "locked").mkdir(mode=0)
    done = limakit("curate", cwd=tmp_path, check=False)
    assert done.returncode == 2 and re.search(r"locked\S*: cannot read: Permission denied\n  -> ", done.stderr), done.stderr
