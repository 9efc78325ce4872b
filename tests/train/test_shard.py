"""Several ranks train as one process does (promise 1): weights, gradients, dropout, bfloat16, and the errors of real runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from crowd import Crowd, free_port, torchrun, until
from runs import edit, rows, run, tree
from safetensors.torch import load_file
from tiny import make_workspace, save_base
from transformers import AutoModelForCausalLM

ENV = os.environ | {"OMP_NUM_THREADS": "1", "LIMAKIT_PROGRESS": "1"}


def distance(one: Path, other: Path) -> float:
    """Norm of the difference of two checkpoints' weights over the norm of the second's; of two workspaces, that of what they ended with."""
    folders = [folder if (folder / "config.json").exists() else folder / "runs/tiny/final" for folder in (one, other)]
    a, b = (load_file(folder / "model.safetensors") for folder in folders)
    assert a.keys() == b.keys()
    apart = sum(float((a[key].double() - b[key].double()).square().sum()) for key in b)
    return (apart / sum(float(value.double().square().sum()) for value in b.values())) ** 0.5


def train(folder: Path, scratch: Path, size: int = 2, rank: int = 0, step: int = 0, how: str = "", local_size: int | None = None) -> Crowd:
    return Crowd(scratch, size, "train", str(folder), rank, step, how, local_size=local_size)


CASES = [
    ("llama", {"tie_word_embeddings": True}, 7, False, 2),
    ("llama", {}, 7, True, 3),
    ("llama", {"tie_word_embeddings": True}, 1, True, 2),  # one example: the other rank has nothing but an idle row
    ("gpt2", {}, 5, True, 2),  # ties, biases, learned positions
    pytest.param("gpt_neox", {}, 5, False, 2, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("family", "changes", "n", "pack", "size"), CASES)
def test_gradients_of_several_ranks_are_those_of_one(tmp_path, family, changes, n, pack, size):
    for answer in (answers := Crowd(tmp_path, size, "gradients", family, changes, n, pack).answers()):
        assert answer["weights"] == 0 and answer["buffers"] and answer["gathered alone"] == 3
        assert answer["loss"] < 1e-6 and answer["worst"] < 1e-5, answer
    assert sum(answer["held"] for answer in answers) == pytest.approx(1)  # each weight lies in one place
    assert max(answer["held"] for answer in answers) < 0.6 if size == 2 else 0.4
    if n == 1:
        assert [answer["rows"] for answer in answers] == [1, 0] and [answer["idle"] for answer in answers] == [0, 1]


@pytest.mark.slow
def test_hybrid_gives_them_too(tmp_path):
    """Two nodes of two ranks: each node holds the model once."""
    answers = Crowd(tmp_path, 4, "gradients", "llama", {}, 7, True, "hybrid", local_size=2).answers()
    assert all(answer["loss"] < 1e-6 and answer["worst"] < 1e-5 for answer in answers)
    assert sum(answer["held"] for answer in answers) == pytest.approx(2)


@pytest.mark.parametrize(
    ("weights", "moments", "held"),
    [pytest.param("float32", "float32", "torch.float32", marks=pytest.mark.slow), ("split", "bfloat16", "torch.bfloat16")],
)
def test_bfloat16(tmp_path, weights, moments, held):
    one, other = Crowd(tmp_path, 2, "precision", weights, moments).answers()
    assert one == other and one["losses"][-1] < one["losses"][0] and all(norm > 0 for norm in one["norms"])
    assert one["weights"] == [held] and one["sharded"]
    assert one["states"] == (["torch.bfloat16", "torch.int16"] if weights == "split" else ["torch.float32"])


def test_residual_dropout_acts_and_is_checked_on_the_sharded_model(tmp_path):
    for answer in Crowd(tmp_path, 2, "dropout").answers():
        assert answer["acts"] and answer["differs"] and len(set(answer["sums"])) == 2  # each rank draws its own masks
        assert "layer 1" in answer["refused"]


def test_a_rank_can_run_the_whole_model_by_itself_and_train_on(tmp_path):
    one, other = Crowd(tmp_path, 2, "whole_model").answers()
    assert one["same"] and other["same"] and one["sharded again"] and one["made"] == one["expected"]
    assert one["loss"] == other["loss"]


def test_an_adapter_and_the_row_of_eot_are_trained_as_by_one_process(tmp_path):
    """Promise 2 over ranks: a weight that was gathered when its optimiser was made would never move."""
    for answer in Crowd(tmp_path, 2, "adapted").answers():
        together, alone = answer["moved"]
        assert answer["rows"] == 2 and min(alone) > 1e-2
        assert together == pytest.approx(alone, rel=1e-4) and answer["apart"] < 1e-5


def test_a_check_that_fails_in_the_middle_of_the_model_leaves_it_sharded(tmp_path):
    for answer in Crowd(tmp_path, 2, "refused").answers():
        assert not answer["head"] and answer["whole"] == []
        assert answer["losses"][-1] < answer["losses"][0]


def test_a_run_on_two_ranks_is_that_of_one_process(tmp_path):
    """Adam, packing, a last step of four examples, tied embeddings that grow by EOT; no dropout, whose masks depend on the layout.

    At ten times the paper's learning rate. AdamW moves an entry by up to lr even where its gradient is rounding noise, so at 1e-3 one entry of
    42,000 that goes the other way is 2e-6 of the norm.
    """
    base = save_base(tmp_path / "tied", max_position_embeddings=128, tie_word_embeddings=True)
    alone = make_workspace(tmp_path / "alone", base=base, residual_dropout=0.0, epochs=2, lr=[1e-4, 1e-5])
    pair = Path(shutil.copytree(alone, tmp_path / "pair"))
    run(alone)
    crowd = train(pair, tmp_path / "ranks")
    assert [len(answer) for answer in crowd.answers()] == [2, 0]  # what was written is said once
    moved = distance(alone / "runs/tiny/epochs/01", alone / "runs/tiny/final")
    assert distance(pair / "runs/tiny/final", alone / "runs/tiny/final") < min(1e-6, 1e-2 * moved)
    for a, b in zip(rows(pair), rows(alone), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5) and a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
        assert {k: a[k] for k in a if k not in ("loss", "grad_norm")} == {k: b[k] for k in b if k not in ("loss", "grad_norm")}
    one, other = json.loads((pair / "runs/tiny/run.json").read_text()), json.loads((alone / "runs/tiny/run.json").read_text())
    assert one["settings"] == other["settings"] and one["environment"]["ranks"] == "2" != other["environment"]["ranks"]
    assert sorted(tree(pair)) == sorted(tree(alone))
    AutoModelForCausalLM.from_pretrained(pair / "runs/tiny/final")
    assert train(pair, tmp_path / "again").answers() == [[], []]  # finished: nothing to do, on any number of ranks
    assert run(pair) == []


@pytest.mark.slow
def test_so_are_recomputed_layers(tmp_path):
    alone = make_workspace(tmp_path / "alone", residual_dropout=0.0, epochs=1, lr=[1e-4, 1e-5])
    pair = make_workspace(tmp_path / "pair", residual_dropout=0.0, epochs=1, lr=[1e-4, 1e-5], recompute=True)
    run(alone)
    train(pair, tmp_path / "ranks").answers()
    assert distance(pair, alone) < 1e-6


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_killed_on_so_many_ranks_and_gone_on_with_on_others(tmp_path, first, then):
    """kill -9 of a rank in the second epoch, then the same command on another number of ranks."""
    whole = make_workspace(tmp_path / "whole", residual_dropout=0.0, epochs=2, lr=[1e-4, 1e-5])
    killed = Path(shutil.copytree(whole, tmp_path / "killed"))
    run(whole)
    codes = train(killed, tmp_path / "first", first, rank=first - 1, step=5, how="kill").wait()
    assert codes[-1] == -9 and len(rows(killed)) == 4
    assert [p.name for p in (killed / "runs/tiny/epochs").iterdir()] == ["01"]
    assert len(list((killed / "runs/tiny/resume/01").glob("optimizer-*.safetensors"))) == first
    if then == 1:
        run(killed)
    else:
        train(killed, tmp_path / "then", then).answers()
    assert distance(killed, whole) < 1e-6
    assert [row["loss"] for row in rows(killed)] == pytest.approx([row["loss"] for row in rows(whole)], rel=1e-5)


slow = pytest.mark.slow
FAILURES = [("nan", "loss is nan"), pytest.param("limakit", "No space left", marks=slow), pytest.param("memory", "out of memory", marks=slow),
            ("load", "damaged")]  # fmt: skip


@pytest.mark.parametrize(("how", "what"), FAILURES)
def test_a_failed_run_leaves_nothing_half_written_and_one_message(tmp_path, how, what):
    folder = make_workspace(tmp_path / "w", epochs=2)
    crowd = train(folder, tmp_path / "ranks", rank=0 if how == "load" else 1, step=2, how=how)
    assert crowd.wait(60) == [1, 1]
    said = crowd.said(0) + crowd.said(1)
    assert said.count("limakit: rank") == 1 and what in said and "Traceback" not in said, said
    assert not (folder / "runs/tiny/epochs").exists() and not list(folder.rglob(".partial-*"))


@pytest.mark.slow
def test_torchrun_from_the_command_line(tmp_path):
    """The real launcher: one voice, the same decision about what is finished, and an error of one rank that ends the run."""
    folder = make_workspace(tmp_path / "w", epochs=1)
    launch = torchrun("--standalone", "--nproc-per-node", 2, "-m", "limakit", "train")
    done = subprocess.run(launch, cwd=folder, env=ENV, text=True, capture_output=True, timeout=200, check=True)
    assert done.stdout.count("wrote ") == 2 and "Traceback" not in done.stderr
    again = subprocess.run(torchrun("--standalone", "--nproc-per-node", 2, "--no-python", str(Path(sys.executable).with_name("limakit")), "train"),
                           cwd=folder, env=ENV, text=True, capture_output=True, timeout=200, check=True)  # fmt: skip
    assert again.stdout.count("is finished") == 1
    edit(folder, "epochs = 1", "epochs = 2")
    refused = subprocess.run(launch, cwd=folder, env=ENV, text=True, capture_output=True, timeout=200, check=False)
    assert refused.returncode == 1 and refused.stderr.count("other settings") == 1 and "rank 0 of 2" in refused.stderr
    edit(folder, "epochs = 2", "epochs = zwei")
    refused = subprocess.run(launch, cwd=folder, env=ENV, text=True, capture_output=True, timeout=200, check=False)
    assert refused.returncode == 1 and refused.stderr.count("limakit:") == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["limakit", "kill"])
def test_torchrun_ends_when_a_rank_fails(tmp_path, how):
    folder = make_workspace(tmp_path / "w", examples=40, epochs=3)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r}); import rank_jobs; rank_jobs.call(rank_jobs.train, ({str(folder)!r}, 1, 7, {how!r}))"
    (tmp_path / "job.py").write_text(code)
    process = subprocess.Popen(torchrun("--standalone", "--nproc-per-node", 2, tmp_path / "job.py"), env=ENV, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    log = folder / "runs/tiny/log.jsonl"
    until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 6, 120)
    started = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - started < 30 and process.returncode == 1
    assert "rank      : 1 (local_rank: 1)" in said.split("Root Cause")[1]
    if how == "kill":
        assert "Signal 9 (SIGKILL)" in said
    else:
        assert said.count("limakit: rank 1 of 2") == 1 and "No space left" in said
    run(folder)  # and the same command goes on, here alone
    assert len(rows(folder)) == 15


@pytest.mark.slow
def test_torchrun_starts_the_ranks_again_and_the_run_goes_on(tmp_path):
    """--max-restarts 1 and a rank that is killed: the second attempt reads nothing that the first left in torchrun's store."""
    folder = make_workspace(tmp_path / "w", examples=40, epochs=3)
    launch = torchrun("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "-m", "limakit", "train")
    process = subprocess.Popen(launch, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until(lambda: (folder / "runs/tiny/epochs/01").exists(), 120)
    ranks = [child.pid for child in psutil.Process(process.pid).children() if "train" in child.cmdline()]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=150)
    assert process.returncode == 0, said
    assert len(rows(folder)) == 15 and (folder / "runs/tiny/final/config.json").exists()


@pytest.mark.slow
def test_two_nodes_shard_within_each(tmp_path):
    """Two torchruns, as on two machines, with shard = "hybrid"."""
    alone = make_workspace(tmp_path / "alone", residual_dropout=0.0, epochs=1, lr=[1e-4, 1e-5])
    nodes = Path(shutil.copytree(alone, tmp_path / "nodes"))
    edit(nodes, "[train]", '[train]\nshard = "hybrid"')
    meet = ["--nnodes", 2, "--nproc-per-node", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-id", "x"]
    launch = torchrun(*meet, "-m", "limakit", "train")
    both = [subprocess.Popen(launch, cwd=nodes, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [process.communicate(timeout=250)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count("wrote ") == 2
    run(alone)
    assert distance(nodes, alone) < 1e-6
