"""Somebody else's responses, as the paper's baselines were: limakit generate --import FILE --name NAME.

They end where ours do, in responses/NAME.jsonl with a manifest. What ended a response, and after how many tokens, nobody says ("unknown", None),
unless the file is of our own records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import LimakitError, UsageError
from ..progress import say, visible, warn
from ..recipe import Recipe
from ..records import Prompt, Response
from ..workspace import Workspace, is_done, name_for_file, sha256_file, stage_lock
from .foreign import Foreign, read_foreign
from .frame import Job, made_by, read_prompts, sweep, write
from .kept import Key

NAMED = 5  # a note names this many rows or prompts


def import_responses(workspace: Workspace, recipe: Recipe, file: Path, name: str) -> list[Path]:
    """Take the responses of a file (foreign.py says in which forms) to the recipe's prompts; returns [responses/NAME.jsonl, its manifest].

    A row answers the prompt of its id, else the one of exactly its text, else the one whose text is the same but for white space. The text of a
    prompt is its last user turn, at a later turn the follow-up. Rows for no prompt, rows that say the same twice, and prompts without a response are counted and
    named, and the rest is taken. `file` is relative to the current folder.

    Raises LimakitError, with nothing written, for a row that cannot be read, or is said to be a later sample than the file has rows, two different
    responses to one prompt and sample, an id whose prompt has another text, a text that several prompts have, a file that answers none of the
    prompts, and a name under which a model answered here or somebody's file lies.
    """
    prompts = read_prompts(workspace, recipe.generate.prompts)
    prompts_path = workspace.path(recipe.generate.prompts)
    if not file.is_file():
        raise LimakitError("no such file of responses", where=file, remedy="check the path")
    if file.resolve() == (workspace.responses / f"{name_for_file(name)}.jsonl").resolve():
        raise UsageError(
            "is where the responses go, and would be written over", where=file, remedy="move it elsewhere, and import it from there"
        )
    shown = workspace.relative(file)
    inputs = {workspace.relative(prompts_path): sha256_file(prompts_path), shown: sha256_file(file)}
    job = Job(workspace, name, prompts, 1, settings={"imported": shown, "name": name}, inputs=inputs)
    with stage_lock(job.work, f"generate of {name}"):
        sweep(job)
        if is_done(job.manifest, settings=job.settings, inputs=inputs):
            say(visible(f"{workspace.relative(job.path)} is there, and nothing it was made from has changed"))
            return [job.path, job.manifest]
        _refuse_others(job)
        found = _match(read_foreign(file), prompts, name, file)
        order = {prompt.id: place for place, prompt in enumerate(prompts)}
        write(job, [found[key] for key in sorted(found, key=lambda key: (order[key[0]], *key[1:]))])
    return [job.path, job.manifest]


def _refuse_others(job: Job) -> None:
    """What a model took hours for is not written over: by its manifest it was not imported."""
    settings = made_by(job)
    if settings is not None and "imported" not in settings:
        remedy = "choose another name, or remove that file and its manifest"
        raise LimakitError(f"holds responses that {job.name} gave here", where=job.workspace.relative(job.path), remedy=remedy)


@dataclass
class _Tally:
    """What was met on the way, to be told at the end; a place for each."""

    unmatched: list[str]
    twice: list[str]
    by_space: list[str]


def _match(rows: Sequence[Foreign], prompts: Sequence[Prompt], name: str, file: Path) -> dict[Key, Response]:
    """The responses by prompt, sample and turn; says what was left out."""
    finder, tally = _Finder(prompts), _Tally([], [], [])
    found: dict[Key, Response] = {}
    places: dict[Key, str] = {}
    for row in rows:
        prompt = finder.prompt_of(row, tally)
        if prompt is None:
            tally.unmatched.append(row.place)
            continue
        key = prompt.id, row.sample or 0, row.turn
        if key[1] >= len(rows):
            what = f"sample {key[1]}, in a file of {len(rows)} rows"
            raise LimakitError(what, where=row.where, remedy="number the responses to a prompt 0, 1, ...")
        if key not in found:
            found[key], places[key] = _response(row, key, name), row.place
        elif found[key].text == row.text:
            tally.twice.append(row.place)
        else:
            raise LimakitError(
                f"a second, different response to prompt {prompt.id!r}, after the one of {places[key]}", where=row.where,
                remedy='number several responses to a prompt with "sample": 0, 1, ..., or take one out',
            )  # fmt: skip
    if not found:
        raise LimakitError(
            f"none of its {len(rows)} rows answers one of the {len(prompts)} prompts", where=file,
            remedy="rows name their prompt by its id or by its exact text; generate.prompts says which file of prompts is meant",
        )  # fmt: skip
    _tell(tally, found, prompts, name)
    return found


def _tell(tally: _Tally, found: dict[Key, Response], prompts: Sequence[Prompt], name: str) -> None:
    def note(n: int, what: str, which: Iterable[str]) -> None:
        more = f" and {n - NAMED} more" if n > NAMED else ""
        warn(visible(f"{name}: {n} {what}: {', '.join(islice(which, NAMED))}{more}"))

    if tally.by_space:
        note(len(tally.by_space), "rows have their prompt's text but for white space, and are taken", tally.by_space)
    if tally.twice:
        note(len(tally.twice), "rows say what an earlier one says, and are left out", tally.twice)
    if tally.unmatched:
        note(len(tally.unmatched), "rows answer none of the prompts, and are left out", tally.unmatched)
    if empty := [_spoken(key) for key, response in found.items() if not response.text.strip()]:
        note(len(empty), "responses are empty", empty)
    samples = 1 + max(sample for _, sample, _ in found)
    wanted = samples * sum(1 + len(prompt.follow_ups) for prompt in prompts)
    if wanted > len(found):  # few are named, and of a large set few are made
        keys = ((prompt.id, sample, turn) for prompt in prompts for sample in range(samples) for turn in range(1 + len(prompt.follow_ups)))
        note(wanted - len(found), f"of {wanted} responses are not in the file", (_spoken(key) for key in keys if key not in found))


def _spoken(key: Key) -> str:
    prompt_id, sample, turn = key
    more = [f"{what} {n}" for what, n in (("sample", sample), ("turn", turn)) if n]
    return f"{prompt_id} ({', '.join(more)})" if more else prompt_id


def _response(row: Foreign, key: Key, name: str) -> Response:
    if row.ours is not None:
        return row.ours.model_copy(update={"model": name})
    return Response(prompt_id=key[0], model=name, sample=key[1], turn=key[2], text=row.text, finish="unknown", tokens=None)


class _Finder:
    """Prompts by what a row may name them with."""

    def __init__(self, prompts: Iterable[Prompt]):
        self.by_id = {prompt.id: prompt for prompt in prompts}
        self.exact: dict[tuple[str, int], list[Prompt]] = {}
        self.spaced: dict[tuple[str, int], list[Prompt]] = {}
        for prompt in self.by_id.values():
            for turn, text in enumerate((prompt.text, *prompt.follow_ups)):
                self.exact.setdefault((text, turn), []).append(prompt)
                self.spaced.setdefault((_squeezed(text), turn), []).append(prompt)

    def prompt_of(self, row: Foreign, tally: _Tally) -> Prompt | None:
        """Raises LimakitError where a row's id and text contradict each other, or several prompts have its text."""
        if row.prompt_id in self.by_id:
            prompt = self.by_id[row.prompt_id]
            if row.turn > len(prompt.follow_ups):
                raise LimakitError(
                    f"turn {row.turn} of prompt {prompt.id!r}, which has {len(prompt.follow_ups)} follow-ups", where=row.where,
                    remedy="check which prompts the file answers",
                )  # fmt: skip
            if row.prompt is not None and _squeezed(row.prompt) != _squeezed((prompt.text, *prompt.follow_ups)[row.turn]):
                raise LimakitError(
                    f"its prompt is another text than that of prompt {prompt.id!r}", where=row.where,
                    remedy="if the ids are those of another set, take them out; texts are then compared",
                )  # fmt: skip
            return prompt
        if row.prompt is None:
            return None
        found = self.exact.get((row.prompt, row.turn), [])
        if not found and (found := self.spaced.get((_squeezed(row.prompt), row.turn), [])):
            tally.by_space.append(row.place)
        if len(found) > 1:
            ids = ", ".join(prompt.id for prompt in found[:3])
            raise LimakitError(f"{len(found)} prompts have its text ({ids})", where=row.where, remedy='name one: "prompt_id"')
        return found[0] if found else None


def _squeezed(text: str) -> str:
    return " ".join(text.split())
