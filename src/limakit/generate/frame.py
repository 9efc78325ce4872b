"""One way to write responses, whoever gives them: responses/NAME.jsonl, and beside it the manifest of what they were made from.

A checkpoint here (run.py), an endpoint (baselines.py) or somebody else's file (imported.py) says what the responses depend on, a `Job`, and
gives them; the frame asks only for what is not there, keeps each response as it comes, and writes the files whole. Killed, the same command
goes on.

Dialogues are answered level by level: first every prompt, then, with its own responses as history, what the user says next. A response that is
empty or was cut stands in the history as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import LimakitError
from ..progress import Progress, say, visible
from ..recipe import GenerateSpec
from ..records import Prompt, Response, dump_row, read_jsonl, write_jsonl
from ..workspace import PARTIAL, Workspace, check_data, is_done, name_for_file, stage_lock, versions, write_manifest
from .kept import Key, begin, drop, keep, key_of, take_up

T = TypeVar("T")


class Group(Protocol):
    """The processes that share the work (train/ranks.py)."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def first(self) -> bool: ...
    def lead(self, function: Callable[[], T]) -> T: ...
    def gather(self, value: T) -> list[T]: ...


@dataclass(frozen=True)
class Alone:
    """One process, and nothing of torch: an endpoint or a file can be taken where it is not installed."""

    rank: int = 0
    size: int = 1
    first: bool = True

    def lead(self, function: Callable[[], T]) -> T:
        return function()

    def gather(self, value: T) -> list[T]:
        return [value]


@dataclass(frozen=True)
class Question:
    """One response that is wanted: `prompt` as it stands at the turn, the model's own earlier responses in it."""

    prompt: Prompt
    sample: int
    turn: int


class Incomplete(LimakitError):
    """Some questions got no response, and nothing follows of that for the others and for what is asked after them."""


Answer = Callable[[Sequence[Question]], Iterator[Response]]


@dataclass(frozen=True)
class Job:
    """What one file of responses is made from. Equal settings and inputs (hashes of files), by equal versions of `packages`, are equal responses."""

    workspace: Workspace
    name: str
    prompts: Sequence[Prompt]
    samples: int
    settings: dict[str, Any]
    inputs: dict[str, str]
    packages: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return self.workspace.responses / f"{name_for_file(self.name)}.jsonl"

    @property
    def manifest(self) -> Path:
        return self.path.with_suffix(".manifest.json")

    @property
    def work(self) -> Path:
        """A place and a lock for each name: others may be generated meanwhile."""
        return self.workspace.responses / ".generate" / name_for_file(self.name)

    @property
    def header(self) -> dict[str, Any]:
        """What the responses depend on: all that `is_done` compares."""
        return {"settings": self.settings, "inputs": self.inputs, "versions": versions(*self.packages)}

    @property
    def keys(self) -> list[Key]:
        """Every response that is wanted, in the order of the file."""
        return [(p.id, sample, turn) for p in self.prompts for sample in range(self.samples) for turn in range(1 + len(p.follow_ups))]


def fill(job: Job, answer: Answer, group: Group | None = None) -> list[Path]:
    """Get the responses that are not there from `answer`, write them all, and return the paths of the two files (none on the other ranks).

    `answer` is called once a turn with what is open, by each process with its share, and yields a response for each in any order. Where it raises,
    what it yielded before is kept; after Incomplete the dialogues that can go on do, and it is raised at the end. Raises LimakitError for a full disk, where another process is writing this name, and where somebody else's
    file has it.
    """
    group = group or Alone()
    with stage_lock(job.work, f"generate of {job.name}") if group.first else nullcontext():
        begun = group.lead(lambda: _begin(job))
        if begun is None:
            say(visible(f"{job.workspace.relative(job.path)} is there, and nothing it was made from has changed"))
            return [job.path, job.manifest] if group.first else []
        done = {key_of(response): response for response in map(Response.model_validate_json, begun)}
        file = begin(job.work, group.rank, job.header)
        with Progress("generate", len(job.keys), "responses") as bar:
            bar.skip(len(done))
            speed, lost = _Speed(), list[Incomplete]()
            for turn in range(1 + max(len(prompt.follow_ups) for prompt in job.prompts)):
                mine = _open(job, turn, done)[group.rank :: group.size]
                found = []
                try:
                    for response in answer(mine) if mine else ():
                        response = response.model_copy(update={"turn": turn})
                        keep(file, response)
                        found.append(response.model_dump_json())
                        bar.advance(1, **speed.after(response))
                except Incomplete as error:
                    lost.append(error)
                shares = group.gather(found)
                done |= {key_of(response): response for share in shares for response in map(Response.model_validate_json, share)}
                bar.advance(sum(map(len, shares)) - len(found))  # those of the other processes
            if lost:
                raise lost[0]
        if group.first:
            write(job, [done[key] for key in job.keys])
            drop(job.work)
    return [job.path, job.manifest] if group.first else []


