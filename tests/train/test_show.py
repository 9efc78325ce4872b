"""`--show`: what a person needs to see that the right tokens are learnt."""

from __future__ import annotations

import json

import pytest
from runs import copy
from tiny import TOKENIZERS, make_tokenizer, make_workspace

from limakit.errors import LimakitError, UsageError
from limakit.model.chat import EOT, chat_format
from limakit.recipe import read_recipe
from limakit.records import Turn
from limakit.train.show import show_example, template_text, tokens
from limakit.train.steps import Document
from limakit.train.training_set import read_training_set
from limakit.workspace import find_workspace

TURNS = [
    Turn(role="user", text="Grüße?"),
    Turn(role="assistant", text="Hi there, Lily."),
    Turn(role="user", text="Bye"),
    Turn(role="assistant", text="So  long"),
]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_each_tokens_turn_text_and_mask(kind):
    chat = chat_format(make_tokenizer(kind), add_eot=True)
    encoded = chat.encode(TURNS)
    shown = list(tokens(chat, Document("x", tuple(encoded.ids), tuple(encoded.target)), TURNS))
    assert [t.position for t in shown] == list(range(len(encoded.ids))) and [t.id for t in shown] == encoded.ids
    assert {t.turn for t in shown if t.wanted} == {"assistant 2", "assistant 4"}
    assert [t.turn for t in shown if t.text == EOT] == ["user 1", "assistant 2", "user 3", "assistant 4"]
    assert [t.wanted for t in shown if t.text == EOT] == [False, True, False, True]  # each response's end is learnt
    assert ({t.turn for t in shown if t.text == "<s>"} == {"BOS"}) == bool(chat.bos)
    if kind != "lowercase_words":
        said = "".join(t.text.strip("“”") for t in shown if t.turn == "assistant 2" and t.text != EOT)
        assert said.strip() == "Hi there, Lily."


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_template_renders_the_training_text(kind):
    chat = chat_format(make_tokenizer(kind), add_eot=True)
    assert template_text(chat, TURNS) == chat.render(TURNS) and template_text(chat, TURNS).endswith("So  long" + EOT)
    chat.tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    with pytest.raises(LimakitError, match="does not render the text"):
        template_text(chat, TURNS)


def shown(folder, capsys, example_id=None):
    workspace = find_workspace(folder / "lima.toml")
    show_example(workspace, read_recipe(workspace.recipe_path), example_id)
    return capsys.readouterr().out


def test_the_first_example_of_the_run_and_its_row(finished, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    workspace = find_workspace(finished / "lima.toml")
    data = read_training_set(workspace, read_recipe(workspace.recipe_path))
    first, row = data.documents[data.steps[0].rows[0][0]], data.steps[0].rows[0]
    out = shown(finished, capsys)
    assert out.startswith(f"{first.id}, as text") and f"{len(first.ids)} tokens, {first.target_tokens} in the loss" in out
    assert "step 1 takes it first" in out and f"document 1 of {len(row)}" in out
    assert all(data.documents[i].id in out for i in row)
    assert sum(line.rstrip(" │┃").endswith("yes") for line in out.splitlines()) == first.target_tokens


def test_a_named_example_and_one_that_is_not_there(finished, capsys):
    assert shown(finished, capsys, "ex-17").startswith("ex-17, as text")
    with pytest.raises(UsageError, match="no example 'ex-99'"):
        shown(finished, capsys, "ex-99")


def test_a_cut_example_says_so_and_has_no_eot_at_its_end(tmp_path, capsys):
    folder = make_workspace(tmp_path / "w", response_words=100, max_tokens=60)
    workspace = find_workspace(folder / "lima.toml")
    trimmed = read_training_set(workspace, read_recipe(workspace.recipe_path)).prepared.trimmed
    out = shown(folder, capsys, trimmed[0])
    assert "60 tokens, cut at max_tokens = 60" in out and EOT not in out.split("in the loss")[-1].splitlines()[-3]


def test_text_that_acts_on_a_terminal_is_shown_and_not_obeyed(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path)
    data = folder / "data/train.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[3]["turns"][1]["text"] = "\x1b[2J[bold]red[/bold] \u202e </s>"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = shown(folder, capsys, "ex-3")
    assert "\x1b" not in out and "\u202e" not in out and "[bold]" in out


@pytest.mark.slow
def test_the_real_command(finished, limakit):
    assert "ex-4, as text" in limakit("train", "--show", "--example", "ex-4", cwd=finished).stdout
    done = limakit("train", "--example", "ex-4", cwd=finished, check=False)
    assert done.returncode == 2 and "--show" in done.stderr
