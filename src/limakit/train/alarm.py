"""What stops a run before it harms itself: a loss or gradient that is not finite, and a loss that has run away.

The rule for running away holds a run against its own past. A step's loss that is the highest so far, and clearly above that of the first step, is
a sign and no more: it may be a small last step, or a hard example. What the first step's examples cost before anything was learnt is known, it is the
loss in the first row of the log; so they are measured once more, without dropout and gradient, and only if they too are clearly worse than before
training has training harmed the model. Neither half would do alone: a sound run may unlearn its first examples, where the base knew them and all
others pull away from them, but then its losses fall. At the end of every epoch, before it is written, the first step's examples are measured too,
and where they are clearly worse the last step's stand for the step that does not come: a wrong last update shows in no step's loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LimakitError
from ..model.attention import evaluating
from ..model.loss import row_loss
from .ranks import ALONE, Ranks
from .steps import Document, Step

# clearly worse than before training: by half, and by a nat a token (for sets that the base knows nearly by heart)
FACTOR, NATS = 1.5, 1.0
SHOWN_LOSSES = 5


@dataclass(frozen=True)
class Past:
    """What a run's losses are held against: its first step and the loss of that, taken before any update, and the highest loss of a step so far."""

    step: Step
    loss: float
    highest: float

    def worse(self, loss: float) -> bool:
        """Whether a loss is clearly above the first step's; true for NaN."""
        return not loss <= max(FACTOR * self.loss, self.loss + NATS)


def refuse_step(
    model: Any,
    documents: Sequence[Document],
    step: Step,
    *,
    loss: float,
    norm: float,
    lr: float,
    past: Past | None,
    packed: bool,
    precision: str,
    ranks: Ranks = ALONE,
) -> None:
    """Raise LimakitError for a step's loss or gradient norm that is not finite, and for a loss that has run away; to be called before
    the update. All ranks call it, and all come to the same end."""
    how: dict[str, Any] = {"packed": packed, "precision": precision, "ranks": ranks}
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif not math.isfinite(norm):
        what = f"the gradient's norm is {norm} (the loss {loss:.4g})"
    elif (
        past is not None and loss > past.highest and past.worse(loss) and past.worse(again := step_loss(model, documents, past.step, **how))
    ):
        what = f"the loss has run away: it is {loss:.4g}, and that of the first step's examples went from {past.loss:.4g} to {again:.4g}"
    else:
        return
    shown = _suspects(example_losses(model, documents, step, **how), documents)
    raise LimakitError(f"step {step.number}: {what}\n  its examples, the highest loss first: {shown}", remedy=_remedy(step, lr, precision))


def refuse_epoch(
    model: Any,
    documents: Sequence[Document],
    step: Step,
    *,
    lr: float,
    past: Past,
    packed: bool,
    precision: str,
    ranks: Ranks = ALONE,
) -> None:
    """Raise LimakitError if the model after `step`, the last of its epoch, is clearly worse on the first step's examples than before
    training, and on this step's own worse than the run ever was: such an epoch must not be written."""
    again = step_loss(model, documents, past.step, packed=packed, precision=precision, ranks=ranks)
    if past.worse(again) and not step_loss(model, documents, step, packed=packed, precision=precision, ranks=ranks) <= past.highest:
        raise LimakitError(
            f"step {step.number}: its update has spoilt the model: the loss on the first step's examples, {past.loss:.4g} before "
            f"training, is {again:.4g}; epoch {step.epoch} is not written",
            remedy=_remedy(step, lr, precision),
        )


def step_loss(
    model: Any, documents: Sequence[Document], step: Step, *, packed: bool, precision: str = "float32", ranks: Ranks = ALONE
) -> float:
    """A step's loss as `add_gradients` takes it, without gradients and in eval mode (no dropout)."""
    total = 0.0
    with evaluating(model):
        for row in step.rows:
            ids, targets = [documents[i].ids for i in row], [documents[i].target for i in row]
            total += float(row_loss(model, ids, targets, packed=packed, precision=precision))
        for _ in range(step.idle):
            _wait_in_forward(model, documents[step.examples[0]], packed, precision)
    return ranks.total(total)[0] / max(1, sum(documents[i].target_tokens for i in step.examples))


def example_losses(
    model: Any, documents: Sequence[Document], step: Step, *, packed: bool, precision: str = "float32", ranks: Ranks = ALONE
) -> dict[int, float]:
    """Mean loss a target token of each of the step's examples by its index, each forwarded apart, without gradients and in eval mode."""
    own = [i for row in step.rows for i in row]
    counts = ranks.total(*(float(len(own)) if rank == ranks.rank else 0.0 for rank in range(ranks.size)))
    losses = {}
    with evaluating(model):
        for i in own:
            loss = row_loss(model, [documents[i].ids], [documents[i].target], packed=packed, precision=precision)
            losses[i] = float(loss) / max(1, documents[i].target_tokens)
        for _ in range(round(max(counts)) - len(own)):
            _wait_in_forward(model, documents[step.examples[0]], packed, precision)
    return dict(zip(step.examples, ranks.total(*(losses.get(i, 0.0) for i in step.examples)), strict=True))


def _wait_in_forward(model: Any, document: Document, packed: bool, precision: str) -> None:
    """A short forward pass for nothing: the other ranks gather their weights in it, and they wait for this one."""
    row_loss(model, [document.ids[:2]], [(False, True)], packed=packed, precision=precision)


def _suspects(losses: dict[int, float], documents: Sequence[Document]) -> str:
    """The step's examples, what is not finite first, then by loss; the first few with their losses."""
    order = sorted(losses, key=lambda i: (math.isfinite(losses[i]), -losses[i] if math.isfinite(losses[i]) else 0.0, i))
    named = [f"{documents[i].id} ({losses[i]:.4g})" if k < SHOWN_LOSSES else documents[i].id for k, i in enumerate(order)]
    lost = sum(not math.isfinite(loss) for loss in losses.values())
    if lost == len(losses):
        return f"{', '.join(named)}; none has a finite loss, so it is the weights rather than an example"
    return ", ".join(named)


def _remedy(step: Step, lr: float, precision: str) -> str:
    tries = [f"lower lr under [train] (here {lr:.3g})"]
    if precision != "float32":
        tries.append('try precision = "float32"')
    tries.append("look at the examples named first for text that is not language")
    if step.epoch == 1:
        saved = "Nothing was saved, for no epoch was complete: change the recipe or the set, and the same command begins anew"
    else:
        saved = (
            f"Epoch {step.epoch - 1} is good and stays; the same command goes on after it, and with nothing changed comes to this step again. "
            "With a changed setting or set it is another run, so give the recipe another name"
        )
    return f"{', '.join(tries)}. {saved}"
