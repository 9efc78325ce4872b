"""Answer the prompts with a checkpoint: responses/NAME.jsonl, and beside it the manifest of what made it.

Killed, the same command goes on: each response is kept as it ends in responses/.generate/NAME/responses.jsonl, and the rest is generated in other
batches, which changes nothing (promise 7).
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ..choice import checkpoint_of
from ..errors import LimakitError
from ..model.chat import ChatFormat, chat_format
from ..model.fingerprint import fingerprint
from ..model.load import context_length, load_causal_lm, load_config, load_tokenizer, locate, longrope_length, pick_device
from ..progress import Progress, say, warn
from ..recipe import Recipe
from ..records import Prompt, Response, dump_row, read_jsonl, write_jsonl
from ..workspace import PARTIAL, Workspace, atomic_file, check_data, is_done, name_for_file, sha256_file, stage_lock, write_manifest
from .local import Row, Stream, decode
from .sampling import Sampling


def generate(workspace: Workspace, recipe: Recipe, *, model: str | None, name: str | None) -> list[Path]:
    """Answer every prompt of generate.prompts `samples` times; returns [responses/NAME.jsonl, its manifest].

    `model` is a folder (relative to the workspace) or a hub id, default the recipe's chosen epoch, or its last. `name` is what the responses
    call it, default the recipe's name, or the folder's. A model whose tokenizer knows EOT is answered in the chat format; any other is a base
    model and goes on with the plain text of the prompt.

    Raises LimakitError for missing or empty prompts, a checkpoint that is not there or cannot be read, and a prompt that fills the model's
    context, before anything is generated.
    """
    spec = recipe.generate
    chosen = checkpoint_of(workspace, recipe.name) if model is None else None
    checkpoint = model if chosen is None else workspace.relative(chosen.folder)
    assert checkpoint is not None
    name = name or (recipe.name if model is None else _name_of(workspace, checkpoint))
    if chosen is not None:
        say(f"{name}: {checkpoint} ({chosen.said})")
    path = workspace.responses / f"{name_for_file(name)}.jsonl"
    manifest = path.with_suffix(".manifest.json")
    prompts = _prompts(workspace, spec.prompts)
    # code from a model's repository runs only for the one the recipe trusts, and for what was trained from it
    ours = checkpoint == recipe.model.base or _inside(workspace.path(checkpoint), workspace.runs)
    revision = recipe.model.revision if checkpoint == recipe.model.base else None
    load: dict[str, Any] = {"root": workspace.root, "revision": revision, "trust_remote_code": ours and recipe.model.trust_remote_code}
    sampling = spec.model_dump(include={"temperature", "top_p", "repetition_penalty", "max_tokens", "samples"})
    folder = locate(checkpoint, workspace.root)
    shown = workspace.relative(Path(folder)) if Path(folder).is_dir() else checkpoint
    settings = {"model": shown, "name": name, "seed": recipe.seed, "sampling": sampling}
    config = load_config(checkpoint, **load)
    prompts_path = workspace.path(spec.prompts)
    inputs = {workspace.relative(prompts_path): sha256_file(prompts_path)}
    files = fingerprint(folder, config)
    if chosen is not None:
        chosen.check(files, shown)
    inputs |= {f"{shown}/{file}": digest for file, digest in files.items()}
    work = workspace.responses / ".generate" / name_for_file(name)  # a place and a lock for each name: others may be generated meanwhile
    with stage_lock(work, f"generate of {name}"):
        _sweep(path, manifest)
        if is_done(manifest, settings=settings, inputs=inputs):
            say(f"{workspace.relative(path)} is there, and nothing it was made from has changed")
            return [path, manifest]
        tokenizer = load_tokenizer(checkpoint, **load)
        chat = chat_format(tokenizer)
        if chat is None:
            warn(f"{name}: its tokenizer has no chat format of limakit, so it is taken for a base model and goes on with the plain prompt")
        rows = _rows(prompts, spec.samples, tokenizer, chat, _context(name, config), prompts_path)
        resume = work / "responses.jsonl"
        done = _read_resume(resume, {"settings": settings, "inputs": inputs})
        rows = [row for row in rows if (row.prompt_id, row.sample) not in done]
        total = len(prompts) * spec.samples
        if rows:
            causal_lm = load_causal_lm(checkpoint, **load, device=pick_device(spec.device))
            stops = _stop_ids(causal_lm, tokenizer, chat)
            with Progress("generate", total, "responses") as bar:
                bar.skip(len(done))
                speed = _Speed()
                decoded = decode(
                    causal_lm, rows, stop_ids=stops, max_tokens=spec.max_tokens, batch=spec.batch, on_step=speed.count,
                    sampling=Sampling(spec.temperature, spec.top_p, spec.repetition_penalty), stream=Stream(recipe.seed, name),
                )  # fmt: skip
                for row in decoded:
                    response = as_response(row, name, recipe.seed, tokenizer, chat, stops)
                    _keep(resume, response)
                    done[row.prompt_id, row.sample] = response
                    bar.advance(tokens_per_s=speed.text())
        responses = [done[prompt.id, sample] for prompt in prompts for sample in range(spec.samples)]
        write_jsonl(path, responses)
        write_manifest(
            manifest, stage="generate", settings=settings, inputs=inputs, outputs={path.name: sha256_file(path)},
            packages=("torch", "transformers"),
        )  # fmt: skip
        resume.unlink(missing_ok=True)
    _report(responses, name)
    return [path, manifest]


def _sweep(*paths: Path) -> None:
    """Remove what a killed run of this name left half written; it held the lock that we hold now."""
    for path in paths:
        leaving = re.compile(re.escape(f"{PARTIAL}{path.name}-") + r"\d+")
        for file in path.parent.iterdir():
            if leaving.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _name_of(workspace: Workspace, checkpoint: str) -> str:
    """A checkpoint's name: the last part of its path; of one of our runs the run's (runs/a/final: a; runs/a/epochs/03: a-epochs-03)."""
    path = workspace.path(checkpoint)
    if path.is_dir() and _inside(path, workspace.runs):
        parts = path.resolve().relative_to(workspace.runs.resolve()).parts
        return "-".join(parts[:-1] if parts[-1:] == ("final",) else parts)
    return Path(checkpoint).expanduser().resolve().name if path.is_dir() else checkpoint.rstrip("/").split("/")[-1]


def _prompts(workspace: Workspace, name: str) -> list[Prompt]:
    path = workspace.path(name)
    if path.parent.resolve() == workspace.data.resolve():
        check_data(workspace)
    if not path.is_file():
        raise LimakitError("no prompts to answer", where=path, remedy="run limakit curate, or set generate.prompts in the recipe")
    prompts = read_jsonl(path, Prompt)
    if not prompts:
        raise LimakitError("no prompts in it", where=path, remedy='add a source with split = "test" to the recipe and curate again')
    twice = [prompt_id for prompt_id, n in Counter(prompt.id for prompt in prompts).items() if n > 1]
    if twice:
        raise LimakitError(f"{len(twice)} ids are there more than once, the first {twice[0]!r}", where=path, remedy="rename the prompts")
    return prompts


def _context(name: str, config: Any) -> int | None:
    """How many tokens a prompt and its response may have. Where longrope changes over, every position of a batch would turn by other factors,
    those of shorter rows and of what is cached too, and a response would depend on its batch: it ends there."""
    context, changes = context_length(config), longrope_length(config)
    if changes is None or (context is not None and context <= changes):
        return context
    warn(f"{name}: its context is taken as {changes} tokens, for beyond them its positions are counted in another way (longrope)")
    return changes


def _rows(prompts: list[Prompt], samples: int, tokenizer: Any, chat: ChatFormat | None, context: int | None, path: Path) -> list[Row]:
    rows, full = [], []
    for prompt in prompts:
        ids = chat.encode_prompt(prompt.turns) if chat else _plain(prompt, tokenizer)
        if context is not None and len(ids) >= context:
            full.append((prompt.id, len(ids)))
        room = None if context is None else context - len(ids)
        rows += [Row(prompt.id, sample, ids, room) for sample in range(samples)]
    if full:
        others = f", and {len(full) - 1} more prompts" if len(full) > 1 else ""
        raise LimakitError(
            f"prompt {full[0][0]!r} has {full[0][1]} tokens, and the model's context holds {context}: no room for a response{others}",
            where=path,
            remedy="shorten it or take it out, or use a model with a longer context",
        )
    return rows


def _plain(prompt: Prompt, tokenizer: Any) -> list[int]:
    """What a base model goes on from: BOS if its tokenizer adds one, the text of the turns, a newline after each."""
    text = "".join(turn.text + "\n" for turn in prompt.turns)
    # split_special_tokens: "</s>" in a text is four characters
    ids: list[int] = list(tokenizer(text, split_special_tokens=True)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()  # some tokenizers end every text
    return ids


def _stop_ids(model: Any, tokenizer: Any, chat: ChatFormat | None) -> frozenset[int]:
    """EOT for a chat model, and EOS: the model wrote of its own accord that the text is over."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = {tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])} | ({chat.eot_id} if chat else set())
    return frozenset(i for i in ids if i is not None)


