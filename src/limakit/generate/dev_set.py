"""The dev set: the prompts that every epoch answers, and the held-out examples on which its perplexity is measured (paper, section 3, appendix B)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import LimakitError
from ..model.chat import ChatFormat, chat_format
from ..model.load import context_length, load_config, load_tokenizer, longrope_length
from ..progress import visible, warn
from ..recipe import Recipe
from ..records import Example, Prompt, read_jsonl
from ..train.steps import prepare
from ..workspace import Workspace, check_data, sha256_file
from .local import Row


@dataclass(frozen=True)
class DevSet:
    """What every epoch is shown; empty where the recipe names no such file, or it is not there."""

    prompts: tuple[Prompt, ...]
    prompts_file: str
    prompts_hash: str
    examples: tuple[Example, ...]
    examples_file: str
    examples_hash: str

    def __bool__(self) -> bool:
        return bool(self.prompts or self.examples)


def read_dev_set(workspace: Workspace, recipe: Recipe) -> DevSet:
    """Raises LimakitError naming file and row for what is there and cannot be read."""
    found: list[Any] = []
    for name, model in ((recipe.dev.prompts, Prompt), (recipe.dev.held_out, Example)):
        path = workspace.path(name) if name else None
        if path is None or not path.is_file():
            found += [(), name, ""]
            continue
        if path.parent.resolve() == workspace.data.resolve():
            check_data(workspace)
        rows: list[Any] = read_jsonl(path, model)
        if len({row.id for row in rows}) < len(rows):
            raise LimakitError("two rows share an id", where=path, remedy="rename one: what an epoch says is kept under the id")
        found += [tuple(rows), name, sha256_file(path)]
    return DevSet(*found)


def missing(recipe: Recipe, dev: DevSet) -> Iterator[str]:
    if recipe.dev.prompts and not dev.prompts:
        yield f'no dev prompts ({recipe.dev.prompts}), so no epoch is asked anything; a source with split = "dev" gives them'
    if recipe.dev.held_out and not dev.examples:
        yield f'no held-out examples ({recipe.dev.held_out}), so no perplexity is measured; a source with split = "held_out" gives them'


def check_dev_set(workspace: Workspace, recipe: Recipe, dev: DevSet) -> None:
    """Encode the dev set as every look will. Warns of prompts that no epoch can answer."""
    if not dev:
        return
    model = recipe.model
    where: dict[str, Any] = {"root": workspace.root, "revision": model.revision, "trust_remote_code": model.trust_remote_code}
    chat = chat_format(load_tokenizer(model.base, **where), add_eot=True)
    assert chat is not None
    for number, example in enumerate(dev.examples, start=1):
        with _told_where(dev.examples_file, number, example.id):
            prepare([example], chat, recipe.train.max_tokens, "response", None)
    room, full = room_for(load_config(model.base, **where)), []
    for number, prompt in enumerate(dev.prompts, start=1):
        with _told_where(dev.prompts_file, number, prompt.id):
            full += prompt_rows([prompt], chat, room)[1]
    if full:
        warn(f"{len(full)} dev prompts fill the model's context and are not answered: {visible(', '.join(full[:5]))}")
    if dialogues := [prompt.id for prompt in dev.prompts if prompt.follow_ups]:
        warn(f"{len(dialogues)} dev prompts have follow-ups, which epochs are not asked: {visible(', '.join(dialogues[:5]))}")


@contextmanager
def _told_where(file: str, row: int, name: str) -> Iterator[None]:
    """What is wrong with a row, told with its place."""
    try:
        yield
    except LimakitError as error:
        raise LimakitError(f"{name!r}: {error.what}", where=f"{file}, row {row}", remedy=error.remedy) from error


def room_for(config: Any) -> int | None:
    """Tokens that a prompt and its response may have, as in `limakit generate`."""
    return min((n for n in (context_length(config), longrope_length(config)) if n is not None), default=None)


def prompt_rows(prompts: Sequence[Prompt], chat: ChatFormat, context: int | None) -> tuple[list[Row], list[str]]:
    """Rows to decode, and the ids of the prompts that leave no room for a response."""
    rows, full = [], []
    for prompt in prompts:
        ids = chat.encode_prompt(prompt.turns)
        if context is not None and len(ids) >= context:
            full.append(prompt.id)
        else:
            rows.append(Row(prompt.id, 0, ids, None if context is None else context - len(ids)))
    return rows, full
