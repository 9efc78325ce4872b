"""Which failure is one question's, which the endpoint's; what the user is told; that the key stays here."""

import shutil
import subprocess
import time

import pytest
from endpoint import Endpoint, Reply
from questions import ask

from limakit.endpoint import limits
from limakit.errors import LimakitError, UsageError


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


def test_no_credit_ends_the_run(monkeypatch):
    """402, or 429 with the code of an empty account: one message with the endpoint's words, and no question counts as refused."""
    for status in (402, 429, 418):
        body = b'{"error": {"message": "insufficient balance, top up at x.example", "code": "insufficient_quota"}}'
        if status == 418:
            body = b'{"error": "insufficient balance, top up at x.example"}'
        with Endpoint(lambda r, s=status, b=body: Reply(status=s, body=b) if r.n >= 5 else "yes") as endpoint:
            got = {}
            with pytest.raises(LimakitError, match=rf"HTTP {status}: insufficient balance, top up at x\.example.*(?s:.*)goes on"):
                ask(endpoint.url, [f"m{i}" for i in range(50)], got=got)
            assert len(endpoint.requests) <= 5 + 4
            assert {a.text for a in got.values()} == {"yes"}


POISON = {
    "500": lambda r: Reply(status=500, body=b'{"error": "cuda assert"}'),
    "no choices": lambda r: Reply(body=b'{"error": {"message": "overloaded"}}'),
    "empty choices": lambda r: Reply(body=b'{"choices": []}'),
    "null choices": lambda r: Reply(body=b'{"choices": null}'),
    "403": lambda r: Reply(status=403, body=b'{"error": "flagged by moderation"}'),
    "429": lambda r: Reply(status=429, body=b'{"error": "request too large"}'),
}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("fault", POISON)
def test_one_question_that_always_fails_goes_without(fault, concurrency):
    with Endpoint(lambda r: POISON[fault](r) if r.message == "poison" else "yes") as endpoint:
        got = ask(endpoint.url, ["poison", *(f"m{i}" for i in range(9))], concurrency=concurrency)
        assert [got[i].text for i in range(10)] == [""] + ["yes"] * 9
        assert [i for i, a in got.items() if a.missing] == [0]
        said = {"500": "cuda assert", "403": "HTTP 403: flagged by moderation", "429": "request too large", "no choices": "overloaded"}.get(
            fault, "no message"
        )
        assert said in got[0].problem


def test_many_that_fail_with_answers_between_them():
    with Endpoint(lambda r: Reply(status=500) if "poison" in r.message else "yes") as endpoint:
        got = ask(endpoint.url, [f"{'poison' if i % 2 else 'm'}{i}" for i in range(16)], concurrency=1, retries=0)
        assert [i for i, a in got.items() if a.missing] == list(range(1, 16, 2))


def test_nothing_answered_is_a_failure_however_few():
    for fault, said in (("500", "did not answer: HTTP 500: cuda assert"), ("403", "refuses access .HTTP 403: flagged")):
        with Endpoint(POISON[fault]) as endpoint, pytest.raises(LimakitError, match=said):
            ask(endpoint.url, ["one", "two"])
    with Endpoint(lambda r: Reply(status=400)) as endpoint:
        with pytest.raises(LimakitError, match="refuses every request"):
            ask(endpoint.url, ["one", "two"])
        got = {}
        ask(endpoint.url, ["one"], got=got, has_answered=True)
        assert got[0].missing


def test_a_limit_on_speed_is_no_failure_of_a_question():
    """429 again and again for one question, as long as others are answered: it waits its turn."""
    with Endpoint(lambda r: Reply(status=429) if r.message == "late" and r.times < 6 else Reply("yes", delay_s=0.01)) as endpoint:
        got = ask(endpoint.url, ["late", *(f"m{i}" for i in range(40))], concurrency=2, retries=2)
        assert {a.text for a in got.values()} == {"yes"}
        assert sum(r.message == "late" for r in endpoint.requests) == 7


