"""train.keep: which epochs' weights go, and that nothing that should stay is ever lost."""

from __future__ import annotations

import json
import shutil

import pytest
from runs import copy, edit, run, tree

from limakit.choice import SUMS, Choice, read_choice, write_choice
from limakit.errors import LimakitError
from limakit.recipe import read_recipe
from limakit.train import run_folder
from limakit.train.loop import train
from limakit.train.run_folder import RunFolder
from limakit.workspace import find_workspace, sha256_file


def keep(folder, policy):
    text = (folder / "lima.toml").read_text()
    lines = [line for line in text.split("\n") if not line.startswith("keep")]
    (folder / "lima.toml").write_text("\n".join(lines).replace("[train]", f"[train]\nkeep = {json.dumps(policy)}"))


def here(folder):
    return sorted(p.name for p in (folder / "runs/tiny/epochs").iterdir() if p.is_dir())


def choose(folder, epoch):
    run_ = folder / "runs/tiny"
    weights = sha256_file(run_ / "epochs" / f"{epoch:02}" / SUMS)
    write_choice(run_, Choice(run="tiny", epoch=epoch, because="reads best", date="2026-11-20", weights=weights))


def test_so_many_newest_are_kept_and_the_rest_leaves_its_rows(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path)
    keep(folder, 2)
    run(folder)
    assert here(folder) == ["02", "03"]
    assert "dropped the weights of epoch 1 (train.keep = 2)" in capsys.readouterr().out
    assert (folder / "runs/tiny/log.jsonl").read_bytes() == (finished / "runs/tiny/log.jsonl").read_bytes()
    outputs = json.loads((folder / "runs/tiny/manifest.json").read_bytes())["outputs"]
    assert not any(name.startswith("epochs/01") for name in outputs) and "epochs/02/model.safetensors" in outputs
    gone = json.loads((folder / "runs/tiny/dropped.json").read_bytes())
    assert gone["01"]["model.safetensors"] == sha256_file(finished / "runs/tiny/epochs/01/model.safetensors")
    before = tree(folder)
    assert run(folder) == [] and tree(folder) == before  # finished, and nothing is "gone"


def test_the_policy_of_a_finished_run_may_change_and_the_chosen_epoch_stays(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path, with_run=True)
    keep(folder, "picked")
    run(folder)
    assert here(folder) == ["01", "02", "03"]  # nothing is chosen yet, and what is not there cannot be chosen
    choose(folder, 1)
    capsys.readouterr()
    assert run(folder) == [] and here(folder) == ["01", "03"]
    assert "dropped the weights of epoch 2" in capsys.readouterr().out
    keep(folder, 1)
    assert run(folder) == [] and here(folder) == ["01", "03"]
    keep(folder, "all")
    assert run(folder) == [] and here(folder) == ["01", "03"]
    (folder / "runs/tiny/choice.json").unlink()
    keep(folder, 1)
    run(folder)
    assert here(folder) == ["03"] and (folder / "runs/tiny/final/model.safetensors").exists()


def test_what_was_put_back_is_here_again(finished, tmp_path):
    folder = copy(finished, tmp_path)
    keep(folder, 1)
    run(folder)
    shutil.copytree(finished / "runs/tiny/epochs/02", folder / "runs/tiny/epochs/02")
    keep(folder, "all")
    run(folder)
    assert here(folder) == ["02", "03"]
    shutil.rmtree(folder / "runs/tiny/epochs/02")  # now by accident
    (folder / "runs/tiny/manifest.json").unlink()
    with pytest.raises(LimakitError, match="epochs/02: is gone"):
        run(folder)


@pytest.mark.parametrize("call", range(1, 8))
def test_killed_at_any_moment_of_dropping_nothing_that_should_stay_is_lost(finished, tmp_path, call):
    """Every change of the disk that dropping makes is a moment to die before, in a run with a choice; then the same command again."""
    folder = copy(finished, tmp_path, with_run=True)
    choose(folder, 2)
    keep(folder, 1)

    class Killed(BaseException):
        pass

    left = iter(range(call - 1))

    def dies_before(own):
        def step(*arguments, **keywords):
            if next(left, None) is None:
                raise Killed
            return own(*arguments, **keywords)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "write_json", dies_before(run_folder.write_json))
        patch.setattr(run_folder.os, "replace", dies_before(run_folder.os.replace))
        patch.setattr(run_folder, "sync_folder", dies_before(run_folder.sync_folder))
        patch.setattr(run_folder.shutil, "rmtree", dies_before(run_folder.shutil.rmtree))
        try:
            run(folder)
            assert call > 4
        except Killed:
            pass
    assert {"02", "03"} <= {name for name in here(folder) if not name.startswith(".")}
    run(folder)
    assert here(folder) == ["02", "03"] and not list((folder / "runs").rglob(".partial-*"))
    assert sorted(json.loads((folder / "runs/tiny/dropped.json").read_bytes())) == ["01"]
    assert run(folder) == []


def test_a_run_that_drops_goes_on_after_a_kill_to_the_same_bytes(finished, tmp_path):
    whole, killed = copy(finished, tmp_path / "a"), copy(finished, tmp_path / "b")
    keep(whole, 1)
    keep(killed, 1)
    run(whole)

    class Killed(BaseException):
        pass

    def die(self, *_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "drop", die)
        with pytest.raises(Killed):
            run(killed)
    run(killed)
    assert tree(killed) == tree(whole) and here(killed) == ["03"]


def test_with_a_choice_that_cannot_be_read_nothing_is_dropped(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path, with_run=True)
    (folder / "runs/tiny/choice.json").write_text('{"epoch": ')
    keep(folder, 1)
    run(folder)
    assert here(folder) == ["01", "02", "03"] and "no epoch is dropped while the choice cannot be read" in capsys.readouterr().err
    with pytest.raises(LimakitError, match=r"choice.json: .*JSON"):
        read_choice(folder / "runs/tiny")


@pytest.mark.parametrize("policy", ['"last"', "0", "true", "[]"])
def test_policies_that_are_none_are_refused(finished, tmp_path, policy):
    folder = copy(finished, tmp_path)
    edit(folder, "[train]", f"[train]\nkeep = {policy}")
    with pytest.raises(LimakitError, match=r'train.keep: takes "all", "picked", or how many') as caught:
        read_recipe(folder / "lima.toml")
    assert "\n" not in caught.value.what


def test_an_epoch_that_nobody_has_seen_stays_until_somebody_has(finished, tmp_path, capsys):
    folder = copy(finished, tmp_path, with_run=True)
    workspace = find_workspace(folder / "lima.toml")
    keep(folder, 1)

    class Looks:
        seen_so_far = {2, 3}

        def __call__(self, epoch):
            raise AssertionError("the run is finished")

        def seen(self, number):
            return number in self.seen_so_far

    train(workspace, read_recipe(workspace.recipe_path), Looks())
    out = capsys.readouterr().out
    assert here(folder) == ["01", "03"]
    assert "epoch 1 not looked at and not dropped: limakit select --answer" in out and "dropped the weights of epoch 2" in out
    Looks.seen_so_far = {1, 2, 3}
    train(workspace, read_recipe(workspace.recipe_path), Looks())
    assert here(folder) == ["03"]
