"""Batched decoding with a KV cache, in float32, by a model that lies in memory.

Promise 7, a response does not depend on its batch, holds so: a row's logits differ between batch shapes by rounding alone (masks and
positions are right whatever the padding), and a token whose choice such rounding could change is chosen again from logits computed for that
row alone, without padding or cache, which no batch enters. The assumption is that rounding stays below TOLERANCE times the largest logit; it
was measured at up to 2e-6 of it (260 thousand to 370 million parameters, CPU), and the tests compare batches. The same machine, device and
number of threads are meant: another processor rounds in another way and may, rarely, write another text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from ..errors import LimakitError
from ..model.attention import model_name
from .sampling import Sampling, choose, uniform

TOLERANCE = 1e-5  # of the logits, relative to the largest of the batch
WRONG = 0.05  # likewise: no rounding, but another model
NOT_ITS_OWN = "decoding in batches does not give this model's own logits: its architecture caches or pads in another way"
OTHER_TOOL = "generate with another tool and put the file into responses/, or use a transformer with a KV cache"


@dataclass
class Row:
    """One response in the making. `room` is how many tokens the model's context has left for it."""

    prompt_id: str
    sample: int
    prompt: list[int]
    room: int | None
    generated: list[int] = field(default_factory=list)
    finish: Literal["eot", "length", "context"] | None = None


@dataclass(frozen=True)
class Stream:
    """What the random numbers of a run depend on besides prompt, sample and position."""

    seed: int
    model: str


@torch.no_grad()
def decode(
    model: Any,
    rows: Sequence[Row],
    *,
    stop_ids: frozenset[int],
    max_tokens: int,
    sampling: Sampling,
    stream: Stream,
    batch: int,
    on_step: Callable[[int], None] = lambda tokens: None,
) -> Iterator[Row]:
    """Yield each row once it has ended: with a stop id (kept as the last of `generated`), max_tokens, or a full context.

    Rows of similar length go together, `batch` at a time; a row that has ended leaves its batch. `on_step(n)` tells of n new tokens. A batch
    that the GPU's memory does not hold is begun again in halves, which changes no text.
    Raises LimakitError for a model whose cache or padding works in another way, for logits that are not numbers, naming the prompt, and when the
    memory does not hold a single row. No gradients, but not inference mode: a model in training may keep a tensor that is made here.
    """
    ordered = sorted(rows, key=lambda row: (len(row.prompt), row.prompt_id, row.sample))
    if not _rows_can_leave(model):
        raise LimakitError(NOT_ITS_OWN, where=model_name(model), remedy=OTHER_TOOL)
    while ordered:
        now, ordered = ordered[:batch], ordered[batch:]
        try:
            yield from _decode_batch(model, list(now), stop_ids, max_tokens, sampling, stream, on_step)
        except torch.OutOfMemoryError:
            open_ = [row for row in now if not row.finish]
            if len(open_) < 2:
                raise LimakitError(
                    "the GPU's memory does not hold a batch", remedy=f"lower generate.batch in the recipe (now {batch})"
                ) from None
        else:
            continue
        torch.cuda.empty_cache()
        for row in open_:
            row.generated.clear()
        batch, ordered = (len(open_) + 1) // 2, open_ + ordered


def _decode_batch(
    model: Any,
    rows: list[Row],
    stop_ids: frozenset[int],
    max_tokens: int,
    sampling: Sampling,
    stream: Stream,
    on_step: Callable[[int], None],
) -> Iterator[Row]:
    forward = _Forward(model)
    longest = max(len(row.prompt) for row in rows)
    input_BT = torch.tensor(
        [[0] * (longest - len(row.prompt)) + row.prompt for row in rows], device=forward.device
    )  # any id pads: it is masked
    mask_BT = torch.tensor([[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows], device=forward.device)
    position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    seen_BV: Tensor | None = None
    while rows:
        logits_BV = forward(input_BT, mask_BT, position_BT, cache)
        if seen_BV is None:
            seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
        elif len(rows[0].generated) == 1:
            _check(forward, rows[0], logits_BV[0])
        tokens = _next_tokens(forward, rows, logits_BV, seen_BV, sampling, stream)
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            row.generated.append(token)
            seen_BV[i, token] = True
            if token in stop_ids:
                row.finish = "eot"
            elif len(row.generated) == max_tokens:
                row.finish = "length"
            elif len(row.generated) == row.room:
                row.finish = "context"
        on_step(len(rows))
        yield from (row for row in rows if row.finish)
        staying = [i for i, row in enumerate(rows) if not row.finish]
        position_BT = position_BT[:, -1:] + 1
        if len(staying) < len(rows):
            if not staying:
                return
            rows = [rows[i] for i in staying]
            staying_B = torch.tensor(staying, device=forward.device)
            mask_BT, position_BT, seen_BV = mask_BT[staying_B], position_BT[staying_B], seen_BV[staying_B]
            cache.batch_select_indices(staying_B)
        input_BT = torch.tensor([[row.generated[-1]] for row in rows], device=forward.device)
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)


