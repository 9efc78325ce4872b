"""A judge that is a model in this process: asked in its own chat format, through the sampling that responses are generated with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..endpoint.reply import PROBLEMS, Answer
from ..errors import LimakitError, UsageError
from ..recipe import JudgeSpec, Recipe
from ..records import Turn
from ..workspace import Workspace, sha256_json

if TYPE_CHECKING:
    from ..generate.form import Form
    from .ask import Question

FULL = "the question leaves no room in the model's context"
CUT = "cut off where the model's context is full"


@dataclass(frozen=True)
class LocalJudge:
    """`files` are the hashes of what decides what the model does, by their names in the workspace. Weights are read when it is asked.

    Temperature 0 is greedy. Else draws differ by random numbers of the recipe's seed, the question and the draw, so they are the same again.
    """

    judge: JudgeSpec
    recipe: Recipe
    load: dict[str, Any]  # where and how model/load.py finds it
    form: Form  # how it is asked
    files: dict[str, str]
    context: int | None  # tokens that a question and its answer may have

    @property
    def identity(self) -> str:
        """What tells this model from others of its name, and its draws from those of another seed."""
        return f"local {sha256_json([self.files, self.recipe.seed])}"

    def answer(self, questions: Sequence[tuple[int, str, Question]]) -> Iterator[tuple[int, Answer]]:
        """(place, answer) as each ends, of (place, key, question); the random numbers depend on the key and the draw, not on the others asked.

        No answer is `missing`: what went wrong would go wrong again. Raises LimakitError for a model that cannot be loaded, or decodes wrongly.
        """
        from ..generate.local import Row, Stream, decode
        from ..generate.sampling import Sampling
        from ..model.load import load_causal_lm, pick_device

        if not questions:
            return
        model, form = load_causal_lm(self.judge.model, **self.load, device=pick_device(self.recipe.generate.device)), self.form
        rows, places = [], {}
        for place, key, question in questions:
            try:
                ids = form.encode([Turn(role="user", text=question.message)])
            except LimakitError as error:  # a template that cannot take this text; others it may
                yield place, Answer("", error.what, date=_now())
                continue
            room = None if self.context is None else self.context - len(ids)
            if room is not None and room <= 0:
                yield place, Answer("", FULL, finish="length", tokens_in=len(ids), tokens_out=0, date=_now())
                continue
            rows.append(Row(key, question.draw, ids, room))
            places[key] = place
        stops = form.stop_ids(model)
        decoded = decode(
            model, rows, stop_ids=stops, max_tokens=self.judge.max_tokens, batch=self.recipe.generate.batch,
            sampling=Sampling(self.judge.temperature, 1.0, 1.0), stream=Stream(self.recipe.seed, self.judge.model),
        )  # fmt: skip
        began = time.monotonic()
        for row in decoded:
            now = time.monotonic()
            problem = {"length": PROBLEMS["length"], "context": CUT}.get(row.finish or "")
            yield places[row.prompt_id], Answer(
                form.text(row.generated, stops, ()), problem, finish="length" if problem else "stop", tokens_in=len(row.prompt),
                tokens_out=len(row.generated), date=_now(), seconds=round(now - began, 3),
            )  # fmt: skip
            began = time.monotonic()


def local_judge(judge: JudgeSpec, recipe: Recipe, workspace: Workspace, *, what: str) -> LocalJudge:
    """The judge of a recipe's section `what`. Raises UsageError where it names no model, or one that does not chat, LimakitError for one that is
    not there."""
    from ..generate.form import form_of
    from ..generate.here import context_of
    from ..model.fingerprint import fingerprint
    from ..model.load import load_config, load_tokenizer, locate

    if not judge.model:
        raise UsageError("no model named", where=f"{what}.model", remedy="name a folder or hub id of a model that chats")
    # code from a model's repository runs only for the one the recipe trusts
    base = judge.model == recipe.model.base
    load: dict[str, Any] = {"root": workspace.root, "revision": recipe.model.revision if base else None}
    load["trust_remote_code"] = base and recipe.model.trust_remote_code
    folder = locate(judge.model, workspace.root)
    shown = workspace.relative(Path(folder)) if Path(folder).is_dir() else judge.model
    config = load_config(judge.model, **load)
    form = form_of(load_tokenizer(judge.model, **load), "auto")
    if form.kind not in ("chat", "template"):
        remedy = "name one that follows instructions, with a chat template"
        raise UsageError(f"{shown} has no chat format, so it cannot be asked to judge", where=f"{what}.model", remedy=remedy)
    files = {f"{shown}/{name}": digest for name, digest in fingerprint(folder, config).items()}
    return LocalJudge(judge, recipe, load, form, files, context_of(judge.called, config))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
