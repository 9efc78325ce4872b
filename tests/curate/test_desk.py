"""The review desk: by name from scripts, and in a real terminal with keys, an editor, kills and a narrow window."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from terminal import Terminal
from typer.testing import CliRunner

from limakit.cli import app
from limakit.curate.decisions import Decision, append_decision, read_decisions
from limakit.curate.desk import decide, list_candidates, review, show_candidate
from limakit.curate.review import ReviewItem, review_item, write_review
from limakit.errors import LimakitError, UsageError
from limakit.recipe import init_workspace
from limakit.records import Turn
from limakit.workspace import Workspace

SIT = "from limakit.curate.desk import review; from limakit.workspace import find_workspace; review(find_workspace(None){})"


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(texts))


def items() -> list[ReviewItem]:
    long = "\n".join(f"Line {n} of the answer." for n in range(100))
    return [
        review_item(id="tea-1", label="tea", split="train", why="required", turns=turns("Why is it bitter?", "Too hot."), score=12, url="https://tea.test/1"),
        review_item(id="tea-2", label="tea", split="train", why="title_unclear", detail="points at 'this'", turns=turns("What is this?", long)),
        review_item(id="ask-1", label="ask", split="test", why="required", turns=turns("What is best?"), reference="Nothing is."),
        review_item(id="tea-3", label="tea", split="train", why="", turns=turns("Kept [red]one[/red]?", "Kept \x1b[31myes.", "Thanks!", "\u202eWell.")),
    ]  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "lima.toml").write_text("")
    write_review(tmp_path / "data" / "review.jsonl", items())
    return Workspace(tmp_path, tmp_path / "lima.toml")


def made(workspace: Workspace) -> dict[str, Decision]:
    return {d.id: d for d in read_decisions(workspace.root / "decisions.jsonl").made.values()}


def decided(workspace: Workspace) -> dict[str, tuple[str, str]]:
    return {id: (d.action, d.note) for id, d in made(workspace).items()}


def editor(folder: Path, script: str) -> str:
    """An editor that does what a Python script says to the file's text."""
    path = folder / "ed it.py"
    path.write_text(f"import sys\nfrom pathlib import Path\nfile = Path(sys.argv[1])\ntext = file.read_text()\n{script}\n")
    return f"python3 '{path}'"


# by name, from scripts


def test_the_list_names_what_waits_and_says_how_to_decide(workspace, capsys):
    review(workspace)  # pytest is no terminal
    out = capsys.readouterr().out
    assert "tea-1" in out and "ask-1" in out and "tea-3" not in out
    assert "3 of 4 waiting, 1 kept" in out and "--accept ID, --reject ID or --edit ID --file FILE.md" in out
    list_candidates(workspace, source="ask")
    out = capsys.readouterr().out
    assert "ask-1" in out and "tea" not in out and "1 of 1 waiting" in out


def test_json_has_the_texts_and_what_was_decided(workspace, capsys):
    decide(workspace, reject=["tea-3"], note="dull", reviewer="bob")
    capsys.readouterr()
    list_candidates(workspace, kept=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"waiting": 3, "rejected": 1}
    [row] = [c for c in document["candidates"] if c["id"] == "tea-3"]
    assert row["state"] == "rejected" and row["decision"]["note"] == "dull" and row["decision"]["reviewer"] == "bob"
    assert row["turns"][3]["text"] == "\u202eWell."


def test_accept_reject_undo_by_name(workspace, capsys, monkeypatch):
    monkeypatch.setenv("USER", "eve")
    decide(workspace, accept=["tea-1", "ask-1"], reject=["tea-2"], note="so it is")
    assert decided(workspace) == {"tea-1": ("accept", "so it is"), "ask-1": ("accept", "so it is"), "tea-2": ("reject", "so it is")}
    found = made(workspace)["tea-1"]
    assert (found.seen, found.reviewer) == (items()[0].seen, "eve")
    out = capsys.readouterr().out
    assert "wrote 3 decisions to decisions.jsonl" in out and "0 of 4 waiting" in out and "limakit curate takes the decisions in" in out
    decide(workspace, undo=["tea-1"])
    assert decided(workspace).keys() == {"ask-1", "tea-2"}