def as_response(row: Row, name: str, seed: int, tokenizer: Any, chat: ChatFormat | None, stops: frozenset[int]) -> Response:
    """What `decode` made of a prompt, as a record; the stop token is no text."""
    ids = row.generated[:-1] if row.generated[-1] in stops else row.generated
    text = chat.decode(ids) if chat else tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert row.finish is not None
    return Response(
        prompt_id=row.prompt_id, model=name, sample=row.sample, text=text, finish=row.finish, tokens=len(row.generated), seed=seed
    )  # fmt: skip


def _read_resume(path: Path, header: dict[str, Any]) -> dict[tuple[str, int], Response]:
    """Responses of a killed run with the same settings and inputs; otherwise the file is begun anew. Its last line may be cut."""
    start = json.dumps(header, sort_keys=True).encode() + b"\n"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    responses: dict[tuple[str, int], Response] = {}
    if lines and lines[0] + b"\n" == start:
        for line in lines[1:]:
            try:
                response = Response.model_validate_json(line)
            except ValueError:  # cut by a full disk, and written after
                continue
            responses[response.prompt_id, response.sample] = response
    with atomic_file(path) as file:
        file.write(start)
        for response in responses.values():
            file.write(dump_row(response))
    return responses


def _keep(path: Path, response: Response) -> None:
    try:
        with open(path, "ab") as file:
            file.write(dump_row(response))
    except OSError as error:
        raise LimakitError(f"cannot write: {error.strerror}", where=path, remedy="free some space; the same command goes on") from error


class _Speed:
    """Tokens a second since the first."""

    def __init__(self) -> None:
        self._start, self._tokens = time.monotonic(), 0

    def count(self, tokens: int) -> None:
        self._tokens += tokens

    def text(self) -> str:
        return f"{self._tokens / max(1e-9, time.monotonic() - self._start):.0f}"


def _report(responses: list[Response], name: str) -> None:
    finishes = Counter[str](response.finish for response in responses)
    what = {"eot": "stopped by themselves", "length": "were cut at max_tokens", "context": "filled the model's context"}
    say(f"{name}: {len(responses)} responses; " + ", ".join(f"{finishes[key]} {text}" for key, text in what.items() if finishes[key]))
