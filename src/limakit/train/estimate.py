"""`limakit plan`: what a training would take, before it takes it. Nothing is trained or kept on the disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch

from ..errors import LimakitError, UsageError
from ..model.load import load_config, pick_device
from ..progress import duration, say, show_table, warn
from ..recipe import LoraSpec, Recipe, TrainSpec
from ..workspace import Workspace
from .attach import chosen_layers, refuse_ranks
from .devices import ASSUMED_MFU, DEVICES, NamedDevice, epoch_flops, seconds_on
from .measure import FORWARD, Disk, Speed, attached, measure, measure_disk, measure_threads
from .memory import GIB, amount, free_bytes
from .optimizer import bytes_per_parameter
from .shape import Memory, Shape, memory, memory_between_steps, read_shape, row_bytes
from .threads import threads
from .training_set import TrainingSet, read_training_set, trim_note
from .watch import refuse_missing

FULL = 0.92  # of a device's memory: the rest goes to its driver and to gaps between tensors


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
    longest_row: tuple[int, ...]  # lengths of its documents
    longest_targets: int  # the row's target tokens
    first_step: int  # tokens of the run's first step

    @property
    def packing(self) -> float:
        """Share of the rows' room that holds tokens."""
        return self.tokens / self.room


@dataclass(frozen=True)
class Time:
    """Seconds of a run by part."""

    start: float  # reading, loading, checking
    steps: float
    epochs: float  # looking at each epoch's model, writing it, hashing it

    @property
    def total(self) -> float:
        return self.start + self.steps + self.epochs


def count(data: TrainingSet, spec: TrainSpec) -> Counts:
    """Counts of the planned run; the packing is the first epoch's."""
    budget = spec.pack_tokens or spec.max_tokens
    rows = [row for step in data.steps if step.epoch == 1 for row in step.rows]
    sizes = [sum(len(data.documents[i].ids) for i in row) for row in rows]
    longest = rows[max(range(len(rows)), key=lambda k: sizes[k])]
    return Counts(
        examples=len(data.documents),
        steps=len(data.steps),
        epochs=spec.epochs,
        tokens=sum(sizes),
        target_tokens=sum(document.target_tokens for document in data.documents),
        rows=len(rows),
        room=sum(max(budget, size) if spec.pack else size for size in sizes),
        longest_row=tuple(len(data.documents[i].ids) for i in longest),
        longest_targets=sum(data.documents[i].target_tokens for i in longest),
        first_step=sum(len(data.documents[i].ids) for i in data.steps[0].examples),
    )


def disk_bytes(shape: Shape, spec: TrainSpec) -> tuple[int, int]:
    """Bytes on the disk of an epoch's weights, and of the state that a run goes on from."""
    if spec.lora is not None:
        low = 4 * shape.adapters(spec.lora)
        merged = shape.parameters * (2 if spec.precision == "bfloat16" else 4)
        return (merged if spec.lora.save == "merged" else low), 3 * low
    each = bytes_per_parameter(spec)
    return shape.parameters * each.weights, shape.parameters * (each.remainder + each.moments)


def kept_epochs(spec: TrainSpec) -> int:
    """Epochs whose weights lie there when the run has ended; nothing is picked before."""
    return min(spec.epochs, spec.keep) if isinstance(spec.keep, int) else spec.epochs


def time_here(counts: Counts, shape: Shape, spec: TrainSpec, speed: Speed, disk: Disk, start: float) -> Time:
    """What the measured parts come to in a whole run. Each epoch the first step's examples are looked at once more, and weights and state
    are written and hashed; at the end each epoch that is kept is hashed again."""
    weights, state = disk_bytes(shape, spec)
    look = counts.first_step * speed.seconds_per_token * FORWARD
    kept = kept_epochs(spec)
    written = counts.epochs * (look + (weights + state) * (disk.write + disk.hash)) + kept * weights * disk.hash
    steps = counts.epochs * counts.tokens * speed.seconds_per_token + counts.steps * speed.seconds_per_update
    return Time(start, steps, written)


def options(spec: TrainSpec) -> Iterator[tuple[str, TrainSpec, int]]:
    """What else could be set, from what costs nothing to what trains something else: its name, the settings, the number of devices."""

    def but(**changes: Any) -> TrainSpec:
        return spec.model_copy(update=changes)

    yield "as the recipe has it", spec, 1
    if not spec.recompute:
        yield "recompute = true (a third more time)", but(recompute=True), 1
    if spec.lora is None:
        half = {"precision": "bfloat16", "weights": "split"}
        if spec.weights != "split":
            yield 'weights = "split" (the same float32 weights; bfloat16 gradients)', but(**half), 1
        if spec.moments != "bfloat16":
            yield 'that, and moments = "bfloat16"', but(**half, moments="bfloat16"), 1
        if not spec.recompute:
            yield "that, and recompute = true", but(**half, moments="bfloat16", recompute=True), 1
        yield "[train.lora] (adapters alone are trained)", but(lora=LoraSpec(), weights="float32", moments="float32"), 1
    if spec.lora is None or spec.lora.base == "full":
        low = (spec.lora or LoraSpec()).model_copy(update={"base": "nf4"})
        yield '[train.lora] base = "nf4" (QLoRA)', but(lora=low, weights="float32", moments="float32"), 1
    if spec.lora is None or spec.lora.base == "full":
        yield "as the recipe has it, on 8 devices", spec, 8


