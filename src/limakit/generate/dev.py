"""Look at an epoch as it ends (paper, section 3 and appendix B): answer the dev prompts, measure perplexity on held-out examples.

Fifteen epochs of 7B are 400 GB of weights that nobody wants to load again one by one to see what they say, so the model answers while it lies
in memory. What it says is what the saved epoch would say: eval mode, the model's own attention with a KV cache, float32 weights and
computation, whatever it is trained with (but see `as_saved` for several ranks in bfloat16). With an adapter ([train.lora]) that is not the model in memory: the epoch's files are loaded beside it
as everybody loads them, which takes the whole model in float32. Training goes on as if nobody had looked.

The dev set is checked before the first step. A look that fails all the same is told, and training goes on: what was seen is written, and the
epoch's weights stay whatever train.keep says, until they have been looked at (limakit select --answer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import LimakitError
from ..model.attention import PACKED, VARLEN, evaluating
from ..model.chat import chat_format
from ..model.head import attach_loss_head
from ..model.load import context_length, load_causal_lm, load_tokenizer, pick_device
from ..model.loss import row_loss
from ..model.save import stop_at_eot
from ..progress import Progress, say, track, warn
from ..recipe import Recipe
from ..records import Response
from ..train.loop import Epoch
from ..train.memory import is_out_of_memory
from ..train.optimizer import REMAINDER
from ..train.ranks import Ranks
from ..train.shard import whole
from ..train.steps import Document, prepare
from ..workspace import Workspace, name_for_file, stage_lock
from .dev_set import DevSet, check_dev_set, missing, prompt_rows, read_dev_set, room_for
from .form import Form
from .here import as_response
from .local import Row, Stream, decode
from .look import Answered, HeldOut, Look, Measured, Place, Sampled, prompt_hash, read_look, same_prompts, write_look
from .sampling import Sampling

T = TypeVar("T")


@dataclass(frozen=True)
class Looks:
    """What train() calls as each epoch ends (runs/NAME/dev/NN.jsonl and NN.json), and whether an epoch was seen."""

    workspace: Workspace
    recipe: Recipe
    dev: DevSet

    @property
    def run(self) -> Path:
        return self.workspace.runs / name_for_file(self.recipe.name)

    def __call__(self, epoch: Epoch) -> None:
        if not self.dev:
            return
        try:
            take_look(epoch if epoch.written is None else as_read(epoch, self.workspace, self.recipe), self.dev, self.recipe)
        except LimakitError as error:
            what = f"epoch {epoch.number} could not be looked at, and training goes on: {error.message}"
            warn(f"{what}\n  its weights stay until limakit select --answer has looked at it")
        if epoch.ranks.device.type == "cuda":
            torch.cuda.empty_cache()  # what was held for it, keys and values too, had other shapes than training wants

    def seen(self, number: int) -> bool:
        """Whether all that there is to look with was looked with, whatever it held then: only such an epoch is dropped."""
        if not self.dev:
            return True
        try:
            look = read_look(Place(self.run, number))
        except LimakitError:
            return False
        answered, measured = look is not None and look.answered is not None, look is not None and look.held_out is not None
        return (answered or not self.dev.prompts) and (measured or not self.dev.examples)


def each_epoch(workspace: Workspace, recipe: Recipe) -> Looks:
    """What train() is to look at each epoch with. Reads and encodes the dev set now, so that what is wrong with it is told before hours of training.

    Raises LimakitError for a file of the dev set with a row that is wrong or of which nothing would be measured.
    """
    looks = Looks(workspace, recipe, read_dev_set(workspace, recipe))
    if not (looks.run / "manifest.json").exists():
        for what in missing(recipe, looks.dev):
            warn(what)
        check_dev_set(workspace, recipe, looks.dev)
    return looks


def take_look(epoch: Epoch, dev: DevSet, recipe: Recipe) -> Look:
    """Look at the epoch and write what was seen. All ranks have to call it: each answers and measures its share, the first one writes.

    Raises LimakitError, on all ranks, for a model that does not decode (`local.decode`), a held-out example without a response token left, memory
    that does not hold a single row, a full disk. What was answered or measured all the same is written first, unless an older look is there.
    """
    ranks, name = epoch.ranks, f"{recipe.name}@{epoch.number}"
    rows, full = prompt_rows(dev.prompts, epoch.chat, room_for(epoch.model.config))
    documents: list[Document] = []
    trimmed, problems = 0, []
    responses: list[str] | None = None  # as JSON
    measured: list[dict[str, Any]] | None = None
    with as_saved(epoch):
        try:
            documents, trimmed = _on_all(ranks, lambda: _documents(epoch, dev, recipe))
            mine = documents[ranks.rank :: ranks.size]
            measured = _on_all(ranks, lambda: [one.model_dump() for one in _measure(epoch, mine)])
        except LimakitError as error:
            problems.append(error)
        try:
            share = rows[ranks.rank :: ranks.size]
            responses = _on_all(ranks, lambda: [response.model_dump_json() for response in _answer(epoch, share, recipe, name)])
        except LimakitError as error:
            problems.append(error)
    answers = [Response.model_validate_json(one) for each in ranks.gather(responses or []) for one in each]
    said = {one.prompt_id: one for one in answers}
    losses = {one["id"]: Measured(**one) for each in ranks.gather(measured or []) for one in each}
    look = Look(epoch=epoch.number, model=name, answered=None, held_out=None)
    if dev.prompts and responses is not None:
        hashes = {prompt.id: prompt_hash(prompt) for prompt in dev.prompts}
        answered = Answered(file=dev.prompts_file, sha256=dev.prompts_hash, prompts=hashes, sampling=sampled(recipe), left_out=tuple(full))
        look = look.model_copy(update={"answered": answered})
    if dev.examples and measured is not None:
        held_out = HeldOut(
            file=dev.examples_file, sha256=dev.examples_hash, max_tokens=recipe.train.max_tokens, trimmed=trimmed,
            each=tuple(losses[document.id] for document in documents),
        )  # fmt: skip
        look = look.model_copy(update={"held_out": held_out})
    place = Place(epoch.folder, epoch.number)
    if ranks.first and (not problems or ((look.answered or look.held_out) and not place.look.exists())):
        write_look(place, look, [said[prompt.id] for prompt in dev.prompts if prompt.id in said])
    if problems:
        raise problems[0]
    return look


def _on_all(ranks: Ranks, act: Callable[[], T]) -> T:
    """What `act` returns on this rank. Raises LimakitError on all of them where it raises one, or the memory is full, on any."""
    result: list[T] = []
    problem = None
    try:
        result.append(act())
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = "out of memory"
    except LimakitError as error:
        problem = error.message
    problems = [said for said in ranks.gather(problem) if said is not None]
    if problems:
        raise LimakitError(problems[0])
    return result[0]


def as_read(epoch: Epoch, workspace: Workspace, recipe: Recipe) -> Epoch:
    """The epoch with the model that its files give. All ranks have to call it. Raises LimakitError, on all of them, where the memory does not hold it."""
    folder = epoch.written
    assert folder is not None
    model = _on_all(epoch.ranks, lambda: load_epoch(folder, epoch.ranks.device, workspace, recipe))
    return replace(epoch, model=model, optimizer=None)


def load_epoch(folder: Path, device: torch.device, workspace: Workspace, recipe: Recipe) -> Any:
    """The model of an epoch's folder, with the loss summed as while it was trained."""
    model = load_causal_lm(str(folder), root=workspace.root, device=device, trust_remote_code=recipe.model.trust_remote_code)
    attach_loss_head(model)
    return model


