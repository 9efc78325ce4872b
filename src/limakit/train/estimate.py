"""`limakit plan`: what a training would take, before it takes it. Nothing is trained or written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..errors import LimakitError
from ..model.attention import attach_packing
from ..model.chat import give_eot
from ..model.load import load_config, pick_device
from ..progress import duration, say, show_table, warn
from ..recipe import Recipe, TrainSpec
from ..workspace import Workspace
from .dropout import attach_residual_dropout
from .loop import TrainingSet, load_base, read_training_set, trim_note
from .optimizer import clip, make_optimizer
from .steps import Step
from .update import add_gradients

GIB = 2**30
MEASURE_SECONDS = 5.0


@dataclass(frozen=True)
class Counts:
    """What the set and the recipe come to; tokens of one epoch."""

    examples: int
    steps: int
    epochs: int
    tokens: int
    target_tokens: int
    rows: int
    room: int  # tokens the rows would hold if each were filled

    @property
    def packing(self) -> float:
        """Share of the rows' room that holds tokens."""
        return self.tokens / self.room


@dataclass(frozen=True)
class Memory:
    """Bytes by part, without activations."""

    parameters: int
    weights: int
    gradients: int
    moments: int
    casts: int  # bfloat16 copies of the weights that autocast keeps during a step

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.moments + self.casts


@dataclass(frozen=True)
class Speed:
    """Measured here: seconds of forward and backward for each token, and of one optimiser update."""

    seconds_per_token: float
    seconds_per_update: float
    tokens: int  # measured over
    peak_bytes: int | None  # of the device, on CUDA

    def seconds(self, counts: Counts) -> float:
        return counts.epochs * counts.tokens * self.seconds_per_token + counts.steps * self.seconds_per_update


def count(data: TrainingSet, spec: TrainSpec) -> Counts:
    """Counts of the planned run; the packing is the first epoch's."""
    budget = spec.pack_tokens or spec.max_tokens
    rows = [row for step in data.steps if step.epoch == 1 for row in step.rows]
    lengths = [sum(len(data.documents[i].ids) for i in row) for row in rows]
    return Counts(
        examples=len(data.documents),
        steps=len(data.steps),
        epochs=spec.epochs,
        tokens=sum(lengths),
        target_tokens=sum(document.target_tokens for document in data.documents),
        rows=len(rows),
        room=sum(max(budget, length) for length in lengths) if spec.pack else sum(lengths),
    )