def test_patience(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.5)
    assert sum(limits.backoff(n, busy=True) for n in range(1, 5)) >= 30  # limits are by the minute
    assert sum(limits.backoff(n, busy=False) for n in range(1, 5)) <= 8
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.4)
    times = []

    def respond(request):
        times.append(time.monotonic())
        return Reply(status=429, headers={"Retry-After": "0"}, body=b"slow down") if request.times == 0 else "yes"

    with Endpoint(respond) as endpoint:
        ask(endpoint.url, ["m"], retries=1)
    assert times[1] - times[0] >= 0.2
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)
    with (
        Endpoint(lambda r: Reply(status=429)) as endpoint,
        pytest.raises(LimakitError, match=r"HTTP 429(?s:.*)lower judge\.concurrency"),
    ):
        ask(endpoint.url, ["m"])


def test_the_key_leaves_in_no_part(monkeypatch):
    """Echoed by an error across the cut at 300 characters, by an answer, by reasoning, by a refusal."""
    monkeypatch.setenv("MY_KEY", "sk-secret-of-mine")
    for before in (280, 290, 299):
        body = b'{"error": {"message": "%s sk-secret-of-mine"}}' % (b"x" * before)
        with Endpoint(lambda r, b=body: Reply(status=400, body=b) if r.n else "yes") as endpoint:
            got = ask(endpoint.url, ["a", "b"], api_key_env="MY_KEY", concurrency=1)
            assert "x" * 200 in got[1].problem
            assert "sk-" not in got[1].problem
    answers = {
        "a": Reply("My header says sk-secret-of-mine.\nVerdict: A"),
        "b": Reply(None, refusal="sk-secret-of-mine"),
        "c": Reply("sk-secret"),
    }
    with Endpoint(lambda r: answers[r.message]) as endpoint:
        got = ask(endpoint.url, ["a", "b", "c"], api_key_env="MY_KEY")
        assert [got[i].text for i in range(3)] == ["My header says ***.\nVerdict: A", "***", "sk-secret"]
        assert endpoint.requests[0].headers["authorization"] == "Bearer sk-secret-of-mine"
    monkeypatch.setenv("MY_KEY", "A")  # what a local server is given is no secret
    with Endpoint(lambda r: "Verdict: A") as endpoint:
        got = ask(endpoint.url, ["a"], api_key_env="MY_KEY")
        assert got[0].text == "Verdict: A"


def test_half_a_surrogate_pair():
    with Endpoint(lambda r: Reply(body=b'{"choices": [{"message": {"content": "smile \\ud83d\\nVerdict: A"}}]}')) as endpoint:
        got = ask(endpoint.url, ["m"])
        assert got[0].text == "smile ?\nVerdict: A"


def test_a_web_page_where_an_endpoint_should_be():
    page = b"\n<!DOCTYPE html><html><head><title>Not here</title></head>" + b"<p>padding</p>" * 50
    with Endpoint(lambda r: Reply(status=404, body=page)) as endpoint:
        with pytest.raises(LimakitError, match="a web page") as error:
            ask(endpoint.url, ["m"])
        assert "judge.base_url may be wrong" in str(error.value)
        assert "<" not in str(error.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command to make a certificate with")
def test_a_certificate_nobody_vouches_for(tmp_path, monkeypatch):
    """Not tried again, and the message names the way to trust it, which works."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    pem = tmp_path / "localhost.pem"
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(["openssl", *command.split(), "-keyout", pem, "-out", tmp_path / "cert"], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "cert").read_bytes())
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 100.0)
    with Endpoint(lambda r: "yes", certificate=pem) as endpoint:
        with pytest.raises(LimakitError, match="certificate cannot be trusted: self-signed") as error:
            ask(endpoint.url, ["m"])
        assert "SSL_CERT_FILE" in str(error.value)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert ask(endpoint.url, ["m"])[0].text == "yes"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing"))
        with pytest.raises(UsageError, match="SSL_CERT_FILE"):
            ask(endpoint.url, ["m"])
