"""What is asked of an endpoint, and in which fields: those a server refuses by name are left out, and that is told.

Servers differ in what they accept: newer hosted models want max_completion_tokens for max_tokens and refuse a temperature, small servers
refuse response_format. What they say of it is read, never assumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MESSAGE_TOKENS = 32  # of the chat template around a message, generously
NEW_LIMIT = "max_completion_tokens"


@dataclass(frozen=True)
class Request:
    """One question. `messages` are (role, text) of a chat; a `text` instead of them is for a base model to go on from (/v1/completions).

    `extra` holds fields beyond OpenAI's own, such as repetition_penalty. `schema`: the JSON schema the answer shall follow. What is None
    is not sent.
    """

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    temperature: float | None
    top_p: float | None = None
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    text: str | None = None
    stop: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Below the endpoint's base_url."""
        return "chat/completions" if self.text is None else "completions"


def most_tokens(request: Request) -> tuple[int, int]:
    """Upper bounds of the tokens of a request and of its answer: no tokenizer makes more tokens of a text than it has bytes.

    The first is several times what English text has; a bound has to hold for any text and any model.
    """
    texts = [text for _, text in request.messages] if request.text is None else [request.text]
    held_to = len(json.dumps(request.schema)) if request.schema is not None else 0  # some servers put it into the prompt
    return sum(len(text.encode(errors="replace")) + MESSAGE_TOKENS for text in texts) + held_to, request.max_tokens


def fields_of(request: Request, model: str, left_out: frozenset[str]) -> dict[str, Any]:
    """The body of the request, without the fields a server refuses. NEW_LIMIT among them means: max_tokens goes by its new name."""
    asked: dict[str, Any] = {"model": model}
    if request.text is None:
        asked["messages"] = [{"role": role, "content": text} for role, text in request.messages]
    else:
        asked["prompt"] = request.text
    asked[NEW_LIMIT if "max_tokens" in left_out else "max_tokens"] = request.max_tokens
    optional = options_of(request)
    if request.schema is not None:
        held_to = {"name": "answer", "strict": True, "schema": request.schema}
        optional["response_format"] = {"type": "json_schema", "json_schema": held_to}
    return asked | {name: value for name, value in optional.items() if name not in left_out}


def options_of(request: Request) -> dict[str, Any]:
    """The fields that say how to sample, and may be left out where a server refuses them."""
    options = {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed, "stop": list(request.stop) or None}
    return {name: value for name, value in (options | dict(request.extra)).items() if value is not None}


def refused_field(body: bytes, sent: Mapping[str, Any]) -> str | None:
    """The field that a reply with status 400 or 422 refuses, of those that can be left out; None where it refuses something else.

    It is named as the error's `param`, at the end of a `loc`, or in words that say so; a field's name alone may stand in a text that is quoted.
    Of max_tokens only the name is ever refused: where the reply says no more than that it is too large, no other name would help.
    """
    said = body.decode(errors="replace")
    kept = {"model", "messages", "prompt", NEW_LIMIT} | (set() if NEW_LIMIT in said or _SAYS_NO.search(said) else {"max_tokens"})
    droppable = [name for name in sent if name not in kept]
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = said
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    if not isinstance(error, dict):
        return _in_words(str(error), droppable)
    param = error.get("param")
    if isinstance(param, str) and param.split(".")[0] in droppable:
        return param.split(".")[0]
    detail = error.get("detail", error.get("message"))
    for entry in detail if isinstance(detail, list) else []:
        place = entry.get("loc") if isinstance(entry, dict) else None
        named = [name for name in droppable if isinstance(place, list) and name in place]
        if named:
            return named[0]
    return _in_words(detail, droppable) if isinstance(detail, str) else None


_SAYS_NO = re.compile(
    r"unsupported|not support|does ?n[o']t support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|not available"
    r"|forbidden|extra|only the default|does not accept|invalid (?:field|parameter|argument)|use '?max_completion_tokens",
    re.IGNORECASE,
)


def _in_words(said: str, droppable: list[str]) -> str | None:
    said = said[:400]
    if not _SAYS_NO.search(said):
        return None
    if NEW_LIMIT in said and "max_tokens" in droppable:
        return "max_tokens"
    return next((name for name in droppable if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said)), None)
