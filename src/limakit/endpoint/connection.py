"""Connections to an endpoint, kept open by httpx2's pool, and what is known of a request that failed: whether it was sent at all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx2

from ..errors import UsageError
from .failure import Passing, Who, unconnected

LONGEST_REPLY_MB = 16  # many times what the longest answer takes with all its reasoning
STALE_S = 1.0  # a connection that the server has closed shows it at once; later, the server may have worked before it closed


@dataclass(frozen=True)
class Reply:
    """A whole reply, of any status."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Connections:
    """To the endpoint of `who`, as many at once as its concurrency; within one event loop. Raises UsageError for certificates that cannot be read."""

    def __init__(self, who: Who):
        self._who, at_once = who, who.spec.concurrency
        self._base = who.spec.base_url.rstrip("/")
        try:
            context = httpx2.create_ssl_context()
        except OSError as error:  # the certificates are read here
            raise UsageError(f"cannot read certificates: {error}", where="environment variable SSL_CERT_FILE or SSL_CERT_DIR") from None
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {who.key}", "Content-Type": "application/json"}, timeout=who.spec.timeout_s,
            limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once), follow_redirects=True, verify=context,
        )  # fmt: skip

    async def send(self, method: str, path: str, content: bytes | None = None) -> Reply:
        """The reply, `timeout_s` after this at the latest. Where a kept connection was closed meanwhile, another is taken, a new one in the end.

        Raises Passing where no whole reply came, LimakitError where none will.
        """
        began, course = time.monotonic(), _Course()
        try:
            # the client's own time-out restarts with every byte that trickles in; this one does not
            async with asyncio.timeout(self._who.spec.timeout_s):
                while True:
                    try:
                        return await self._exchange(method, path, content, course)
                    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                        if course.opened or course.replied or time.monotonic() - began > STALE_S:
                            raise
        except (TimeoutError, httpx2.HTTPError) as error:
            raise unconnected(error, self._who, sent=course.sent) from None

    async def _exchange(self, method: str, path: str, content: bytes | None, course: _Course) -> Reply:
        parts, size = [], 0
        async with self._client.stream(
            method, f"{self._base}/{path}", content=content, extensions={"trace": course.note}
        ) as reply:  # fmt: skip
            async for part in reply.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > LONGEST_REPLY_MB << 20:
                    raise Passing(f"its reply is garbled (longer than {LONGEST_REPLY_MB} MB)", billed=True)
        return Reply(reply.status_code, reply.headers, b"".join(parts))

    async def close(self) -> None:
        await self._client.aclose()


class _Course:
    """How far a request came: whether a connection was opened for it, anything of it was sent, and a reply has begun."""

    opened = sent = replied = False

    async def note(self, event: str, _: object) -> None:
        self.opened |= event.endswith("connect_tcp.started")
        self.sent |= event.endswith("send_request_headers.started")
        self.replied |= event.endswith("receive_response_headers.complete")
