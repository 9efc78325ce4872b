"""The client against a real server that fails in every way there is: nothing lost, nothing scored that is no answer."""

import socket
import time
from collections import Counter

import pytest
from endpoint import Endpoint, Reply, Request
from questions import ask, spec

from limakit.endpoint import limits
from limakit.endpoint.budget import Account
from limakit.endpoint.client import check_endpoint
from limakit.errors import LimakitError, UsageError
from limakit.recipe import EndpointSpec


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


def test_all_are_asked_once_with_bounded_concurrency(monkeypatch):
    monkeypatch.setenv("MY_KEY", " sk-secret\n")
    with Endpoint(lambda r: Reply(f"echo {r.message}", delay_s=0.02)) as endpoint:
        got = ask(
            endpoint.url,
            [f"m{i}\u2028{{x}}" for i in range(30)],
            concurrency=3,
            api_key_env="MY_KEY",
            sampling={"temperature": 0.5, "max_tokens": 77},
        )
        assert {i: a.text for i, a in got.items()} == {i: f"echo m{i}\u2028{{x}}" for i in range(30)}
        assert len(endpoint.requests) == 30
        assert 1 < endpoint.most_at_once <= 3
        first = endpoint.requests[0]
        assert first.path == "/v1/chat/completions"
        assert first.headers["authorization"] == "Bearer sk-secret"
        assert (first.body["model"], first.body["temperature"], first.body["max_tokens"]) == ("j", 0.5, 77)


FAULTS = {
    "429": lambda r: Reply(status=429, headers={"Retry-After": "0.2"}),
    "500": lambda r: Reply(status=500),
    "504": lambda r: Reply(status=504, body=b"<html>gateway time-out</html>"),
    "408": lambda r: Reply(status=408),
    "503": lambda r: Reply(status=503, body=b"<html>busy</html>"),
    "slow": lambda r: Reply("too late", delay_s=3.0),
    "cut": lambda r: Reply("never whole", cut=True),
    "not json": lambda r: Reply(body=b"<html>I am a proxy</html>"),
    "json cut": lambda r: Reply(body=b'{"choices": [{"mess'),
    "no choices": lambda r: Reply(body=b'{"error": {"message": "overloaded"}}'),
    "null choice": lambda r: Reply(body=b'{"choices": [null]}'),
}


def test_what_passes_is_tried_again(tmp_path):
    def respond(request: Request):
        return FAULTS[request.message](request) if request.message in FAULTS and request.times < 2 else f"answer to {request.message}"

    with Endpoint(respond) as endpoint:
        ask(endpoint.url, ["warm up"])  # the client's first request is slow to build
        prices = spec(endpoint.url, price_out=1e6)  # a token of the answer costs 1
        account = Account(tmp_path / "spent.jsonl", prices, what="judge")
        got = ask(endpoint.url, list(FAULTS), account=account, timeout_s=1.0, concurrency=len(FAULTS))
        assert [got[i].text for i in range(len(FAULTS))] == [f"answer to {m}" for m in FAULTS]
        assert not any(a.problem for a in got.values())
        assert set(Counter(r.message for r in endpoint.requests[1:]).values()) == {3}
        # an answer said that it took 1 token; twice each may have been billed in full, but for 429 and 503
        assert account.spent == len(FAULTS) + 2 * 100 * (len(FAULTS) - 2)


def test_retry_after_is_honoured():
    times = []

    def respond(request):
        times.append(time.monotonic())
        return Reply(status=429, headers={"Retry-After": "1"}) if request.times == 0 else "yes"

    with Endpoint(respond) as endpoint:
        got = ask(endpoint.url, ["m"], retries=1)
        assert got[0].text == "yes"
        assert times[1] - times[0] >= 0.99
    with Endpoint(lambda r: Reply(status=429, headers={"Retry-After": "4000"})) as endpoint:
        with pytest.raises(LimakitError, match="left alone for 4000 s"):
            ask(endpoint.url, ["m"])
        assert len(endpoint.requests) == 1


def test_retry_after_as_a_date():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert limits.retry_after({"retry-after": date}) == pytest.approx(100, abs=2)
    for value in ("", "soon", "-3", "\u0663", None):
        assert limits.retry_after({"retry-after": value}) is None


def test_answers_that_are_none():
    def respond(request):
        return {
            "refuses": Reply(None, refusal="I won't."),
            "empty": Reply(""),
            "null": Reply(None),
            "cut off": Reply("Verdict: A", finish="length"),
            "filtered": Reply("Verdict: A", finish="content_filter"),
            "too long": Reply(status=400, body=b'{"error": {"message": "context of 4096 exceeded"}}'),
            "fine": Reply("Verdict: A"),
        }[request.message]

    with Endpoint(respond) as endpoint:
        got = ask(endpoint.url, ["refuses", "empty", "null", "cut off", "filtered", "too long", "fine"])
        problems = [got[i].problem for i in range(7)]
        assert problems[0] == "refused to answer"
        assert got[0].text == "I won't."
        assert problems[1] is problems[2] is None  # whole answers, that say nothing
        assert got[1].text == got[2].text == ""
        assert problems[3:5] == ["cut off at max_tokens", "stopped by the endpoint's content filter"]
        assert [i for i, a in got.items() if a.missing] == [5]
        assert "HTTP 400: context of 4096 exceeded" in problems[5]
        assert problems[6] is None
        assert len(endpoint.requests) == 7


