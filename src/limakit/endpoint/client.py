"""Ask a model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, hosted ones): many questions at once, patiently.

An HTTP error is never an answer. What passes (429, 5xx, time-outs, cut connections, garbled replies) is tried again. A question that the
endpoint refuses (too long, for instance), or that fails in every attempt while others are answered, goes without an answer alone. Anything
else (no credit, no access, no such model, nobody there, question after question without an answer) ends the run with one message.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx2

from ..errors import LimakitError, UsageError
from ..progress import warn
from ..recipe import EndpointSpec
from .budget import Account, CapReached
from .failure import GOES_ON, Passing, Refused, Who, refused, unconnected
from .limits import LONGEST_RETRY_AFTER_S, Limits, backoff
from .reply import Answer, Garbled, read_reply, scrub
from .request import Request, fields_of, most_tokens, options_of, refused_field
from .wire import Wire, needs_proxy


def check_endpoint(spec: EndpointSpec, what: str) -> None:
    """Raises UsageError where the recipe's section `what` cannot be right, before anything is planned or sent."""
    if not spec.model:
        raise UsageError("no model named", where=f"{what}.model", remedy="name the model at the endpoint")
    who, where = Who(spec, what), f"{what}.base_url"
    if not who.key.isascii() or not who.key.isprintable():
        raise UsageError("holds characters no key has", where=f"environment variable {spec.api_key_env}", remedy="set it again")
    remedy = f"put the key into the environment variable {spec.api_key_env}"
    try:
        parts = urlsplit(spec.base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        personal = parts.username or parts.password
    except ValueError:
        usable = personal = None
    if personal or (who.secret and who.secret in spec.base_url):
        raise UsageError("the address holds a password or key, which would end up in manifests", where=where, remedy=remedy)
    if "?" in spec.base_url or "#" in spec.base_url:
        raise UsageError("the address has a part after ? or #, where keys stand that would end up in manifests", where=where, remedy=remedy)
    if not usable:  # not repeated here: a mistyped address may hold a key too
        raise UsageError("is not an http address", where=where, remedy="for example http://localhost:8000/v1")


def ask_all(
    requests: Sequence[Request], spec: EndpointSpec, *, what: str, account: Account, has_answered: bool = False
) -> Iterator[tuple[int, Answer]]:
    """Ask all; yields (place in `requests`, answer) as each arrives. Each attempt is reserved in `account` before it is sent.

    `what` is the recipe's section, for messages ("judge"). `has_answered`: an earlier run with these settings got answers, so that refusals
    now are about the questions. Raises LimakitError, naming the address and the remedy, when the endpoint cannot be used, answers no
    question at all, or the account's cap is reached (what is on its way then is still waited for); answers so far were yielded.
    """
    if not requests:
        return
    with asyncio.Runner() as runner:
        talk = _Talk(requests, spec, what, account, has_answered)
        try:
            runner.run(talk.begin())
            while arrived := runner.run(talk.some()):
                yield from arrived
        finally:
            runner.run(talk.end())


def _open(who: Who) -> list[httpx2.AsyncClient]:
    """A client for each request on its way at once: one connection each, so that none looks for a free one among all."""
    headers = {"Authorization": f"Bearer {who.key}", "Content-Type": "application/json"}
    timeout = who.spec.timeout_s
    parts = urlsplit(who.spec.base_url)
    direct = not needs_proxy(parts.scheme, parts.hostname or "")
    try:
        context = httpx2.create_ssl_context()  # once: it takes as long as 20 requests
    except OSError as error:  # the certificates are read here
        raise UsageError(f"cannot read certificates: {error}", where="environment variable SSL_CERT_FILE or SSL_CERT_DIR") from None
    return [
        httpx2.AsyncClient(
            headers=headers, timeout=timeout, follow_redirects=True, verify=context, transport=Wire(context) if direct else None
        )
        for _ in range(who.spec.concurrency)
    ]  # fmt: skip


class _Talk:
    """What the workers share: what is still to be asked, how fast, how often the endpoint has answered, and how often it has not."""

    def __init__(self, requests: Sequence[Request], spec: EndpointSpec, what: str, account: Account, has_answered: bool):
        self.requests, self.spec, self.account, self.has_answered = requests, spec, account, has_answered
        self.who, self.limits = Who(spec, what), Limits(spec)
        self.base = spec.base_url.rstrip("/")
        self.queue = iter(range(len(requests)))
        self.left_out: frozenset[str] = frozenset()  # fields the server has refused, and without which it has answered
        self.answered = self.refused = 0
        self.in_a_row = 0  # questions that failed since the last answer, in a way that may not be theirs
        self.trouble: LimakitError | None = None  # what ends the run if no question is answered
        self.cap: CapReached | None = None  # nothing new is sent
        self._arrived: deque[tuple[int, Answer]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._clients: list[httpx2.AsyncClient] = []

    async def begin(self) -> None:
        self._clients = _open(self.who)
        self._news = asyncio.Event()
        for client, _ in zip(self._clients, self.requests, strict=False):
            worker = asyncio.create_task(self._work(client))
            worker.add_done_callback(lambda _: self._news.set())
            self._workers.add(worker)

    async def some(self) -> list[tuple[int, Answer]]:
        """The answers that have arrived, at least one; none: all were asked. Raises what ends the run, once the answers before it were taken."""
        while not self._arrived:
            done = {worker for worker in self._workers if worker.done()}
            for worker in done:
                if error := worker.exception():
                    raise error
            self._workers -= done
            if not self._workers:
                if self.cap:
                    raise self.cap
                if self.trouble and not self.answered and not self.has_answered:
                    raise self.trouble
                return []
            self._news.clear()
            await self._news.wait()
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    async def end(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    async def _work(self, client: httpx2.AsyncClient) -> None:
        for i in self.queue:
            try:
                answer = await self._ask_patiently(client, self.requests[i])
            except CapReached as reached:
                self.cap = reached  # the others still wait for what they have sent, which is paid for
                return
            self._arrived.append((i, replace(answer, problem=answer.problem and scrub(answer.problem, self.who.secret))))
            self._news.set()

    async def _ask_patiently(self, client: httpx2.AsyncClient, request: Request) -> Answer:
        attempts, answered = 0, self.answered
        while True:
            await self.limits.turn(sum(most_tokens(request)))
            try:
                answer = await self._ask_once(client, request)
            except Passing as passing:
                error = passing
            except Refused as refusal:
                return self._goes_without(str(refusal), refusal.trouble, alone=refusal.alone)
            else:
                self.answered += 1
                self.in_a_row = 0
                return answer
            # an endpoint that is busy with our other questions has not failed this one: patience begins again
            attempts = 0 if error.busy and self.answered > answered else attempts + 1
            answered = self.answered
            if attempts > self.spec.retries:
                return self._give_up(error, attempts)
            await self._pause(error, attempts)

    def _give_up(self, error: Passing, attempts: int) -> Answer:
        what = self.who.what
        remedy = f"lower {what}.concurrency" if error.busy else f"check that it is running and {what}.base_url"
        trouble = self.who.failure(f"the endpoint of {what} did not answer: {error} ({attempts} attempts)", f"{remedy}; {GOES_ON}")
        if error.unreachable and not self.answered:
            raise trouble  # nobody there: the other questions need not try
        return self._goes_without(f"no answer: {error} ({attempts} attempts)", trouble, alone=False)

    def _goes_without(self, problem: str, trouble: LimakitError, *, alone: bool) -> Answer:
        """No answer to one question; `alone`: the endpoint said that it is about this question. Raises `trouble` where it is more than that."""
        self.trouble = trouble
        self.refused += alone
        self.in_a_row += not alone
        # at the start slow answers may still be on their way, when quick refusals are many already: hence twice as many as are asked at once
        nothing_goes = alone and not self.answered and not self.has_answered and self.refused >= max(16, 2 * self.spec.concurrency)
        if nothing_goes or self.in_a_row >= max(5, self.spec.concurrency):
            raise trouble
        return Answer("", problem, missing=True)

    async def _pause(self, error: Passing, attempts: int) -> None:
        """Wait before the next attempt: alone, or, where the endpoint is busy or says for how long, all questions together."""
        floor = backoff(attempts, busy=error.busy and error.after is None)
        if error.after is None and not error.busy:
            await asyncio.sleep(floor)
            return
        pause = max(floor, error.after or 0.0)
        if pause > LONGEST_RETRY_AFTER_S:
            what = f"the endpoint asks to be left alone for {pause:.0f} s ({error})"
            raise self.who.failure(what, f"run the same command again after that; {GOES_ON}")
        if self.limits.pause(pause) and pause >= 10:
            warn(f"the endpoint of {self.who.what} is busy: a pause of {pause:.0f} s")

    async def _ask_once(self, client: httpx2.AsyncClient, request: Request) -> Answer:
        """One attempt; where the server refuses a field by name, the request without it is part of the same attempt."""
        left_out = self.left_out
        while True:
            sent = fields_of(request, self.spec.model, left_out)
            began = time.monotonic()
            reply = await self._send(client, request, sent)
            if isinstance(reply, Answer):
                break
            name = refused_field(reply.content, sent) if reply.status_code in (400, 422) else None
            if name is None:
                raise refused(reply.status_code, reply.headers, reply.content, self.who)
            left_out |= {name}
        if said := left_out - self.left_out - {"max_tokens"}:  # that one has only changed its name
            warn(f"the endpoint of {self.who.what} refuses {', '.join(sorted(said))}: left out, and recorded so")
        self.left_out |= left_out  # not before an answer shows that this was what it refused
        return replace(
            reply, date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), seconds=round(time.monotonic() - began, 3),
            not_applied=tuple(name for name in options_of(request) if name in left_out),
            structured=request.schema is not None and "response_format" not in left_out,
        )  # fmt: skip

    async def _send(self, client: httpx2.AsyncClient, request: Request, sent: dict[str, object]) -> Answer | httpx2.Response:
        """The answer, or the reply of another status than 200. Reserved before it is sent, and settled. Raises Passing where no reply came."""
        if self.cap is not None:
            raise self.cap
        reserved = self.account.reserve(request)
        try:
            # the client's own time-out restarts with every byte that trickles in; this one does not
            async with asyncio.timeout(self.spec.timeout_s):
                content = json.dumps(sent, ensure_ascii=False).encode(errors="replace")
                reply = await client.post(f"{self.base}/{request.path}", content=content)
            answer = read_reply(reply.content, self.who.secret) if reply.status_code == 200 else None
        except TimeoutError:
            raise Passing(f"no answer within {self.spec.timeout_s:g} s", billed=True) from None
        except Garbled as error:
            raise Passing(str(error), billed=True) from None
        except httpx2.TransportError as error:
            failed = unconnected(error, self.who)
            if not (isinstance(failed, Passing) and failed.billed):
                self.account.settle(reserved, 0, 0)
            raise failed from None
        except httpx2.HTTPError as error:
            raise Passing(f"its reply is garbled ({type(error).__name__})", billed=True) from None
        if answer is None:
            self.account.settle(reserved, 0, 0)
            return reply
        self.account.settle_by(reserved, answer)
        return answer
