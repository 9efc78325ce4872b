"""The cap: over runs, over processes, over faults and kill -9, by what the server really served."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from endpoint import Endpoint, Reply
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import ask, request, spec

from limakit.endpoint import limits
from limakit.endpoint.budget import Account, CapReached, most_they_cost
from limakit.endpoint.reply import Answer
from limakit.errors import LimakitError, UsageError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.005)


def priced(url="http://x/v1", **more):
    return spec(url, **{"price_in": 2.0, "price_out": 10.0, "max_cost": 0.01} | more)


def test_nothing_is_sent_where_it_could_cost_more(tmp_path):
    account = Account(tmp_path / "spent.jsonl", priced(), what="judge")
    one = request("é" * 484)
    assert most_they_cost([one], priced()) == pytest.approx((1000 * 2 + 100 * 10) / 1e6)
    account.check([one] * 3)
    with pytest.raises(UsageError, match=r"judge\.max_cost: could cost up to 0\.012, more than max_cost = 0\.01; nothing was sent"):
        account.check([one] * 4)
    account.reserve(one)
    again = Account(tmp_path / "spent.jsonl", priced(), what="judge")  # another run
    assert again.spent == pytest.approx(0.003)
    with pytest.raises(UsageError, match=r"on top of the 0\.003 that were spent before"):
        again.check([one] * 3)
    again.check([])
    other = Account(tmp_path / "spent.jsonl", priced().model_copy(update={"model": "k"}), what="judge")
    assert other.spent == 0  # another model's


def test_without_a_cap_nothing_is_refused_and_all_is_counted(tmp_path):
    free = Account(tmp_path / "spent.jsonl", spec("http://x/v1"), what="judge")
    free.settle(free.reserve(request("abc")), 3, 4)
    assert free.spent == 0
    assert Account(tmp_path / "spent.jsonl", priced(), what="judge").spent == pytest.approx((3 * 2 + 4 * 10) / 1e6)  # at the prices of now


def test_a_server_that_counts_more_than_the_bound(tmp_path):
    """A template of 500 tokens around each message: what is reported counts, and later bounds allow for it."""
    account = Account(tmp_path / "s.jsonl", priced(price_in=1e6, price_out=0.0, max_cost=1500.0), what="judge")
    first = account.reserve(request("abc"))
    account.settle_by(first, Answer("x", tokens_in=first[0] + 500, tokens_out=1))
    assert account.spent == first[0] + 500
    assert account.reserve(request("abc"))[0] == first[0] + 500 > 500
    with pytest.raises(CapReached):
        account.reserve(request("abc"))


def test_answers_longer_than_max_tokens(tmp_path):
    """A server that does not count thinking: later answers are taken to be as much longer, each of those on its way only once."""
    account = Account(tmp_path / "s.jsonl", priced(price_in=0.0, price_out=1e6, max_cost=2000.0), what="judge")
    three = [account.reserve(request("abc")) for _ in range(3)]
    for reserved in three:
        account.settle_by(reserved, Answer("x", tokens_in=5, tokens_out=400))
    assert account.spent == 1200
    assert account.reserve(request("abc")).tokens_out == 400
    assert account.reserve(request("abc")).tokens_out == 400
    with pytest.raises(CapReached):
        account.reserve(request("abc"))
    assert account.spent == 2000


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.sampled_from(["answer", "no usage", "refused", "lost"])), max_size=40),
       st.integers(0, 3000))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_sum_of_the_ledger_is_what_was_spent_at_most(tmp_path_factory, asked, cap):
    """Three accounts of one model in one ledger, as three processes have them: together they never pass the cap, and all read the same sum."""
    path = tmp_path_factory.mktemp("a") / "spent.jsonl"
    prices = spec("http://x/v1", price_in=1e6, price_out=1e6, max_cost=float(cap))
    accounts = [Account(path, prices, what="judge") for _ in range(3)]
    expected = 0
    for who, length, fate in asked:
        one = request("x" * length, max_tokens=10)
        bound = length + 32 + 10
        try:
            reserved = accounts[who].reserve(one)
        except CapReached:
            assert expected + bound > cap
            continue
        assert expected + bound <= cap
        if fate == "answer":
            accounts[who].settle_by(reserved, Answer("", tokens_in=length, tokens_out=5))
            expected += length + 5
        elif fate == "refused":
            accounts[who].settle(reserved, 0, 0)
        else:
            expected += bound
    assert {account.spent for account in accounts} == {expected}


def test_a_line_cut_by_a_full_disk(tmp_path):
    path = tmp_path / "spent.jsonl"
    account = Account(path, priced(), what="judge")
    account.reserve(request("abc"))
    before = account.spent
    with open(path, "ab") as file:
        file.write(b'["http://x/v1", "j", 99')
    assert Account(path, priced(), what="judge").spent == before
    account.reserve(request("abc"))
    assert Account(path, priced(), what="judge").spent == account.spent == pytest.approx(2 * before)
    (tmp_path / "folder").mkdir()
    for unwritable in (tmp_path / "folder", Path("/dev/full")):
        with pytest.raises(LimakitError, match="cannot keep account of what is spent"):
            Account(unwritable, priced(), what="judge").reserve(request("abc"))


FAULTS = ["yes", "yes", "yes", "none", "500", "429", "slow", "cut", "garbled", "400", "504"]


def unreliable(seed, served):
    """A server that fails by chance; `served` collects the tokens that it charges for, of lost answers and unread ones too."""
    draw = random.Random(seed)

    def respond(r):
        fault = draw.choice(FAULTS)
        if fault in ("500", "429", "400"):
            return Reply(status=int(fault), headers={"Retry-After": "0"} if fault == "429" else {})
        usage = len(r.message.encode()) + 8, draw.randrange(r.body["max_tokens"] + 1)
        served.append(usage)
        replies = {
            "504": Reply(status=504),
            "slow": Reply("late", delay_s=0.5),
            "cut": Reply("cut", cut=True),
            "garbled": Reply(body=b"<html>"),
        }
        return replies.get(fault) or Reply("yes", usage=usage if fault == "yes" else None)

    return respond


@pytest.mark.parametrize("seed", range(2))
def test_what_was_served_never_costs_more_than_the_cap(tmp_path, seed):
    """Run after run against a server that fails in every way, until the cap ends it: what the server charges stays below."""
    served: list[tuple[int, int]] = []
    path, reached = tmp_path / "spent.jsonl", 0
    with Endpoint(unreliable(seed, served)) as endpoint:
        prices = {"price_in": 1e6, "price_out": 1e6, "max_cost": 9000.0}
        for n in range(8):
            messages = [f"{n} {i} " + "x" * (i * 13 % 50) for i in range(25)]
            account = Account(path, spec(endpoint.url, **prices), what="judge")
            got: dict = {}
            try:
                ask(endpoint.url, messages, account=account, got=got, has_answered=True, timeout_s=0.3, concurrency=8, retries=3, **prices)
            except CapReached as error:
                reached += 1
                assert "raise judge.max_cost" in str(error)
                time.sleep(0.1)
            assert sum(map(sum, served)) <= account.spent <= 9000
            assert {a.text for a in got.values() if not a.missing} <= {"yes"}
    assert reached >= 2
    assert sum(map(sum, served)) > 3000  # and it is not so careful as to do nothing


RUN = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from questions import ask, spec
from limakit.endpoint.budget import Account, CapReached
prices = dict(price_in=1e6, price_out=1e6, max_cost=4000.0)
account = Account(Path({path!r}), spec({url!r}, **prices), what="judge")
try:
    ask({url!r}, [sys.argv[1] + str(i) for i in range(300)], account=account, concurrency=4, has_answered=True, **prices)
except CapReached:
    sys.exit(7)
"""