def test_nothing_is_decided_where_a_name_is_wrong(workspace):
    for wrong, match in (
        ({"accept": ["tea-1", "tea-9"]}, "no candidate in the queue is called 'tea-9'"),
        ({"accept": ["tea-1"], "reject": ["tea-1"]}, "named twice: tea-1"),
        ({"edit": "tea-1"}, "an edit needs the candidate and the file"),
    ):
        with pytest.raises(UsageError, match=match):
            decide(workspace, **wrong)
    with pytest.raises(UsageError, match=r"no candidates of a source 'x'"):
        list_candidates(workspace, source="x")
    assert not (workspace.root / "decisions.jsonl").exists()


def test_an_edit_by_file_is_what_show_prints_changed(workspace, capsys, tmp_path):
    for id, old, new in (("tea-1", "Too hot.", "Too hot.\n\n## Steps"), ("ask-1", "Nothing is.", "All are.")):
        capsys.readouterr()
        show_candidate(workspace, id)
        file = tmp_path / "edit.md"
        file.write_text(capsys.readouterr().out.replace(old, new))
        decide(workspace, edit=id, file=file, note="better")
    found = made(workspace)
    assert found["tea-1"].turns == turns("Why is it bitter?", "Too hot.\n\n## Steps") and found["tea-1"].reference is None
    assert (found["ask-1"].action, found["ask-1"].turns, found["ask-1"].reference) == ("edit", turns("What is best?"), "All are.")
    capsys.readouterr()
    show_candidate(workspace, "tea-1")
    assert "## Steps" in capsys.readouterr().out, "as it was edited"
    file.write_text("## Prompt\n\nWhat is best?\n\n## Response\n\nNo.\n")
    with pytest.raises(LimakitError, match=r"edit\.md: the last turn must be the user's\n.*ends with ## Prompt"):
        decide(workspace, edit="ask-1", file=file)


def same_name() -> list[ReviewItem]:
    """One question, offered with its body to train on and by its title to test with."""
    return [
        review_item(id="q-1", label="tea (train)", split="train", why="required", turns=turns("Why is it so?", "It is.")),
        review_item(id="q-1", label="tea (test)", split="test", why="required", turns=turns("Why?")),
    ]


def test_a_source_tells_two_candidates_of_one_id_apart(workspace, capsys, tmp_path):
    write_review(tmp_path / "data" / "review.jsonl", same_name())
    (file := tmp_path / "new.md").write_text("## Prompt\n\nWhy though?\n")
    for wrong in ({"accept": ["q-1"]}, {"reject": ["q-1"]}, {"edit": "q-1", "file": file}, {"undo": ["q-1"]}):
        with pytest.raises(
            UsageError, match=r"2 candidates are called 'q-1', of the sources 'tea \(train\)', 'tea \(test\)'\n.*--source 'tea \(train\)'"
        ):
            decide(workspace, **wrong)
    with pytest.raises(UsageError, match="2 candidates are called 'q-1'"):
        show_candidate(workspace, "q-1")
    with pytest.raises(UsageError, match="no candidates of a source 'nope'"):
        decide(workspace, accept=["q-1"], source="nope")
    assert not (workspace.root / "decisions.jsonl").exists()
    show_candidate(workspace, "q-1", source="tea (test)")
    assert "Why?" in capsys.readouterr().out
    decide(workspace, accept=["q-1"], source="tea (train)")
    assert "wrote 1 decision to" in capsys.readouterr().out
    decide(workspace, edit="q-1", file=file, source="tea (test)")
    list_candidates(workspace, kept=True)
    out = capsys.readouterr().out
    assert "0 of 2 waiting, 1 accepted, 1 edited" in out and out.count("(train)") == 1
    decide(workspace, undo=["q-1"], source="tea (train)")
    found = read_decisions(workspace.root / "decisions.jsonl")
    assert [found.on(item.seen) is None for item in same_name()] == [True, False]
    with pytest.raises(UsageError, match="nothing was decided about 'q-1'"):
        decide(workspace, undo=["q-1"], source="tea (train)")


