"""`limakit train`: the paper's section 3, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import LimakitError
from ..model.chat import ChatFormat, give_eot
from ..model.fingerprint import fingerprint
from ..model.load import empty_causal_lm, load_causal_lm, load_config, locate
from ..model.save import save_model
from ..progress import Progress, say, warn
from ..recipe import Recipe, TrainSpec
from ..workspace import Workspace, is_done, name_for_file, sha256_file, stage_lock, versions
from .alarm import Past
from .attach import attach
from .compiled import eagerly
from .log import Log, NoLog, readable_rows
from .memory import GIB, is_out_of_memory, keep_freed, peak_bytes
from .native import NativeRates
from .optimizer import linear_lr, make_optimizer
from .ranks import CPU, Ranks, joined
from .run_folder import RunFolder
from .shard import full_weights, shard_out
from .state import load_state, save_state
from .threads import threads
from .training_set import TrainingSet, read_training_set, trim_note
from .update import run_steps
from .watch import refuse_missing, watched

SHOWN_IDS = 20  # a note in the middle of a run names this many trimmed examples; `limakit plan` names all


@dataclass(frozen=True)
class Epoch:
    """What is looked at when an epoch has ended, before it stands in `folder`: the model in memory, as it will be written.

    With an adapter beside it the model in memory is not what a reader of the epoch gets, who merges in other precisions: `written` is then where
    the epoch's files lie already, and what they give is what is looked at.
    """

    number: int
    model: Any
    chat: ChatFormat
    folder: Path  # the run's, runs/NAME
    ranks: Ranks
    optimizer: Any = None  # which holds the other half of weights that are split
    written: Path | None = None


class Looks(Protocol):
    """Who looks at the epochs of a run (generate/dev.py)."""

    def __call__(self, epoch: Epoch) -> None: ...

    def seen(self, number: int) -> bool:
        """Whether the epoch was looked at: no other is dropped."""
        ...


def train(workspace: Workspace, recipe: Recipe, each_epoch: Looks | None = None) -> list[Path]:
    """Fine-tune the base on data/train.jsonl into runs/NAME/; goes on from the newest complete epoch. Returns what it wrote.

    `each_epoch` is called on every rank after the last step of an epoch and before the epoch stands in the run's folder, so that a resumed run
    calls it again for an epoch that does not.

    Raises LimakitError for a missing or empty set, a model that cannot be loaded, packed or checked, a run folder of other settings, a
    loss that is not finite, and a disk that is full.
    """
    with threads(recipe.train.threads), joined(recipe.train.device) as ranks:
        refuse_missing(recipe.train.watch)
        data = read_training_set(workspace, recipe, ranks)
        run = run_folder(workspace, recipe, ranks)
        with stage_lock(run.path, "train") if ranks.first else nullcontext():
            seen = each_epoch.seen if each_epoch is not None else None
            done = ranks.lead(lambda: _begin(run, workspace, recipe, data, seen))
            if done is None:
                return []
            if done < recipe.train.epochs:
                if done:
                    run.verify(done, ranks)
                _train_from(done, run, workspace, recipe, data, ranks, each_epoch)
            run.finish(recipe.train.epochs, len(data.steps), ranks)
            ranks.lead(lambda: run.drop(recipe.train.keep, seen))
    return [run.final, run.log] if ranks.first else []


def _begin(run: RunFolder, workspace: Workspace, recipe: Recipe, data: TrainingSet, seen: Callable[[int], bool] | None) -> int | None:
    """The epoch to go on after (0: none), or None where the run is finished."""
    if is_done(run.manifest, settings=run.settings, inputs=run.inputs):
        run.drop(recipe.train.keep, seen)
        say(f"{workspace.relative(run.path)} is finished: {len(data.steps)} steps with these settings and this data; nothing to do")
        return None
    run.claim()
    return run.newest_epoch(recipe.train.epochs)


@dataclass(frozen=True)
class Trainee:
    """What is trained and saved: the model with all that is attached to it, its optimiser, and the adapter where only that is trained."""

    model: Any
    optimizer: torch.optim.Optimizer
    native: NativeRates  # the base's own, with which it is saved
    adapted: Any | None  # adapter.Adapted


def _train_from(
    done: int, run: RunFolder, workspace: Workspace, recipe: Recipe, data: TrainingSet, ranks: Ranks, each_epoch: Looks | None
) -> None:
    """Train the epochs after `done`."""
    spec = recipe.train
    if data.prepared.trimmed:
        warn(trim_note(data.prepared, spec.max_tokens, SHOWN_IDS))
    if done:
        say(f"going on after epoch {done} of {spec.epochs}")
    keep_freed(ranks.device)
    trainee = _load_trainee(done, run, workspace, recipe, data, ranks)

    total = len(data.steps)
    left = [step for step in data.steps if step.epoch > done]
    taken = total - len(left)
    log = Log(run.log, taken) if ranks.first else NoLog()
    # no part of the result: it may be shorter than the log
    times = Log(run.times, min(taken, readable_rows(run.times))) if ranks.first else NoLog()
    losses: list[float] = ranks.lead(lambda: [log.kept(row + 1, "loss") for row in range(taken)])
    rows = run_steps(
        trainee.model, trainee.optimizer, data.documents, left,
        lr=lambda step: linear_lr(spec.lr, step, total), clip_norm=spec.clip_norm, seed=recipe.seed, packed=spec.pack, precision=spec.precision,
        ranks=ranks, past=Past(data.steps[0], losses[0], max(losses)) if losses else None,
    )  # fmt: skip
    watch = spec.watch if ranks.first else []
    try:
        with Progress("train", total, "steps") as bar, watched(watch, run, recipe.name, taken) as tell:
            bar.skip(taken)
            started = time.perf_counter()
            for step, row in zip(left, rows, strict=True):
                seconds = time.perf_counter() - started
                speed, peak = row.tokens / seconds, peak_bytes(ranks.device) / GIB
                log.append(asdict(row))
                times.append({"step": row.step, "seconds": round(seconds, 4), "tokens_per_s": round(speed, 1), "peak_gib": round(peak, 3)})
                notes = {"epoch": str(row.epoch), "loss": f"{row.loss:.3f}", "tokens/s": f"{speed:,.0f}", "memory": f"{peak:,.1f} GiB"}
                bar.advance(1, **notes)
                tell(row, speed)
                if step.last_of_epoch:
                    log.sync()
                    _end_epoch(step.epoch, trainee, run, spec, data.chat, ranks, each_epoch)
                started = time.perf_counter()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise LimakitError(
            f"out of memory on {ranks.device.type} (packed rows of {spec.pack_tokens or spec.max_tokens} tokens)",
            remedy='lower pack_tokens, set precision = "bfloat16", or take a smaller model; limakit plan shows what each part needs',
        ) from error
    finally:
        log.close()
        times.close()


def _load_trainee(done: int, run: RunFolder, workspace: Workspace, recipe: Recipe, data: TrainingSet, ranks: Ranks) -> Trainee:
    """The base with a new EOT, or the newest epoch, which has it, and AdamW with the state of that epoch."""
    spec = recipe.train
    if spec.lora is not None:
        from .adapter import load_adapted  # peft is an extra

        adapted = load_adapted(workspace, recipe, data.chat, ranks, run.base, run.state(done) if done else None, run.remedy)
        model = adapted.model
    else:
        adapted, model = None, load_model(workspace, recipe, data.chat, ranks, run.epoch(done) if done else None)
    native = attach(model, spec, data.longest)
    if adapted is not None:
        adapted.wake_dropout()
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    if done:
        load_state(run.state(done), model, optimizer, run.remedy)
    return Trainee(model, optimizer, native, adapted)


def _end_epoch(
    number: int, trainee: Trainee, run: RunFolder, spec: TrainSpec, chat: ChatFormat, ranks: Ranks, each_epoch: Looks | None
) -> None:
    """Look at the epoch, save it and what a resume needs, and drop the epochs that the recipe does not keep."""
    model, adapted = trainee.model, trainee.adapted

    def look(written: Path | None = None) -> None:
        if each_epoch is not None:
            with eagerly(spec.compile):
                each_epoch(Epoch(number, model, chat, run.path, ranks, trainee.optimizer, written))

    def write_weights(part: Path) -> None:
        with trainee.native.restored():  # the saved config keeps the base's own rates
            if adapted is not None:
                adapted.save_weights(part)
            else:
                weights = full_weights(model, ranks)
                if ranks.first:
                    save_model(part, model, chat, weights=weights)
        if adapted is not None:
            ranks.wait()  # until all is written
            look(part)

    def write_state(part: Path) -> None:
        save_state(part, model, trainee.optimizer, ranks)
        if adapted is not None:
            adapted.save_trained(part)

    if adapted is None:
        look()
    run.save_epoch(number, weights=write_weights, state=write_state, ranks=ranks)
    ranks.lead(lambda: run.drop(spec.keep, each_epoch.seen if each_epoch is not None else None))


def load_base(workspace: Workspace, recipe: Recipe, device: torch.device, *, local_only: bool = False) -> Any:
    model = recipe.model
    return load_causal_lm(
        model.base,
        root=workspace.root,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        device=device,
        local_only=local_only,
    )


def load_model(workspace: Workspace, recipe: Recipe, chat: ChatFormat, ranks: Ranks, epoch: Path | None = None) -> Any:
    """The model to train, float32: the base with room for EOT, or an epoch, which has it; sharded where several ranks train it."""
    spec = recipe.model

    def load(device: torch.device) -> Any:
        if epoch is not None:
            return load_causal_lm(str(epoch), device=device, trust_remote_code=spec.trust_remote_code)
        model = load_base(workspace, recipe, device)
        give_eot(model, chat)
        return model

    def shell() -> Any:
        model = empty_causal_lm(
            str(epoch or spec.base), root=workspace.root, revision=None if epoch else spec.revision, trust_remote_code=spec.trust_remote_code
        )  # fmt: skip
        give_eot(model, chat)  # an epoch has the room already, and values there are none
        return model

    if ranks.size == 1:
        return load(ranks.device)
    return shard_out(lambda: load(CPU), shell, ranks, kind=recipe.train.shard, precision=recipe.train.precision)


def run_folder(workspace: Workspace, recipe: Recipe, ranks: Ranks) -> RunFolder:
    """runs/NAME/ with everything its result depends on. How many ranks there are is told, and binds nobody."""
    base, spec, device = recipe.model.base, recipe.model, ranks.device
    config = load_config(base, root=workspace.root, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    hashes = ranks.lead(lambda: fingerprint(locate(base, workspace.root), config))
    settings = {
        "base": base,
        "seed": recipe.seed,
        "train": recipe.train.model_dump(mode="json", exclude={"device", "keep", "watch", "shard"}),
        "device": device.type,
    }
    inputs = {"data/train.jsonl": sha256_file(workspace.data / "train.jsonl")} | {f"base/{name}": digest for name, digest in hashes.items()}
    here = {"threads": str(torch.get_num_threads())} if device.type == "cpu" else {"gpu": torch.cuda.get_device_name(device)}
    here |= {"ranks": str(ranks.size)}
    return RunFolder(workspace.runs / name_for_file(recipe.name), settings, inputs, versions(*RunFolder.packages) | here)
