"""One connection to an endpoint, kept open from request to request: HTTP/1.1 by asyncio's own streams, a request in one piece.

httpx2's own transport takes 0.4 ms of the processor for a request on loopback, this 0.1 ms; with 32 requests on their way at 50 ms each, that
is a fifth of the time there is. It stands beneath httpx2's client, whose exceptions it raises. Proxies are left to httpx2's transport.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.request

import h11
import httpx2

READ_BYTES = 1 << 16


def needs_proxy(scheme: str, host: str) -> bool:
    """Whether the environment sends requests to this host through a proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY)."""
    proxies = urllib.request.getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(host)


class Wire(httpx2.AsyncBaseTransport):
    """For one request at a time. Time-outs are the caller's: a request that is cancelled takes its connection with it.

    Raises httpx2.ConnectError where nobody could be reached, httpx2.ReadError and RemoteProtocolError where a request may have been served.
    """

    def __init__(self, context: ssl.SSLContext):
        self._context = context
        self._origin: tuple[str, str, int] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        origin = url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
        if self._origin != origin or self._reader is None or self._reader.at_eof():
            self._abandon()
            await self._connect(origin)
        try:
            return await self._exchange(request)
        except OSError as error:
            self._abandon()
            raise httpx2.ReadError(str(error)) from error
        except h11.ProtocolError as error:
            self._abandon()
            raise httpx2.RemoteProtocolError(str(error)) from error
        except BaseException:
            self._abandon()
            raise

    async def _connect(self, origin: tuple[str, str, int]) -> None:
        scheme, host, port = origin
        try:
            self._reader, self._writer = await asyncio.open_connection(host, port, ssl=self._context if scheme == "https" else None)
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        self._origin, self._http = origin, h11.Connection(h11.CLIENT)

    async def _exchange(self, request: httpx2.Request) -> httpx2.Response:
        assert self._reader is not None and self._writer is not None
        http, body = self._http, request.read()
        head = http.send(h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw))
        self._writer.write(b"".join(part for part in (head, http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())) if part))
        await self._writer.drain()
        status, headers, parts = 0, [], []
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await self._reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                break
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        else:
            self._abandon()
        return httpx2.Response(status, headers=headers, content=b"".join(parts), request=request)

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = self._origin = None

    async def aclose(self) -> None:
        self._abandon()