def show_plan(workspace: Workspace, recipe: Recipe, device: str = "here", devices: int = 1) -> None:
    """Print steps, tokens, trimmed examples, memory by part, whether it fits and what would, and the time: measured here, or estimated for a named
    device. Raises what `train` would raise beforehand, and UsageError for a device without a name here."""
    named, here = _device(device, devices, recipe)
    spec, base = recipe.train, recipe.model
    refuse_missing(spec.watch)
    started = time.perf_counter()
    data = read_training_set(workspace, recipe)
    reading = time.perf_counter() - started
    counts = count(data, spec)
    config = load_config(base.base, root=workspace.root, revision=base.revision, trust_remote_code=base.trust_remote_code)
    shape = read_shape(config, data.chat.eot_id, base.trust_remote_code)
    if spec.lora is not None:
        chosen_layers(shape.linear, spec.lora, base.base)
        refuse_ranks(spec.lora, devices)

    _show_counts(recipe.name, counts, data)
    if data.prepared.trimmed:
        warn(trim_note(data.prepared, spec.max_tokens))
    where = named.title if named else here.type
    room = round(named.gib * GIB) if named else free_bytes(here)
    needed = _show_memory(shape, config, recipe, counts, where, room, devices)
    _show_disk(shape, spec)

    if named is not None:
        seconds = seconds_on(named, devices, shape, data.documents, spec)
        flops = epoch_flops(shape, data.documents, spec) * counts.epochs
        say(
            f"time: about {duration(seconds)} on {devices} x {named.title}: an estimate, not measured. {flops:.3g} floating point operations at "
            f"{100 * ASSUMED_MFU:.0f} % of its peak in {spec.precision}, which long rows in bfloat16 reach; loading, saving and dev responses not in it"
        )
    elif devices > 1:
        say("time: not measured for several devices; name one for an estimate: --device " + "|".join(DEVICES))
    elif needed > room:
        say(f"time: not measured, for it does not fit on {where}; --device {'|'.join(DEVICES)} estimates it elsewhere")
    else:
        with threads(spec.threads):
            _show_time_here(workspace, recipe, data, counts, shape, here, reading)
    _say_what_is_left_out(workspace, recipe, shape)


def _device(device: str, devices: int, recipe: Recipe) -> tuple[NamedDevice | None, torch.device]:
    """The named device, if it is one, and the device to measure on otherwise."""
    if devices < 1:
        raise UsageError(f"--devices {devices}", remedy="name a number from 1")
    if device not in (*DEVICES, "here", "cpu"):
        raise UsageError(f"--device {device!r} is not known", remedy=f"choose one of: here, cpu, {', '.join(DEVICES)}")
    choice = "cpu" if device == "cpu" or device in DEVICES else recipe.train.device
    assert choice in get_args(TrainSpec.model_fields["device"].annotation)
    return DEVICES.get(device), pick_device(choice)


def _show_counts(name: str, counts: Counts, data: TrainingSet) -> None:
    rows: list[tuple[str, str, str]] = [
        ("examples", f"{counts.examples:,}", f"{counts.epochs * counts.examples:,}"),
        ("steps", f"{counts.steps // counts.epochs:,}", f"{counts.steps:,}"),
        ("tokens", f"{counts.tokens:,}", f"{counts.epochs * counts.tokens:,}"),
        ("target tokens", f"{counts.target_tokens:,}", f"{counts.epochs * counts.target_tokens:,}"),
        ("trimmed examples", f"{len(data.prepared.trimmed):,}", ""),
        ("packed rows", f"{counts.rows:,}", f"{100 * counts.packing:.0f} % full"),
    ]
    show_table(f"plan: {name}", ["", "an epoch", f"in all ({counts.epochs} epochs)"], rows)


