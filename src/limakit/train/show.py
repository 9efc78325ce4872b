"""`limakit train --show`: one example as the run sees it, token by token with its loss mask. Nothing is trained or written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import LimakitError, UsageError
from ..model.chat import ChatFormat
from ..progress import say, show_table, visible
from ..recipe import Recipe
from ..records import Example, Turn, read_jsonl
from ..workspace import Workspace
from .steps import Document, Step
from .training_set import TrainingSet, read_training_set


@dataclass(frozen=True)
class Token:
    """A token of a document: its position there, whose turn it belongs to, whether the loss is taken on predicting it."""

    position: int
    id: int
    text: str
    turn: str
    wanted: bool


def show_example(workspace: Workspace, recipe: Recipe, example_id: str | None = None) -> None:
    """Print the first example of the run's first step, or the one of this id: its text, its tokens and mask, its place in the packed row.

    Raises UsageError for an id that the set does not have, LimakitError if the chat template renders anything but the training text.
    """
    data = read_training_set(workspace, recipe)
    index = data.steps[0].rows[0][0] if example_id is None else _index(data, example_id)
    document = data.documents[index]
    example = read_jsonl(workspace.data / "train.jsonl", Example)[index]
    text = template_text(data.chat, example.turns)

    say(f"{document.id}, as text ({'the chat template and the training agree on it' if text else 'it has no turn'}):")
    say("\n".join(visible(line) for line in text.split("\n")))
    rows = [
        (token.position, token.text, token.id, token.turn, "yes" if token.wanted else "")
        for token in tokens(data.chat, document, example.turns)
    ]
    cut = f", cut at max_tokens = {recipe.train.max_tokens}" if document.id in data.prepared.trimmed else ""
    title = f"{document.id}: {len(rows)} tokens{cut}, {document.target_tokens} in the loss"
    show_table(title, ["position", "token", "id", "turn", "in the loss"], rows)
    step, row = _place(data, index)
    others = [data.documents[i].id for i in row]
    say(
        f"step {step.number} takes it first, as document {row.index(index) + 1} of {len(row)} in a row of "
        f"{sum(len(data.documents[i].ids) for i in row)} tokens: {visible(', '.join(others))}"
    )


def template_text(chat: ChatFormat, turns: tuple[Turn, ...] | list[Turn]) -> str:
    """The text of a dialogue as the chat template renders it, which has to be the training text. Raises LimakitError where it is not."""
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    text = str(chat.tokenizer.apply_chat_template(messages, tokenize=False))
    if text != chat.render(turns):
        raise LimakitError(
            "its chat template does not render the text that is trained",
            where=chat.tokenizer.name_or_path,
            remedy="please report it: a model trained so would be asked in another format than it learnt",
        )
    return text


def tokens(chat: ChatFormat, document: Document, turns: tuple[Turn, ...] | list[Turn]) -> Iterator[Token]:
    """The document's tokens with their turns: "BOS", "user 1", "assistant 2", ..."""
    turn = 0
    for position, (token, wanted) in enumerate(zip(document.ids, document.target, strict=True)):
        whose = "BOS" if position < len(chat.bos_ids) else f"{turns[turn].role} {turn + 1}"
        yield Token(position, token, _shown(chat, token), whose, wanted and position > 0)
        turn += token == chat.eot_id


def _shown(chat: ChatFormat, token: int) -> str:
    """A token as text in quotes, so that a space is seen; one that is no text by itself (part of a letter's bytes) by its name."""
    name = str(chat.tokenizer.convert_ids_to_tokens(token))
    if token in chat.tokenizer.all_special_ids or token == chat.eot_id:
        return name
    if name.startswith("▁"):  # SentencePiece's space, which its decoder strips from a token by itself
        return f"“{name.replace('▁', ' ')}”"
    text = chat.tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return f"bytes {name}" if "\ufffd" in text or not text else f"“{text}”"


def _index(data: TrainingSet, example_id: str) -> int:
    index = next((i for i, document in enumerate(data.documents) if document.id == example_id), None)
    if index is None:
        raise UsageError(f"the training set has no example {example_id!r}", remedy="its ids are in data/train.jsonl")
    return index


def _place(data: TrainingSet, index: int) -> tuple[Step, tuple[int, ...]]:
    """The first step that takes a document, and the row of it."""
    return next((step, row) for step in data.steps for row in step.rows if index in row)
