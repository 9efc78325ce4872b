"""TensorBoard and Weights & Biases: told what the log has, once a step, also by a run that goes on; a watcher that fails ends no run."""

from __future__ import annotations

import math
import sys
import types

import pytest
from runs import edit, leave_as_killed, rows, run, tree
from tiny import make_workspace

from limakit.errors import LimakitError
from limakit.train import watch
from limakit.train.run_folder import RunFolder
from limakit.train.update import StepLog
from limakit.train.watch import scalars, watched

ROW = StepLog(step=1, epoch=1, loss=2.0, lr=1e-5, grad_norm=0.7, examples=8, tokens=100, target_tokens=60)


def watching(folder, name="tensorboard", **train):
    made = make_workspace(folder, **train)
    edit(made, "[train]", f'[train]\nwatch = ["{name}"]')
    return made


def events(folder, tag="train/loss"):
    """What TensorBoard itself reads from the folder: (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder / "runs/tiny/tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = watching(tmp_path_factory.mktemp("seen") / "w")
    run(folder)
    return folder


def test_tensorboard_reads_what_the_log_has(seen):
    log = rows(seen)
    for tag, key in (("train/loss", "loss"), ("train/lr", "lr"), ("train/grad_norm", "grad_norm"), ("train/epoch", "epoch")):
        assert events(seen, tag) == [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in log]
    assert events(seen, "train/perplexity") == [(row["step"], pytest.approx(math.exp(row["loss"]), rel=1e-5)) for row in log]
    times = rows(seen, "times.jsonl")
    assert events(seen, "speed/tokens_per_s") == [(row["step"], pytest.approx(row["tokens_per_s"], rel=1e-3)) for row in times]


def test_watching_changes_nothing_of_the_result(seen, finished):
    watched_files = {name: digest for name, digest in tree(seen).items() if not name.startswith("tensorboard/")}
    assert watched_files == tree(finished)


def test_a_resumed_run_goes_on_in_the_same_curves_and_doubles_no_step(seen, tmp_path):
    """Killed in step 5, after the events of step 4 were drawn, it goes on from step 3: step 4 is drawn again, and shown once."""
    folder = watching(tmp_path / "w")
    leave_as_killed(folder, "in step 5")
    drawn = len(events(folder))
    run(folder)
    assert drawn == 4 and events(folder) == events(seen)
    assert len(list((folder / "runs/tiny/tensorboard").iterdir())) == 2


def test_what_is_not_installed_is_one_message_before_anything_is_written(tmp_path, monkeypatch):
    folder = watching(tmp_path / "w", "wandb")
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    with pytest.raises(LimakitError, match="needs the package wandb") as caught:
        run(folder)
    assert "pip install 'limakit[wandb]'" in caught.value.remedy and not (folder / "runs").exists()


class FakeRun:
    """What of a wandb run is used; raises from step `breaks` on."""

    def __init__(self, breaks=None):
        self.breaks, self.rows, self.ended = breaks, [], None

    def log(self, drawn, step):
        if self.breaks is not None and step >= self.breaks:
            raise ConnectionError("api.wandb.ai cannot be reached\nlong story")
        self.rows.append((step, drawn))

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A module of that name: the real one is a large package that dials out."""
    fake = types.ModuleType("wandb")
    fake.__spec__ = types.SimpleNamespace(name="wandb")
    fake.run, fake.asked = FakeRun(), []
    fake.Settings = lambda **settings: settings

    def init(**asked):
        fake.asked.append(asked)
        return fake.run

    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_gets_the_settings_and_every_step_and_is_found_again(wandb, tmp_path):
    folder = watching(tmp_path / "w", "wandb")
    leave_as_killed(folder, "in step 5")
    run(folder)
    first, again = wandb.asked
    assert first == again and first["project"] == "limakit" and first["name"] == "tiny" and first["resume"] == "allow"
    assert first["config"]["train"]["epochs"] == 3 and first["config"]["seed"] == 7 and "judge" not in first["config"]
    assert [step for step, _ in wandb.run.rows][-6:] == list(range(4, 10)) and wandb.run.ended == 0


def test_a_watcher_that_fails_is_told_once_and_the_run_goes_on_to_the_same_bytes(wandb, tmp_path, capsys, finished):
    folder = watching(tmp_path / "w", "wandb")
    wandb.run = FakeRun(breaks=3)
    run(folder)
    note = capsys.readouterr().err
    assert note.count("wandb failed and is left off") == 1 and "api.wandb.ai cannot be reached" in note and "long story" not in note
    assert [step for step, _ in wandb.run.rows] == [1, 2]
    assert tree(folder) == tree(finished)


def test_a_watcher_that_cannot_start_is_left_off_too(wandb, tmp_path, capsys):
    def refuse(**_):
        raise ValueError("api_key not configured")

    wandb.init = refuse
    with watched(["wandb"], RunFolder(tmp_path, {}, {}, {}), "tiny", 0) as tell:
        tell(ROW, 10.0)
    assert capsys.readouterr().err.count("api_key not configured") == 1


def test_an_error_of_the_run_is_not_hidden_and_ends_the_watchers_run_as_failed(wandb, tmp_path):
    with pytest.raises(LimakitError, match="ours"), watched(["wandb"], RunFolder(tmp_path, {}, {}, {}), "tiny", 0):
        raise LimakitError("ours")
    assert wandb.run.ended == 1


def test_a_loss_whose_perplexity_is_no_float_is_drawn_all_the_same():
    assert scalars(StepLog(1, 1, 5000.0, 1e-5, 1.0, 1, 2, 1), 1.0)["train/perplexity"] > 1e300
