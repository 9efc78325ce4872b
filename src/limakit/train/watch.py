"""Who else is told of each step: TensorBoard and Weights & Biases, only where the recipe asks for them.

They are told what log.jsonl has, and are no part of the result: one that fails is left off with a note, and the run goes on.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

from ..errors import LimakitError
from ..progress import warn
from .run_folder import RunFolder
from .update import StepLog

Name = Literal["tensorboard", "wandb"]
Told = Callable[[StepLog, float], None]  # a step's row, and its tokens/s


def refuse_missing(watch: Sequence[Name]) -> None:
    """Raise LimakitError for a watcher that is asked for and not installed: before the run, not in its middle."""
    for name in watch:
        if find_spec(name) is None:
            raise LimakitError(
                f'watch = ["{name}"] needs the package {name}, which is not installed',
                where="[train]",
                remedy=f"pip install 'limakit[{name}]', or take it out of watch",
            )


def scalars(row: StepLog, tokens_per_s: float) -> dict[str, float]:
    """What is drawn of a step. Perplexity is that of the step's target tokens, under dropout."""
    return {
        "train/loss": row.loss,
        "train/perplexity": math.exp(min(row.loss, 700.0)),  # e^710 is no float
        "train/lr": row.lr,
        "train/grad_norm": row.grad_norm,
        "train/epoch": float(row.epoch),
        "speed/tokens_per_s": tokens_per_s,
    }


@contextmanager
def watched(watch: Sequence[Name], run: RunFolder, recipe_name: str, done: int) -> Iterator[Told]:
    """For the length of a run: a function to be called with each step. `done` steps were taken before, by a run that this one continues.

    A watcher that raises, at the start, in a step or at the end, is left off with one note. Call it on the first rank alone.
    """
    openers: dict[str, Any] = {"tensorboard": _TensorBoard, "wandb": _WandB}
    writers: dict[str, Any] = {}
    for each in dict.fromkeys(watch):
        with _left_off_if_it_fails(each, writers):
            writers[each] = openers[each](run, recipe_name, done)

    def tell(row: StepLog, tokens_per_s: float) -> None:
        drawn = scalars(row, tokens_per_s)
        for name, writer in list(writers.items()):
            with _left_off_if_it_fails(name, writers):
                writer.step(row.step, drawn)

    failed = True
    try:
        yield tell
        failed = False
    finally:
        for left, writer in list(writers.items()):
            with _left_off_if_it_fails(left, writers):
                writer.close(failed)


@contextmanager
def _left_off_if_it_fails(name: str, writers: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a full disk, no network, a wrong key: whatever other people's code raises
        writers.pop(name, None)
        reason = (str(error).splitlines() or [""])[0][:200]
        warn(f"{name} failed and is left off from here on ({type(error).__name__}: {reason}); the run and its log.jsonl go on")


class _TensorBoard:
    """runs/NAME/tensorboard. A resumed run goes on in it: `purge_step` tells TensorBoard to forget what a killed run drew beyond."""

    def __init__(self, run: RunFolder, name: str, done: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=done + 1)

    def step(self, number: int, drawn: dict[str, float]) -> None:
        for key, value in drawn.items():
            self._writer.add_scalar(key, value, number)

    def close(self, failed: bool) -> None:
        self._writer.close()


class _WandB:
    """A run in the project "limakit". Entity, key, host and mode (WANDB_MODE=offline) come from the environment, as wandb reads it."""

    def __init__(self, run: RunFolder, name: str, done: int):
        import wandb

        # the same run is found again by where it lies and what it is; steps that it has already are not taken twice
        identity = hashlib.sha256(f"{run.path.resolve()}\0{run.settings}\0{run.inputs}".encode()).hexdigest()[:16]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "limakit"),
            name=name,
            id=identity,
            resume="allow",
            config=run.settings,
            dir=str(run.path),
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True),
        )

    def step(self, number: int, drawn: dict[str, float]) -> None:
        self._run.log(drawn, step=number)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)
