"""limakit pick, whole: what it writes, that it is done only once, what it refuses, and what is left after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pools import make_pool, read_account
from tiny import save_base

from limakit.curate.stats import read_set
from limakit.errors import LimakitError, UsageError
from limakit.pick import measure, small
from limakit.pick.options import Options
from limakit.pick.run import pick
from limakit.records import Example, read_jsonl, write_jsonl


@pytest.fixture
def pool(tmp_path):
    make_pool(tmp_path / "pool.jsonl", 20)
    return tmp_path / "pool.jsonl"


@pytest.fixture
def vectors(tmp_path, pool):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((20, 5)))
    return tmp_path / "v.npy"


def everything(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def ids(path):
    return [row.id for row in read_jsonl(path, Example)]


def test_rows_account_and_manifest(tmp_path, pool, capsys):
    out = tmp_path / "picks" / "long.jsonl"
    written = pick(pool, by="longest", take=6, out=out)
    assert written == [out, out.with_suffix(".scores.jsonl"), out.with_suffix(".manifest.json")]
    rows = {row.id: row for row in read_set(pool)}
    picked = read_jsonl(out, Example)
    assert all(row == rows[row.id] for row in picked)  # sources, tags and turns as they were
    lengths = {i: sum(len(t.text) for t in row.turns if t.role == "assistant") for i, row in rows.items()}
    assert sorted((lengths[row.id] for row in picked), reverse=True) == sorted(lengths.values(), reverse=True)[:6]
    account = read_account(out)
    assert list(account) == list(rows)
    assert [account[row.id]["rank"] for row in picked] == [1, 2, 3, 4, 5, 6]
    assert {row["reason"] for row in account.values() if not row["picked"]} == {"not_drawn"}
    assert {i: row["score"] for i, row in account.items()} == lengths
    manifest = json.loads(out.with_suffix(".manifest.json").read_text())
    assert manifest["stage"] == "pick"
    assert manifest["settings"] == {"strategy": "longest", "take": 6, "seed": 7, "allow_fewer": False, "unrated": 0}
    assert list(manifest["inputs"]) == ["../pool.jsonl"]
    shown = capsys.readouterr()
    assert "picked by longest" in shown.out
    assert "characters" in shown.err
    before = everything(out.parent)
    assert pick(pool, by="longest", take=6, out=out) == []
    assert "up to date" in capsys.readouterr().out
    assert everything(out.parent) == before
    out.write_bytes(out.read_bytes()[:-5])  # damaged since
    assert pick(pool, by="longest", take=6, out=out) == written
    assert everything(out.parent) == before
    assert pick(pool, by="longest", take=7, out=out)
    assert ids(out)[:6] == [row.id for row in picked]


def test_seeds_differ_and_the_pools_order_does_not_matter(tmp_path, pool, vectors):
    rows = read_set(pool)
    write_jsonl(tmp_path / "turned.jsonl", rows[::-1])
    np.savez(tmp_path / "v.npz", ids=np.array([row.id for row in rows]), embeddings=np.load(vectors))
    for by, options in (("random", {}), ("longest", {}), ("k_center", {"embeddings": tmp_path / "v.npz"})):
        picked = []
        for name, seed in (("pool", 1), ("turned", 1), ("pool", 2)):
            pick(tmp_path / f"{name}.jsonl", by=by, take=8, out=tmp_path / "o.jsonl", seed=seed, options=Options(**options))
            picked.append(ids(tmp_path / "o.jsonl"))
        assert picked[0] == picked[1], by
        assert by == "longest" or picked[0] != picked[2]


def test_the_published_format(tmp_path):
    rows = [{"conversations": [f"Why {i}?", "Because." * (i + 1)], "source": "wikihow"} for i in range(5)]
    (tmp_path / "lima.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pick(tmp_path / "lima.jsonl", by="longest", take=2, out=tmp_path / "o.jsonl")
    assert ids(tmp_path / "o.jsonl") == ["lima-5", "lima-4"]


def test_tokens_are_counted_with_a_tokenizer(tmp_path, pool):
    base = save_base(tmp_path / "base")
    pick(pool, by="longest", take=3, out=tmp_path / "o.jsonl", options=Options(tokenizer=str(base)))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    account = read_account(tmp_path / "o.jsonl")
    for row in read_set(pool):
        assert account[row.id]["score"] == sum(
            len(tokenizer(t.text, add_special_tokens=False)["input_ids"]) for t in row.turns if t.role == "assistant"
        )


def test_strategies_over_vectors_and_scores(tmp_path, pool, vectors):
    rows = read_set(pool)
    text = "".join(
        json.dumps({"id": row.id, "complexity": 1 + i % 6, "quality": 6 - i % 4, "score": i}) + "\n" for i, row in enumerate(rows)
    )
    (tmp_path / "s.jsonl").write_text(text)
    found = {}
    for by, options in (
        ("k_center", Options(embeddings=vectors)),
        ("facility_location", Options(embeddings=vectors)),
        ("deita", Options(embeddings=vectors, scores=tmp_path / "s.jsonl", max_similarity=0.5)),
        ("score", Options(scores=tmp_path / "s.jsonl", at_least=12)),
    ):
        pick(pool, by=by, take=5, out=tmp_path / f"{by}.jsonl", options=options)
        found[by] = ids(tmp_path / f"{by}.jsonl")
        assert len(set(found[by])) == 5
    assert found["score"] == ["ex-19", "ex-18", "ex-17", "ex-16", "ex-15"]
    deita = read_account(tmp_path / "deita.jsonl")
    assert {"complexity", "quality", "score"} < set(deita["ex-0"])
    reasons = [row["reason"] for row in read_account(tmp_path / "score.jsonl").values()]
    assert reasons.count("score_too_low") == 12
    # what was written can be read back as scores
    pick(pool, by="score", take=5, out=tmp_path / "again.jsonl", options=Options(scores=tmp_path / "score.scores.jsonl"))
    assert ids(tmp_path / "again.jsonl") == found["score"]


def test_too_few_rows_are_told_and_nothing_is_written(tmp_path, pool):
    (tmp_path / "s.jsonl").write_text("".join(json.dumps({"id": f"ex-{i}", "score": i}) + "\n" for i in range(20)))
    before = set(everything(tmp_path))
    options = Options(scores=tmp_path / "s.jsonl", at_least=18)
    with pytest.raises(LimakitError, match=r"only 2 of the pool's 20 rows are fit to be picked, not 5 \(score_too_low 18\)"):
        pick(pool, by="score", take=5, out=tmp_path / "o.jsonl", options=options)
    assert set(everything(tmp_path)) == before
    pick(pool, by="score", take=5, out=tmp_path / "o.jsonl", options=options, allow_fewer=True)
    assert ids(tmp_path / "o.jsonl") == ["ex-19", "ex-18"]
    with pytest.raises(LimakitError, match="0 of the pool's 20 rows are fit"):
        pick(pool, by="score", take=5, out=tmp_path / "n.jsonl", options=Options(scores=options.scores, at_least=99), allow_fewer=True)


@pytest.mark.parametrize(
    ("by", "more", "said"),
    [
        ("longset", {}, "no strategy is called 'longset'.*did you mean longest"),
        ("best", {}, "choose one of random"),
        ("random", {"take": 21}, "--take 21 of a pool of 20 rows"),
        ("random", {"take": 0}, "0 rows cannot be picked"),
        ("random", {"model": "m"}, "--model: --by random does not look at it.*it is for ifd"),
        ("longest", {"at_least": 1.0}, "--at-least: .*rating, score"),
        ("longest", {"keep_above_1": True}, "--keep-above-1"),
        ("ifd", {}, "--by ifd needs it"),
        ("score", {}, "--by score needs it"),
        ("k_center", {}, "--by k_center needs embeddings"),
        ("k_center", {"embed_model": "m", "embeddings": "v.npy"}, "needs one"),
        ("k_center", {"embeddings": "v.npy", "device": "cpu"}, "no model is run"),
        ("ifd", {"model": "m", "device": "tpu"}, "'tpu' is no device"),
        ("deita", {"embeddings": "v.npy", "max_similarity": 1.5}, "1.5 is out of range"),
        ("score", {"scores": "s.jsonl", "at_least": float("nan")}, "nan is out of range"),
        ("random", {"out": "o.json"}, "let it end in .jsonl"),
        ("random", {"out": "pool.jsonl"}, "over what it is made from"),
        ("random", {"out": "train.jsonl"}, "limakit pick did not write it"),
        ("random", {"out": "notes.jsonl"}, "notes.scores.jsonl: is there, and limakit pick did not write it"),
        ("random", {"out": "other.jsonl"}, "other.manifest.json: is there, and limakit pick did not write it"),
        ("random", {"out": "o.scores.jsonl"}, "an account of scores"),
        ("random", {"recipe": "lima.toml"}, "--recipe: no judge is asked"),
        ("deita", {"embeddings": "v.npy", "scores": "s.jsonl", "recipe": "lima.toml"}, "--recipe: no judge is asked"),
    ],
)  # fmt: skip
def test_wrong_usage_writes_nothing(tmp_path, pool, monkeypatch, by, more, said):
    monkeypatch.chdir(tmp_path)
    for name in ("train.jsonl", "notes.scores.jsonl"):
        (tmp_path / name).write_text("mine\n")
    (tmp_path / "other.manifest.json").write_text('{"stage": "pick", "outputs": {"another.jsonl": "", "another.scores.jsonl": ""}}')
    before = everything(tmp_path)
    take, out = more.pop("take", 5), Path(more.pop("out", "o.jsonl"))
    recipe = Path(more.pop("recipe")) if "recipe" in more else None
    options = Options(**{k: Path(v) if k in ("embeddings", "scores") else v for k, v in more.items()})
    with pytest.raises(UsageError, match=f"(?s){said}"):
        pick(Path("pool.jsonl"), by=by, take=take, out=out, options=options, recipe=recipe)
    assert everything(tmp_path) == before
    assert not (tmp_path / ".cache").exists()


def test_damaged_pools(tmp_path, pool):
    lines = pool.read_text().splitlines(keepends=True)
    pool.write_text("".join([*lines, lines[3]]))
    with pytest.raises(LimakitError, match="1 ids come more than once, first 'ex-3'"):
        pick(pool, by="random", take=2, out=tmp_path / "o.jsonl")
    pool.write_text("".join([*lines[:4], "{\n"]))
    with pytest.raises(LimakitError, match="row 5"):
        pick(pool, by="random", take=2, out=tmp_path / "o.jsonl")
    with pytest.raises(LimakitError, match="no such file"):
        pick(tmp_path / "absent.jsonl", by="random", take=2, out=tmp_path / "o.jsonl")
    with pytest.raises(LimakitError, match="no such folder"):
        pool.write_text("".join(lines))
        pick(pool, by="ifd", take=2, out=tmp_path / "o.jsonl", options=Options(model="./absent"))


IFD = """
from pathlib import Path
from limakit.pick import measure, small
from limakit.pick import measure, small
from limakit.pick.options import Options
from limakit.pick.run import pick
measure.CHUNK_TOKENS, small.TOKENS = 400, (40, 40)
pick(Path("pool.jsonl"), by="ifd", take=5, out=Path("cut/o.jsonl"), options=Options(model="base", device="cpu"), allow_fewer=True)
"""


def test_kill_9_and_the_same_command_gives_the_same_bytes(tmp_path, monkeypatch):
    make_pool(tmp_path / "pool.jsonl", 100)
    save_base(tmp_path / "base", max_position_embeddings=256)
    killed = subprocess.Popen([sys.executable, "-c", IFD], cwd=tmp_path, stdout=subprocess.DEVNULL)
    kept = tmp_path / "cut" / ".cache" / "pick"
    deadline = time.monotonic() + 60
    while len(list(kept.glob("*.npy"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    n = len(list(kept.glob("*.npy")))
    assert n >= 3
    assert not (tmp_path / "cut" / "o.jsonl").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "CHUNK_TOKENS", 400)
    monkeypatch.setattr(small, "TOKENS", (40, 40))
    for folder in ("cut", "whole"):
        pick(
            Path("pool.jsonl"), by="ifd", take=5, out=Path(folder) / "o.jsonl",
            options=Options(model="base", device="cpu"), allow_fewer=True,
        )  # fmt: skip
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")
    assert len(list(kept.glob("*.npy"))) > n
    assert not list((tmp_path / "cut").rglob(".partial-*"))
    for row in read_account(tmp_path / "whole" / "o.jsonl").values():
        assert row["score"] == pytest.approx(np.exp(row["loss_given_prompt"] - row["loss_alone"]))


def test_leavings_of_a_killed_run_go_and_nothing_else(tmp_path, pool):
    (tmp_path / "o").mkdir()
    ours, theirs = tmp_path / "o" / ".partial-o.jsonl-1", tmp_path / "o" / ".partial-train.jsonl-1"
    for path in (ours, theirs):
        path.write_text("half")
    pick(pool, by="random", take=2, out=tmp_path / "o" / "o.jsonl")
    assert not ours.exists()
    assert theirs.exists()
