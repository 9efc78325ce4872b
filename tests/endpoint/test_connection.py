"""Replies in every framing HTTP/1.1 has and without end, connections that servers close when they like or never take, and proxies."""

import asyncio
import gzip
import json
import socket
import threading
import time

import pytest
from questions import ask, spec

from limakit.endpoint import connection, limits
from limakit.endpoint.budget import Account
from limakit.endpoint.connection import Connections
from limakit.endpoint.failure import Passing, Who
from limakit.errors import LimakitError

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

    def hear(self, peer):
        """A whole request, or nothing."""
        came = b""
        while b"\r\n\r\n" not in came or len(came.split(b"\r\n\r\n", 1)[1]) < int(came.lower().split(b"content-length:")[1].split()[0]):
            part = peer.recv(65536)
            if not part:
                return b""
            came += part
        return came

    def talk(self, peer):
        with peer:
            while came := self.hear(peer):
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
        assert ask("http://judge.invalid/v1", ["m"])[0].text.startswith("yes")


@pytest.mark.parametrize("reads", [True, False])
def test_a_kept_connection_that_the_server_closes(tmp_path, reads):
    """Each connection serves one request and then ends, after the next was read, or before: opened anew, asked and paid once, no attempt lost."""

    class Closing(Raw):
        def talk(self, peer):
            with peer:
                self.hear(peer)
                peer.sendall(plain(BODY))
                if reads:
                    self.hear(peer)

    with Closing(b"", keep=False) as server:
        account = Account(tmp_path / "s.jsonl", spec(server.url, price_out=1e6), what="judge")
        got = ask(server.url, [f"m{i}" for i in range(30)], account=account, retries=0, concurrency=2)
        assert {a.text for a in got.values()} == {"yes \u2028 \U0001f600"}
        assert account.spent == 30 * 100  # its replies say nothing of their tokens


def test_a_new_connection_that_ends_without_a_word_is_an_attempt_that_counts(tmp_path):
    with Raw(b"", keep=False) as server:
        account = Account(tmp_path / "s.jsonl", spec(server.url, price_out=1e6), what="judge")
        with pytest.raises(LimakitError, match="did not answer"):
            ask(server.url, ["m"], account=account, retries=2)
        assert server.connections == 3
        assert account.spent == 3 * 100


def test_nobody_takes_the_connection(tmp_path):
    """A listener whose line is full: the connection is never made, so nothing can have been billed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        in_line = [socket.socket() for _ in range(4)]
        for waiting in in_line:
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        account = Account(tmp_path / "s.jsonl", spec(url, price_out=1e6), what="judge")
        with pytest.raises(LimakitError, match=r"did not answer: no connection within 0\.3 s"):
            ask(url, ["m"], account=account, retries=1, timeout_s=0.3)
        assert account.spent == 0
        for waiting in in_line:
            waiting.close()


@pytest.mark.parametrize("head", [b"", b"Content-Encoding: gzip\r\n"])
def test_a_reply_without_end(monkeypatch, head):
    monkeypatch.setattr(connection, "LONGEST_REPLY_MB", 1)
    body = gzip.compress(bytes(3 << 20)) if head else bytes(3 << 20)
    reply = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body
    with Raw(reply, keep=False) as server, pytest.raises(LimakitError, match="longer than 1 MB"):
        ask(server.url, ["m"], retries=0)


def test_a_reply_that_trickles_for_ever():
    class Trickling(Raw):
        def talk(self, peer):
            with peer:
                peer.recv(1 << 16)
                try:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    while True:
                        peer.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

    async def get():
        connections = Connections(Who(spec(server.url, timeout_s=0.4), "judge"))
        try:
            await connections.send("GET", "models")
        finally:
            await connections.close()

    with Trickling(b"", keep=True) as server:
        began = time.monotonic()
        with pytest.raises(Passing, match=r"no answer within 0\.4 s"):
            asyncio.run(get())
        assert time.monotonic() - began < 5
