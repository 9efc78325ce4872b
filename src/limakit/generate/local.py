"""Batched decoding with a KV cache, in float32, by a model that lies in memory.

The batch stays full: where rows have ended, the next ones enter (slots.py). Promise 7, a response does not depend on its batch, holds so:
a row's logits differ between batches by rounding alone (masks and positions are right whatever the padding), and a token whose choice
such rounding could change is chosen again from logits computed for that row alone, without padding or cache, which no batch enters. The
assumption is that rounding stays below TOLERANCE times the row's largest logit; it was measured at up to 2e-6 of it (260 thousand to 370
million parameters, CPU), and the tests compare batches. It is looked at, and a model that rounds more coarsely (weights or autocast in
bfloat16) is said to: its responses may depend on their batch. The same machine, device and number of threads are meant: another processor
rounds in another way and may, rarely, write another text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ..errors import LimakitError
from ..model.attention import model_name
from ..progress import visible, warn
from .sampling import Sampling, choose, row_key
from .slots import Slots, can_slot

TOLERANCE = 1e-5  # of a row's logits, relative to the largest
WRONG = 0.05  # likewise: no rounding, but another model
NOT_ITS_OWN = "decoding in batches does not give this model's own logits: its architecture caches or pads in another way"
OTHER_TOOL = (
    "generate with another tool and take its file (limakit generate --import FILE --name NAME), or use a transformer with a KV cache"
)


@dataclass
class Row:
    """One response in the making. `room` is how many tokens the model's context has left for it; `turn` counts the user turns: 0 answers
    the prompt itself, n its n-th follow-up.
    """

    prompt_id: str
    sample: int
    prompt: list[int]
    room: int | None
    turn: int = 0
    generated: list[int] = field(default_factory=list)
    finish: Literal["eot", "length", "context"] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.generated)


@dataclass(frozen=True)
class Stream:
    """What the random numbers of a run depend on besides prompt, sample, turn and position."""

    seed: int
    model: str


@torch.no_grad()
def decode(
    model: Any,
    rows: Sequence[Row],
    *,
    stop_ids: frozenset[int],
    ends: Callable[[Sequence[int]], bool] | None = None,
    max_tokens: int,
    sampling: Sampling,
    stream: Stream,
    batch: int,
    on_step: Callable[[int], None] = lambda tokens: None,
) -> Iterator[Row]:
    """Yield each row once it has ended: with a stop id, kept as the last of `generated`, or where `ends` says that the ids generated so
    far end there (both "eot"), with max_tokens ("length") or a full context ("context").

    At most `batch` rows at a time, those with short prompts first; the samples of a prompt that enter together run it once. Stop ids are
    never penalised, wherever they stand. `on_step(n)` tells of n new tokens. Rows that the GPU's memory does not hold are begun again,
    half as many at a time, which changes no text.
    Raises LimakitError for a model whose cache or padding works in another way, for logits that are not numbers, naming the prompt, and
    when the memory does not hold a single row. No gradients, but not inference mode: a model in training may keep a tensor that is made
    here.
    """
    if not can_slot(model.config):
        raise LimakitError(NOT_ITS_OWN, where=model_name(model), remedy=OTHER_TOOL)
    waiting = _in_order(rows)
    rules = _Rules(stop_ids, ends, max_tokens, sampling, stream)
    while waiting:
        table = _Table(model, rules, on_step)
        try:
            yield from table.run(waiting, batch)
        except torch.OutOfMemoryError:
            open_ = [row for _, row in table.taken]
            if len(open_) < 2:
                raise LimakitError(
                    "the GPU's memory does not hold a batch", remedy=f"lower generate.batch in the recipe (now {batch})"
                ) from None
        else:
            return
        del table
        torch.cuda.empty_cache()
        for row in open_:
            row.generated.clear()
        waiting += _in_order(open_)
        batch = (len(open_) + 1) // 2


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """The next one last."""
    return sorted(rows, key=lambda row: (len(row.prompt), row.prompt_id, row.turn, row.sample), reverse=True)


@dataclass(frozen=True)
class _Rules:
    stop_ids: frozenset[int]
    ends: Callable[[Sequence[int]], bool] | None
    max_tokens: int
    sampling: Sampling
    stream: Stream

    def finish(self, row: Row) -> Literal["eot", "length", "context"] | None:
        if row.generated[-1] in self.stop_ids or (self.ends is not None and self.ends(row.generated)):
            return "eot"
        if len(row.generated) == self.max_tokens:
            return "length"
        return "context" if len(row.generated) == row.room else None


class _Table:
    """The rows being decoded, each in its slot of the cache."""

    def __init__(self, model: Any, rules: _Rules, on_step: Callable[[int], None]):
        self._forward, self._rules, self._on_step = _Forward(model), rules, on_step
        self._checked: set[bool] = set()  # whether rows that entered at a table that was taken were checked, and others
        self._check_due = self._coarse = False
        self._clear(0)

    def _clear(self, slots: int) -> None:
        self._rows: list[Row | None] = [None] * slots  # None where a row has ended
        self._keys = [0] * slots
        self._slots = Slots(self._forward.model.config, self._forward.device)
        self._seen_SV = torch.zeros(slots, 0, dtype=torch.bool, device=self._forward.device)

    @property
    def taken(self) -> list[tuple[int, Row]]:
        return [(slot, row) for slot, row in enumerate(self._rows) if row is not None]

    def run(self, waiting: list[Row], batch: int) -> Iterator[Row]:
        """Take rows from the end of `waiting`, and yield them as they end, until there are none.

        Rows enter, and empty slots are given up, once an eighth of the slots is empty: a prompt run by itself, and a cache copied for one
        row, cost more than a few empty slots.
        """
        while True:
            taken = len(self.taken)
            if waiting and (not taken or batch - taken >= max(1, batch // 8)):
                yield from self._enter([waiting.pop() for _ in range(min(batch - taken, len(waiting)))])
            elif not taken:
                return
            else:
                if len(self._rows) - taken >= max(1, len(self._rows) // 8):
                    self._close_up()
                yield from self._step()

    def _enter(self, rows: list[Row]) -> Iterator[Row]:
        """Run the rows' prompts, padded on the left, and give each row its first token."""
        joined = bool(self.taken)
        if not joined:
            self._clear(len(rows))
        if joined not in self._checked:
            self._checked.add(joined)
            self._check_due = True
        device = self._forward.device
        slots = [slot for slot, row in enumerate(self._rows) if row is None][: len(rows)]
        stream = self._rules.stream
        for slot, row in zip(slots, rows, strict=True):
            self._rows[slot] = row
            self._keys[slot] = row_key(stream.seed, stream.model, row.prompt_id, row.sample, row.turn)
        prompts = list({tuple(row.prompt): row.prompt for row in rows}.values())
        place = {tuple(prompt): i for i, prompt in enumerate(prompts)}
        which = [place[tuple(row.prompt)] for row in rows]
        longest = max(map(len, prompts))
        input_PT = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts], device=device)  # any id pads: it is masked
        mask_PT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        cache = self._slots.for_prompts()
        logits_BV = self._forward(input_PT, mask_PT, (mask_PT.cumsum(-1) - 1).clamp(min=0), cache)[torch.tensor(which, device=device)]
        if not self._slots.fits(cache):
            raise LimakitError(NOT_ITS_OWN, where=model_name(self._forward.model), remedy=OTHER_TOOL)
        self._slots.enter(slots, cache, which, [len(row.prompt) for row in rows])
        if not joined:
            self._seen_SV = torch.zeros_like(logits_BV, dtype=torch.bool)
        self._seen_SV[slots] = False
        if self._rules.sampling.penalise_prompt:
            for slot, row in zip(slots, rows, strict=True):
                self._seen_SV[slot, list(set(row.prompt) - self._rules.stop_ids)] = True
        yield from self._next(slots, rows, logits_BV)

    def _step(self) -> Iterator[Row]:
        """Give each row its next token."""
        slots, rows = [slot for slot, _ in self.taken], [row for _, row in self.taken]
        mask_SC = self._slots.open(max(map(len, rows)) - 1)
        # an empty slot goes on anywhere: nobody looks
        at = [(row.generated[-1], len(row) - 1) if row is not None else (0, 0) for row in self._rows]
        input_S1, position_S1 = torch.tensor(at, device=self._forward.device)[:, :, None].unbind(1)
        logits_SV = self._forward(input_S1, mask_SC, position_S1, self._slots)
        self._slots.close()
        self._check_one(logits_SV)
        logits_BV = logits_SV if len(slots) == len(self._rows) else logits_SV[slots]
        yield from self._next(slots, rows, logits_BV)

    def _next(self, slots: list[int], rows: list[Row], logits_BV: Tensor) -> Iterator[Row]:
        """Choose each row's next token, and yield those that end with it."""
        seen_BV = self._seen_SV if len(slots) == len(self._rows) else self._seen_SV[slots]
        tokens = _next_tokens(self._forward, rows, logits_BV, seen_BV, [self._keys[slot] for slot in slots], self._rules.sampling)
        self._seen_SV[slots, tokens] = True
        for slot, row, token in zip(slots, rows, tokens, strict=True):
            row.generated.append(token)
            row.finish = self._rules.finish(row)
            if row.finish:
                self._rows[slot] = None
        self._on_step(len(rows))
        yield from (row for row in rows if row.finish)

    def _close_up(self) -> None:
        slots = [slot for slot, _ in self.taken]
        self._slots.stay(slots, max(len(row) for _, row in self.taken) - 1)
        self._rows, self._keys = [self._rows[slot] for slot in slots], [self._keys[slot] for slot in slots]
        self._seen_SV = self._seen_SV[slots]

    def _check_one(self, logits_SV: Tensor) -> None:
        """A row at its first cached step, the one with the most padding, once at a table that was empty and once where others had left:
        its logits must be those without padding or cache.

        Raises LimakitError for a model that keeps its state in another way (Mamba) or sees padding: its texts would be quietly wrong.
        """
        new = [(len(row), slot) for slot, row in self.taken if len(row.generated) == 1]
        if not self._check_due or not new:
            return
        self._check_due = False
        slot = min(new)[1]
        row = self._rows[slot]
        assert row is not None
        alone_V = self._forward.alone(row.prompt + row.generated)[0]
        there_V = alone_V != -torch.inf  # what pads a vocabulary may be nothing
        off = float(((logits_SV[slot] - alone_V)[there_V].abs().amax() / alone_V[there_V].abs().amax()).nan_to_num(torch.inf))
        if off > WRONG:
            raise LimakitError(NOT_ITS_OWN, where=f"prompt {row.prompt_id!r}", remedy=OTHER_TOOL)
        if (off > TOLERANCE or torch.finfo(self._forward.dtype).bits < 32) and not self._coarse:
            self._coarse = True
            what = f"rounds more coarsely than float32 does ({self._forward.dtype}, {off:.0e} of a row's largest logit)"
            warn(visible(f"{model_name(self._forward.model)} {what}: responses may depend on their batch"))