def count_memory(config: Any, eot_id: int, precision: str, trust_remote_code: bool = False) -> Memory:
    """Memory by part of a full fine-tune in float32: 4 bytes a weight, 4 a gradient, 8 for Adam's two moments. No weights are read."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    parameters = sum(p.numel() for p in model.parameters())
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    rows, width = inputs.weight.shape
    if eot_id >= rows:
        tied = outputs is None or outputs.weight is inputs.weight
        parameters += (eot_id + 1 - rows) * width * (1 if tied else 2)
    return Memory(parameters, 4 * parameters, 4 * parameters, 8 * parameters, 2 * parameters if precision == "bfloat16" else 0)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(model: Any, data: TrainingSet, spec: TrainSpec) -> Speed:
    """Run the first step's rows, forward and backward, for some seconds, and one update with a learning rate of 0."""
    step = data.steps[0]
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    model.train()

    def run(rows: tuple[tuple[int, ...], ...]) -> float:
        started = time.perf_counter()
        add_gradients(model, data.documents, Step(1, 1, False, rows), packed=spec.pack, precision=spec.precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    def update() -> float:
        started = time.perf_counter()
        clip(optimizer, spec.clip_norm)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    spent = run(step.rows[:1])  # the first run also pays for allocations; it counts only if it is long
    seconds, tokens = 0.0, 0
    if spent > MEASURE_SECONDS:
        seconds, tokens = spent, sum(len(data.documents[i].ids) for i in step.rows[0])
    while seconds < MEASURE_SECONDS and tokens < 50_000:
        for row in step.rows:
            seconds += run((row,))
            tokens += sum(len(data.documents[i].ids) for i in row)
            if seconds >= MEASURE_SECONDS:
                break
    update()  # makes the moments
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Speed(seconds / tokens, update(), tokens, peak)


def show_plan(workspace: Workspace, recipe: Recipe) -> None:
    """Print steps, tokens, trimmed examples, memory by part and the time measured here. Raises what `train` would raise beforehand."""
    spec, base = recipe.train, recipe.model
    device = pick_device(spec.device)
    data = read_training_set(workspace, recipe)
    counts = count(data, spec)
    config = load_config(base.base, root=workspace.root, revision=base.revision, trust_remote_code=base.trust_remote_code)
    memory = count_memory(config, data.chat.eot_id, spec.precision, base.trust_remote_code)

    rows: list[tuple[str, str, str]] = [
        ("examples", f"{counts.examples:,}", f"{counts.epochs * counts.examples:,}"),
        ("steps", f"{counts.steps // counts.epochs:,}", f"{counts.steps:,}"),
        ("tokens", f"{counts.tokens:,}", f"{counts.epochs * counts.tokens:,}"),
        ("target tokens", f"{counts.target_tokens:,}", f"{counts.epochs * counts.target_tokens:,}"),
        ("trimmed examples", f"{len(data.prepared.trimmed):,}", ""),
        ("packed rows", f"{counts.rows:,}", f"{100 * counts.packing:.0f} % full"),
    ]
    show_table(f"plan: {recipe.name}", ["", "an epoch", f"in all ({counts.epochs} epochs)"], rows)
    if data.prepared.trimmed:
        warn(trim_note(data.prepared, spec.max_tokens))

    # while an epoch is saved the state before it is still there; only the first has none before it
    states = min(2, counts.epochs)
    disk = counts.epochs * memory.weights + states * memory.moments
    parts = [
        ("weights, float32", memory.weights), ("gradients, float32", memory.gradients), ("moments of AdamW, float32", memory.moments),
        *([("bfloat16 copies during a step", memory.casts)] if memory.casts else []), ("together, without activations", memory.total),
        ("free here", free_bytes(device)), (f"on disk at most: epochs ({counts.epochs}) and states of AdamW ({states})", disk),
    ]  # fmt: skip
    show_table(
        f"memory: {memory.parameters:,} parameters, on {device.type}", ["part", "GiB"], [(name, f"{n / GIB:,.3f}") for name, n in parts]
    )

    speed = _measure_if_it_fits(workspace, recipe, data, memory, device)
    if speed is None:
        return
    total = speed.seconds(counts)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"this CPU, {torch.get_num_threads()} threads"
    say(f"time: about {duration(total)} on {where} (measured: {1 / speed.seconds_per_token:,.0f} tokens/s over {speed.tokens:,} tokens)")
    if speed.peak_bytes is not None:
        say(f"memory at its peak on {where}: {speed.peak_bytes / GIB:,.1f} GiB, activations included")


def _measure_if_it_fits(workspace: Workspace, recipe: Recipe, data: TrainingSet, memory: Memory, device: torch.device) -> Speed | None:
    """Measure with the real model, attached as `train` attaches it, or say why it was not measured."""
    free = free_bytes(device)
    if memory.total > 0.8 * free:
        say(f"time: not measured; {memory.total / GIB:,.1f} GiB do not fit into the {free / GIB:,.1f} GiB that are free on {device.type}")
        return None
    try:
        model = load_base(workspace, recipe, device, local_only=True)
    except LimakitError as error:
        say(f"time: not measured, for the weights are not here ({error.what})")
        return None
    give_eot(model, data.chat)
    attach_residual_dropout(model, recipe.train.residual_dropout)
    if recipe.train.pack:
        attach_packing(model, recipe.train.precision, longest=data.longest)
    try:
        return measure(model, data, recipe.train)
    except torch.OutOfMemoryError:
        say(f"time: not measured; with its activations it does not fit on {device.type}: lower pack_tokens or max_tokens under [train]")
        return None
