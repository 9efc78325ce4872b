"""Where the work is done: the same plain functions here, in processes of this machine (Daft), or on a Ray cluster (Daft on Ray).

A task is a function of one file's bytes and some plain arguments that returns a table. Its result is kept under a name made from the
function's code, the arguments and the file's content, so what was done once is not done again: after a kill, after a change of the recipe
that does not concern it, and on whatever machine. Results come in the order of the tasks. This is the only file that imports Daft.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import LimakitError, UsageError
from ..progress import Progress
from ..workspace import atomic_file, sha256_file, sha256_json

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

        `function` is a module's own. Raises the first task's LimakitError, in their order; results that came before it are kept.
        """
        places = [self.place(function, task) for task in tasks]
        todo = {place: task for task, place in zip(tasks, places, strict=True) if not place.exists()}  # equal tasks once
        fresh = zip(todo, self._results(function, list(todo.values())), strict=True)
        done = shown = 0
        with Progress(label, max(sum(task.weight for task in tasks) // MB, 1), "MB") as bar:
            for task, place in zip(tasks, places, strict=True):
                while not place.exists():
                    where, data = next(fresh)
                    with atomic_file(where) as file:
                        file.write(data)
                with pa.memory_map(str(place)) as file:
                    yield pa.ipc.open_file(file).read_all()
                done += task.weight
                bar.advance(done // MB - shown)
                shown = done // MB
            next(fresh, None)  # Daft winds up after its last answer

    def place(self, function: Callable[..., pa.Table], task: Task) -> Path:
        """Where the result of a task is kept."""
        name = sha256_json([code_hash(), function.__module__, function.__name__, task.arguments, task.content])[:40] + ".arrow"
        self.used.add(name)
        return self.cache / name

    def _results(self, function: Callable[..., pa.Table], tasks: list[Task]) -> Iterator[bytes]:
        name = f"{function.__module__}:{function.__name__}"
        calls = [json.dumps([name, str(task.path.resolve()), task.arguments]) for task in tasks]
        if self.cluster is None and (len(tasks) < 2 or sum(task.weight for task in tasks) < SMALL):
            answers: Iterator[bytes] = map(_call, calls)
        else:
            answers = _daft(calls, self.cluster)
        for answer in answers:
            if answer[:1] == _FAILED:
                kind, what, where, remedy = json.loads(answer[1:])
                raise (UsageError if kind == "UsageError" else LimakitError)(what, where=where, remedy=remedy)
            yield answer[1:]


_DONE, _FAILED = b"d", b"f"


def _call(call: str) -> bytes:
    """One task, wherever this runs: its table as Arrow IPC, or the error that a user reads."""
    name, path, arguments = json.loads(call)
    module, _, function = name.partition(":")
    try:
        table = getattr(import_module(module), function)(Path(path), **arguments)
    except LimakitError as error:
        return _FAILED + json.dumps([type(error).__name__, error.what, str(error.where or "") or None, error.remedy]).encode()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return _DONE + sink.getvalue().to_pybytes()


def _daft(calls: list[str], cluster: str | None) -> Iterator[bytes]:
    """The answers to calls, in their order, from processes of this machine or of the cluster."""
    # neither library may report its use to anybody, and Daft's own bars would draw over ours
    os.environ |= {"DO_NOT_TRACK": "true", "DAFT_ANALYTICS_ENABLED": "0", "SCARF_NO_ANALYTICS": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"DAFT_PROGRESS_BAR": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    import daft

    workers = _start(cluster)

    @daft.cls(max_concurrency=min(workers, len(calls)), use_process=True)
    class Worker:
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
        def answer(self, calls: daft.Series) -> list[bytes]:
            return [_call(call) for call in calls.to_pylist()]

    frame = daft.from_pydict({"call": calls})
    if cluster is not None:
        frame = frame.into_partitions(len(calls))
    frame = frame.select(Worker().answer(frame["call"]).alias("answer"))  # type: ignore[attr-defined, arg-type]
    try:
        for row in frame.iter_rows(results_buffer_size=2 * workers):
            yield row["answer"]
    except (daft.exceptions.DaftCoreException, RuntimeError) as error:
        what = f"a process that curates has died: {str(error).splitlines()[-1][:200]}"
        raise LimakitError(what, remedy="run the same command again: what is done is kept; with less memory, on fewer cores") from error


@cache
def _start(cluster: str | None) -> int:
    """Settle where Daft works, which it takes once a process; returns how many cores there are. Raises UsageError where there is no cluster."""
    import daft

    if cluster is None:
        daft.set_runner_native()
        return os.cpu_count() or 1
    try:
        import ray
    except ModuleNotFoundError:
        raise UsageError("--cluster needs ray, which is not installed", remedy="pip install 'limakit[cluster]'") from None
    try:
        ray.init(address=cluster, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        what = f"no Ray cluster answers: {str(error).splitlines()[0][:200]}"
        raise UsageError(what, where=cluster, remedy="start one (ray start --head), and give its address, host:port") from None
    daft.set_runner_ray(noop_if_initialized=True)
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


@cache
def code_hash() -> str:
    """Hash of the code that reads and judges, so that a result made by other code is made again."""
    digest = sha256()
    for folder in ("sources", "curate"):
        for file in sorted((Path(__file__).parent.parent / folder).rglob("*")):
            if file.suffix in (".py", ".toml"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
