"""Decisions: each is on the disk at once, nothing whole is ever lost, and what a kill leaves is mended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from limakit.curate.decisions import Decision, Decisions, append_decision, decisions_of, digest, read_decisions
from limakit.errors import LimakitError
from limakit.records import Turn

TURNS = (Turn(role="user", text="Why is it bitter?"), Turn(role="assistant", text="The water is too hot.\u2028Cool it.\n"))


def accept(id: str, seen: str | None = None, **more) -> Decision:
    return Decision(id=id, action="accept", seen=seen or f"text of {id}", **more)


def ids(path: Path) -> list[str]:
    return [decision.id for decision in read_decisions(path).made.values()]


def run(code: str, *args: object, **how) -> subprocess.Popen:
    head = "import sys; from pathlib import Path; from limakit.curate.decisions import *; path = Path(sys.argv[1])\n"
    return subprocess.Popen([sys.executable, "-c", head + code, *map(str, args)], stdout=subprocess.PIPE, text=True, **how)


def test_the_last_decision_about_a_text_counts_and_undo_is_as_if_nobody_had_looked(tmp_path):
    path = tmp_path / "new" / "decisions.jsonl"
    assert read_decisions(path) == Decisions()
    edit = Decision(id="b", action="edit", seen="y", turns=TURNS, reference=None, note="shorter", reviewer="ann")
    reject = Decision(id="a", action="reject", seen="x", note="dull\n")
    for decision in (accept("a", "x"), accept("b", "y"), reject, edit, accept("c", "z")):
        append_decision(path, decision)
    append_decision(path, Decision(id="c", action="undo", seen="z"))
    found = read_decisions(path)
    assert found.made == {"x": reject, "y": edit} and (found.on("x"), found.on("z")) == (reject, None)
    assert path.read_bytes().count(b"\n") == 6, "a row a decision, whatever is in the text"


def test_a_decision_is_about_its_text_whatever_that_is_called():
    yes, no = accept("7", "body"), Decision(id="7", action="reject", seen="title")
    both = decisions_of([yes, no])
    assert (both.on("body"), both.on("title")) == (yes, no), "one id, two texts"
    assert not both.changed("7", "body") and both.changed("7", "new") and not both.changed("8", "new")
    assert both.under("7") == (yes, no)
    assert not both.changed("8", "body"), "the row has another number now"
    assert both.among(["body", "new"]).under("7") == (no,) and not both.among(["body", "title", "new"]).changed("7", "new")
    moved = decisions_of([yes, accept("8", "body", note="again")])
    assert moved.on("body").note == "again" and len(moved.made) == 1


def test_an_undo_is_about_its_text_or_where_that_is_new_about_what_the_id_stood_for():
    yes, no = accept("7", "body"), Decision(id="7", action="reject", seen="title")
    undo = Decision(id="7", action="undo", seen="title")
    assert decisions_of([yes, no, undo]).made == {"body": yes}
    assert decisions_of([yes, no, undo.model_copy(update={"seen": "changed since"}), accept("8", "z")]).made.keys() == {"z"}
    assert decisions_of([yes, undo.model_copy(update={"seen": "body", "id": "8"})]).made == {}


def test_the_digest_tells_texts_apart():
    said = [
        digest(TURNS, None), digest(TURNS, ""), digest(TURNS, "x"), digest(TURNS[:1], None), digest(TURNS[:1], "x"),
        digest((TURNS[0], Turn(role="user", text=TURNS[1].text)), None), digest((), None),
    ]  # fmt: skip
    assert len(set(said)) == len(said) and all(len(s) == 32 and int(s, 16) >= 0 for s in said)
    assert digest(TURNS, None) == "6b2b6bf6199b8047930d5c1f9dad8b3f", "what was decided under one version counts under the next"


@pytest.mark.parametrize("keys", [{"action": "edit"}, {"action": "accept", "turns": TURNS}, {"action": "reject", "reference": "r"}])
def test_words_belong_to_an_edit_and_only_there(keys):
    with pytest.raises(ValueError, match="action"):
        Decision(id="a", seen="x", **keys)


def test_a_row_cut_anywhere_is_told_left_out_and_mended(tmp_path, capsys):
    path = tmp_path / "decisions.jsonl"
    append_decision(path, accept("a"))
    first = path.read_bytes()
    append_decision(path, accept("b", note="ünï"))
    whole = path.read_bytes()
    for size in range(len(first), len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = size >= len(whole) - 1  # only its line feed is missing, or nothing
        capsys.readouterr()
        assert ids(path) == (["a", "b"] if complete else ["a"])
        torn = not complete and size > len(first)
        assert ("row 2: only the beginning of a decision" in capsys.readouterr().err) == torn
        append_decision(path, accept("c"))
        assert ("removed the beginning" in capsys.readouterr().err) == torn
        rows = [json.loads(line)["id"] for line in path.read_bytes().splitlines()]
        assert rows == (["a", "b", "c"] if complete else ["a", "c"])


def test_damage_in_the_middle_is_named_and_nothing_is_touched(tmp_path):
    path = tmp_path / "decisions.jsonl"
    append_decision(path, accept("a"))
    path.write_bytes(path.read_bytes() + b'{"id": "b"}\n' + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(LimakitError, match=r"decisions\.jsonl, row 2: action: missing"):
        read_decisions(path)
    assert path.read_bytes() == before


def test_a_long_row_that_was_cut_goes_whole(tmp_path):
    path = tmp_path / "decisions.jsonl"
    append_decision(path, accept("a"))
    path.write_bytes(path.read_bytes() + b'{"id": "' + b"x" * 200_000)
    append_decision(path, accept("b"))
    assert ids(path) == ["a", "b"]


def test_kill_9_loses_no_decision_that_was_taken(tmp_path):
    path = tmp_path / "decisions.jsonl"
    loop = """
