"""Ratings by a real server: the judge's client, cache and cap; a failure is no value; the same command goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from endpoint import Endpoint, Reply, part
from pools import make_pool, read_account

from limakit.endpoint import limits
from limakit.errors import LimakitError, UsageError
from limakit.pick.options import Options
from limakit.pick.run import pick


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


def workspace(folder, url, **judge):
    folder.mkdir(exist_ok=True)
    spec = {"model": "the/judge", "base_url": url, "retries": 1, "concurrency": 4} | judge
    lines = [f"{key} = {json.dumps(value)}" for key, value in spec.items()]
    (folder / "lima.toml").write_text('name = "x"\n[model]\nbase = "b"\n[judge]\n' + "\n".join(lines) + "\n")
    return folder / "lima.toml"


def by_words(request):
    """0 to 5: a sixth of the response's words, more for none."""
    return f"Words.\nGrade: {min(5, len(part(request.message, 'RESPONSE').split()) // 4)}"


def expected(row):
    return min(5, len(row.response.split()) // 4)


def test_the_highest_rated_and_every_failure_named(tmp_path, capsys):
    rows = make_pool(tmp_path / "pool.jsonl", 20)
    bad = {"ex-2": Reply(status=400), "ex-3": "I cannot say.", "ex-5": Reply(None, refusal="No."), "ex-7": "Grade: 9"}
    asked_again = []

    def respond(request):
        prompt = part(request.message, "PROMPT")
        which = next((i for i in bad if prompt == f"How do I keep basil {i[3:]}?"), None)
        if which and asked_again:
            asked_again.append(which)
            return by_words(request)
        return bad[which] if which else by_words(request)

    with Endpoint(respond) as endpoint:
        recipe = workspace(tmp_path / "w", endpoint.url)
        out = tmp_path / "o" / "rated.jsonl"
        with pytest.raises(LimakitError, match="questions about 1 of the pool's 20 rows no answer came; nothing was written"):
            pick(tmp_path / "pool.jsonl", by="rating", take=6, out=out, recipe=recipe)
        assert len(endpoint.requests) == 20 and not out.exists()
        pick(tmp_path / "pool.jsonl", by="rating", take=6, out=out, recipe=recipe, allow_fewer=True)
        assert len(endpoint.requests) == 24
        account = read_account(out)
        for row in rows:
            assert account[row.id]["score"] == (None if row.id in bad else expected(row))
        assert {i: account[i]["reason"] for i in bad} == {
            "ex-2": "rating_unanswered", "ex-3": "rating_invalid", "ex-5": "rating_invalid", "ex-7": "rating_invalid"}  # fmt: skip
        assert {i: account[i]["answers"] for i in bad if i != "ex-5"} == {"ex-2": [], "ex-3": ["I cannot say."], "ex-7": ["Grade: 9"]}
        assert not any("answers" in account[row.id] for row in rows if row.id not in bad)
        ranked = sorted((row for row in account.values() if row["picked"]), key=lambda row: row["rank"])
        best = sorted((row["score"] for row in account.values() if row["score"] is not None), reverse=True)
        assert [row["score"] for row in ranked] == best[:6]
        assert "4 of 20 rows have no rating" in capsys.readouterr().err
        asked_again.append("now")
        pick(tmp_path / "pool.jsonl", by="rating", take=6, out=out, recipe=recipe)
        assert sorted(asked_again[1:]) == sorted(bad)  # those that could be scored are not asked twice
        assert all(row["score"] is not None for row in read_account(out).values())
        n = len(endpoint.requests)
        assert pick(tmp_path / "pool.jsonl", by="rating", take=6, out=out, recipe=recipe) == []
        # another seed, number or threshold asks nothing: ties are drawn anew
        pick(tmp_path / "pool.jsonl", by="rating", take=3, out=out, seed=8, options=Options(at_least=4), recipe=recipe, allow_fewer=True)
        assert len(endpoint.requests) == n


def test_dialogues_are_shown_whole_and_draws_are_averaged(tmp_path):
    make_pool(tmp_path / "pool.jsonl", 5)
    with Endpoint(lambda request: f"Grade: {request.times + 2}") as endpoint:
        recipe = workspace(tmp_path / "w", endpoint.url, draws=3, temperature=1.0)
        pick(tmp_path / "pool.jsonl", by="rating", take=2, out=tmp_path / "o.jsonl", recipe=recipe)
        assert {row["score"] for row in read_account(tmp_path / "o.jsonl").values()} == {3.0}
        dialogue = next(r.message for r in endpoint.requests if "And then?" in r.message)
        assert re.match(r"\[user (\w{12})\]\nHow do I keep basil 4\?\n\n\[assistant \1\]\n", part(dialogue, "PROMPT"))


def test_deita_asks_for_complexity_and_quality(tmp_path):
    make_pool(tmp_path / "pool.jsonl", 10, dialogues=False)
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((10, 6)))

    def respond(request):
        number = int(part(request.message, "PROMPT").removesuffix("?").split()[-1])
        if "how demanding" in request.message:
            assert "RESPONSE" not in request.message
            return f"Grade: {1 + number % 3}"
        return f"Grade: {6 - number % 5}"

    with Endpoint(respond) as endpoint:
        recipe = workspace(tmp_path / "w", endpoint.url)
        options = Options(embeddings=tmp_path / "v.npy")
        pick(tmp_path / "pool.jsonl", by="deita", take=4, out=tmp_path / "o.jsonl", options=options, recipe=recipe, allow_fewer=True)
        assert len(endpoint.requests) == 20
    for i, row in enumerate(read_account(tmp_path / "o.jsonl").values()):
        assert (row["complexity"], row["quality"], row["score"]) == (1 + i % 3, 6 - i % 5, (1 + i % 3) * (6 - i % 5))


