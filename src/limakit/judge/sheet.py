"""Sheets: the files of rows that a run has to fill, planned whole before anything is asked. A sheet knows which of its rows are open."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..recipe import JudgeSpec
from ..records import Grade, Judgment, Prompt, Response, Turn, read_jsonl, write_jsonl
from ..workspace import is_done, sha256_file, write_manifest
from .rubric import Form, Rubric, fill
from .verdict import Said


@dataclass(frozen=True)
class Item:
    """One row to be filled: a comparison of `a` with `b`, or, where `b` is None, a grade of `a`.

    Each is a response, or all responses of a dialogue in order. `prompt` is as the judge is shown it; what the user said between the
    responses of a dialogue are its follow-ups.
    """

    prompt: Prompt
    a: tuple[Response, ...]
    b: tuple[Response, ...] | None
    first: Literal["a", "b"]
    draw: int

    def message(self, rubric: Rubric, form: Form) -> str:
        """What the judge is sent."""
        if self.b is None:
            return fill(rubric, self.prompt, {"response": self._shown(self.a)}, form)
        first, second = (self.a, self.b) if self.first == "a" else (self.b, self.a)
        return fill(rubric, self.prompt, {"response_a": self._shown(first), "response_b": self._shown(second)}, form)

    def _shown(self, responses: tuple[Response, ...]) -> str | tuple[Turn, ...]:
        if len(responses) == 1:
            return responses[0].text
        whole = self.prompt.at([response.text for response in responses[:-1]]).turns[len(self.prompt.turns) :]
        return (*whole, Turn(role="assistant", text=responses[-1].text))


@dataclass(frozen=True)
class Sheet:
    """One file of rows, and what they depend on. `items` is not empty."""

    path: Path
    judge: JudgeSpec
    rubric: Rubric
    items: tuple[Item, ...]
    settings: dict[str, Any]
    inputs: dict[str, str]

    @property
    def manifest(self) -> Path:
        return self.path.with_suffix(".manifest.json")

    @property
    def rows(self) -> Sequence[Judgment | Grade]:
        """As they were written."""
        return read_jsonl(self.path, Judgment) if self.items[0].b else read_jsonl(self.path, Grade)

    @property
    def missing(self) -> list[int]:
        """Places (from 0) of the written rows that no answer came to; all, if the sheet was never written or is of other inputs."""
        everything = list(range(len(self.items)))
        try:
            listed = json.loads(self.manifest.read_bytes())["settings"]["unanswered"]
            places = sorted({everything[row - 1] for row in listed})
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return everything
        return places if is_done(self.manifest, settings=self.settings | {"unanswered": listed}, inputs=self.inputs) else everything

    def write(self, found: dict[int, Said]) -> None:
        """Write the rows, those in `found` anew and the others as they stand, and the manifest."""
        old = list(self.rows) if len(found) < len(self.items) else []
        rows = [_record(item, self, found[i]) if i in found else old[i] for i, item in enumerate(self.items)]
        write_jsonl(self.path, rows)
        unanswered = [i + 1 for i, said in sorted(found.items()) if said.missing]  # rows from 1, as messages count them
        write_manifest(
            self.manifest, stage="judge", settings=self.settings | {"unanswered": unanswered}, inputs=self.inputs,
            outputs={self.path.name: sha256_file(self.path)},
        )  # fmt: skip


def _record(item: Item, sheet: Sheet, said: Said) -> Judgment | Grade:
    """The row. The judge saw the responses as A and B; the row says which model that was. Of a dialogue its turn is the last."""
    parsed, last = said.parsed, item.a[-1]
    status: Literal["ok", "invalid"] = "ok" if parsed.value is not None else "invalid"
    who, rubric = sheet.judge.called, sheet.rubric.name
    if item.b is None:
        return Grade(
            prompt_id=item.prompt.id, model=last.model, sample=last.sample, turn=last.turn, judge=who, rubric=rubric, draw=item.draw,
            status=status, value=parsed.value, problem=parsed.problem, raw=said.raw, asked=said.asked,
        )  # fmt: skip
    verdict: Literal["a", "b", "tie"] | None = None
    if parsed.value is not None:
        shown_as: dict[str, Literal["a", "b", "tie"]] = {"A": "a", "B": "b", "tie": "tie"}
        if item.first == "b":
            shown_as |= {"A": "b", "B": "a"}
        verdict = shown_as[parsed.value]
    return Judgment(
        prompt_id=item.prompt.id, a=last.model, b=item.b[-1].model, sample=last.sample, turn=last.turn, first=item.first, judge=who,
        rubric=rubric, draw=item.draw, status=status, verdict=verdict, problem=parsed.problem, raw=said.raw, asked=said.asked,
    )  # fmt: skip
