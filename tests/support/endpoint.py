"""A real HTTP server on the loopback that speaks the chat-completions protocol, judges plainly, and fails as told.

with Endpoint() as endpoint:                      # a judge that prefers the longer response and grades by length
    ... base_url = endpoint.url ...
with Endpoint(lambda request: Reply(status=500) if request.times == 0 else longer(request)) as endpoint: ...
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """`times`: how often the same message was asked before; `n`: how many requests came before."""

    message: str
    times: int
    n: int
    body: dict
    headers: dict[str, str]
    path: str


@dataclass(frozen=True)
class Reply:
    """`body` replaces the completion; `cut` closes the connection in the middle of it. `usage`: tokens of the request and of the answer."""

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    refusal: str | None = None
    finish: str | None = "stop"
    usage: tuple[int, int] | None = (1, 1)
    model: str | None = None  # who answers, if not who was asked
    delay_s: float = 0.0
    cut: bool = False


def refuses(name: str, status: int = 400, how: str = "param") -> Reply:
    """A server that refuses a field of the request, in one of the ways servers do."""
    body: dict = {
        "param": {"error": {"message": f"Unsupported parameter: '{name}'.", "type": "invalid_request_error", "param": name}},
        "loc": {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted", "input": 1}]},
        "words": {"detail": f"Unexpected fields in the request: {{'{name}'}}"},
    }[how]
    return Reply(status=status, body=json.dumps(body).encode())


def part(message: str, name: str) -> str:
    """What stands between the marks of our rubrics: part(message, "RESPONSE A"). Marks carry a code, told by the first; others are text."""
    code = re.search(r"^===== PROMPT (\w+) =====$", message, re.MULTILINE)[1]
    return re.search(rf"^===== {name} {code} =====\n(.*?)\n===== END OF {name} {code} =====$", message, re.DOTALL | re.MULTILINE)[1]


def longer(request: Request) -> str:
    """A judge without taste: the longer response is better; a grade for every 40 characters. Says why, in the texts' own words."""
    if request.message.startswith("You compare two responses"):
        a, b = part(request.message, "RESPONSE A"), part(request.message, "RESPONSE B")
        verdict = "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
        return f"A says: {a}\nB says: {b}\nSo:\nVerdict: {verdict}"
    response = part(request.message, "RESPONSE")
    return f"It says: {response}\n\nGrade: {min(6, 1 + len(response) // 40)}"


class Endpoint:
    """`url` is the base_url; `requests` all that came; `answered` counts, by message, the whole replies with status 200.

    `owned_by` is what it says of its models, None for a server that lists none; the first `hiccups` times it says 503.
    """

    def __init__(
        self,
        respond: Callable[[Request], Reply | str] = longer,
        certificate: Path | None = None,
        owned_by: str | None = None,
        hiccups: int = 0,
    ):
        self.respond = respond
        self.owned_by, self.hiccups = owned_by, hiccups
        self.certificate = certificate  # a PEM file with key and certificate: https
        self.requests: list[Request] = []
        self.answered: Counter[str] = Counter()
        self.most_at_once = 0
        self._now = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> Endpoint:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if endpoint.hiccups > 0:
                    endpoint.hiccups -= 1
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                listed = {"object": "list", "data": [{"id": "j", "object": "model", "owned_by": endpoint.owned_by}]}
                body = json.dumps(listed).encode() if endpoint.owned_by and self.path == "/v1/models" else b"{}"
                self.send_response(200 if len(body) > 2 else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                message = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
                with endpoint._lock:
                    headers = {key.lower(): value for key, value in self.headers.items()}
                    request = Request(message, endpoint._seen[message], len(endpoint.requests), body, headers, self.path)
                    endpoint._seen[message] += 1
                    endpoint.requests.append(request)
                    endpoint._now += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint._now)
                try:
                    reply = endpoint.respond(request)
                    self.send(Reply(reply) if isinstance(reply, str) else reply, request)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client went away: killed, or tired of waiting
                finally:
                    with endpoint._lock:
                        endpoint._now -= 1

            def send(self, reply: Reply, request: Request) -> None:
                time.sleep(reply.delay_s)
                message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
                said = {"message": message} if "messages" in request.body else {"text": reply.text}
                completion = {
                    "id": f"chatcmpl-{request.n}", "object": "chat.completion", "created": 0, "model": reply.model or request.body["model"],
                    "choices": [{"index": 0, "finish_reason": reply.finish, "logprobs": None} | said],
                }  # fmt: skip
                if reply.usage:
                    tokens_in, tokens_out = reply.usage
                    completion["usage"] = {
                        "prompt_tokens": tokens_in,
                        "completion_tokens": tokens_out,
                        "total_tokens": tokens_in + tokens_out,
                    }
                failed = {"error": {"message": "as the test told", "type": "test", "code": None}}
                body = reply.body if reply.body is not None else json.dumps(completion if reply.status == 200 else failed).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                self.end_headers()
                if reply.cut:
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(body)
                self.wfile.flush()
                if reply.status == 200 and reply.body is None:
                    with endpoint._lock:
                        endpoint.answered[request.message] += 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # with the default of 5 a burst of connections waits for a second SYN

        self._server = Server(("127.0.0.1", 0), Handler)
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if self.certificate else ''}://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
