"""Questions put straight to the client, and what came of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from limakit.endpoint.budget import Account
from limakit.endpoint.client import ask_all
from limakit.endpoint.request import Request
from limakit.recipe import EndpointSpec


def spec(url, **more):
    return EndpointSpec(model="j", base_url=url, **{"concurrency": 4, "retries": 2, "timeout_s": 5.0} | more)


def request(message, **more):
    return Request((("user", message),), **{"max_tokens": 100, "temperature": 0.0} | more)


def ask(url, asked, *, has_answered=False, got=None, account=None, sampling=None, **settings):
    """Answers by place, to messages or whole requests. `got` is filled as they arrive, so that it holds them even where this raises."""
    got = {} if got is None else got
    requests = [request(one, **(sampling or {})) if isinstance(one, str) else one for one in asked]
    endpoint = spec(url, **settings)
    with tempfile.TemporaryDirectory() as folder:
        account = account or Account(Path(folder) / "spent.jsonl", endpoint, what="judge")
        for i, answer in ask_all(requests, endpoint, what="judge", account=account, has_answered=has_answered):
            got[i] = answer
    return got
