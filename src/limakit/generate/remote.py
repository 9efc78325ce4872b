"""Responses of a model behind an OpenAI-compatible endpoint: a dialogue as chat messages, a base model's prompt as text to go on from.

A request that failed is never a response. What a server cannot be told of the sampling is recorded with each response.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ..endpoint.budget import Account, money, most_they_cost
from ..endpoint.client import ask_all, check_endpoint
from ..endpoint.failure import GOES_ON
from ..endpoint.reply import PROBLEMS, Answer
from ..endpoint.request import Request
from ..endpoint.server import SERVERS, Server, find_server
from ..progress import say, visible
from ..recipe import BaselineSpec, GenerateSpec
from ..records import Prompt, Response
from ..workspace import write_json
from .frame import Incomplete, Question
from .kept import SERVER
from .prompting import as_text, cut, end_texts

Finish = Literal["eot", "length", "context", "filtered", "unknown"]
FINISHES: dict[str, Finish] = {
    "stop": "eot",
    "length": "length",
    "content_filter": "filtered",
    "context": "context",
}  # where a server says nothing of it: "unknown"
SHOWN = 3  # of the questions without a response, named in the message


def answer(
    questions: Sequence[Question], spec: BaselineSpec, generate: GenerateSpec, seed: int, *, spent: Path, work: Path, began: bool
) -> Iterator[Response]:
    """A response to each question, in the order in which they arrive. `spent` is the ledger the cap counts by; in the folder `work` it is kept
    which kind of server answers, so that all of a file's responses are sampled alike. `began`: some of them are there.

    Each sample is a request with a seed of its own; servers that take none differ by chance. A prompt that the server's filter refuses has an
    empty response, "filtered", and so has a later turn that leaves no room in the model's context, "context", as it has here.

    Raises UsageError (nothing sent) for a wrong recipe or a cost that could exceed the cap; Incomplete at the end where prompts got no response;
    LimakitError before where the endpoint cannot be used; what came by then was yielded.
    """
    what = f"baselines.{spec.name}"
    check_endpoint(spec, what)
    if not questions:
        return
    server = _server(work / SERVER, spec, what, began)
    extra, not_applied = penalty_fields(generate, server)
    requests = [request(question.prompt, question.sample, spec, generate, seed, extra) for question in questions]
    account = Account(spent, spec, what=what)
    account.check(requests)
    most = most_they_cost(requests, spec)
    cost = f", at most {money(most)} by the recipe's prices" if spec.price_in or spec.price_out else ""
    kind = f" ({server.called})" if server else ""
    say(visible(f"{spec.name}: {len(requests)} requests to {spec.model} at {spec.base_url}{kind}{cost}"))
    without: list[str] = []
    for n, reply in ask_all(requests, spec, what=what, account=account, has_answered=began):
        question = questions[n]
        if _is_response(reply, question.turn):
            yield as_response(reply, question.prompt, question.sample, spec, seed, not_applied)
        else:
            without.append(f"prompt {question.prompt.id!r}, sample {question.sample}: {reply.problem}")
    if without:
        shown = "".join(f"\n  {line}" for line in without[:SHOWN]) + ("\n  ..." if len(without) > SHOWN else "")
        what = f"{len(without)} of {len(requests)} requests brought no response, which is none, not an empty one:{shown}"
        remedy = f"responses that came are kept; {GOES_ON}; what is refused each time has to be mended or taken out of the prompts"
        raise Incomplete(what, where=spec.base_url, remedy=remedy)


def _server(path: Path, spec: BaselineSpec, what: str, began: bool) -> Server | None:
    """The kind of server, as it was found when the first response was asked for."""
    who = {"base_url": spec.base_url, "model": spec.model}
    if began:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_bytes())
            if {key: found[key] for key in who} == who:
                return SERVERS.get(found["server"])
    server = find_server(spec, what)
    write_json(path, who | {"server": next((kind for kind, known in SERVERS.items() if known == server), "")})
    return server


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
    reply: Answer, prompt: Prompt, sample: int, spec: BaselineSpec, seed: int, not_applied: tuple[str, ...]
) -> Response:  # fmt: skip
    text = reply.text
    finish: Finish = FINISHES.get(reply.finish or "", "unknown")
    if spec.prompting == "urial" and (whole := cut(text, end_texts("urial", prompt.turns))) != text:
        text, finish = whole, "eot"  # its server knows no end texts, or leaves them in
    refused = tuple("repetition_penalty" if field == "repeat_penalty" else field for field in reply.not_applied if field != "stop")
    if "repetition_penalty" in refused:
        not_applied = ()  # none at all
    return Response(
        prompt_id=prompt.id, model=spec.name, sample=sample, text=text, finish=finish, tokens=0 if reply.missing else reply.tokens_out, seed=seed,
        not_applied=tuple(dict.fromkeys((*not_applied, *refused))),
    )  # fmt: skip


def _is_response(reply: Answer, turn: int) -> bool:
    """A refusal is one, by the model or by its server's filter, and so is what was cut or filtered; thoughts without an answer and calls of tools
    are none. No room for the answer is one in a dialogue; a prompt that fills the model at once is for its user to mend."""
    if reply.missing:
        return reply.finish == "content_filter" or (reply.finish == "context" and turn > 0)
    return reply.refusal or reply.problem is None or reply.problem in PROBLEMS.values()


def _draw(seed: int, name: str, prompt: Prompt, sample: int) -> int:
    """31 bits, which every server's seed takes; the turns tell the turns of a dialogue apart."""
    said = json.dumps([seed, name, prompt.id, sample, len(prompt.turns)])
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4]) >> 1
