"""Which server answers at an endpoint, and what its own fields for sampling are called.

OpenAI's protocol has no repetition penalty, and servers that have one call it differently, while others take any field without a word and
ignore it. So a field is sent to the servers that are known to have it, which tell themselves in the list of their models.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import LimakitError
from ..recipe import EndpointSpec
from .connection import Connections, Reply
from .failure import Passing, Who
from .limits import backoff

PATIENCE_S = 10.0  # for the list of models, whatever trickles in
ATTEMPTS = 3  # to get it


@dataclass(frozen=True)
class Server:
    """A kind of server: its field for the repetition penalty, and the fields that switch off what it samples by unless told otherwise.

    All of these penalise the prompt's tokens as well as the generated ones (their documentation; vLLM's SamplingParams, SGLang's sampling
    parameters, llama.cpp's server, whose window repeat_last_n has to be opened).
    """

    called: str
    penalty: str
    fields: tuple[tuple[str, Any], ...]


SERVERS = {
    "vllm": Server("vLLM", "repetition_penalty", (("top_k", -1), ("min_p", 0.0))),
    "sglang": Server("SGLang", "repetition_penalty", (("top_k", -1), ("min_p", 0.0))),
    "llamacpp": Server("llama.cpp", "repeat_penalty", (("top_k", 0), ("min_p", 0.0), ("repeat_last_n", -1))),
}


def find_server(spec: EndpointSpec, what: str) -> Server | None:
    """The kind of server, by who it says owns the model; None where it does not say, is of no kind known here, or does not answer, asked thrice."""
    try:
        reply = asyncio.run(_get_models(Who(spec.model_copy(update={"timeout_s": min(PATIENCE_S, spec.timeout_s)}), what)))
        listed = json.loads(reply.body) if reply.status == 200 else None
    except (Passing, LimakitError, ValueError, RecursionError):
        return None
    models = listed.get("data") if isinstance(listed, dict) else None
    models = [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    models = [model for model in models if model.get("id") == spec.model] or models
    owners = {str(model.get("owned_by")).lower() for model in models}
    return SERVERS.get(owners.pop()) if len(owners) == 1 else None


async def _get_models(who: Who) -> Reply:
    connections = Connections(who)
    try:
        for attempt in range(1, ATTEMPTS):
            with suppress(Passing):
                reply = await connections.send("GET", "models")
                if reply.status < 500 and reply.status not in (408, 425, 429):
                    return reply
            await asyncio.sleep(backoff(attempt, busy=False))
        return await connections.send("GET", "models")
    finally:
        await connections.close()