def _next_tokens(forward: _Forward, rows: list[Row], logits_BV: Tensor, seen_BV: Tensor, sampling: Sampling, stream: Stream) -> list[int]:
    largest_B = logits_BV.abs().amax(-1)
    if not bool(largest_B.isfinite().all()):
        broken = next(row for row, largest in zip(rows, largest_B.tolist(), strict=True) if not largest < float("inf"))
        remedy = "the checkpoint is broken (a training that diverged?); choose an earlier one"
        raise LimakitError("the model's logits are not numbers", where=f"prompt {broken.prompt_id!r}", remedy=remedy)
    numbers = [uniform(stream.seed, stream.model, row.prompt_id, row.sample, len(row.generated)) for row in rows]
    u_B = torch.tensor(numbers, dtype=torch.float64, device=forward.device)
    # one bound for the batch would let the batch decide which choices are sure; that is harmless, for a sure choice is the canonical one too
    token_B, sure_B = choose(logits_BV, seen_BV, u_B, sampling, TOLERANCE * float(largest_B.max()))
    tokens: list[int] = token_B.tolist()
    for i, sure in enumerate(sure_B.tolist()):
        if not sure:
            alone_1V = forward.alone(rows[i].prompt + rows[i].generated)
            tokens[i] = int(choose(alone_1V, seen_BV[i : i + 1], u_B[i : i + 1], sampling, 0.0)[0])
    return tokens


def _check(forward: _Forward, row: Row, logits_V: Tensor) -> None:
    """One row a batch, the one with the most padding, at its first cached step: the logits must be those without padding or cache.

    Raises LimakitError for a model that keeps its state in another way (Mamba) or sees padding: its texts would be quietly wrong.
    """
    alone_V = forward.alone(row.prompt + row.generated)[0]
    if not bool((logits_V - alone_V).abs().amax() <= WRONG * alone_V.abs().amax()):
        raise LimakitError(NOT_ITS_OWN, where=f"prompt {row.prompt_id!r}", remedy=OTHER_TOOL)


def _rows_can_leave(model: Any) -> bool:
    """Whether every layer of the model's cache lets rows be taken out. Recurrent and convolutional states (LFM2, Jamba, Qwen3-Next) do not:
    a layer that has them beside keys and values would take out the latter alone."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (KeyError, ValueError, AttributeError, TypeError):  # a kind of layer this cache does not know
        return False
    return all(hasattr(layer, "batch_select_indices") and not hasattr(layer, "recurrent_states") for layer in layers)


class _Forward:
    """The model's logits at the last position, whichever of the usual arguments its forward knows."""

    def __init__(self, model: Any):
        known = inspect.signature(model.forward).parameters
        self._model = model
        self._positions = "position_ids" in known
        self._last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.device = model.get_input_embeddings().weight.device

    def __call__(self, input_BT: Tensor, mask_BT: Tensor, position_BT: Tensor, cache: DynamicCache) -> Tensor:
        where = {"position_ids": position_BT} if self._positions else {}
        out = self._model(input_ids=input_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, **where, **self._last)
        return out.logits[:, -1]

    def alone(self, ids: list[int]) -> Tensor:
        """The canonical logits after `ids`: one row, no padding, no cache. [1, V]"""
        input_1T = torch.tensor([ids], device=self.device)
        where = {"position_ids": torch.arange(len(ids), device=self.device)[None]} if self._positions else {}
        out = self._model(input_ids=input_1T, attention_mask=torch.ones_like(input_1T), use_cache=False, **where, **self._last)
        return out.logits[:, -1]
