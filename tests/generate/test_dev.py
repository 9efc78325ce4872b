"""Looks at epochs: they say what the saved epoch says, they change nothing of the training, and no look costs an epoch."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from looked_at import dev_workspace, opened, run_looked_at
from runs import edit, leave_as_killed, run, tree

from limakit.errors import LimakitError
from limakit.generate import local
from limakit.generate.dev import each_epoch, look_again
from limakit.generate.look import Place, read_answers, read_look
from limakit.generate.run import generate
from limakit.records import Example, Response, read_jsonl

ENV = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory) -> Path:
    folder = dev_workspace(tmp_path_factory.mktemp("looked") / "w")
    run_looked_at(folder)
    return folder


def dev_files(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in tree(folder).items() if name.startswith("dev/")}


def test_every_epoch_is_asked_and_measured(looked_at):
    workspace, recipe = opened(looked_at)
    for number in (1, 2, 3):
        place = Place(workspace.runs / "tiny", number)
        look = read_look(place)
        answers = read_answers(place, look)
        assert [a.prompt_id for a in answers] == [f"d{i}" for i in range(6)] and {a.model for a in answers} == {f"tiny@{number}"}
        assert all(a.tokens <= 16 and a.seed == recipe.seed for a in answers) and look.answered.sampling.max_tokens == 16
        assert len(look.held_out.each) == 5 and math.isfinite(look.held_out.perplexity)


def test_training_goes_on_as_if_nobody_had_looked(looked_at, tmp_path):
    """Promise 6: every byte of weights, log and manifest is that of a run without looks; other dev settings bind nobody."""
    folder = Path(shutil.copytree(looked_at, tmp_path / "w", ignore=shutil.ignore_patterns("runs")))
    run(folder)
    assert tree(folder) == {name: digest for name, digest in tree(looked_at).items() if not name.startswith("dev/")}
    edit(folder, "max_tokens = 16", "max_tokens = 9")
    assert run_looked_at(folder) == []


@pytest.mark.parametrize(
    "train", [{}, {"precision": "bfloat16"}, {"precision": "bfloat16", "weights": "split", "moments": "bfloat16"}, {"pack": False}, {"recompute": True}],
    ids=["float32", "bfloat16", "split", "not packed", "recompute"],
)  # fmt: skip
def test_what_is_said_in_memory_is_what_the_saved_epoch_says(tmp_path, train):
    """Answers and losses, bit for bit, whatever it is trained with: the saved epoch is loaded as plain float32, and not packed."""
    folder = dev_workspace(tmp_path / "w", epochs=1, **train)
    run_looked_at(folder)
    assert_looked_at_again_is_the_same(folder)


def assert_looked_at_again_is_the_same(folder: Path) -> None:
    workspace, recipe = opened(folder)
    before = dev_files(folder)
    (workspace.runs / "tiny/dev/01.json").unlink()
    assert [p.name for p in look_again(workspace, recipe)] == ["01.jsonl", "01.json"]
    assert dev_files(folder) == before


@pytest.mark.parametrize("save", ["merged", "apart"])
@pytest.mark.parametrize("base", ["full", "nf4"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_beside_an_adapter_too_what_is_said_is_what_the_saved_epoch_says(tmp_path, precision, base, save):
    """Where the base computes in bfloat16 and the epoch is read in float32, and where an epoch is merged as its base is held."""
    pytest.importorskip("peft")
    folder = dev_workspace(tmp_path / "w", epochs=1, precision=precision)
    edit(folder, "[dev]", f'[train.lora]\nrank = 4\nbase = "{base}"\nsave = "{save}"\n[dev]')
    run_looked_at(folder)
    assert_looked_at_again_is_the_same(folder)
    workspace, recipe = opened(folder)
    spec = recipe.generate.model_copy(update={"prompts": "data/dev.jsonl", "max_tokens": 16, "batch": 1})
    path, _ = generate(workspace, recipe.model_copy(update={"generate": spec}), model="runs/tiny/epochs/01", name="tiny@1")
    place = Place(workspace.runs / "tiny", 1)
    assert read_jsonl(path, Response) == read_answers(place, read_look(place))


def test_an_adapters_look_that_the_memory_does_not_hold_costs_no_epoch(tmp_path, capsys, monkeypatch):
    """The epoch is loaded in float32 beside the model that is trained."""
    pytest.importorskip("peft")
    folder = dev_workspace(tmp_path / "w", epochs=1)
    edit(folder, "[dev]", "[train.lora]\nrank = 4\n[dev]")

    def refuse(*_, **__):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    with monkeypatch.context() as patch:
        patch.setattr("limakit.generate.dev.load_causal_lm", refuse)
        run_looked_at(folder)
    assert "epoch 1 could not be looked at, and training goes on: out of memory" in capsys.readouterr().err
    assert (folder / "runs/tiny/final").is_dir() and not (folder / "runs/tiny/dev").exists()
    assert [p.name for p in look_again(*opened(folder))] == ["01.jsonl", "01.json"]


def test_limakit_generate_says_the_same_as_a_look_did(looked_at):
    """By another way altogether: the command, with another batch, under the name that the look gave."""
    workspace, recipe = opened(looked_at)
    spec = recipe.generate.model_copy(update={"prompts": "data/dev.jsonl", "max_tokens": 16, "batch": 1})
    path, _ = generate(workspace, recipe.model_copy(update={"generate": spec}), model="runs/tiny/epochs/02", name="tiny@2")
    place = Place(workspace.runs / "tiny", 2)
    assert read_jsonl(path, Response) == read_answers(place, read_look(place))


def test_perplexity_is_that_of_plain_transformers(looked_at):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workspace, _ = opened(looked_at)
    folder = workspace.runs / "tiny/epochs/03"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    total, tokens = 0.0, 0
    for example in read_jsonl(workspace.data / "held_out.jsonl", Example):
        messages = [{"role": turn.role, "content": turn.text} for turn in example.turns]
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        start = ids.index(eot) + 1
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids)))
        tokens += len(ids) - start
    held_out = read_look(Place(workspace.runs / "tiny", 3)).held_out
    assert held_out.tokens == tokens and held_out.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-5)


@pytest.mark.parametrize("moment", ["in step 5", "between the optimiser's state and the epoch"])
def test_killed_and_resumed_looks_are_those_of_an_uninterrupted_run(looked_at, tmp_path, moment, monkeypatch):
    folder = Path(shutil.copytree(looked_at, tmp_path / "w", ignore=shutil.ignore_patterns("runs")))
    with monkeypatch.context() as patch:
        from limakit.train import loop

        own = loop.train
        patch.setattr("runs.train", lambda w, r: own(w, r, each_epoch(w, r)))
        leave_as_killed(folder, moment)
    run_looked_at(folder)
    assert tree(folder) == tree(looked_at)


def test_kill_9_while_responses_are_written(looked_at, tmp_path):
    """The real command, killed in the moment the second epoch's responses begin to be written."""
    folder = Path(shutil.copytree(looked_at, tmp_path / "w", ignore=shutil.ignore_patterns("runs")))
    code = (
        "import os, signal, sys, limakit.generate.look as look, limakit.cli as cli\n"
        "own = look.write_jsonl\n"
        "def half(path, rows):\n"
        "    if path.name == '02.jsonl':\n"
        "        (path.parent / f'.partial-{path.name}-{os.getpid()}').write_text('{\"prompt_')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return own(path, rows)\n"
        "look.write_jsonl = half\n"
        "sys.argv = ['limakit', 'train']; cli.main()"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENV, capture_output=True).returncode == -signal.SIGKILL
    assert not (folder / "runs/tiny/dev/02.json").exists() and not (folder / "runs/tiny/epochs/02").exists()
    run_looked_at(folder)
    assert tree(folder) == tree(looked_at) and not list((folder / "runs").rglob(".partial-*"))


