"""Where the work is done: the same plain functions here, in processes of this machine (Daft), or on a Ray cluster (Daft on Ray).

A task is a function of one file's bytes and some plain arguments that returns a table. Its result is kept under a name made from the
function's code, the arguments and the file's content, so what was done once is not done again: after a kill, after a change of the recipe
that does not concern it, and on whatever machine. Results come in the order of the tasks. How others do it is crew.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from json import loads
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import LimakitError, UsageError
from ..progress import Progress
from ..workspace import atomic_file, sha256_file, sha256_json
from .crew import BROKEN, FAILED, Call, answer, answers
from .kept import DamagedError, read_kept

MB = 1_000_000
SMALL = 48 * MB  # less than this in all is done in this process: starting others takes longer than the work


@dataclass(frozen=True)
class Task:
    """`function(path, **arguments) -> pa.Table` is to be called; `content` is the hash of what it reads; `weight` in bytes.

    The path itself is no part of the result's name, so arguments must not repeat it, and a table must not hold it.
    """

    path: Path
    content: str
    weight: int
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What a source's reader is given: the seed, a folder for results, and the cluster's address or None.

    `used` collects the names of the results that were asked for; the pipeline removes the others when a run has succeeded.
    """

    seed: int
    cache: Path
    cluster: str | None = None
    used: set[str] = field(default_factory=set)
    hashes: dict[Path, str] = field(default_factory=dict)  # of the inputs, as far as they are known

    def content(self, path: Path) -> str:
        """The hash of an input file."""
        if path not in self.hashes:
            self.hashes[path] = sha256_file(path)
        return self.hashes[path]

    def run(self, function: Callable[..., pa.Table], tasks: Sequence[Task], label: str) -> Iterator[pa.Table]:
        """The table of each task, in their order, mapped from disk when it is asked for.

        `function` is a module's own. A kept result that is damaged is made again. Raises the first task's LimakitError, in their order; results
        that came before it are kept.
        """
        places = [self.place(function, task) for task in tasks]
        todo = {place: task for task, place in zip(tasks, places, strict=True) if not place.exists()}  # equal tasks once
        waiting = set(todo)
        done = shown = 0
        with Progress(label, max(sum(task.weight for task in tasks) // MB, 1), "MB") as bar, closing(self._make(function, todo)) as made:
            for task, place in zip(tasks, places, strict=True):
                while place in waiting:
                    waiting.remove(next(made))
                yield self._table(place, function, task)
                done += task.weight
                bar.advance(done // MB - shown)
                shown = done // MB

    def _table(self, place: Path, function: Callable[..., pa.Table], task: Task) -> pa.Table:
        try:
            return read_kept(place)
        except DamagedError:
            place.unlink(missing_ok=True)
        try:
            next(self._make(function, {place: task}))
            return read_kept(place)
        except DamagedError:
            place.unlink(missing_ok=True)
            what = "a result that was kept here is damaged, was made again, and is damaged again"
            raise LimakitError(
                what, where=place, remedy="look at the disk and the memory of this machine; the result has been removed"
            ) from None

    def place(self, function: Callable[..., pa.Table], task: Task) -> Path:
        """Where the result of a task is kept."""
        name = sha256_json([code_hash(), function.__module__, function.__name__, task.arguments, task.content])[:40] + ".arrow"
        self.used.add(name)
        return self.cache / name

    def _make(self, function: Callable[..., pa.Table], todo: dict[Path, Task]) -> Generator[Path]:
        """Put the result of each task in its place; yields the places, in their order."""
        name = f"{function.__module__}:{function.__name__}"
        here = self.cluster is None  # another machine may not have the folder for results: from there they come with the answer
        calls = [
            Call(name, str(task.path.absolute()), task.arguments, str(place) if here else None, None if here else code_hash())
            for place, task in todo.items()
        ]
        alone = here and (len(todo) < 2 or sum(task.weight for task in todo.values()) < SMALL)
        with closing((answer(call) for call in calls) if alone else answers(calls, self.cluster)) as come:
            for (place, task), answered in zip(todo.items(), come, strict=True):
                kind, data = answered[:1], answered[1:]
                if kind == FAILED:
                    error, what, where, remedy = loads(data)
                    raise (UsageError if error == "UsageError" else LimakitError)(what, where=where, remedy=remedy)
                if kind == BROKEN:
                    fault = RuntimeError(f"{data.decode().strip().splitlines()[-1]} (in {name}, {task.path})")
                    fault.add_note(data.decode())
                    raise fault
                if data:
                    with atomic_file(place) as file:
                        file.write(data)
                yield place


@cache
def code_hash() -> str:
    """Hash of the code that reads and judges, so that a result made by other code is made again."""
    digest = sha256()
    for folder in ("sources", "curate"):
        for file in sorted((Path(__file__).parent.parent / folder).rglob("*")):
            if file.suffix in (".py", ".toml"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
