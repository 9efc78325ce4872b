"""One optimiser step over documents, packed or not: the core that fine-tuning and the miniature world's pretraining share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import LimakitError
from ..model.loss import row_loss
from .alarm import Past, refuse_epoch, refuse_step
from .optimizer import clip, set_lr
from .ranks import ALONE, Ranks
from .steps import Document, Step


@dataclass(frozen=True)
class StepLog:
    """A row of log.jsonl. `loss` is the mean over the step's target tokens, in nats; `grad_norm` the global norm before clipping."""

    step: int
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    examples: int
    tokens: int
    target_tokens: int


def step_seed(seed: int, step: int) -> int:
    """The seed of a step's randomness (dropout), so a resumed run needs no saved random state."""
    return int.from_bytes(hashlib.sha256(f"{seed}/step/{step}".encode()).digest()[:8], "big") >> 1


def add_gradients(
    model: Any, documents: Sequence[Document], step: Step, *, packed: bool, precision: str = "float32", ranks: Ranks = ALONE
) -> float:
    """Add the gradients of the step's loss to the parameters' and return the loss: the sum over all the step's target tokens divided by
    their number, whichever rows and ranks they lie in (promise 1)."""
    total = sum(documents[i].target_tokens for i in step.examples)
    if total == 0:
        raise LimakitError(f"step {step.number} has no target token at all", remedy="leave out examples without a response")
    parts = []
    for row in step.rows:
        loss = row_loss(
            model, [documents[i].ids for i in row], [documents[i].target for i in row], packed=packed, precision=precision
        )  # fmt: skip
        (loss * (ranks.size / total)).backward()  # FSDP takes the mean over the ranks
        parts.append(loss.detach())
    for _ in range(step.idle):  # the other ranks wait for this one in every row: a short one that adds nothing
        ids = documents[step.examples[0]].ids[:2]
        (row_loss(model, [ids], [(False, True)], packed=packed, precision=precision) * 0.0).backward()
    return ranks.total(float(torch.stack(parts).double().sum()) if parts else 0.0)[0] / total


def take_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    documents: Sequence[Document],
    step: Step,
    *,
    lr: float,
    clip_norm: float,
    seed: int,
    packed: bool,
    precision: str = "float32",
    ranks: Ranks = ALONE,
    past: Past | None = None,
) -> StepLog:
    """One update of the model, in place. Raises LimakitError, naming the step and its examples, before a loss or gradient that is not
    finite, or a loss that has run away from the run's `past`, reaches the weights."""
    model.train()
    torch.manual_seed(step_seed(seed, step.number) + ranks.rank)
    optimizer.zero_grad(set_to_none=True)
    loss = add_gradients(model, documents, step, packed=packed, precision=precision, ranks=ranks)
    norm = clip(optimizer, clip_norm)
    refuse_step(
        model, documents, step, loss=loss, norm=norm, lr=lr, past=past, packed=packed, precision=precision, ranks=ranks
    )  # fmt: skip
    set_lr(optimizer, lr)
    optimizer.step()
    chosen = [documents[i] for i in step.examples]
    tokens, targets = sum(len(d.ids) for d in chosen), sum(d.target_tokens for d in chosen)
    return StepLog(step.number, step.epoch, loss, lr, norm, len(chosen), tokens, targets)


def run_steps(
    model: Any,
    optimizer: torch.optim.Optimizer,
    documents: Sequence[Document],
    steps: Iterable[Step],
    *,
    lr: Callable[[int], float],
    clip_norm: float,
    seed: int,
    packed: bool,
    precision: str = "float32",
    ranks: Ranks = ALONE,
    past: Past | None = None,
) -> Iterator[StepLog]:
    """Take the steps one by one; `lr` gives the learning rate of a step number. The model is trained in place.

    `past` is that of the run where this goes on. Raises LimakitError where the training goes wrong (alarm.py); the last
    row of an epoch comes only after the model has been found fit to be written.
    """
    for step in steps:
        row = take_step(
            model, optimizer, documents, step,
            lr=lr(step.number), clip_norm=clip_norm, seed=seed, packed=packed, precision=precision, ranks=ranks, past=past,
        )  # fmt: skip
        past = Past(step, row.loss, row.loss) if past is None else replace(past, highest=max(past.highest, row.loss))
        if step.last_of_epoch:
            refuse_epoch(model, documents, step, lr=row.lr, past=past, packed=packed, precision=precision, ranks=ranks)
        yield row