@contextmanager
def as_saved(epoch: Epoch) -> Iterator[None]:
    """The model of an epoch as it will be saved, for a block: whole, float32, its own attention, eval mode, no gradients.

    Over several ranks with precision = "bfloat16" it is whole in bfloat16: that is how FSDP gathers it, and float32 would take twice the memory. What it answers then may depend on how many ranks and rows answer at
    once, which `decode` says.
    """
    model = epoch.model
    model.zero_grad(set_to_none=True)  # the step's are used up, and as large as the model
    packed = model.config._attn_implementation
    if packed in (PACKED, VARLEN):
        model.set_attn_implementation(own_attention(model))
    try:
        with widened_weights(epoch), whole(model), evaluating(model):
            yield
    finally:
        if packed in (PACKED, VARLEN):
            model.set_attn_implementation(packed)


@contextmanager
def widened_weights(epoch: Epoch) -> Iterator[None]:
    """Weights that are split (train/split.py) as the saved epoch has them, their bfloat16 half, widened to float32 for a block that does not
    change them; others as they are."""
    state = epoch.optimizer.state if epoch.optimizer is not None else {}
    split = {parameter for parameter, kept in state.items() if REMAINDER in kept}
    if not split or epoch.ranks.size > 1:
        yield
        return
    model = epoch.model
    model._apply(lambda tensor: tensor.detach().float() if tensor in split else tensor)
    try:
        yield
    finally:  # what was widened is the same bfloat16 again; the remainder was not touched
        model._apply(lambda tensor: tensor.detach().bfloat16() if tensor in split else tensor)