for n in range(10_000):
    append_decision(path, Decision(id=f"{sys.argv[2]}-{n}", action="accept", seen=f"{sys.argv[2]}-{n}", note="n" * 3000))
    print(n, flush=True)
"""
    for attempt in range(3):
        with run(loop, path, attempt) as child:
            assert child.stdout is not None
            taken = -1
            while taken < 20 + attempt:
                taken = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            taken = max([taken, *(int(line) for line in child.stdout if line.endswith("\n"))])
        append_decision(path, accept(f"after-{attempt}"))
        found = ids(path)
        assert {f"{attempt}-{n}" for n in range(taken + 1)} <= set(found) and f"after-{attempt}" in found


def test_writers_at_the_same_time_never_mix_their_rows(tmp_path):
    path = tmp_path / "decisions.jsonl"
    code = 'for n in range(40): append_decision(path, Decision(id=f"{sys.argv[2]}-{n}", action="accept", seen=f"{sys.argv[2]}-{n}", note="n" * 9000))'
    for child in [run(code, path, who) for who in "abc"]:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert set(ids(path)) == {f"{who}-{n}" for who in "abc" for n in range(40)}


def test_a_full_disk_leaves_no_part_of_a_decision(tmp_path):
    path = tmp_path / "decisions.jsonl"
    append_decision(path, accept("a"))
    before = path.read_bytes()
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 40},) * 2)
try:
    append_decision(path, Decision(id="b", action="accept", seen="x", note="n" * 100))
except Exception as error:
    print(error)
"""
    out, _ = run(code, path).communicate(timeout=60)
    assert "cannot write: No space left on device; this decision is not saved" in out and str(path) in out
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_empty_file_and_who_waited_makes_another(tmp_path):
    path = tmp_path / "decisions.jsonl"
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
for n in range(int(sys.argv[2])):
    try:
        append_decision(path, Decision(id="b", action="accept", seen="x"))
    except Exception as error:
        last = error
print(last)
"""
    out, _ = run(code, path, 1).communicate(timeout=60)
    assert "cannot write: No space left on device" in out and not path.exists()
    with run(code, path, 3000) as child:
        for n in range(30):
            append_decision(path, accept(str(n)))
            if n < 29:
                path.unlink()
        child.kill()
    assert ids(path) == ["29"]


def test_a_file_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "decisions.jsonl").mkdir()
    with pytest.raises(LimakitError, match="cannot write: Is a directory"):
        append_decision(tmp_path / "decisions.jsonl", accept("a"))
    with pytest.raises(LimakitError, match="is a folder"):
        read_decisions(tmp_path / "decisions.jsonl")
    loop = Path(tmp_path / "loop")
    loop.symlink_to(loop)
    with pytest.raises(LimakitError):
        read_decisions(loop)
