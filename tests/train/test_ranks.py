"""Ranks agree, speak with one voice, and end together with the error of the one that failed (datatrove #157: ranks that fail silently)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from crowd import Crowd
from torch.distributed import TCPStore

from limakit.errors import UsageError
from limakit.train.ranks import ALONE, joined


def test_alone_everything_is_trivial(tmp_path):
    with joined("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
    assert ALONE.total(1.5, 2) == [1.5, 2] and ALONE.lead(lambda: 3) == 3 and ALONE.gather("x") == ["x"]


def test_ranks_share_answers_and_sums_and_one_of_them_speaks(tmp_path):
    crowd = Crowd(tmp_path, 3, "share_things")
    answers = crowd.answers()
    assert [a["rank"] for a in answers] == [[0, 3, 3, True], [1, 3, 3, False], [2, 3, 3, False]]
    assert all(a["lead"] == {"rank": 0, "text": "é\n", "none": None} for a in answers) and len({a["once"] for a in answers}) == 1
    assert all(a["gather"] == [[0, "x"], [1, "x"], [2, "x"]] for a in answers)
    for a in answers:
        assert a["total"][0] == pytest.approx(2.0, abs=1e-15) and a["total"][1] == 3e300 and a["total"][2] != a["total"][2]
    assert "said by 0" in crowd.said(0) and "warned by 0" in crowd.said(0)
    assert crowd.said(1) == crowd.said(2) == ""


def test_a_folder_of_all_ranks_appears_whole_or_not_at_all(tmp_path):
    answers = Crowd(tmp_path / "a", 2, "share_a_folder", str(tmp_path / "whole")).answers()
    assert answers[0] == answers[1] and answers[0]["there"] == ["of-0", "of-1"] == sorted(answers[0]["hashes"])
    late = Crowd(tmp_path / "late", 2, "share_a_folder", str(tmp_path / "nfs"), True).answers()
    assert late[0]["hashes"] == late[1]["hashes"] == answers[0]["hashes"]
    crowd = Crowd(tmp_path / "b", 2, "fail_in_a_folder", str(tmp_path / "never"))
    assert crowd.wait(20) == [1, 1]
    assert "rank 1 of 2" in crowd.said(1) and "No space left" in crowd.said(1) and crowd.said(0) == ""
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("where", ["sum", "answer", pytest.param("asleep", marks=pytest.mark.slow)])
def test_an_error_in_one_rank_ends_all_within_seconds(tmp_path, where):
    started = time.monotonic()
    crowd = Crowd(tmp_path, 3, "fail", 1 if where != "answer" else 0, "limakit", where)
    codes = crowd.wait(30)
    assert time.monotonic() - started < 20 and codes == [1, 1, 1]
    said = [crowd.said(rank) for rank in range(3)]
    guilty = 1 if where != "answer" else 0
    assert said.pop(guilty).strip().splitlines()[-2:] == [
        f"limakit: rank {guilty} of 3 on {os.uname().nodename}: runs/x: the disk is full", "  -> free some space",
    ]  # fmt: skip
    assert "limakit" not in "".join(said)  # torch itself may say that rank 0, which keeps the store, is gone


def test_a_killed_rank_ends_the_others(tmp_path):
    """Without torchrun, which would tell and kill: the others notice by themselves."""
    crowd = Crowd(tmp_path, 3, "fail", 2, "kill", "sum")
    assert crowd.wait(30) == [1, 1, -9]
    said = crowd.said(0) + crowd.said(1)
    assert said.count("another rank is gone") == 1 and "dmesg" in said and "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("where", ["answer", "meeting"])
def test_a_rank_killed_while_the_others_wait_outside_a_collective_ends_them_too(tmp_path, where):
    """Nothing breaks then; it is the signs of life that stop."""
    crowd = Crowd(tmp_path, 3, "fail", 1, "kill", where, 4.0)
    assert crowd.wait(30) == [1, -9, 1]
    said = crowd.said(0) + crowd.said(2)
    assert said.count("limakit: rank 1 of 3 has given no sign of life for 4 s") == 1 and "Traceback" not in said


@pytest.mark.slow
def test_a_restarted_attempt_meets_in_a_store_where_a_former_one_left_its_answers(tmp_path):
    """torchrun --max-restarts keeps one store over all attempts."""
    keeper = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    crowd = Crowd(tmp_path / "killed", 3, "fail", 2, "kill", "sum", port=keeper.port)
    assert crowd.wait(30) == [1, 1, -9]
    crowd = Crowd(tmp_path / "other", 2, "share_a_folder", str(tmp_path / "folder"), port=keeper.port)
    assert crowd.answers()[1]["there"] == ["of-0", "of-1"]
    answers = Crowd(tmp_path / "again", 3, "share_things", port=keeper.port).answers()
    assert [a["rank"][0] for a in answers] == [0, 1, 2] and len({a["once"] for a in answers}) == 1


def test_a_fault_of_ours_is_one_message_too(tmp_path):
    crowd = Crowd(tmp_path, 2, "fail", 1, "bug", "asleep")
    assert crowd.wait(30) == [1, 1] and crowd.said(0) == ""
    assert "rank 1 of 2" in crowd.said(1) and "KeyError" in crowd.said(1) and "Traceback" not in crowd.said(1)


def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="LOCAL_RANK") as caught, joined("cpu"):
        pass
    assert "torchrun" in caught.value.remedy
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined("cpu") as ranks:
        assert ranks.size == 1


@pytest.mark.parametrize(
    ("local", "uneven", "what"), [(2, False, "one node"), (1, False, "each node has one rank"), (2, True, "equally many")]
)
def test_hybrid_needs_several_even_nodes(tmp_path: Path, local, uneven, what):
    crowd = Crowd(tmp_path, 2, "mesh_of", "hybrid", uneven, local_size=local)
    assert 2 in crowd.wait(30)
    said = crowd.said(0) + crowd.said(1)
    assert what in said and 'shard = "full"' in said and said.count("limakit:") == 1
