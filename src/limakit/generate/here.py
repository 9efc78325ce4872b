"""The local way: a checkpoint in this process answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import LimakitError
from ..model.load import context_length, load_causal_lm, longrope_length
from ..progress import visible, warn
from ..recipe import GenerateSpec
from ..records import Prompt, Response, Turn
from .form import Form
from .frame import Question
from .local import Row, Stream, decode
from .sampling import Sampling


@dataclass
class Here:
    """A checkpoint and how it is asked. Its weights are read when the first question comes. `context` is what a prompt and its response may have,
    `vocabulary` how many tokens it knows, which may be fewer than its tokenizer; None where its configuration does not say."""

    checkpoint: str
    load: dict[str, Any]  # where and how model/load.py finds it
    name: str
    seed: int
    spec: GenerateSpec
    form: Form
    context: int | None
    vocabulary: int | None
    device: torch.device
    _model: Any = field(default=None, repr=False)

    def check(self, prompts: Sequence[Prompt], path: Path) -> None:
        """Raise LimakitError for prompts that fill the model's context, or are no tokens that it knows, so that none is met after hours."""
        for prompt in prompts:
            for text in prompt.follow_ups:
                self._ids(prompt.id, (Turn(role="user", text=text),), path)
        sizes = [(prompt.id, len(self._ids(prompt.id, prompt.turns, path))) for prompt in prompts]
        full = [(prompt_id, size) for prompt_id, size in sizes if self.context is not None and size >= self.context]
        if full:
            others = f", and {len(full) - 1} more prompts" if len(full) > 1 else ""
            examples = ", with the examples before it," if self.form.kind == "urial" else ""
            raise LimakitError(
                f"prompt {full[0][0]!r}{examples} has {full[0][1]} tokens, and the model's context holds {self.context}: "
                f"no room for a response{others}",
                where=path,
                remedy='use a model with a longer context, or prompting = "plain"' if examples
                else "shorten it or take it out, or use a model with a longer context",
            )  # fmt: skip

    def _ids(self, prompt_id: str, turns: Sequence[Turn], where: Path | None = None) -> list[int]:
        ids = self.form.encode(turns)
        if not ids:
            remedy = "mend it or take it out, or ask the model in another way (prompting)"
            raise LimakitError(
                f"prompt {prompt_id!r} has no tokens: the tokenizer knows none of its characters", where=where, remedy=remedy
            )
        if self.vocabulary is not None and max(ids) >= self.vocabulary:
            token = self.form.tokenizer.convert_ids_to_tokens(max(ids))
            raise LimakitError(
                f"prompt {prompt_id!r} has the token {token!r} ({max(ids)}), and the model knows the first {self.vocabulary} alone", where=where,
                remedy="take it out, or use the tokenizer that belongs to the model",
            )  # fmt: skip
        return ids

    def answer(self, questions: Sequence[Question]) -> Iterator[Response]:
        """A response to each question, in the order in which they end. Where a dialogue has filled the model's context, the response is empty
        and says so."""
        by_ends: dict[tuple[str, ...], list[Row]] = {}
        for question in questions:
            ids = self._ids(question.prompt.id, question.prompt.turns)
            room = None if self.context is None else self.context - len(ids)
            row = Row(question.prompt.id, question.sample, ids, room, turn=question.turn)
            if room is not None and room <= 0:
                row.finish = "context"
                yield as_response(row, self.name, self.seed, self.form)
                continue
            by_ends.setdefault(self.form.ends(question.prompt.turns), []).append(row)
        if not by_ends:
            return
        if self._model is None:
            self._model = load_causal_lm(self.checkpoint, **self.load, device=self.device)
        stops = self.form.stop_ids(self._model)
        for ends, rows in by_ends.items():
            decoded = decode(
                self._model, rows, stop_ids=stops, ends=self.form.has_ended(ends), max_tokens=self.spec.max_tokens, batch=self.spec.batch,
                sampling=sampling(self.spec), stream=Stream(self.seed, self.name),
            )  # fmt: skip
            for row in decoded:
                yield as_response(row, self.name, self.seed, self.form, stops, ends)


def sampling(spec: GenerateSpec) -> Sampling:
    return Sampling(spec.temperature, spec.top_p, spec.repetition_penalty, spec.penalise_prompt)


def as_response(
    row: Row, name: str, seed: int, form: Form, stops: frozenset[int] = frozenset(), ends: Sequence[str] = ()
) -> Response:  # fmt: skip
    """What `decode` made of a prompt, as a record; neither the stop token nor an end text is text."""
    assert row.finish is not None
    return Response(
        prompt_id=row.prompt_id, model=name, sample=row.sample, turn=row.turn, text=form.text(row.generated, stops, ends), finish=row.finish,
        tokens=len(row.generated), seed=seed,
    )  # fmt: skip


def context_of(name: str, config: Any) -> int | None:
    """How many tokens a prompt and its response may have. Where longrope changes over, every position of a batch would turn by other factors,
    those of shorter rows and of what is cached too, and a response would depend on its batch: it ends there."""
    context, changes = context_length(config), longrope_length(config)
    if changes is None or (context is not None and context <= changes):
        return context
    warn(visible(f"{name}: its context is taken as {changes} tokens, for beyond them its positions are counted in another way (longrope)"))
    return changes


def vocabulary_of(config: Any) -> int | None:
    """How many tokens the model has embeddings for."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None
