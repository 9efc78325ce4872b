"""`limakit train`: the paper's section 3, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import LimakitError
from ..model.attention import attach_packing
from ..model.chat import ChatFormat, chat_format, give_eot
from ..model.fingerprint import fingerprint
from ..model.load import context_length, load_causal_lm, load_config, load_tokenizer, locate
from ..model.save import save_model
from ..progress import Progress, say, show_table, warn
from ..recipe import Recipe
from ..records import Example, read_jsonl
from ..workspace import Workspace, check_data, is_done, name_for_file, sha256_file, stage_lock, versions
from .dropout import attach_residual_dropout
from .log import Log, readable_rows
from .optimizer import linear_lr, make_optimizer
from .ranks import ALONE, Ranks, joined
from .run_folder import RunFolder
from .state import load_state, save_state
from .steps import Document, Prepared, Step, plan_steps, prepare
from .update import run_steps

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
    """What is looked at when an epoch has ended: the model in memory, as it will be written to `folder`."""

    number: int
    model: Any
    chat: ChatFormat
    folder: Path  # the run's, runs/NAME
    ranks: Ranks


def train(workspace: Workspace, recipe: Recipe, each_epoch: Callable[[Epoch], None] | None = None) -> list[Path]:
    """Fine-tune the base on data/train.jsonl into runs/NAME/; goes on from the newest complete epoch. Returns what it wrote.

    `each_epoch` is called on every rank after the last step of an epoch and before the epoch is written, so that a resumed run calls it again
    for an epoch that was not.

    Raises LimakitError for a missing or empty set, a model that cannot be loaded, packed or checked, a run folder of other settings, a
    loss that is not finite, and a disk that is full.
    """
    with joined(recipe.train.device) as ranks:
        data = read_training_set(workspace, recipe, ranks)
        run = run_folder(workspace, recipe, ranks.device)
        with stage_lock(run.path, "train"):
            if is_done(run.manifest, settings=run.settings, inputs=run.inputs):
                say(f"{workspace.relative(run.path)} is finished: {len(data.steps)} steps with these settings and this data; nothing to do")
                return []
            run.claim()
            done = run.newest_epoch(recipe.train.epochs)
            if done < recipe.train.epochs:
                _train_from(done, run, workspace, recipe, data, ranks, each_epoch)
            run.finish(recipe.train.epochs, len(data.steps))
    return [run.final, run.log]


def _train_from(
    done: int,
    run: RunFolder,
    workspace: Workspace,
    recipe: Recipe,
    data: TrainingSet,
    ranks: Ranks,
    each_epoch: Callable[[Epoch], None] | None,
) -> None:
    """Train the epochs after `done`."""
    spec, device = recipe.train, ranks.device
    if data.prepared.trimmed:
        warn(trim_note(data.prepared, spec.max_tokens, SHOWN_IDS))
    if done:
        say(f"going on after epoch {done} of {spec.epochs}")

    # the model: the base with a new EOT, or the newest epoch, which has it
    if done:
        run.verify(done)
        model = load_causal_lm(str(run.epoch(done)), device=device, trust_remote_code=recipe.model.trust_remote_code)
    else:
        model = load_base(workspace, recipe, device)
        give_eot(model, data.chat)
    native = attach_residual_dropout(model, spec.residual_dropout)
    if spec.pack:
        attach_packing(model, spec.precision, longest=data.longest)

    # AdamW, and its state if this is a resume
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    if done:
        load_state(run.state(done), model, optimizer, run.remedy)

    # the steps that are left
    total = len(data.steps)
    left = [step for step in data.steps if step.epoch > done]
    log = Log(run.log, total - len(left))
    times = Log(run.times, min(total - len(left), readable_rows(run.times)))  # no part of the result: it may be shorter than the log
    rows = run_steps(
        model, optimizer, data.documents, left,
        lr=lambda step: linear_lr(spec.lr, step, total), clip_norm=spec.clip_norm, seed=recipe.seed, packed=spec.pack, precision=spec.precision,
        ranks=ranks,
    )  # fmt: skip

    def write_weights(part: Path) -> None:
        with native.restored():  # the saved config keeps the base's own rates
            save_model(part, model, data.chat)

    try:
        with Progress("train", total, "steps") as bar:
            bar.skip(total - len(left))
            started = time.perf_counter()
            for step, row in zip(left, rows, strict=True):
                seconds = time.perf_counter() - started
                log.append(asdict(row))
                times.append({"step": row.step, "seconds": round(seconds, 4), "tokens_per_s": round(row.tokens / seconds, 1)})
                bar.advance(1, epoch=str(row.epoch), loss=f"{row.loss:.3f}", **{"tokens/s": f"{row.tokens / seconds:,.0f}"})
                if step.last_of_epoch:
                    log.sync()
                    if each_epoch is not None:
                        each_epoch(Epoch(step.epoch, model, data.chat, run.path, ranks))
                    run.save_epoch(step.epoch, weights=write_weights, state=lambda part: save_state(part, model, optimizer))
                started = time.perf_counter()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):  # the latter is the CPU's
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


def run_folder(workspace: Workspace, recipe: Recipe, device: torch.device) -> RunFolder:
    """runs/NAME/ with everything its result depends on."""
    base, spec = recipe.model.base, recipe.model
    config = load_config(base, root=workspace.root, revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    hashes = fingerprint(locate(base, workspace.root), config)
    settings = {
        "base": base,
        "seed": recipe.seed,
        "train": recipe.train.model_dump(mode="json", exclude={"device"}),
        "device": device.type,
    }
    inputs = {"data/train.jsonl": sha256_file(workspace.data / "train.jsonl")} | {f"base/{name}": digest for name, digest in hashes.items()}
    here = {"threads": str(torch.get_num_threads())} if device.type == "cpu" else {"gpu": torch.cuda.get_device_name(device)}
    return RunFolder(workspace.runs / name_for_file(recipe.name), settings, inputs, versions(*RunFolder.packages) | here)


def trim_note(prepared: Prepared, max_tokens: int, show: int | None = None) -> str:
    """What was cut, by id."""
    ids = prepared.trimmed[:show]
    more = f" and {len(prepared.trimmed) - len(ids)} more (limakit plan names all)" if len(ids) < len(prepared.trimmed) else ""
    return (
        f"{len(prepared.trimmed)} of {len(prepared.documents)} examples are longer than max_tokens = {max_tokens} and were cut; "
        f"a cut response gets no EOT: {', '.join(ids)}{more}"
    )


def show_example(workspace: Workspace, recipe: Recipe) -> None:
    """Print the first example of the run, token by token, with its loss mask."""
    data = read_training_set(workspace, recipe)
    document = data.documents[data.steps[0].rows[0][0]]
    rows = [
        (repr(data.chat.tokenizer.convert_ids_to_tokens(token)), token, "yes" if wanted else "")
        for token, wanted in zip(document.ids, document.target, strict=True)
    ]
    show_table(f"{document.id}: {len(rows)} tokens, {document.target_tokens} in the loss", ["token", "id", "in the loss"], rows)