def test_no_dev_set_is_said_once_and_training_goes_on(tmp_path, capsys):
    folder = dev_workspace(tmp_path / "w", epochs=2)
    (folder / "data/held_out.jsonl").unlink()
    edit(folder, "max_tokens = 16", 'max_tokens = 16\nprompts = ""')
    run_looked_at(folder)
    said = capsys.readouterr().err
    assert said.count("no held-out examples (data/held_out.jsonl)") == 1 and "no dev prompts" not in said  # switched off is not missing
    assert (folder / "runs/tiny/final").is_dir() and not (folder / "runs/tiny/dev").exists()


def test_a_dev_set_that_cannot_be_read_is_told_before_training(tmp_path):
    folder = dev_workspace(tmp_path / "w")
    (folder / "data/dev.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(LimakitError, match=r"dev.jsonl, row 1: source: missing"):
        run_looked_at(folder)
    assert not (folder / "runs").exists()


def test_a_look_that_fails_costs_no_epoch(tmp_path, capsys, monkeypatch):
    folder = dev_workspace(tmp_path / "w", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(local, "can_slot", lambda config: False)  # as for a model with recurrent states
        run_looked_at(folder)
    assert "epoch 1 could not be looked at, and training goes on" in capsys.readouterr().err
    workspace, recipe = opened(folder)
    look = read_look(Place(workspace.runs / "tiny", 1))
    assert (folder / "runs/tiny/final").is_dir() and look.answered is None and len(look.held_out.each) == 5  # what could be seen is kept
    look_again(workspace, recipe)
    assert read_look(Place(workspace.runs / "tiny", 1)).answered is not None
    assert look_again(workspace, recipe) == []


def test_measuring_does_not_take_the_answers_with_it_nor_keep_the_weights(tmp_path, capsys, monkeypatch):
    """The held-out set cannot be measured; the answers are written, and an epoch without its look outlives train.keep = 1."""
    folder = dev_workspace(tmp_path / "w", epochs=2, keep=1)

    def refuse(*_):
        raise LimakitError("no memory for it")

    with monkeypatch.context() as patch:
        patch.setattr("limakit.generate.dev._measure", refuse)
        run_looked_at(folder)
    told = capsys.readouterr()
    assert "its weights stay until limakit select --answer" in told.err and "epoch 1 not looked at and not dropped" in told.out
    look = read_look(place := Place(folder / "runs/tiny", 1))
    assert look.held_out is None and len(read_answers(place, look)) == 6
    assert (folder / "runs/tiny/epochs/01").is_dir()
    look_again(*opened(folder))
    assert run_looked_at(folder) == [] and not (folder / "runs/tiny/epochs/01").exists()


def test_a_held_out_example_of_which_nothing_is_measured_is_told_before_the_first_step(tmp_path):
    folder = dev_workspace(tmp_path / "w", keep=1)
    turns = [{"role": "user", "text": "water " * 200}, {"role": "assistant", "text": "yes"}]
    with open(folder / "data/held_out.jsonl", "a") as file:
        file.write(json.dumps({"id": "h-long", "source": "held", "turns": turns}) + "\n")
    with pytest.raises(
        LimakitError, match=r"data/held_out.jsonl, row 6: 'h-long': cut to \d+ tokens it has no response token left"
    ) as caught:
        run_looked_at(folder)
    assert "max_tokens" in caught.value.remedy and not (folder / "runs").exists()


def test_a_prompt_that_fills_the_context_is_left_out_and_named(tmp_path, capsys):
    folder = dev_workspace(tmp_path / "w", epochs=2)
    row = {"id": "long", "source": "s", "turns": [{"role": "user", "text": "water " * 200}]}
    with open(folder / "data/dev.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    row |= {"id": "dialogue", "turns": [{"role": "user", "text": "Hi"}], "follow_ups": ["And?"]}
    with open(folder / "data/dev.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    run_looked_at(folder)
    said = capsys.readouterr().err
    assert said.count("1 dev prompts fill the model's context and are not answered: long") == 1  # for all epochs
    assert said.count("1 dev prompts have follow-ups, which epochs are not asked: dialogue") == 1
    look = read_look(place := Place(folder / "runs/tiny", 1))
    assert look.answered.left_out == ("long",) and len(read_answers(place, look)) == 7


def test_a_batch_too_large_for_the_memory_is_asked_in_halves(looked_at, tmp_path, monkeypatch):
    """Which changes no text (promise 7)."""
    folder = Path(shutil.copytree(looked_at, tmp_path / "w"))
    (folder / "runs/tiny/dev/03.json").unlink()
    own, sizes = local._Forward.__call__, []

    def small(forward, input_BT, *more):
        sizes.append(len(input_BT))
        if len(input_BT) > 2:
            raise torch.OutOfMemoryError("too large")
        return own(forward, input_BT, *more)

    monkeypatch.setattr(local._Forward, "__call__", small)
    look_again(*opened(folder))
    assert sizes[:3] == [6, 3, 2] and max(sizes[3:]) == 2 and dev_files(folder) == dev_files(looked_at)


def test_prompts_that_have_changed_are_asked_again(looked_at, tmp_path):
    folder = Path(shutil.copytree(looked_at, tmp_path / "w"))
    lines = (folder / "data/dev.jsonl").read_text().splitlines(keepends=True)
    (folder / "data/dev.jsonl").write_text("".join(lines[:2]))
    assert len(look_again(*opened(folder))) == 6
    place = Place(folder / "runs/tiny", 1)
    assert len(read_answers(place, read_look(place))) == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lora", [False, True])
def test_two_ranks_share_the_prompts_and_say_what_the_saved_epoch_says(tmp_path, lora):
    folder = dev_workspace(tmp_path / "w", epochs=1)
    if lora:
        edit(folder, "[dev]", "[train.lora]\nrank = 4\n[dev]")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "0",
        "--standalone",
        "-m",
        "limakit.cli",
        "train",
    ]
    done = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    place = Place(folder / "runs/tiny", 1)
    answers = read_answers(place, read_look(place))
    assert len(answers) == 6
    place.look.unlink()
    look_again(*opened(folder))
    assert read_answers(place, read_look(place)) == answers
