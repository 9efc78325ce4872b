"""The face: quick, honest about mistakes, no tracebacks."""

import os
import signal
import statistics
import subprocess
import sys
import time

import pytest


def test_help_is_light():
    """`limakit --help` answers in under 0.3 s and imports no heavy package (the second is what keeps the first true)."""
    code = "import sys, limakit.cli; print([m for m in ('torch', 'transformers', 'numpy', 'pydantic', 'pyarrow', 'httpx2', 'daft', 'ray') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        out = subprocess.check_output([sys.executable, "-m", "limakit.cli", "--help"], text=True)
        seconds.append(time.perf_counter() - start)
    assert "curate" in out
    assert statistics.median(seconds) < 0.3, seconds


def test_outside_a_workspace(limakit, tmp_path):
    done = limakit("train", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "limakit init" in done.stderr


def test_unknown_option_is_wrong_usage(limakit, tmp_path):
    assert limakit("train", "--nonsense", cwd=tmp_path, check=False).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["init", "f"], 1, "f/lima.toml: cannot write"),
        (["init", "a" * 300], 1, "File name too long"),
        (["stats", "f/x"], 1, "Not a directory"),
        (["curate", "--recipe", "f/lima.toml"], 2, "no such recipe"),
        (["curate", "--recipe", "latin.toml"], 2, "not UTF-8"),
        (["curate", "--recipe", "deep.toml"], 2, "nested too deeply"),
        (["curate", "--recipe", "tilde.toml"], 2, "no such user's home folder"),
    ],
)
def test_mistakes_are_one_message(limakit, tmp_path, arguments, code, says):
    (tmp_path / "f").write_text("")
    (tmp_path / "latin.toml").write_bytes(b"name = 'caf\xe9'")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000)
    source = '[[sources]]\nkind = "authored"\npath = "~nosuchuser/x"\n'
    (tmp_path / "tilde.toml").write_text(f'name = "x"\n[model]\nbase = "b"\n{source}')
    done = limakit(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.startswith("limakit: ")


def test_a_letter_the_terminal_lacks(limakit, tmp_path):
    done = limakit("init", "caf\u00e9", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert "wrote caf\\xe9/lima.toml" in done.stdout


def test_ctrl_c_says_how_to_go_on(tmp_path):
    code = (
        "import time, limakit.cli as cli\n"
        "import limakit.recipe as recipe\n"
        "def slow(*_): print('ready', flush=True); time.sleep(60)\n"
        "recipe.read_recipe = slow\n"
        "import sys; sys.argv = ['limakit', 'plan']; cli.main()"
    )
    (tmp_path / "lima.toml").write_text("")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on where it was" in err


def test_convert_gives_back_the_published_format_and_overwrites_nothing(limakit, tmp_path):
    rows = '{"conversations":["a","b","c","d"],"source":"multi_turn"}\n{"conversations":["p\u2028q","r"],"source":"se"}\n'
    (tmp_path / "lima.jsonl").write_text(rows)
    (tmp_path / "lima.toml").write_text('name = "x"\n[model]\nbase = "b"\n[[sources]]\nkind = "lima"\npath = "lima.jsonl"\n')
    limakit("curate", cwd=tmp_path)
    limakit("convert", "data/train.jsonl", "out.jsonl", cwd=tmp_path)
    assert (tmp_path / "out.jsonl").read_text() == rows
    again = limakit("convert", "data/train.jsonl", "lima.toml", cwd=tmp_path, check=False)
    assert again.returncode == 2 and "is there already; nothing was touched" in again.stderr
    assert (tmp_path / "lima.toml").read_text().startswith("name")


@pytest.mark.parametrize("bounds", ["1200", "4096:1200", "a:b", ":", "-1:5"])
def test_bounds_that_are_none(limakit, tmp_path, bounds):
    (tmp_path / "set.jsonl").write_text('{"conversations":["a","b"],"source":"se"}\n')
    done = limakit("lint", "set.jsonl", f"--bounds={bounds}", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "e.g. --bounds 1200:4096" in done.stderr


def test_a_message_that_quotes_a_file_does_not_act_on_the_terminal(limakit, tmp_path):
    (tmp_path / "dumps" / "coffee").mkdir(parents=True)
    (tmp_path / "dumps" / "coffee" / "Posts.xml").write_text("<\x1b[31mEVIL\x07/>")
    (tmp_path / "lima.toml").write_text('name = "x"\n[model]\nbase = "b"\n[[sources]]\nkind = "stackexchange"\ntake = 1\npath = "dumps"\n')
    done = limakit("curate", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "\x1b" not in done.stderr and "\x07" not in done.stderr
