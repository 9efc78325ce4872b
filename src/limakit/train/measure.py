"""How quick this machine is at a planned training: a few of its own rows and one update, run and timed, and a small file written."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import LimakitError
from ..model.chat import give_eot
from ..recipe import Recipe, TrainSpec
from ..workspace import Workspace
from .alarm import step_loss
from .attach import attach
from .loop import load_base, run_folder
from .memory import forget_peak, keep_freed, peak_bytes
from .optimizer import clip, make_optimizer
from .ranks import Ranks
from .steps import Step
from .threads import threads
from .training_set import TrainingSet
from .update import add_gradients

MEASURE_SECONDS = 15.0
WARM_UP_SECONDS = 5.0  # a first row that takes longer is not run again for the sake of a warm-up
THREADS_SECONDS = 4.0
DISK_BYTES = 2**26
FORWARD = 1 / 3  # of a row's time, the backward pass taking twice as long


@dataclass(frozen=True)
class Speed:
    """Measured here: seconds of forward and backward for each token, and of one optimiser update."""

    seconds_per_token: float
    seconds_per_update: float
    compiling: float  # seconds, at a run's start; 0 where nothing is compiled
    tokens: int  # measured over
    peak_bytes: int  # of this process while it ran (memory.peak_bytes)


@dataclass(frozen=True)
class Disk:
    """Measured here: seconds for each byte that is written and synced, and that is hashed."""

    write: float
    hash: float


def attached(workspace: Workspace, recipe: Recipe, data: TrainingSet, device: torch.device) -> Any:
    """The model as `train` has it before its first step, from what is here already. Raises what loading and attaching raise."""
    if recipe.train.lora is None:
        model = load_base(workspace, recipe, device, local_only=True)
        give_eot(model, data.chat)
    else:
        from .adapter import load_adapted  # peft is an extra

        ranks = replace(Ranks(), device=device)
        model = load_adapted(workspace, recipe, data.chat, ranks, run_folder(workspace, recipe, ranks).base, None, "").model
    attach(model, recipe.train, data.longest)
    return model


def sampled_rows(data: TrainingSet) -> Iterator[tuple[int, ...]]:
    """The first epoch's rows, the sizes of the first few as mixed as those of all: sorted by tokens, then in bit-reversed order."""
    rows = [row for step in data.steps if step.epoch == 1 for row in step.rows]
    rows.sort(key=lambda row: (sum(len(data.documents[i].ids) for i in row), row))
    bits = (len(rows) - 1).bit_length()
    order = (int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(2**bits))
    yield from (rows[i] for i in order if i < len(rows))


def measure(model: Any, data: TrainingSet, spec: TrainSpec) -> Speed:
    """Run rows, forward and backward, for MEASURE_SECONDS, and updates with a learning rate of 0. The weights stay as they are."""
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    model.train()
    keep_freed(device)
    forget_peak(device)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def run(row: tuple[int, ...]) -> tuple[float, int]:
        started = clock()
        add_gradients(model, data.documents, Step(1, 1, False, (row,)), packed=spec.pack, precision=spec.precision)
        return clock() - started, sum(len(data.documents[i].ids) for i in row)

    def update() -> float:
        started = clock()
        clip(optimizer, spec.clip_norm)
        optimizer.step()
        return clock() - started

    rows = list(sampled_rows(data))
    started = clock()
    spent, first_size = run(rows[0])  # pays for allocations too; it counts only where it is long for its own sake
    if spec.compile:  # the alarm's look at the end of an epoch is a graph of its own
        step_loss(model, data.documents, Step(1, 1, False, (rows[0],)), packed=spec.pack, precision=spec.precision)
    first = clock() - started
    update()  # makes the moments
    seconds, tokens, k = (spent, first_size, 1) if spent > WARM_UP_SECONDS and not spec.compile else (0.0, 0, 0)
    while seconds < MEASURE_SECONDS and k < 4 * len(rows):
        more, size = run(rows[k % len(rows)])
        seconds, tokens, k = seconds + more, tokens + size, k + 1
    updates = sorted(update() for _ in range(3))
    compiling = max(0.0, first - first_size * (1 + FORWARD) * seconds / tokens) if spec.compile else 0.0
    return Speed(seconds / tokens, updates[1], compiling, tokens, peak_bytes(device))


def measure_threads(model: Any, data: TrainingSet, spec: TrainSpec) -> dict[int, float]:
    """Tokens per second, forward and backward on the CPU, by number of threads: one and as many as this process has cores; the same rows in
    turn for THREADS_SECONDS. {} where there is one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    seconds = dict.fromkeys((1, cores), 0.0)
    if len(seconds) == 1:
        return {}
    model.train()
    rows, tokens, k = list(sampled_rows(data)), 0, 0
    while sum(seconds.values()) < THREADS_SECONDS:
        row = rows[k % len(rows)]
        for n in seconds:
            with threads(n):
                started = time.perf_counter()
                add_gradients(model, data.documents, Step(1, 1, False, (row,)), packed=spec.pack, precision=spec.precision)
                seconds[n] += time.perf_counter() - started
        tokens, k = tokens + sum(len(data.documents[i].ids) for i in row), k + 1
    model.zero_grad(set_to_none=True)
    return {n: tokens / spent for n, spent in seconds.items()}


def measure_disk(folder: Path) -> Disk:
    """Write, sync and hash a nameless file on the folder's file system. Raises LimakitError where that cannot be written."""
    block = os.urandom(2**20)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            started = time.perf_counter()
            for _ in range(DISK_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter() - started
            file.seek(0)
            started = time.perf_counter()
            hashlib.file_digest(file, "sha256")
            return Disk(written / DISK_BYTES, (time.perf_counter() - started) / DISK_BYTES)
    except OSError as error:
        raise LimakitError(
            f"cannot write: {error.strerror}", where=folder, remedy="a run writes here: check the folder, its permissions and its space"
        ) from error
