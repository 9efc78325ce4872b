"""Ask a model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, hosted ones): many questions at once, patiently.

An HTTP error is never an answer. What passes (429, 5xx, time-outs, cut connections, garbled replies) is tried again. A question that the
endpoint refuses (too long, for instance), or that fails in every attempt while others are answered, goes without an answer alone. Anything
else (no credit, no access, no such model, nobody there, question after question without an answer) ends the run with one message.
"""

from __future__ import annotations

import asyncio
import json
import re
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
from .budget import Account
from .connection import Connections, Reply
from .failure import GOES_ON, Passing, Refused, Who, may_be_billed, refused
from .limits import LONGEST_RETRY_AFTER_S, Limits, backoff
from .reply import Answer, Garbled, read_reply, scrub
from .request import Request, fields_of, most_tokens, options_of, refused_field


def check_endpoint(spec: EndpointSpec, what: str) -> None:
    """Raises UsageError where the recipe's section `what` cannot be right, before anything is planned or sent."""
    if not spec.model:
        raise UsageError("no model named", where=f"{what}.model", remedy="name the model at the endpoint")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", spec.api_key_env):  # not repeated: it may be the key itself
        remedy = "name the environment variable that holds the key, not the key: manifests and messages hold what stands here"
        raise UsageError("is no name of a variable", where=f"{what}.api_key_env", remedy=remedy)
    who, where = Who(spec, what), f"{what}.base_url"
    if not who.key.isascii() or not who.key.isprintable():
        raise UsageError("holds characters no key has", where=f"environment variable {spec.api_key_env}", remedy="set it again")
    remedy = f"put the key into the environment variable {spec.api_key_env}"
    if "@" in spec.base_url or (who.secret and who.secret in spec.base_url):
        raise UsageError("the address holds a password or key, which would end up in manifests", where=where, remedy=remedy)
    if "?" in spec.base_url or "#" in spec.base_url:
        raise UsageError("the address has a part after ? or #, where keys stand that would end up in manifests", where=where, remedy=remedy)
    if not _is_address(spec.base_url):  # not repeated here: a mistyped address may hold a key too
        raise UsageError("is not an http address", where=where, remedy="for example http://localhost:8000/v1")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        httpx2.URL(text).raw_host.decode("ascii").encode("idna")  # as the name is looked up: labels of 1 to 63 characters
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (httpx2.InvalidURL, ValueError):
        return False
    return bool(usable) and text.isprintable() and " " not in text


