"""The training section: loss over the steps with epoch marks, the schedule, and what the run came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ..recipe import Recipe
from .canvas import Drawing
from .figures import Curve, draw_loss, draw_schedule
from .inputs import Inputs, Step
from .ledger import Ledger, Number, Rows, count
from .sections import Finding, Section
from .tables import Cell, Table


def training_section(inputs: Inputs, recipe: Recipe, tokenizer: Any, ledger: Ledger) -> Section | None:
    """None without a log. `tokenizer` (None: not here) is needed to count the examples that were cut."""
    if inputs.log is None:
        return None
    name, steps = inputs.log
    rows = Rows((name,))
    epochs = [list(group) for _, group in groupby(steps, key=lambda s: s.epoch)]
    means = [_mean_loss(epoch) for epoch in epochs]

    def number(what: str, value: float, shown: str, n: int | None, of: str) -> Number:
        return ledger.add("training", what, value, shown, n=n, of=of, rows=rows)

    targets = sum(s.target_tokens for s in epochs[0])
    whole = number("epochs", len(epochs), count(len(epochs)), None, "epochs")
    done = number("steps", steps[-1].step, count(steps[-1].step), None, "steps")
    first = number("mean loss, first epoch", means[0], _loss(means[0]), len(epochs[0]), "steps")
    last = number("mean loss, last epoch", means[-1], _loss(means[-1]), len(epochs[-1]), "steps")
    final = number("loss, last step", steps[-1].loss, _loss(steps[-1].loss), steps[-1].examples, "examples")
    learnt = number("target tokens, first epoch", targets, count(targets), len(epochs[0]), "steps")
    findings: list[Finding] = [
        (
            "Trained for ",
            whole,
            " epochs in ",
            done,
            " steps; the mean loss went from ",
            first,
            " in the first epoch to ",
            last,
            " in the last.",
        )
    ]
    body: list[tuple[Cell, ...]] = [(n.what, n) for n in (whole, done, first, last, final, learnt)]
    cut = _cut(inputs, tokenizer, ledger)
    if cut is not None:
        body.append((cut.what, cut))
        if cut.value:
            findings.append(
                (cut, f" of {count(cut.n or 0)} training examples were longer than max_tokens: cut, so no EOT was learnt from them.")
            )
    return Section(
        tuple(findings),
        _drawings(steps, epochs, means),
        (Table("The run", ("", "value"), tuple(body)),),
        notes=_notes(inputs, recipe, len(epochs)),
    )


def _mean_loss(epoch: Sequence[Step]) -> float:
    """A step's loss is a mean over its target tokens, so an epoch's is weighted by them."""
    return sum(s.loss * s.target_tokens for s in epoch) / max(1, sum(s.target_tokens for s in epoch))


def _loss(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else str(value)


def _drawings(steps: Sequence[Step], epochs: Sequence[Sequence[Step]], means: Sequence[float]) -> tuple[Drawing, ...]:
    if len(steps) < 2:
        return ()
    curve = Curve(
        [s.step for s in steps], [s.loss for s in steps], [s.lr for s in steps], [s.grad_norm for s in steps],
        [epoch[-1].step for epoch in epochs], means,
    )  # fmt: skip
    label = f"Training loss over {len(steps)} steps in {len(epochs)} epochs: mean {means[0]:.3f} in the first, {means[-1]:.3f} in the last."
    schedule = f"Learning rate from {steps[0].lr:.3g} to {steps[-1].lr:.3g}, and the gradient norm before clipping, over the steps."
    return draw_loss(curve, "loss", label), draw_schedule(curve, "schedule", schedule)


def _notes(inputs: Inputs, recipe: Recipe, epochs: int) -> tuple[str, ...]:
    notes = []
    if epochs < recipe.train.epochs:
        notes.append(f"The recipe asks for {recipe.train.epochs} epochs; the log is not there yet.")
    if inputs.run and "train" in inputs.sets and not _same_data(inputs):
        notes.append("data/train.jsonl has changed since this run: the set above is not what it was trained on.")
    return tuple(notes)


def _same_data(inputs: Inputs) -> bool:
    """Whether data/train.jsonl still is what the run was trained on."""
    if inputs.run is None or "train" not in inputs.sets:
        return False
    return inputs.run[1].get("inputs", {}).get("data/train.jsonl") == inputs.hashes[inputs.sets["train"][0]]


def _cut(inputs: Inputs, tokenizer: Any, ledger: Ledger) -> Number | None:
    """How many examples the run cut at max_tokens: their EOT is lost, so the reader must know. None where it cannot be counted."""
    if tokenizer is None or inputs.run is None or not _same_data(inputs):
        return None
    from ..model.chat import chat_format

    chat = chat_format(tokenizer, add_eot=True)
    limit = inputs.run[1].get("settings", {}).get("train", {}).get("max_tokens")
    if chat is None or not isinstance(limit, int):
        return None
    name, examples = inputs.sets["train"]
    cut = sum(len(chat.encode(example.turns).ids) > limit for example in examples)
    what = f"cut at {limit} tokens (no EOT)"
    return ledger.add("training", what, cut, count(cut), n=len(examples), of="examples", rows=Rows((name, inputs.run[0])))
