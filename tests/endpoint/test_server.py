"""Which server it is, by what it says of its models; whatever else it says."""

import socket
import threading
import time

import pytest
from endpoint import Endpoint
from questions import spec

from limakit.endpoint import server as asked
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


def test_a_list_that_trickles_for_ever(monkeypatch):
    monkeypatch.setattr(asked, "PATIENCE_S", 0.5)

    def trickle():
        peer, _ = listener.accept()
        with peer:
            peer.recv(1 << 16)
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    peer.sendall(b"1\r\n \r\n")
                    time.sleep(0.05)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, daemon=True).start()
        began = time.monotonic()
        assert find_server(spec(f"http://127.0.0.1:{listener.getsockname()[1]}/v1"), "judge") is None
        assert time.monotonic() - began < 5