def _next_tokens(forward: _Forward, rows: list[Row], logits_BV: Tensor, seen_BV: Tensor, keys: list[int], sampling: Sampling) -> list[int]:
    key_B, position_B = torch.tensor([keys, [len(row.generated) for row in rows]], device=forward.device)
    token_B, sure_B = choose(logits_BV, seen_BV, key_B, position_B, sampling, TOLERANCE)
    finite_B = logits_BV.amax(-1).isfinite()  # minus infinity is no token, and a model's to say
    tokens, sure, finite = torch.stack((token_B, sure_B, finite_B)).tolist()
    if not all(finite):
        broken = rows[finite.index(0)]
        remedy = "the checkpoint is broken (a training that diverged?); choose an earlier one"
        raise LimakitError("the model's logits are not numbers", where=f"prompt {broken.prompt_id!r}", remedy=remedy)
    for i, row in enumerate(rows):
        if not sure[i]:
            one = slice(i, i + 1)
            alone_1V = forward.alone(row.prompt + row.generated).double()
            tokens[i] = int(choose(alone_1V, seen_BV[one], key_B[one], position_B[one], sampling, 0.0)[0])
    return list(tokens)


class _Forward:
    """The model's logits at the last position, whichever of the usual arguments its forward knows."""

    def __init__(self, model: Any):
        known = inspect.signature(model.forward).parameters
        self.model = model
        self._positions = "position_ids" in known
        self._last: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.device = model.get_input_embeddings().weight.device
        self.dtype = torch.float32  # in which the last logits were computed

    def __call__(self, input_BT: Tensor, mask_BT: Tensor, position_BT: Tensor, cache: Cache) -> Tensor:
        where = {"position_ids": position_BT} if self._positions else {}
        out = self.model(input_ids=input_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, **where, **self._last)
        self.dtype = out.logits.dtype
        return out.logits[:, -1].float()

    def alone(self, ids: list[int]) -> Tensor:
        """The canonical logits after `ids`: one row, no padding, no cache. [1, V]"""
        input_1T = torch.tensor([ids], device=self.device)
        where = {"position_ids": torch.arange(len(ids), device=self.device)[None]} if self._positions else {}
        out = self.model(input_ids=input_1T, attention_mask=torch.ones_like(input_1T), use_cache=False, **where, **self._last)
        return out.logits[:, -1].float()
