"""Replies in every framing HTTP/1.1 has, connections that servers close when they like, and proxies."""

import gzip
import json
import socket
import threading

import pytest
from questions import ask

from limakit.endpoint import limits
from limakit.endpoint.wire import needs_proxy

BODY = json.dumps({"choices": [{"message": {"content": "yes \u2028 \U0001f600"}, "finish_reason": "stop"}]}, ensure_ascii=False).encode()


def chunked(body):
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


def plain(body, *more):
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *more, b"", b""]) + body


REPLIES = {
    "length": (plain(BODY), True),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY), True),
    "until closed": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, False),
    "says close": (plain(BODY, b"Connection: close"), False),
    "closed without a word": (plain(BODY), False),
    "gzip": (plain(gzip.compress(BODY), b"Content-Encoding: gzip"), True),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + plain(BODY), True),
}


class Raw:
    """A server that sends these bytes to each request, in two pieces, and keeps the connection or not."""

    def __init__(self, reply, keep, path=b""):
        self.reply, self.keep, self.connections, self.paths = reply, keep, 0, []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        with peer:
            while True:
                came = b""
                while b"\r\n\r\n" not in came or len(came.split(b"\r\n\r\n", 1)[1]) < int(
                    came.lower().split(b"content-length:")[1].split()[0]
                ):
                    part = peer.recv(65536)
                    if not part:
                        return
                    came += part
                reply = self.reply(came) if callable(self.reply) else self.reply
                peer.sendall(reply[:40])
                peer.sendall(reply[40:])
                if not self.keep:
                    return

    def __exit__(self, *_):
        self.listener.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


@pytest.mark.parametrize("how", REPLIES)
def test_every_framing(how):
    reply, keep = REPLIES[how]
    with Raw(reply, keep) as server:
        got = ask(server.url, [f"m{i}" for i in range(4)], concurrency=1)
        assert {a.text for a in got.values()} == {"yes \u2028 \U0001f600"}
        assert server.connections == (1 if keep else 4)


def test_what_is_no_http_is_no_answer():
    garbled = [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n" + b"x" * 50,
        plain(BODY)[:-10],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
    ]
    replies = iter([*garbled, plain(BODY)])
    with Raw(lambda came: next(replies), keep=False) as server:
        got = ask(server.url, ["m"], retries=3)
        assert got[0].text.startswith("yes")


def test_a_redirect_is_followed():
    def reply(came):
        if came.startswith(b"POST /v1/"):
            return b"HTTP/1.1 307 Moved\r\nLocation: /v2/chat/completions\r\nContent-Length: 0\r\n\r\n"
        return plain(BODY)

    with Raw(reply, keep=True) as server:
        assert ask(server.url, ["m"])[0].text.startswith("yes")


def test_a_proxy_of_the_environment(monkeypatch):
    """Asked for a host that is not there, the proxy answers."""
    with Raw(plain(BODY), keep=True) as server:
        monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert needs_proxy("http", "judge.invalid") and not needs_proxy("http", "127.0.0.1")
        assert ask("http://judge.invalid/v1", ["m"])[0].text.startswith("yes")