def test_what_curate_has_taken_in_can_be_undone(workspace, capsys, tmp_path):
    decide(workspace, reject=["tea-1"], accept=["tea-2", "ask-1"])
    after = [items()[0].model_copy(update={"why": ""}), items()[3]]  # rejected; tea-2 and ask-1 are nowhere now
    write_review(tmp_path / "data" / "review.jsonl", after)
    capsys.readouterr()
    list_candidates(workspace, kept=True)
    out = capsys.readouterr().out
    assert "tea-1  rejected" in out and "0 of 2 waiting, 1 rejected, 1 kept" in out
    decide(workspace, undo=["tea-1", "tea-2"])
    assert decided(workspace).keys() == {"ask-1"}
    with pytest.raises(UsageError, match="no candidate in the queue is called 'tea-2'"):
        decide(workspace, undo=["tea-2"])


def test_undoing_what_reads_otherwise_now_undoes_what_it_was(workspace):
    append_decision(workspace.root / "decisions.jsonl", Decision(id="tea-1", action="reject", seen="0" * 32))
    decide(workspace, undo=["tea-1"])
    assert decided(workspace) == {}


def test_an_unchanged_file_is_accepted_whatever_is_in_it(workspace, capsys, tmp_path):
    odd = review_item(id="odd", label="tea", split="train", why="required", turns=turns("How?", "So:\n\n```\nboil", "And?", "Cool."))
    write_review(tmp_path / "data" / "review.jsonl", [odd])
    show_candidate(workspace, "odd")
    file = tmp_path / "edit.md"
    file.write_text(capsys.readouterr().out)
    decide(workspace, edit="odd", file=file)
    assert decided(workspace) == {"odd": ("accept", "")}
    file.write_text(file.read_text().replace("boil", "cook"))
    with pytest.raises(LimakitError, match="never closed"):
        decide(workspace, edit="odd", file=file)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--list", "--note", "x"], "--note means nothing with --list"),
        (["--list", "--reviewer", "ann"], "--reviewer means nothing with --list"),
        (["--show", "tea-1", "--kept"], "--kept means nothing with --show"),
        (["--show", "tea-1", "--json"], "--json means nothing with --show"),
        (["--accept", "tea-1", "--kept"], "--kept means nothing with a decision"),
        (["--note", "x"], "--note means nothing with the terminal"),
        (["--accept", "tea-1", "--list"], "do not go together"),
        (["--accept", "tea-1", "--source", "nope"], "no candidates of a source 'nope'"),
    ],
)
def test_no_option_is_passed_over(tmp_path, monkeypatch, options, said):
    [recipe, *_] = init_workspace(tmp_path / "w", "lima-7b")
    write_review(tmp_path / "w" / "data" / "review.jsonl", items())
    monkeypatch.chdir(recipe.parent)
    error = CliRunner().invoke(app, ["review", *options]).exception
    assert isinstance(error, UsageError) and said in error.message
    assert not (tmp_path / "w" / "decisions.jsonl").exists()


# in a terminal


def sit(workspace: Workspace, arguments: str = "", **how) -> Terminal:
    return Terminal(SIT.format(arguments), cwd=workspace.root, **how)


def test_a_sitting(workspace):
    with sit(workspace) as t:
        first = t.see("3 of 4 waiting")
        assert "tea-1 · tea · train · score: question 12" in first and "https://tea.test/1" in first and "Too hot." in first
        t.press("a")
        t.see("accepted tea-1")
        assert decided(workspace) == {"tea-1": ("accept", "")}, "saved at once"
        assert "the title may not stand alone: points at 'this'" in t.screen and "Line 0 of" in t.screen and "Line 60 of" not in t.screen
        for _ in range(4):
            t.press(" ")
        t.see("Line 99 of")
        t.press(" ")
        t.see("Line 0 of")
        t.press("\x1b[6~\x1b[B")
        t.see("Line 30 of")
        t.press("r")
        t.see("why not")
        t.press("dull\x7fller ünd\x15too dull")
        t.see("too dull")
        t.press("\r")
        t.see("rejected tea-2")
        assert "Nothing is." in t.screen and "1 of 4 waiting" in t.screen
        t.press("b")
        t.see("rejected by ann: too dull")
        t.press("u")
        t.see("undone: tea-2")
        assert "tea-2" not in decided(workspace)
        t.press("n")
        t.see("note:")
        t.press("read twice\r")
        t.see("note: read twice")
        t.press("s")
        t.see("skipped tea-2")
        t.press("a")
        t.see("1 skipped: s goes through them again")
        t.press("s")
        t.see("tea-2 · tea")
        t.press("nfine\r")
        t.see("note: fine")
        t.press("a")
        t.see("0 of 4 waiting")
        t.press("z?xq")
        assert t.end() == 0
        assert t.restored
        assert t.text.endswith(
            "decided now: 3 accepted, 1 rejected, 1 undone\n0 of 4 waiting, 3 accepted, 1 kept\nlimakit curate takes the decisions in\n"
        )
    assert decided(workspace) == {"tea-1": ("accept", ""), "ask-1": ("accept", ""), "tea-2": ("accept", "fine")}


