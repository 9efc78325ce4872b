"""data/train.jsonl as documents, with the steps over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import LimakitError
from ..model.chat import ChatFormat, chat_format
from ..model.load import context_length, load_config, load_tokenizer
from ..recipe import Recipe
from ..records import Example, read_jsonl
from ..workspace import Workspace, check_data
from .ranks import ALONE, Ranks
from .steps import Document, Prepared, Step, plan_steps, prepare


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


def trim_note(prepared: Prepared, max_tokens: int, show: int | None = None) -> str:
    """What was cut, by id."""
    ids = prepared.trimmed[:show]
    more = f" and {len(prepared.trimmed) - len(ids)} more (limakit plan names all)" if len(ids) < len(prepared.trimmed) else ""
    return (
        f"{len(prepared.trimmed)} of {len(prepared.documents)} examples are longer than max_tokens = {max_tokens} and were cut; "
        f"a cut response gets no EOT: {', '.join(ids)}{more}"
    )
