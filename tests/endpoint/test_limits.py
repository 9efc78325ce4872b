"""How fast an endpoint is asked, as the endpoint sees it."""

import time

from endpoint import Endpoint, Reply, refuses
from questions import ask, request

from limakit.endpoint.request import most_tokens


def times(url_settings, messages):
    came = []

    def respond(r):
        came.append(time.monotonic())
        return "yes"

    with Endpoint(respond) as endpoint:
        ask(endpoint.url, ["warm up"])
        came.clear()
        ask(endpoint.url, messages, **url_settings)
    return came


def test_requests_per_minute():
    came = times({"requests_per_minute": 1200, "concurrency": 8}, [f"m{i}" for i in range(21)])
    assert came[-1] - came[0] >= 20 * 0.05 - 0.03
    # evenly: in no stretch more than its share, but for the jitter of the clock
    assert all(came[i + 10] - came[i] >= 10 * 0.05 - 0.05 for i in range(11))


def test_tokens_per_minute():
    each = sum(most_tokens(request("m0")))
    came = times({"tokens_per_minute": each * 1200, "concurrency": 8}, [f"m{i}" for i in range(10)])
    assert came[-1] - came[0] >= 9 * 0.05 - 0.03


def test_attempts_stand_in_line_too():
    came = []

    def respond(r):
        came.append(time.monotonic())
        return Reply(status=429, headers={"Retry-After": "0"}) if r.times < 2 else "yes"

    with Endpoint(respond) as endpoint:
        got = ask(endpoint.url, ["a", "b"], requests_per_minute=600, concurrency=2, retries=2)
    assert {a.text for a in got.values()} == {"yes"}
    assert len(came) == 6
    assert came[-1] - came[0] >= 5 * 0.1 - 0.05


def test_requests_without_a_refused_field_stand_in_line_too():
    came = []

    def respond(r):
        came.append(time.monotonic())
        return refuses("seed") if "seed" in r.body else "yes"

    with Endpoint(respond) as endpoint:
        ask(endpoint.url, ["a", "b", "c"], sampling={"seed": 1}, requests_per_minute=600, concurrency=1)
    assert len(came) == 4
    assert came[-1] - came[0] >= 3 * 0.1 - 0.05
