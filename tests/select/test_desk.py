"""limakit select in the terminal: the table, one prompt, the choice, and what other commands then take."""

from __future__ import annotations

import json

import pytest
from epochs import make_epochs
from terminal import Terminal

from limakit.analyze.selection import read_selection
from limakit.choice import checkpoint_of, read_choice
from limakit.errors import LimakitError, UsageError
from limakit.select import desk
from limakit.workspace import sha256_file

CODE = "import sys; sys.argv = ['limakit', 'select']; from limakit.cli import main; main()"


@pytest.fixture
def here(tmp_path):
    return make_epochs(tmp_path / "w")


def test_the_table(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    desk.select(*here)
    out = capsys.readouterr().out
    assert max(map(len, out.split("\n")[:12])) <= 80 and "perplexity of 6 examples" in out and "judge referee, rubric helpfulness" in out
    assert "Spearman's rho 1.00" in out and "as in the paper" in out and "--because" in out


def test_one_prompt_with_what_every_epoch_said(here, capsys):
    desk.show_prompt(read_selection(*here), "dev-2")
    out = capsys.readouterr().out
    assert out.startswith("prompt 2 of 5: dev-2") and "question 2?" in out
    assert [f"--- epoch {e}: {11 + e} tokens" in out for e in (1, 2, 3, 4)] == [True] * 4 and "grade 3" in out


def test_a_choice_with_its_reason_is_what_others_take(here, capsys):
    workspace, recipe = here
    run = workspace.runs / "tiny"
    (run / "final").mkdir()
    assert checkpoint_of(workspace, "tiny").folder == run / "final"
    desk.choose(workspace, recipe, 3, "  answers the question first ", "ann")
    choice = read_choice(run)
    assert (choice.epoch, choice.because, choice.who) == (3, "answers the question first", "ann") and len(choice.date) == 10
    assert choice.weights == sha256_file(run / "epochs/03/sha256.json") and choice.responses == sha256_file(run / "dev/03.jsonl")
    taken = checkpoint_of(workspace, "tiny")
    assert taken.folder == run / "epochs/03" and "epoch 3, as chosen" in taken.said
    desk.choose(workspace, recipe, 2, "shorter", "ben")
    assert checkpoint_of(workspace, "tiny").epoch == 2
    desk.unchoose(workspace, recipe)
    assert checkpoint_of(workspace, "tiny").epoch is None
    with pytest.raises(UsageError, match="nothing is chosen"):
        desk.unchoose(workspace, recipe)


def test_what_cannot_be_chosen(tmp_path):
    workspace, recipe = make_epochs(tmp_path, kept=(3, 4))
    with pytest.raises(UsageError, match="the weights of epoch 2 are not here") as caught:
        desk.choose(workspace, recipe, 2, "good")
    assert 'keep = "all"' in caught.value.remedy
    with pytest.raises(UsageError, match="there is no epoch 9"):
        desk.choose(workspace, recipe, 9, "good")
    with pytest.raises(UsageError, match="needs its reason"):
        desk.choose(workspace, recipe, 3, " ")
    assert read_choice(workspace.runs / "tiny") is None


def test_a_choice_of_another_training_is_not_taken(here):
    workspace, recipe = here
    desk.choose(workspace, recipe, 3, "good")
    (workspace.runs / "tiny/epochs/03/sha256.json").write_text('{"config.json": "other"}')
    with pytest.raises(LimakitError, match="that of another training") as caught:
        checkpoint_of(workspace, "tiny")
    assert "choose again" in caught.value.remedy
    (workspace.runs / "tiny/epochs/03/sha256.json").unlink()
    (workspace.runs / "tiny/epochs/03").rmdir()
    with pytest.raises(LimakitError, match="epoch 3 was chosen, and its weights are gone"):
        checkpoint_of(workspace, "tiny")


def test_the_command_line(here, limakit):
    root = here[0].root
    done = limakit("select", "--epoch", 2, "--because", "<b>\u202e\x1b[31m", "--who", "ann", cwd=root)
    assert "\x1b" not in done.stdout and "wrote" in done.stdout
    assert json.loads((root / "runs/tiny/choice.json").read_text())["because"] == "<b>\u202e\x1b[31m"
    for arguments, says in ((["--epoch", "1"], "needs its reason"), (["--epoch", "1", "--page"], "do not go together")):
        failed = limakit("select", *arguments, cwd=root, check=False)
        assert failed.returncode == 2 and says in failed.stderr


def test_nothing_acts_on_the_terminal(tmp_path, capsys):
    texts = ["\x1b[2Jgone \u202e [bold]x[/bold]", "line\u2028two\r\x07"]
    desk.show_prompt(read_selection(*make_epochs(tmp_path, texts=texts)), "1")
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "[bold]x[/bold]" in out


def test_reading_and_choosing_with_keys(here):
    workspace, _ = here
    with Terminal(CODE, cwd=workspace.root, columns=90) as screen:
        assert "epochs 1 to 2 of 4" in screen.see("prompt 1 of 5")
        screen.press("l")
        assert "In epoch 4" in screen.see("epochs 3 to 4 of 4")
        screen.press("n")
        screen.see("prompt 2 of 5")
        screen.press("g")
        screen.see("prompt (number or id)")
        screen.press("dev-5\r")
        screen.see("prompt 5 of 5")
        screen.press("n")
        screen.see("this is the last prompt")
        screen.press("c")
        screen.see("which epoch is to be taken")
        screen.press("3\r")
        screen.see("why epoch 3")
        screen.press("reads best\r")
        assert screen.end() == 0 and screen.restored
    choice = read_choice(workspace.runs / "tiny")
    assert (choice.epoch, choice.because, choice.who) == (3, "reads best", "ann")


def test_leaving_chooses_nothing(here):
    workspace, _ = here
    with Terminal(CODE, cwd=workspace.root, columns=200) as screen:
        screen.see("epochs 1 to 4 of 4")
        screen.press("c")
        screen.see("which epoch")
        screen.press("7\r")
        screen.see("there is no epoch 7")
        screen.press("q")
        assert screen.end() == 0 and screen.restored
    assert read_choice(workspace.runs / "tiny") is None


def test_a_damaged_choice_is_chosen_over_or_taken_back(here):
    workspace, recipe = here
    path = workspace.runs / "tiny/choice.json"
    path.write_text('{"epoch": ')
    with pytest.raises(LimakitError, match=r"choice\.json") as caught:
        read_choice(workspace.runs / "tiny")
    assert "limakit select --epoch N" in caught.value.remedy
    desk.choose(workspace, recipe, 2, "good")
    assert read_choice(workspace.runs / "tiny").epoch == 2
    path.write_text("[]")
    desk.unchoose(workspace, recipe)
    assert not path.exists()


def test_weights_that_are_not_the_chosen_epochs_are_refused(here):
    workspace, recipe = here
    desk.choose(workspace, recipe, 3, "good")
    taken = checkpoint_of(workspace, "tiny")
    taken.check({"config.json": "3"}, "runs/tiny/epochs/03")  # as its sha256.json has it
    with pytest.raises(LimakitError, match=r"runs/tiny/epochs/03: epoch 3 was chosen, and config\.json is not what training wrote"):
        taken.check({"config.json": "4"}, "runs/tiny/epochs/03")


def test_choosing_says_what_it_leads_to(here, capsys):
    workspace, recipe = here
    (workspace.responses).mkdir()
    (workspace.responses / "tiny.jsonl").write_text("")
    manifest = {"stage": "generate", "settings": {"model": "runs/tiny/final", "name": "tiny"}, "inputs": {}, "outputs": {}}
    (workspace.responses / "tiny.manifest.json").write_text(json.dumps(manifest))
    picked = recipe.model_copy(update={"train": recipe.train.model_copy(update={"keep": "picked"})})
    desk.choose(workspace, picked, 2, "good")
    out = " ".join(capsys.readouterr().out.split())
    assert "responses/tiny.jsonl: made by the last epoch, and epoch 2 is chosen: run limakit generate, then limakit judge" in out
    assert "the next limakit train drops the weights of epochs 1, 3" in out
    desk.choose(workspace, recipe, 2, "good")
    assert "drops" not in capsys.readouterr().out


def test_who_chose_where_user_is_not_set(here, monkeypatch, capsys):
    workspace, recipe = here
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    desk.choose(workspace, recipe, 2, "good")
    assert read_choice(workspace.runs / "tiny").who == "root"

    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    desk.choose(workspace, recipe, 2, "good")
    assert read_choice(workspace.runs / "tiny").who == "" and "--who NAME" in capsys.readouterr().out


def test_without_dev_prompts_it_says_so(here, capsys, limakit):
    workspace, recipe = here
    (workspace.data / "dev.jsonl").unlink()
    desk.select(workspace, recipe)
    assert "there are no dev prompts, so there are no responses to read" in capsys.readouterr().out
    failed = limakit("select", "--prompt", "1", cwd=workspace.root, check=False)
    assert failed.returncode == 2 and "there are no dev prompts" in failed.stderr and 'split = "dev"' in failed.stderr


def test_who_goes_with_a_choice_alone(here, limakit):
    for option in (["--page"], ["--prompt", "1"]):
        failed = limakit("select", "--who", "ann", *option, cwd=here[0].root, check=False)
        assert failed.returncode == 2 and "--who means nothing" in failed.stderr
