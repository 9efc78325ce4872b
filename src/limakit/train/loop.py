"""`limakit train`: the paper's section 3, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import LimakitError
from ..model.chat import ChatFormat, chat_format, give_eot
from ..model.fingerprint import fingerprint
from ..model.load import context_length, empty_causal_lm, load_causal_lm, load_config, load_tokenizer, locate
from ..model.save import save_model
from ..progress import Progress, say, warn
from ..recipe import Recipe
from ..records import Example, read_jsonl
from ..workspace import Workspace, check_data, is_done, name_for_file, sha256_file, stage_lock, versions
from .alarm import Past
from .attach import attach
from .compiled import eagerly
from .log import Log, NoLog, readable_rows
from .memory import GIB, is_out_of_memory, peak_bytes
from .optimizer import linear_lr, make_optimizer
from .ranks import ALONE, CPU, Ranks, joined
from .run_folder import RunFolder
from .shard import full_weights, shard_out
from .state import load_state, save_state
from .steps import Document, Prepared, Step, plan_steps, prepare
from .update import run_steps
from .watch import refuse_missing, watched

SHOWN_IDS = 20  # a note in the middle of a run names this many trimmed examples; `limakit plan` names all


@dataclass(frozen=True)
class TrainingSet:
    """The examples of data/train.jsonl as documents, with the chat format they are in and the steps over them."""

    chat: ChatFormat
    prepared: Prepared
    steps: list[Step]

    @property
    def documents(self) -> list[Document]:
        return self.prepared.documents

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return max(len(document.ids) for document in self.documents)


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
    with joined(recipe.train.device) as ranks:
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


def _train_from(
    done: int,
    run: RunFolder,
    workspace: Workspace,
    recipe: Recipe,
    data: TrainingSet,
    ranks: Ranks,
    each_epoch: Looks | None,
) -> None:
    """Train the epochs after `done`."""
    spec, device = recipe.train, ranks.device
    if data.prepared.trimmed:
        warn(trim_note(data.prepared, spec.max_tokens, SHOWN_IDS))
    if done:
        say(f"going on after epoch {done} of {spec.epochs}")

    # the model: the base with a new EOT, or the newest epoch, which has it
    if spec.lora is not None:
        from .adapter import load_adapted  # peft is an extra

        adapted = load_adapted(workspace, recipe, data.chat, ranks, run.base, run.state(done) if done else None, run.remedy)
        model = adapted.model
    else:
        adapted, model = None, load_model(workspace, recipe, data.chat, ranks, run.epoch(done) if done else None)
    native = attach(model, spec, data.longest)

    if adapted is not None:
        adapted.wake_dropout()

    # AdamW, and its state if this is a resume
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    if done:
        load_state(run.state(done), model, optimizer, run.remedy)

    # the steps that are left
    total = len(data.steps)
    left = [step for step in data.steps if step.epoch > done]
    log = Log(run.log, total - len(left)) if ranks.first else NoLog()
    shorter = min(total - len(left), readable_rows(run.times))  # no part of the result: it may be shorter than the log
    times = Log(run.times, shorter) if ranks.first else NoLog()
    losses: list[float] = ranks.lead(lambda: [log.kept(row + 1, "loss") for row in range(total - len(left))])
    rows = run_steps(
        model, optimizer, data.documents, left,
        lr=lambda step: linear_lr(spec.lr, step, total), clip_norm=spec.clip_norm, seed=recipe.seed, packed=spec.pack, precision=spec.precision,
        ranks=ranks, past=Past(data.steps[0], losses[0], max(losses)) if losses else None,
    )  # fmt: skip

    def look(epoch: int, written: Path | None = None) -> None:
        if each_epoch is not None:
            with eagerly(spec.compile):
                each_epoch(Epoch(epoch, model, data.chat, run.path, ranks, optimizer, written))

    def write_weights(epoch: int, part: Path) -> None:
        with native.restored():  # the saved config keeps the base's own rates
            if adapted is not None:
                adapted.save_weights(part)
            else:
                weights = full_weights(model, ranks)
                if ranks.first:
                    save_model(part, model, data.chat, weights=weights)
        if adapted is not None:
            ranks.wait()  # until all is written
            look(epoch, part)

    def write_state(part: Path) -> None:
        save_state(part, model, optimizer, ranks)
        if adapted is not None:
            adapted.save_trained(part)

    try:
        watch = spec.watch if ranks.first else []
        with Progress("train", total, "steps") as bar, watched(watch, run, recipe.name, total - len(left)) as tell:
            bar.skip(total - len(left))
            started = time.perf_counter()
            for step, row in zip(left, rows, strict=True):
                seconds = time.perf_counter() - started
                speed, peak = row.tokens / seconds, peak_bytes(device) / GIB
                log.append(asdict(row))
                times.append({"step": row.step, "seconds": round(seconds, 4), "tokens_per_s": round(speed, 1), "peak_gib": round(peak, 3)})
                notes = {"epoch": str(row.epoch), "loss": f"{row.loss:.3f}", "tokens/s": f"{speed:,.0f}", "memory": f"{peak:,.1f} GiB"}
                bar.advance(1, **notes)
                tell(row, speed)
                if step.last_of_epoch:
                    log.sync()
                    if adapted is None:
                        look(step.epoch)
                    run.save_epoch(step.epoch, weights=partial(write_weights, step.epoch), state=write_state, ranks=ranks)
                    ranks.lead(lambda: run.drop(spec.keep, each_epoch.seen if each_epoch is not None else None))
                started = time.perf_counter()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise LimakitError(
            f"out of memory on {device.type} (packed rows of {spec.pack_tokens or spec.max_tokens} tokens)",
            remedy='lower pack_tokens, set precision = "bfloat16", or take a smaller model; limakit plan shows what each part needs',
        ) from error
    finally:
        log.close()
        times.close()


def read_training_set(workspace: Workspace, recipe: Recipe, ranks: Ranks = ALONE) -> TrainingSet:
    """Read, encode, trim and plan for this rank; no weights are needed."""
    spec, model = recipe.train, recipe.model
    where: dict[str, Any] = {"root": workspace.root, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
    path = workspace.data / "train.jsonl"
    check_data(workspace)
    examples = read_jsonl(path, Example)
    if not examples:
        raise LimakitError(
            "the training set is empty", where=workspace.relative(path), remedy="run limakit curate and look at its drop counts"
        )
    config = load_config(model.base, **where)
    chat = chat_format(load_tokenizer(model.base, **where), add_eot=True)
    assert chat is not None
    prepared = prepare(examples, chat, spec.max_tokens, spec.loss_on, context_length(config))
    steps = plan_steps(
        [len(document.ids) for document in prepared.documents],
        epochs=spec.epochs, batch_examples=spec.batch_examples, budget=spec.pack_tokens or spec.max_tokens, pack=spec.pack, seed=recipe.seed,
        rank=ranks.rank, ranks=ranks.size,
    )  # fmt: skip
    return TrainingSet(chat, prepared, steps)


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


def trim_note(prepared: Prepared, max_tokens: int, show: int | None = None) -> str:
    """What was cut, by id."""
    ids = prepared.trimmed[:show]
    more = f" and {len(prepared.trimmed) - len(ids)} more (limakit plan names all)" if len(ids) < len(prepared.trimmed) else ""
    return (
        f"{len(prepared.trimmed)} of {len(prepared.documents)} examples are longer than max_tokens = {max_tokens} and were cut; "
        f"a cut response gets no EOT: {', '.join(ids)}{more}"
    )
