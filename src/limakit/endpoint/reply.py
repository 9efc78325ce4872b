"""What an endpoint sent back (a chat completion, or the completion of a text), as an answer or as the words of an error: free of the key, and text that UTF-8 can hold.

Endpoints differ in how they shape a message (text, a list of parts, reasoning beside it, a tool call); none of what they say is lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

LONGEST_WORDS = 300  # characters of an error's words that are shown
PROBLEMS = {"length": "cut off at max_tokens", "content_filter": "stopped by the endpoint's content filter"}
TOOL = "called a tool instead of answering"
# How an answer can have ended, as the protocol calls it; "error", "abort" and words that nobody knows are no end of an answer.
FINISHES = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop", "length": "length", "max_tokens": "length",
    "model_length": "length", "content_filter": "content_filter", "tool_calls": "tool_calls", "function_call": "tool_calls",
}  # fmt: skip
_ELSE = (
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "reasoning_details",
)  # what may stand in for the content
WEB_PAGE = "a web page, not an API's answer"


@dataclass(frozen=True)
class Answer:
    """What came back. `problem` says why the text cannot be taken as a whole answer.

    `missing`: no answer came (refused by the endpoint, or every attempt failed), so it is worth asking again. `refusal`: the text is the
    model's refusal, told apart by the server. `finish` is one of FINISHES' values, None where the server does not say; of a refused question
    "content_filter" or "context" where that is what it was refused for; `answered_as` the
    model it says it was, `tokens_in` and `tokens_out` are its usage, where it says. `date` is when it came (UTC, ISO 8601, to the second),
    and `seconds` how long the server took. `structured`: the schema was sent and taken. `not_applied`: fields that the server refused by
    name and that were left out.
    """

    text: str
    problem: str | None = None
    missing: bool = False
    refusal: bool = False
    finish: str | None = None
    answered_as: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    date: str | None = None
    seconds: float | None = None
    structured: bool = False
    not_applied: tuple[str, ...] = ()


class Garbled(Exception):
    """A reply with status 200 that is no chat completion."""


def scrub(text: str, secret: str) -> str:
    """The text without the secret ("" for none), and with "?" for halves of surrogate pairs, which no file can hold.

    Everything an endpoint says passes through here, whole: before it is cut, shown, cached or written.
    """
    text = text.encode(errors="replace").decode()
    return text.replace(secret, "***") if secret else text


def words_of(body: bytes, secret: str) -> str:
    """What an endpoint says about an error, on one line; a web page is only named."""
    text = body.decode(errors="replace")
    if is_web_page(body):
        return WEB_PAGE
    try:
        text = _words(json.loads(text))
    except (ValueError, RecursionError):
        pass  # plain text
    line = " ".join(scrub(text, secret).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:LONGEST_WORDS] or "without a word"


def is_web_page(body: bytes) -> bool:
    return body.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body"))


def _words(value: Any) -> str:
    inner = value.get("error", value) if isinstance(value, dict) else value
    said = inner.get("message", inner) if isinstance(inner, dict) else inner
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def read_reply(body: bytes, secret: str) -> Answer:
    """The answer in a completion. Raises Garbled, saying what it is instead, if there is none."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        raise Garbled(f"its reply is garbled ({WEB_PAGE if is_web_page(body) else 'not JSON'})") from None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message", choice) if isinstance(choice, dict) else None  # of a text's completion the choice itself holds the text
    for where in (reply, choice):
        if isinstance(where, dict) and where.get("error"):
            raise Garbled(f"its reply tells of an error: {words_of(json.dumps(where).encode(), secret)}")
    if (
        not isinstance(choice, dict)
        or not isinstance(message, dict)
        or not {"text" if message is choice else "content", *_ELSE} & {*message}
    ):
        raise Garbled("its reply holds no message")
    word, usage = choice.get("finish_reason"), reply.get("usage")
    finish = FINISHES.get(word.lower()) if isinstance(word, str) else None
    if word is not None and finish is None:
        raise Garbled(f"its answer did not end but by {_word(str(word), secret)!r}")
    usage = usage if isinstance(usage, dict) else {}
    problem = TOOL if finish == "tool_calls" else PROBLEMS.get(finish or "")
    answer = Answer(_text(choice.get("text")), problem) if message is choice else _read_message(message, problem)
    if word is None and answer.problem is None and not answer.text:
        raise Garbled("its reply holds no message")
    return replace(
        answer, text=scrub(answer.text, secret), finish=finish, answered_as=_word(reply.get("model"), secret),
        tokens_in=_count(usage.get("prompt_tokens")), tokens_out=_count(usage.get("completion_tokens")),
    )  # fmt: skip


def _word(value: Any, secret: str) -> str | None:
    return scrub(value, secret)[:LONGEST_WORDS] if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _read_message(message: dict[str, Any], problem: str | None) -> Answer:
    """Text and problem. Where there is no answer, what there is instead is kept as the text, with a problem that says so."""
    content = message.get("content")
    if refusal := _text(message.get("refusal")) or _text(_kind(content, "refusal")):
        return Answer(refusal, "refused to answer", refusal=True)
    text = _text(content)
    if text.strip():
        return Answer(text, problem)
    if calls := message.get("tool_calls") or message.get("function_call"):
        return Answer(_dump(calls), TOOL)
    for name in ("reasoning_content", "reasoning", "reasoning_details"):
        if thought := message.get(name):
            return Answer(_text(thought) or _dump(thought), "reasoned without an answer" + (f", {problem}" if problem else ""))
    if content and not text:
        return Answer(_dump(content), "answered with something that is not text")
    return Answer(text, problem)


def _kind(content: Any, kind: str) -> list[Any]:
    return [part.get(kind) for part in content if isinstance(part, dict) and part.get("type") == kind] if isinstance(content, list) else []


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts ({"type": "text", "text": ...}), joined as they come."""
    if isinstance(value, list):
        return "".join(part if isinstance(part, str) else _part(part) for part in value)
    return value if isinstance(value, str) else ""


def _part(part: Any) -> str:
    return (
        part["text"] if isinstance(part, dict) and part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str) else ""
    )


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