@pytest.mark.parametrize(
    ("status", "said"), [(401, "MY_KEY"), (403, "MY_KEY"), (404, "no model 'j'"), (500, "3 attempts"), (400, "every request")]
)
def test_what_stays_ends_the_run_with_one_message(monkeypatch, status, said):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    body = b'{"error": {"message": "wrong key sk-secret"}}'
    with Endpoint(lambda r: Reply(status=status, body=body) if r.n >= (5 if status != 400 else 0) else "yes") as endpoint:
        got = {}
        with pytest.raises(LimakitError, match=said) as error:
            ask(endpoint.url, [f"m{i}" for i in range(50)], got=got, api_key_env="MY_KEY")
        assert endpoint.url in str(error.value)
        assert "sk-secret" not in str(error.value)
        assert len(endpoint.requests) < 30
        if status != 400:
            assert {a.text for a in got.values() if not a.missing} == {"yes"}
            assert sum(not a.missing for a in got.values()) == 5  # all that was answered was handed over


ENDS = {
    "Retry-After": Reply(status=429, headers={"Retry-After": "400"}),
    "401": Reply(status=401),
    "402": Reply(status=402),
    "404": Reply(status=404),
    "in a row": Reply(status=500),
}


@pytest.mark.parametrize("fault", ENDS)
def test_what_is_on_its_way_when_a_run_ends_is_waited_for(fault):
    """Slow answers, which are paid for, and a failure beside them that ends the run at once: they are kept, nothing new is asked."""
    n = 8 if fault == "in a row" else 1

    def respond(r):
        return ENDS[fault] if r.message.startswith("bad") else Reply("yes", delay_s=0.5)

    with Endpoint(respond) as endpoint:
        got = {}
        messages = [*(f"m{i}" for i in range(7)), *(f"bad{i}" for i in range(n)), *(f"n{i}" for i in range(30))]
        with pytest.raises(LimakitError):
            ask(endpoint.url, messages, got=got, concurrency=8, retries=int(fault == "Retry-After"))
        assert {i for i, a in got.items() if a.text == "yes"} == set(range(7))
        assert not any(r.message.startswith("n") for r in endpoint.requests)


def test_who_waits_to_ask_waits_no_longer_when_the_run_ends():
    began = time.monotonic()
    with Endpoint(lambda r: Reply(status=401)) as endpoint, pytest.raises(LimakitError, match="refuses access"):
        ask(endpoint.url, ["a", "b", "c"], requests_per_minute=1)
    assert time.monotonic() - began < 30


def test_models_that_want_the_newer_name_of_the_limit():
    body = b'{"error": {"message": "Unsupported parameter: use max_completion_tokens instead"}}'
    with Endpoint(
        lambda r: Reply(status=400, body=body) if "max_tokens" in r.body else f"yes {r.body['max_completion_tokens']}"
    ) as endpoint:
        got = ask(endpoint.url, [f"m{i}" for i in range(20)], sampling={"max_tokens": 77}, retries=0)
        assert {a.text for a in got.values()} == {"yes 77"}
        assert len(endpoint.requests) <= 20 + 4  # only those in flight were refused


def test_endpoint_down():
    with socket.socket() as s:  # a port where nobody listens
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/v1"
    with pytest.raises(LimakitError, match="did not answer") as error:
        ask(url, ["m"])
    assert url in str(error.value)
    assert "check that it is running" in str(error.value)


def test_wrong_settings(monkeypatch):
    for url in (
        "localhost:8000/v1",
        "ftp://x/v1",
        "http://",
        "http://me:secret@x/v1",
        "http://[x/v1",
        "http://x/v1?key=secret",
        "http://x/v1#secret",
        "http://a..b/v1",
        f"http://{'a' * 64}.com/v1",
        "http://\u00e4\u2603.com/v1",
        "http://x/\x07v1",
        "http://ex ample/v1",
        "http://x\n/v1",
        "http://x:0/v1",
        "http://x:99999/v1",
    ):
        with pytest.raises(UsageError, match=r"judge\.base_url") as error:
            check_endpoint(spec(url), "judge")
        assert "@" not in str(error.value)
        assert "=secret" not in str(error.value)
    for url in ("http://[::1]:8000/v1", "https://b\u00fccher.example/v1", "http://x_y/v1", "http://a.b./v1", "http://127.0.0.1/a%20b/v1"):
        check_endpoint(spec(url), "judge")
    for key in ("sk-secret", "sk secret", "5ecret", ""):
        with pytest.raises(UsageError, match=r"judge\.api_key_env: is no name of a variable") as error:
            check_endpoint(spec("http://x/v1", api_key_env=key), "judge")
        assert not key or key not in str(error.value)
    with pytest.raises(UsageError, match=r"judge\.model"):
        check_endpoint(EndpointSpec(), "judge")
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with pytest.raises(UsageError, match="holds a password or key") as error:
        check_endpoint(spec("http://x/sk-secret/v1", api_key_env="MY_KEY"), "judge")
    assert "cret" not in str(error.value)
    monkeypatch.setenv("MY_KEY", "sk-s\u00e9cret")
    with pytest.raises(UsageError, match="MY_KEY") as error:
        check_endpoint(spec("http://x/v1", api_key_env="MY_KEY"), "judge")
    assert "cret" not in str(error.value)