def test_several_runs_at_once_and_kill_minus_9(tmp_path):
    """Three processes of one account, one of them killed in the middle: the cap holds for all, the killed one's requests stay counted."""
    served: list[int] = []
    begun: set[str] = set()
    all_begun = threading.Event()

    def respond(r):
        begun.add(r.message[0])
        if len(begun) == 3:
            all_begun.set()
        all_begun.wait(60)
        usage = len(r.message) + 5, 20
        served.append(sum(usage))
        return Reply("yes", usage=usage, delay_s=0.02)

    with Endpoint(respond) as endpoint:
        path = tmp_path / "spent.jsonl"
        support = str(Path(__file__).parents[1] / "support")
        code = RUN.format(paths=[support], path=str(path), url=endpoint.url)
        runs = [subprocess.Popen([sys.executable, "-c", code, name], env=os.environ) for name in "abc"]
        deadline = time.monotonic() + 60
        while sum(r.message.startswith("a") for r in endpoint.requests) < 8 and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(runs[0].pid, signal.SIGKILL)
        assert [run.wait(60) for run in runs] == [-signal.SIGKILL, 7, 7]
        time.sleep(0.1)
        spent = Account(path, spec(endpoint.url, price_in=1e6, price_out=1e6), what="judge").spent
        assert sum(served) <= spent <= 4000
        assert spent > 4000 - 4 * 300  # it went on until the next might not have fitted
        changes = [json.loads(line) for line in path.read_bytes().splitlines()]
        never_settled = sum(row[2] > 0 for row in changes) - sum(row[2] < 0 for row in changes)
        assert 1 <= never_settled <= 4  # what the killed one had on its way
