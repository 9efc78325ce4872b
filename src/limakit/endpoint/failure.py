"""Why a request brought no answer: worth another attempt, the end of the run, or the end of this question alone."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass

import httpx2

from ..errors import LimakitError
from ..recipe import EndpointSpec
from .limits import retry_after
from .reply import WEB_PAGE, scrub, words_of

ABOUT_THE_QUESTION = (400, 413, 422, 451)  # statuses that refuse this question and say nothing of the next
SHORTEST_SECRET = 8  # characters; a local server's "x" or "EMPTY" is no secret, and taking it out would spoil answers
GOES_ON = "the same command goes on with what is still open"


class Passing(Exception):
    """Worth another attempt. `after` is the pause the endpoint asked for; `billed`: it may have been answered, and charged for."""

    def __init__(self, what: str, *, after: float | None = None, billed: bool = False, busy: bool = False, unreachable: bool = False):
        super().__init__(what)
        self.after, self.billed, self.busy, self.unreachable = after, billed, busy, unreachable


class Refused(Exception):
    """The endpoint refuses this question. `alone`: it says that it is about this question; `trouble` is what is raised where it is more."""

    def __init__(self, what: str, trouble: LimakitError, *, alone: bool):
        super().__init__(what)
        self.trouble, self.alone = trouble, alone


@dataclass(frozen=True)
class Who:
    """Whom the messages are about: an endpoint and the recipe's section that names it."""

    spec: EndpointSpec
    what: str

    @property
    def key(self) -> str:
        return os.environ.get(self.spec.api_key_env, "").strip() or "no-key"  # local endpoints want some key, any

    @property
    def secret(self) -> str:
        return self.key if len(self.key) >= SHORTEST_SECRET else ""

    def failure(self, what: str, remedy: str) -> LimakitError:
        return LimakitError(scrub(what, self.secret), where=self.spec.base_url, remedy=remedy)


def unconnected(error: TimeoutError | httpx2.HTTPError, who: Who, *, sent: bool) -> Exception:
    """No whole reply came. What was not even sent cannot have been billed."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            remedy = (
                "if you trust it, put its authority's certificate (PEM) into a file and name that in the environment variable SSL_CERT_FILE"
            )
            return who.failure(f"the endpoint's certificate cannot be trusted: {link.verify_message}", remedy)
        link = link.__cause__ or link.__context__
    unreachable = not sent or isinstance(error, httpx2.ProxyError)
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        what = f"no {'connection' if unreachable else 'answer'} within {who.spec.timeout_s:g} s"
    elif isinstance(error, httpx2.TransportError):
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
    else:
        what = f"its reply is garbled ({type(error).__name__})"
    return Passing(what, billed=not unreachable, unreachable=unreachable)


def may_be_billed(status: int) -> bool:
    """Whether a reply of this status leaves open that the model has answered: a gateway gives up (504) while the model behind it goes on."""
    return status == 408 or (status >= 500 and status not in (501, 503, 529))  # these say that nothing was begun


def refused(status: int, headers: httpx2.Headers, body: bytes, who: Who) -> Exception:
    """An HTTP status that is no answer."""
    said = words_of(body, who.secret)
    it_said = f"(HTTP {status}: {said})"
    no_credit = status == 402 or _code(body) == "insufficient_quota"
    if not no_credit and (status in (408, 409, 425, 429) or status >= 500):
        return Passing(f"HTTP {status}: {said}", after=retry_after(headers), busy=status == 429)
    if status in ABOUT_THE_QUESTION and not no_credit:
        trouble = who.failure(f"the endpoint refuses every request {it_said}", f"check {who.what} in the recipe against what it accepts")
        return Refused(f"the endpoint refused the request {it_said}", trouble, alone=True)
    if status in (401, 403):
        remedy = f"put a valid key into the environment variable {who.spec.api_key_env} ({who.what}.api_key_env)"
        trouble = who.failure(f"the endpoint refuses access {it_said}", remedy)
        # some endpoints say 403 of a text that their moderation dislikes
        return Refused(f"the endpoint refused the request {it_said}", trouble, alone=False) if status == 403 else trouble
    if status in (404, 405):
        if said == WEB_PAGE:
            return who.failure(f"no model answers at this address {it_said}", f"{who.what}.base_url may be wrong (most end in /v1)")
        remedy = f"check {who.what}.model and {who.what}.base_url (most end in /v1)"
        return who.failure(f"the endpoint knows no model {who.spec.model!r} here {it_said}", remedy)
    return who.failure(f"the endpoint does not answer any more {it_said}", f"mend what it says; {GOES_ON}")


def _code(body: bytes) -> object:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = reply.get("error", reply) if isinstance(reply, dict) else None
    return error.get("code") if isinstance(error, dict) else None