def test_two_candidates_of_one_id_are_two(workspace, tmp_path):
    write_review(tmp_path / "data" / "review.jsonl", same_name())
    with sit(workspace) as t:
        t.see("2 of 2 waiting")
        assert "q-1 · tea (train)" in t.screen and "tea (train) · train" not in t.screen
        t.press("a")
        t.see("q-1 · tea (test)")
        assert "1 of 2 waiting" in t.screen and "reads otherwise" not in t.screen
        t.press("u")
        t.see("u does nothing here")
        t.press("r\r")
        t.see("0 of 2 waiting")
        t.press("bb")
        t.see("q-1 · tea (train)")
        t.press("u")
        t.see("undone: q-1")
        t.press("q")
        assert t.end() == 0
    found = read_decisions(workspace.root / "decisions.jsonl")
    assert [(d.action if (d := found.on(item.seen)) else None) for item in same_name()] == [None, "reject"]


def test_text_is_shown_and_acts_on_nothing(workspace):
    with sit(workspace, ", kept=True, source='tea'") as t:
        t.see("2 of 3 waiting")
        t.press("ss")
        shown = t.see("Kept [red]one[/red]?")
        assert "Kept ␛[31myes." in shown and "\\u202eWell." in shown and "turn 3, user" in shown and "kept without review" in shown
        t.press("q")
        assert t.end() == 0


def test_sixty_columns_and_a_window_that_changes(workspace):
    with sit(workspace, columns=60, lines=16) as t:
        t.see("3 of 4 waiting")
        lines = t.screen.split("\n")
        assert len(lines) == 16 and max(map(len, lines)) <= 60
        assert lines[-1].startswith("a accept  r reject  e edit") and lines[-1].endswith("? help  q quit")
        t.resize(100, 30)
        t.see("o source")
        assert len(t.screen.split("\n")) == 30
        t.press("q")
        assert t.end() == 0


def test_an_editor_changes_the_words(workspace, tmp_path):
    ed = editor(tmp_path, "file.write_text(text.replace('Too hot', 'Too cold') if 'Too hot' in text else text)")
    with sit(workspace, env={"EDITOR": ed}) as t:
        t.see("3 of 4 waiting")
        t.press("e")
        t.see("edited tea-1")
        t.press("e")  # tea-2 comes back as it was
        t.see("unchanged, so accepted: tea-2")
        t.press("bb")
        t.see("response (edited) · 9 characters")
        assert "Too cold" in t.screen
        t.press("q")
        assert t.end() == 0 and t.restored
    found = made(workspace)
    assert found["tea-1"].turns == turns("Why is it bitter?", "Too cold.") and found["tea-2"].action == "accept"


def test_an_edit_that_cannot_be_read_is_told_and_edited_again(workspace, tmp_path):
    ed = editor(
        tmp_path, "file.write_text(text.replace('## Response', '') if '## Response' in text else text + '\\n## Response\\n\\nSo.\\n')"
    )
    with sit(workspace, env={"VISUAL": ed, "EDITOR": "false"}) as t:
        t.see("3 of 4 waiting")
        t.press("e")
        t.see("the last turn must be the assistant's")
        assert not (workspace.root / "decisions.jsonl").exists()
        t.press("e")
        t.see("edited tea-1")
        t.press("e")
        t.see("the last turn must be the assistant's")
        t.press("\x1b")
        t.see("the changes were dropped")
        assert "tea-2" in t.screen
        t.press("q")
        assert t.end() == 0
    assert decided(workspace).keys() == {"tea-1"}