def test_the_cap_holds_before_anything_is_sent(tmp_path):
    make_pool(tmp_path / "pool.jsonl", 20)
    with Endpoint() as endpoint:
        recipe = workspace(tmp_path / "w", endpoint.url, price_in=1.0, price_out=1.0, max_cost=0.001)
        with pytest.raises(UsageError, match=r"more than max_cost = 0\.001; nothing was sent"):
            pick(tmp_path / "pool.jsonl", by="rating", take=2, out=tmp_path / "o.jsonl", recipe=recipe)
        assert endpoint.requests == []
    assert not (tmp_path / "o.jsonl").exists()


def test_endpoints_and_rubrics_that_cannot_be_used(tmp_path, monkeypatch):
    make_pool(tmp_path / "pool.jsonl", 20)

    def refused(kind, said, recipe, **options):
        with pytest.raises(kind, match=f"(?s){said}"):
            pick(tmp_path / "pool.jsonl", by="rating", take=2, out=tmp_path / "o.jsonl", recipe=recipe, options=Options(**options))
        assert not (tmp_path / "o.jsonl").exists()

    with Endpoint(lambda request: Reply(status=401)) as endpoint:
        refused(LimakitError, "refuses access", workspace(tmp_path / "w", endpoint.url))
    with Endpoint() as endpoint:
        recipe = workspace(tmp_path / "w", endpoint.url)
        refused(UsageError, "no such rubric", recipe, rubric=str(tmp_path / "absent.txt"))
        (tmp_path / "words.txt").write_text("# grades: bad, good\n{prompt}{response}")
        refused(UsageError, "'words'.*no numbers", recipe, rubric=str(tmp_path / "words.txt"))
        assert endpoint.requests == []
    refused(UsageError, "the oracle knows", workspace(tmp_path / "w", "http://x", kind="oracle"))
    monkeypatch.chdir(tmp_path)
    refused(UsageError, "no lima.toml here", None)


RATE = """
from pathlib import Path
from limakit.pick.run import pick
pick(Path("pool.jsonl"), by="rating", take=5, out=Path("o/o.jsonl"), recipe=Path("w/lima.toml"))
"""


def test_kill_9_and_no_question_is_paid_twice(tmp_path):
    make_pool(tmp_path / "pool.jsonl", 120)
    with Endpoint(lambda request: Reply(by_words(request), delay_s=0.02)) as endpoint:
        workspace(tmp_path / "w", endpoint.url)
        killed = subprocess.Popen([sys.executable, "-c", RATE], cwd=tmp_path, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(endpoint.answered) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert not (tmp_path / "o" / "o.jsonl").exists()
        kept = len((tmp_path / "o" / ".cache" / "pick" / "the--judge.jsonl").read_bytes().splitlines())
        before = len(endpoint.requests)
        assert kept >= 20
        subprocess.run([sys.executable, "-c", RATE], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        assert len(endpoint.requests) - before <= 120 - kept
        assert len(read_account(tmp_path / "o" / "o.jsonl")) == 120