def write(job: Job, responses: Sequence[Response]) -> None:
    """Write both files, and say what is in them. The job's lock is held.

    The manifest is first: killed in between, it is that of other responses, which are made again; a file without one is never ours.
    """
    digest = hashlib.sha256()
    for response in responses:
        digest.update(dump_row(response))
    write_manifest(
        job.manifest, stage="generate", settings=job.settings, inputs=job.inputs, outputs={job.path.name: digest.hexdigest()},
        packages=job.packages,
    )  # fmt: skip
    write_jsonl(job.path, responses)
    _report(responses, job.name)


def made_by(job: Job) -> dict[str, Any] | None:
    """The settings of what stands under the job's name; None where nothing does. Raises LimakitError where that is not of limakit's making: it is
    not written over."""
    if not job.path.exists():
        return None
    try:
        return dict(json.loads(job.manifest.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        remedy = "move it elsewhere (limakit generate --import FILE --name NAME takes it from there), or choose another name"
        raise LimakitError(
            "is there and was not made by limakit, for it has no manifest", where=job.workspace.relative(job.path), remedy=remedy
        ) from None


def sweep(job: Job) -> None:
    """Remove what a killed run of this name left half written; it held the lock that we hold now."""
    for path in (job.path, job.manifest):
        leaving = re.compile(re.escape(f"{PARTIAL}{path.name}-") + r"\d+")
        for file in path.parent.iterdir():
            if leaving.fullmatch(file.name):
                file.unlink(missing_ok=True)


def read_prompts(workspace: Workspace, name: str) -> list[Prompt]:
    """Raises LimakitError for a file that is missing or empty, and ids that are there twice."""
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


def sampling_of(spec: GenerateSpec) -> dict[str, Any]:
    """What of [generate] a response depends on, for its manifest: neither batch nor device."""
    return spec.model_dump(include={"temperature", "top_p", "repetition_penalty", "penalise_prompt", "max_tokens", "samples"})


def _begin(job: Job) -> list[str] | None:
    """The responses that a killed run kept, as JSON; None where all is there."""
    sweep(job)
    if is_done(job.manifest, settings=job.settings, inputs=job.inputs):
        return None
    made_by(job)
    return [response.model_dump_json() for response in take_up(job.work, job.header)]


def _open(job: Job, turn: int, done: dict[Key, Response]) -> list[Question]:
    """The questions of a turn that have no response yet, where all earlier turns have one."""
    return [
        Question(prompt.at([done[prompt.id, sample, before].text for before in range(turn)]), sample, turn)
        for prompt in job.prompts if len(prompt.follow_ups) >= turn
        for sample in range(job.samples)
        if (prompt.id, sample, turn) not in done and all((prompt.id, sample, before) in done for before in range(turn))
    ]  # fmt: skip


class _Speed:
    """Generated tokens a second, of the responses that have ended since the first was asked for."""

    def __init__(self) -> None:
        self._start, self._tokens = time.monotonic(), 0

    def after(self, response: Response) -> dict[str, str]:
        self._tokens += response.tokens or 0
        return {"tokens_per_s": f"{self._tokens / max(1e-9, time.monotonic() - self._start):.0f}"} if self._tokens else {}


_FINISHES = {
    "eot": "stopped by themselves",
    "length": "were cut at max_tokens",
    "context": "filled the model's context",
    "filtered": "were cut by a filter of the server",
    "unknown": "ended nobody says how",
}


def _report(responses: Sequence[Response], name: str) -> None:
    finishes = Counter[str](response.finish for response in responses)
    parts = [f"{finishes[key]} {text}" for key, text in _FINISHES.items() if finishes[key]]
    empty = sum(not response.text.strip() for response in responses)
    parts += [f"{empty} are empty"] if empty else []
    say(visible(f"{name}: {len(responses)} responses; " + ", ".join(parts)))
    left_out = Counter(setting for response in responses for setting in response.not_applied)
    for setting, n in left_out.items():
        say(visible(f"{name}: {setting} was not applied to {n} of them: the server takes no such field, or does not say what it is"))