def _show_memory(shape: Shape, config: Any, recipe: Recipe, counts: Counts, where: str, room: int, devices: int) -> int:
    """Print memory by part, whether that fits into `room` bytes a device, and what would where it is close; returns what is needed."""
    spec = recipe.train

    rows_of: dict[str, tuple[int, int]] = {}  # running a model on shapes takes seconds, and some settings do not change it

    def needs(spec: TrainSpec, devices: int) -> Memory:
        key = spec.model_dump_json(include={"precision", "weights", "recompute", "lora"})
        if key not in rows_of:
            rows_of[key] = row_bytes(config, spec, sum(counts.longest_row), counts.longest_targets, recipe.model.trust_remote_code)
        blocks = where == "cpu" and spec.precision == "bfloat16" and spec.pack
        return memory(shape, spec, counts.longest_row, rows_of[key], devices=devices, blocks=blocks)

    try:
        parts, known = needs(spec, devices), True
    except Exception as error:  # whatever a model's own code raises on tensors without values
        parts, known = memory_between_steps(shape, spec, devices), False
        warn(f"activations are not in the estimate: its code does not run on shapes alone ({type(error).__name__})")
    names = {
        "weights": "weights" if spec.lora is None else "weights, frozen",
        "remainder": "their 16-bit remainders",
        "gradients": "gradients",
        "moments": f"moments of AdamW, {spec.moments}",
        "adapters": "adapters, their gradients and moments",
        "working": "16-bit copies and other working space" if devices == 1 else "layers gathered, and working space",
        "activations": f"activations of a row of {sum(counts.longest_row):,} tokens" + (", recomputed" if spec.recompute else ""),
    }
    rows = [(title, amount(getattr(parts, part))) for part, title in names.items() if getattr(parts, part)]
    rows += [("together" if known else "together, without activations", amount(parts.total)), ("there is", amount(room))]
    count_of = f"{devices} x {where}, on each of them" if devices > 1 else where
    show_table(f"memory: {shape.parameters:,} parameters, on {count_of}", ["part", "memory"], rows)
    fits = parts.total <= FULL * room
    say(f"memory: {'it fits' if fits else 'it does not fit'} ({amount(parts.total)} of {amount(room)})")
    if known and parts.total > 0.7 * room:
        others = [(name, needs(other, devices * more).total) for name, other, more in options(spec)]
        show_table(
            f"what could be changed, on {count_of}",
            ["under [train]", "memory", "fits"],
            [(name, amount(total), "yes" if total <= FULL * room else "no") for name, total in others],
        )
    return parts.total if fits else max(parts.total, room + 1)


def _show_disk(shape: Shape, spec: TrainSpec) -> None:
    weights, state = disk_bytes(shape, spec)
    # while an epoch is saved the state before it is still there; only the first has none before it
    states = min(2, spec.epochs)
    kept = min(spec.epochs, kept_epochs(spec) + 1)  # one is dropped when a newer one is whole
    picked = {"all": "", "picked": "; fewer once one is picked"}.get(str(spec.keep), "; one that is picked comes on top")
    say(
        f"on disk at most: {amount(kept * weights + states * state)}: {kept} epochs of {amount(weights)}, "
        f"{states} states to go on from of {amount(state)}{picked}"
    )


def _show_time_here(
    workspace: Workspace, recipe: Recipe, data: TrainingSet, counts: Counts, shape: Shape, device: torch.device, reading: float
) -> None:
    """Measure with the real model, attached as `train` attaches it, or say why it was not measured."""
    started = time.perf_counter()
    try:
        model = attached(workspace, recipe, data, device)
    except LimakitError as error:
        if error.what.startswith("cannot load"):
            say(f"time: not measured, for the weights are not here ({error.what})")
            return
        raise
    start = reading + time.perf_counter() - started
    try:
        speed = measure(model, data, recipe.train)
    except torch.OutOfMemoryError:
        say(f"time: not measured; with its activations it does not fit on {device.type}: lower pack_tokens or max_tokens under [train]")
        return
    disk = measure_disk(workspace.root)
    start += disk.hash * 4 * shape.parameters + speed.compiling  # the base's fingerprint, and graphs
    planned = time_here(counts, shape, recipe.train, speed, disk, start)
    compiling = f" (compiling {duration(speed.compiling)} of it)" if recipe.train.compile else ""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"this CPU, {_count_of_threads(torch.get_num_threads())}"
    say(
        f"time: about {duration(planned.total)} on {where} (measured: {1 / speed.seconds_per_token:,.0f} tokens/s over {speed.tokens:,} tokens): "
        f"{duration(planned.start)} to start{compiling}, {duration(planned.steps)} of steps, {duration(planned.epochs)} for saving epochs"
    )
    say(f"memory at its peak on {where}: {amount(speed.peak_bytes)}" + (", Python included" if device.type == "cpu" else ""))
    if device.type == "cpu" and not recipe.train.compile:  # compiled code is made for a number of threads
        _say_which_threads(measure_threads(model, data, recipe.train), recipe.train.threads)


def _say_which_threads(speeds: dict[int, float], chosen: int | None) -> None:
    if not speeds:
        return
    quickest = max(speeds, key=lambda n: speeds[n])
    measured = ", ".join(f"{speed:,.0f} tokens/s with {_count_of_threads(n)}" for n, speed in speeds.items())
    advice = (
        "as the recipe has it"
        if chosen == quickest
        else f"threads = {quickest} under [train] is quicker here, and lets every resume compute the same bits"
    )
    say(f"threads: {measured}; {advice}")


def _count_of_threads(n: int) -> str:
    return f"{n} {'thread' if n == 1 else 'threads'}"


def _say_what_is_left_out(workspace: Workspace, recipe: Recipe, shape: Shape) -> None:
    looks = [name for name in (recipe.dev.prompts, recipe.dev.held_out) if name and workspace.path(name).is_file()]
    if looks:
        most = recipe.dev.max_tokens or recipe.generate.max_tokens
        say(f"not in the time: what each epoch is asked ({' and '.join(looks)}; at most {most:,} tokens a response)")
        if recipe.train.lora is not None:
            say(f"not in the memory: for that the epoch is loaded in float32 beside what is trained, {amount(4 * shape.parameters)} more")