def own_attention(model: Any) -> str:
    """What the model attends with when a saved epoch is loaded: transformers' default for its family."""
    return "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"


def _documents(epoch: Epoch, dev: DevSet, recipe: Recipe) -> tuple[list[Document], int]:
    """The held-out examples as training would see them, and how many were cut. Only responses count, whatever the training's loss is on."""
    if not dev.examples:
        return [], 0
    prepared = prepare(dev.examples, epoch.chat, recipe.train.max_tokens, "response", context_length(epoch.model.config))
    return prepared.documents, len(prepared.trimmed)


def _measure(epoch: Epoch, documents: Sequence[Document]) -> list[Measured]:
    """The loss on each document, one at a time, so that it depends on nothing else."""
    return [
        Measured(id=d.id, nll=float(row_loss(epoch.model, [d.ids], [d.target], packed=False)), tokens=d.target_tokens)
        for d in track(documents, f"held out, epoch {epoch.number}", len(documents), "examples")
    ]


def _answer(epoch: Epoch, rows: Sequence[Row], recipe: Recipe, name: str) -> list[Response]:
    spec, sampling, chat = recipe.generate, sampled(recipe), epoch.chat
    form = Form("chat", chat.tokenizer, chat)
    stops = frozenset(stop_at_eot(epoch.model, chat).eos_token_id)
    found = []
    with Progress(f"dev, epoch {epoch.number}", len(rows), "responses") as bar:
        decoded = decode(
            epoch.model, rows, stop_ids=stops, max_tokens=sampling.max_tokens, batch=spec.batch, stream=Stream(recipe.seed, name),
            sampling=Sampling(sampling.temperature, sampling.top_p, sampling.repetition_penalty, sampling.penalise_prompt),
        )  # fmt: skip
        for row in decoded:
            found.append(as_response(row, name, recipe.seed, form, stops))
            bar.advance()
    return found


def sampled(recipe: Recipe) -> Sampled:
    """How a recipe has dev prompts answered."""
    spec = recipe.generate
    return Sampled(
        temperature=spec.temperature, top_p=spec.top_p, repetition_penalty=spec.repetition_penalty, penalise_prompt=spec.penalise_prompt,
        max_tokens=recipe.dev.max_tokens or spec.max_tokens,
    )  # fmt: skip


def look_again(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Look at the epochs whose weights are kept and that were not asked these prompts yet, or not at all; returns what was written.

    Raises LimakitError where there is nothing to ask with, or no epoch to ask.
    """
    dev = read_dev_set(workspace, recipe)
    if not dev:
        remedy = "run limakit curate, or set [dev] prompts and held_out in the recipe"
        raise LimakitError(
            "no dev prompts and no held-out examples here", where=recipe.dev.prompts or recipe.dev.held_out or None, remedy=remedy
        )
    run = workspace.runs / name_for_file(recipe.name)
    epochs = sorted(int(path.name) for path in (run / "epochs").glob("*") if path.name.isdigit())
    if not epochs:
        raise LimakitError("no epoch's weights are here", where=workspace.relative(run / "epochs"), remedy="run limakit train")
    check_dev_set(workspace, recipe, dev)
    device = pick_device(recipe.generate.device)
    wrote = []
    with stage_lock(run, "train"):
        for number in epochs:
            place = Place(run, number)
            if _is_current(read_look(place), dev, workspace, recipe):
                continue
            folder = run / "epochs" / f"{number:02}"
            chat = chat_format(load_tokenizer(str(folder), trust_remote_code=recipe.model.trust_remote_code))
            assert chat is not None, f"{folder} was written by limakit train"
            model = load_epoch(folder, device, workspace, recipe)
            take_look(Epoch(number, model, chat, run, Ranks(device=device)), dev, recipe)
            wrote += [path for path in (place.responses, place.look) if path.exists()]
    if not wrote:
        say("every epoch whose weights are here has answered these prompts already")
    return wrote


def _is_current(look: Look | None, dev: DevSet, workspace: Workspace, recipe: Recipe) -> bool:
    """Whether a look was at this dev set, sampled as the recipe says now."""
    if look is None:
        return False
    asked = not dev.prompts or (
        same_prompts(look, workspace.path(dev.prompts_file)) and look.answered is not None and look.answered.sampling == sampled(recipe)
    )
    measured = not dev.examples or (look.held_out is not None and look.held_out.sha256 == dev.examples_hash)
    return asked and measured
