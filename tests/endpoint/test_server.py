"""Which server it is, by what it says of its models; whatever else it says."""

import pytest
from endpoint import Endpoint
from questions import spec

from limakit.endpoint.server import find_server


@pytest.mark.parametrize(
    ("owner", "called"), [("vllm", "vLLM"), ("sglang", "SGLang"), ("llamacpp", "llama.cpp"), ("library", None), (None, None)]
)
def test_who_it_is(owner, called):
    with Endpoint(owned_by=owner) as endpoint:
        server = find_server(spec(endpoint.url), "judge")
        assert (server.called if server else None) == called


def test_nobody_there():
    assert find_server(spec("http://127.0.0.1:9/v1"), "judge") is None