@pytest.mark.parametrize(("command", "said"), [("false", "the editor failed (exit code 1)"), ("no-such-editor", "cannot be run: No such file"), ("'", "is no command")])  # fmt: skip
def test_an_editor_that_fails_decides_nothing(workspace, command, said):
    with sit(workspace, env={"EDITOR": command}, columns=140) as t:
        t.see("3 of 4 waiting")
        t.press("e")
        t.see(said)
        t.press("q")
        assert t.end() == 0
    assert decided(workspace) == {}


def test_an_empty_file_decides_nothing(workspace, tmp_path):
    with sit(workspace, env={"EDITOR": editor(tmp_path, "file.write_text('  ')")}) as t:
        t.see("3 of 4 waiting")
        t.press("e")
        t.see("the file is empty: nothing was decided")
        t.press("q")
        assert t.end() == 0


def test_kill_9_and_the_next_sitting_goes_on(workspace):
    with sit(workspace) as t:
        t.see("3 of 4 waiting")
        t.press("a")
        t.see("accepted tea-1")
        t.press("r")
        t.see("why not")
        t.process.send_signal(signal.SIGKILL)
        assert t.end() == -signal.SIGKILL
    path = workspace.root / "decisions.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:30])
    with sit(workspace) as t:
        t.see("2 of 4 waiting")
        assert "tea-2" in t.screen and "only the beginning of a decision" in t.text
        t.press("a")
        t.see("accepted tea-2")
        t.press("q")
        assert t.end() == 0
    assert decided(workspace).keys() == {"tea-1", "tea-2"} and path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("how", ["ctrl-c", "term"])
def test_ctrl_c_and_sigterm_give_the_terminal_back(workspace, how):
    with sit(workspace) as t:
        t.see("3 of 4 waiting")
        t.press("a")
        t.see("accepted tea-1")
        if how == "ctrl-c":
            t.press("\x03")
        else:
            t.process.send_signal(signal.SIGTERM)
        assert t.end() != 0 and t.restored
    assert decided(workspace) == {"tea-1": ("accept", "")}


def test_pasted_text_decides_nothing(workspace):
    with sit(workspace) as t:
        t.see("3 of 4 waiting")
        t.press("\x1b[200~aaaa\x1b[201~")
        t.press("n")
        t.see("note:")
        t.press("\x1b[200~one\ntwo\x1b[201~\r")
        t.see("note: one two")
        t.press("q")
        assert t.end() == 0
    assert decided(workspace) == {}


def test_one_source_alone_and_somebody_else_at_it(workspace):
    with sit(workspace) as t:
        t.see("3 of 4 waiting")
        t.press("o")
        t.see("ask (1 waiting)")
        t.press("2\r")
        t.see("2 of 3 waiting · tea")
        append_decision(workspace.root / "decisions.jsonl", Decision(id="tea-2", action="accept", seen=items()[1].seen))
        t.press("a")
        t.see("0 of 3 waiting · tea")
        t.press("q")
        assert t.end() == 0


def test_what_was_decided_about_other_words_is_asked_again(workspace):
    append_decision(workspace.root / "decisions.jsonl", Decision(id="tea-1", action="reject", seen="0" * 32, note="old", reviewer="bob"))
    with sit(workspace) as t:
        t.see("reads otherwise than when it was decided (reject by bob: old)")
        t.press("q")
        assert t.end() == 0
    assert "changed since they were decided" in t.text


def test_a_disk_that_is_full_is_told_and_the_candidate_stays(workspace):
    if os.geteuid() == 0:
        (workspace.root / "decisions.jsonl").mkdir()
        with sit(workspace) as t:
            assert t.end() == 1
            assert "is a folder" in t.text
    code = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); "
    if (workspace.root / "decisions.jsonl").is_dir():
        (workspace.root / "decisions.jsonl").rmdir()
    with Terminal(code + SIT.format(""), cwd=workspace.root, columns=200) as t:
        t.see("3 of 4 waiting")
        t.press("a")
        t.see("this decision is not saved")
        assert "tea-1 · tea" in t.screen
        t.press("q")
        assert t.end() == 0
    assert decided(workspace) == {}
