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
# codes of hosted servers: Azure's, OpenAI's, Alibaba's, OpenRouter's; and of a question that leaves no room: OpenAI's, llama.cpp's
FILTERED = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation", "data_inspection_failed", "flagged_input"}
TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
SHORTEST_SECRET = 8  # characters; a local server's "x" or "EMPTY" is no secret, and taking it out would spoil answers
GOES_ON = "the same command goes on with what is still open"


class Passing(Exception):
    """Worth another attempt. `after` is the pause the endpoint asked for; `billed`: it may have been answered, and charged for."""

    def __init__(self, what: str, *, after: float | None = None, billed: bool = False, busy: bool = False, unreachable: bool = False):
        super().__init__(what)
        self.after, self.billed, self.busy, self.unreachable = after, billed, busy, unreachable


class Refused(Exception):
    """The endpoint refuses this question. `alone`: it says that it is about this question; `trouble` is what is raised where it is more.

    `finish` is what it is about, as the protocol calls it in an answer: its filter ("content_filter"), or the room for it ("context").
    """

    def __init__(self, what: str, trouble: LimakitError, *, alone: bool, finish: str | None = None):
        super().__init__(what)
        self.trouble, self.alone, self.finish = trouble, alone, finish


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
    codes = _codes(body)
    no_credit = status == 402 or "insufficient_quota" in codes
    if not no_credit and (status in (408, 409, 425, 429) or status >= 500):
        return Passing(f"HTTP {status}: {said}", after=retry_after(headers), busy=status == 429)
    finish = None if no_credit else _about(status, codes, said)
    if (finish or status in ABOUT_THE_QUESTION) and not no_credit:
        trouble = who.failure(f"the endpoint refuses every request {it_said}", f"check {who.what} in the recipe against what it accepts")
        return Refused(f"the endpoint refused the request {it_said}", trouble, alone=True, finish=finish)
    if status in (401, 403):
        remedy = f"put a valid key into the environment variable {who.spec.api_key_env} ({who.what}.api_key_env)"
        trouble = who.failure(f"the endpoint refuses access {it_said}", remedy)
        # some endpoints say 403 of a text that their moderation dislikes, in words of their own
        return Refused(f"the endpoint refused the request {it_said}", trouble, alone=False) if status == 403 else trouble
    if status in (404, 405):
        if said == WEB_PAGE:
            return who.failure(f"no model answers at this address {it_said}", f"{who.what}.base_url may be wrong (most end in /v1)")
        remedy = f"check {who.what}.model and {who.what}.base_url (most end in /v1)"
        return who.failure(f"the endpoint knows no model {who.spec.model!r} here {it_said}", remedy)
    return who.failure(f"the endpoint does not answer any more {it_said}", f"mend what it says; {GOES_ON}")


def _about(status: int, codes: set[str], said: str) -> str | None:
    """What of a question was refused: by the codes that servers give, and the words of those that give none."""
    if status not in (*ABOUT_THE_QUESTION, 403):
        return None
    if codes & FILTERED or said == "Content Exists Risk":  # DeepSeek
        return "content_filter"
    # vLLM, SGLang
    return "context" if codes & TOO_LONG or "maximum context length" in said or "exceeds the model's context" in said else None


def _codes(body: bytes) -> set[str]:
    """The words for programs in an error: its code, its type, and those of the error within it (Azure), or moderation's reasons (OpenRouter)."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return set()
    error = reply.get("error", reply) if isinstance(reply, dict) else None
    if not isinstance(error, dict):
        return set()
    within, metadata = error.get("innererror"), error.get("metadata")
    found = [error.get("code"), error.get("type"), within.get("code") if isinstance(within, dict) else None]
    found += ["flagged_input"] if isinstance(metadata, dict) and "flagged_input" in metadata else []
    return {word for word in found if isinstance(word, str)}
