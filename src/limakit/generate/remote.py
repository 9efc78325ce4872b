"""Responses of a model behind an OpenAI-compatible endpoint: a dialogue as chat messages, a base model's prompt as text to go on from.

A request that failed is never a response. What a server cannot be told of the sampling is recorded with each response.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from ..endpoint.budget import Account, money, most_they_cost
from ..endpoint.client import ask_all, check_endpoint
from ..endpoint.failure import GOES_ON
from ..endpoint.reply import PROBLEMS, Answer
from ..endpoint.request import Request
from ..endpoint.server import Server, find_server
from ..errors import LimakitError
from ..progress import say, visible
from ..recipe import BaselineSpec, GenerateSpec
from ..records import Prompt, Response
from .prompting import as_text, cut, end_texts

Finish = Literal["eot", "length", "filtered", "unknown"]
FINISHES: dict[str, Finish] = {
    "stop": "eot",
    "length": "length",
    "content_filter": "filtered",
}  # where a server says nothing of it: "unknown"
SHOWN = 3  # of the questions without a response, named in the message


def answer(
    asked: Sequence[tuple[Prompt, int]], spec: BaselineSpec, generate: GenerateSpec, seed: int, name: str, *, spent: Path
) -> Iterator[Response]:
    """A response to each (prompt as it stands, sample), in the order in which they arrive. `spent` is the ledger the cap counts by.

    Each sample is a request with a seed of its own; servers that take none differ by chance. Raises UsageError (nothing sent) for a wrong
    recipe or a cost that could exceed the cap; LimakitError at the end where prompts got no response, or before where the endpoint cannot be
    used; what came by then was yielded.
    """
    what = f"baselines.{name}"
    check_endpoint(spec, what)
    if not asked:
        return
    server = find_server(spec, what)
    extra, not_applied = penalty_fields(generate, server)
    requests = [request(prompt, sample, spec, generate, seed, extra) for prompt, sample in asked]
    account = Account(spent, spec, what=what)
    account.check(requests)
    most = most_they_cost(requests, spec)
    cost = f", at most {money(most)} by the recipe's prices" if spec.price_in or spec.price_out else ""
    kind = f" ({server.called})" if server else ""
    say(visible(f"{name}: {len(requests)} requests to {spec.model} at {spec.base_url}{kind}{cost}"))
    without: list[str] = []
    for n, reply in ask_all(requests, spec, what=what, account=account):
        prompt, sample = asked[n]
        if not _is_response(reply):
            without.append(f"prompt {prompt.id!r}, sample {sample}: {reply.problem}")
            continue
        yield as_response(reply, prompt, sample, spec, name, seed, not_applied)
    if without:
        shown = "".join(f"\n  {line}" for line in without[:SHOWN]) + ("\n  ..." if len(without) > SHOWN else "")
        what = f"{len(without)} of {len(requests)} requests brought no response, which is none, not an empty one:{shown}"
        raise LimakitError(what, where=spec.base_url, remedy=f"responses that came are kept; {GOES_ON}")


def request(prompt: Prompt, sample: int, spec: BaselineSpec, generate: GenerateSpec, seed: int, extra: dict[str, Any]) -> Request:
    """What is asked for one response."""
    draw = _draw(seed, spec.name, prompt, sample)
    if spec.prompting in ("plain", "urial"):
        kind: Literal["plain", "urial"] = "plain" if spec.prompting == "plain" else "urial"
        return Request(
            (), generate.max_tokens, generate.temperature, generate.top_p, draw, extra,
            text=as_text(kind, prompt.turns), stop=end_texts(kind, prompt.turns),
        )  # fmt: skip
    messages = tuple((turn.role, turn.text) for turn in prompt.turns)
    return Request(messages, generate.max_tokens, generate.temperature, generate.top_p, draw, extra)


def penalty_fields(generate: GenerateSpec, server: Server | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The server's own fields, and what of the recipe cannot be said to it.

    Servers with a repetition penalty put it on the prompt's tokens too; where the recipe does not want that, so it is recorded.
    """
    wanted = generate.repetition_penalty != 1.0
    if server is None:
        return {}, ("repetition_penalty",) if wanted else ()
    fields = dict(server.fields) | ({server.penalty: generate.repetition_penalty} if wanted else {})
    return fields, ("penalise_prompt = false",) if wanted and not generate.penalise_prompt else ()


def as_response(
    reply: Answer, prompt: Prompt, sample: int, spec: BaselineSpec, name: str, seed: int, not_applied: tuple[str, ...]
) -> Response:  # fmt: skip
    text = reply.text
    finish: Finish = FINISHES.get(reply.finish or "", "unknown")
    if spec.prompting == "urial" and (whole := cut(text, end_texts("urial", prompt.turns))) != text:
        text, finish = whole, "eot"  # its server knows no end texts, or leaves them in
    refused = tuple("repetition_penalty" if field == "repeat_penalty" else field for field in reply.not_applied if field != "stop")
    if "repetition_penalty" in refused:
        not_applied = ()  # none at all
    return Response(
        prompt_id=prompt.id, model=name, sample=sample, text=text, finish=finish, tokens=reply.tokens_out, seed=seed,
        not_applied=tuple(dict.fromkeys((*not_applied, *refused))),
    )  # fmt: skip


def _is_response(reply: Answer) -> bool:
    """A refusal is one, and so is what was cut or filtered; thoughts without an answer and calls of tools are none."""
    return not reply.missing and (reply.refusal or reply.problem is None or reply.problem in PROBLEMS.values())


def _draw(seed: int, name: str, prompt: Prompt, sample: int) -> int:
    """31 bits, which every server's seed takes; the turns tell the turns of a dialogue apart."""
    said = json.dumps([seed, name, prompt.id, sample, len(prompt.turns)])
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4]) >> 1