def ask_all(
    requests: Sequence[Request], spec: EndpointSpec, *, what: str, account: Account, has_answered: bool = False
) -> Iterator[tuple[int, Answer]]:
    """Ask all; yields (place in `requests`, answer) as each arrives. Each attempt is reserved in `account` before it is sent.

    `what` is the recipe's section, for messages ("judge"). `has_answered`: an earlier run with these settings got answers, so that refusals
    now are about the questions. Raises LimakitError, naming the address and the remedy, when the endpoint cannot be used, answers no
    question at all, or the account's cap is reached. What is on its way then is waited for, and all answers were yielded before it raises.
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


class _Talk:
    """What the workers share: what is still to be asked, how fast, how often the endpoint has answered, and how often it has not."""

    def __init__(self, requests: Sequence[Request], spec: EndpointSpec, what: str, account: Account, has_answered: bool):
        self.requests, self.spec, self.account, self.has_answered = requests, spec, account, has_answered
        self.who, self.limits = Who(spec, what), Limits(spec)
        self._connections = Connections(self.who)
        self.queue = iter(range(len(requests)))
        self.left_out: frozenset[str] = frozenset()  # fields the server has refused, and without which it has answered
        self.answered = self.refused = 0
        self.in_a_row = 0  # questions that failed since the last answer, in a way that may not be theirs
        self.trouble: LimakitError | None = None  # what ends the run if no question is answered
        self.over: LimakitError | None = None  # ends the run: nothing new is sent, what is on its way is waited for, as it is paid for
        self._arrived: deque[tuple[int, Answer]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._on_their_way: set[asyncio.Task[None] | None] = set()

    async def begin(self) -> None:
        self._news = asyncio.Event()
        for _ in range(min(self.spec.concurrency, len(self.requests))):
            worker = asyncio.create_task(self._work())
            worker.add_done_callback(lambda _: self._news.set())
            self._workers.add(worker)

    async def some(self) -> list[tuple[int, Answer]]:
        """The answers that have arrived, at least one; none: all were asked. Raises what ends the run, once the answers before it were taken."""
        while not self._arrived:
            done = {worker for worker in self._workers if worker.done()}
            for worker in done:
                if not worker.cancelled() and (error := worker.exception()):
                    raise error
            self._workers -= done
            if not self._workers:
                if self.over:
                    raise self.over
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
        await self._connections.close()

    async def _work(self) -> None:
        for i in self.queue:
            try:
                answer = await self._ask_patiently(self.requests[i])
            except LimakitError as error:
                self._end_with(error)
                return
            self._arrived.append((i, replace(answer, problem=answer.problem and scrub(answer.problem, self.who.secret))))
            self._news.set()

    def _end_with(self, error: LimakitError) -> None:
        """Those that wait to ask have nothing to wait for any more."""
        if self.over is not None:
            return
        self.over = error
        for worker in self._workers - self._on_their_way - {asyncio.current_task()}:
            worker.cancel()
        if self._on_their_way:
            warn(f"no further question is asked; {len(self._on_their_way)} on their way are waited for, {self.spec.timeout_s:g} s at most")

    async def _ask_patiently(self, request: Request) -> Answer:
        attempts, answered = 0, self.answered
        while True:
            try:
                answer = await self._ask_once(request)
            except Passing as passing:
                if self.over is not None:
                    raise self.over from None
                error = passing
            except Refused as refusal:
                if refusal.finish == "content_filter":  # of which nothing follows for the others
                    return Answer("", str(refusal), missing=True, finish=refusal.finish)
                return replace(self._goes_without(str(refusal), refusal.trouble, alone=refusal.alone), finish=refusal.finish)
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

    async def _ask_once(self, request: Request) -> Answer:
        """One attempt; where the server refuses a field by name, the request without it is part of the same attempt."""
        left_out = self.left_out
        while True:
            if self.over is not None:
                raise self.over
            sent = fields_of(request, self.spec.model, left_out)
            await self.limits.turn(sum(most_tokens(request)))
            began = time.monotonic()
            reply = await self._send(request, sent)
            if isinstance(reply, Answer):
                break
            name = refused_field(reply.body, sent) if reply.status in (400, 422) else None
            if name is None:
                raise refused(reply.status, reply.headers, reply.body, self.who)
            left_out |= {name}
        if said := left_out - self.left_out - {"max_tokens"}:  # that one has only changed its name
            warn(f"the endpoint of {self.who.what} refuses {', '.join(sorted(said))}: left out, and recorded so")
        self.left_out |= left_out  # not before an answer shows that this was what it refused
        return replace(
            reply, date=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), seconds=round(time.monotonic() - began, 3),
            not_applied=tuple(name for name in options_of(request) if name in left_out),
            structured=request.schema is not None and "response_format" not in left_out,
        )  # fmt: skip

    async def _send(self, request: Request, sent: dict[str, object]) -> Answer | Reply:
        """The answer, or the reply of another status than 200. Reserved before it is sent, and settled. Raises Passing where no reply came."""
        reserved = self.account.reserve(request)
        content = json.dumps(sent, ensure_ascii=False).encode(errors="replace")
        self._on_their_way.add(me := asyncio.current_task())
        try:
            reply = await self._connections.send("POST", request.path, content)
            answer = read_reply(reply.body, self.who.secret) if reply.status == 200 else None
        except Garbled as error:
            raise Passing(str(error), billed=True) from None
        except (Passing, LimakitError) as error:
            if not (isinstance(error, Passing) and error.billed):
                self.account.settle(reserved, 0, 0)
            raise
        finally:
            self._on_their_way.discard(me)
        if answer is not None:
            self.account.settle_by(reserved, answer)
            return answer
        if not may_be_billed(reply.status):
            self.account.settle(reserved, 0, 0)
        return reply
