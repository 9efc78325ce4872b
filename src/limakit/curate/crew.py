"""The processes that do the tasks of a run: Daft on this machine, or Daft on a Ray cluster. The only file that imports Daft.

Daft runs in a process of its own, a foreman, which is told the calls and sends the answers back through a pipe. What Daft 0.6 does when it is
stopped in the middle (it aborts the interpreter at its exit, leaves its workers running to the end of their task, and ends without a
word on a signal that Python ignores) so ends with the foreman: it and its workers are one process group, which is killed as one.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from io import BytesIO
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Thread
from typing import Any

from ..errors import LimakitError, UsageError
from ..workspace import atomic_file
from .kept import write_kept

WHOLE = 64_000_000  # bytes; a larger table is kept in the pieces in which it was made, so that it is not held twice
START_SECONDS = 60.0  # for Daft to be there and a cluster to answer
KNOCK_SECONDS = 5.0  # for a machine to take a connection

_ENVIRONMENT = {
    # neither library may report its use to anybody
    "DO_NOT_TRACK": "true",
    "DAFT_ANALYTICS_ENABLED": "0",
    "SCARF_NO_ANALYTICS": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # nobody sees their bars
    "DAFT_PROGRESS_BAR": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # a file called json.py in the folder where the command runs is no module of the processes that it starts
    "PYTHONSAFEPATH": "1",
    # each process has a core; NumPy's BLAS, which no task uses, would start a thread for every core in each of them, and these spin when they start
    "OPENBLAS_NUM_THREADS": "1",
    # the C library gives large pieces of memory back at once and maps them afresh, which costs a scan more than its work
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 25),
}


@dataclass(frozen=True)
class Call:
    """A task as it travels: `function` is "module:name". `place`: where to put the table (None: send it back). `code`: the hash of the code
    that must do it, told where it is done on other machines."""

    function: str
    path: str
    arguments: dict[str, Any]
    place: str | None
    code: str | None


DONE, FAILED, BROKEN = b"d", b"f", b"b"  # an answer begins with: done (a table or nothing follows), an error for users, a fault of ours


def answer(call: Call) -> bytes:
    """Do one task, wherever this runs: its table in its place or as the bytes that belong there (kept.py), or what went wrong."""
    try:
        return DONE + _do(call)
    except LimakitError as error:
        told = [type(error).__name__, error.what, str(error.where or "") or None, error.remedy]
    except MemoryError:
        told = ["LimakitError", "out of memory", call.path, "close other programs, or curate on a larger machine"]
    except Exception:
        return BROKEN + traceback.format_exc().encode("utf-8", "replace")
    return FAILED + json.dumps(told).encode()


def _do(call: Call) -> bytes:
    if call.code is not None:
        _check_machine(call)
    module, _, function = call.function.partition(":")
    table = getattr(import_module(module), function)(Path(call.path), **call.arguments)
    if table.nbytes < WHOLE:
        table = table.combine_chunks()
    if call.place is not None:
        with atomic_file(Path(call.place)) as file:
            write_kept(file, table)
        return b""
    sink = BytesIO()
    write_kept(sink, table)
    return sink.getvalue()


def _check_machine(call: Call) -> None:
    """Raises LimakitError where this machine of a cluster has other code than the one that asks, or does not see the file."""
    from .engine import code_hash

    if call.code != code_hash():
        what = f"the machine {platform.node()} has another limakit than this one"
        raise LimakitError(what, remedy="install the same version on every machine of the cluster")
    if not Path(call.path).exists():
        what = f"is not there on the machine {platform.node()}"
        raise LimakitError(what, where=call.path, remedy="every machine of the cluster must see the sources under the same path")


def answers(calls: list[Call], cluster: str | None) -> Generator[bytes]:
    """The answers to calls, in their order, from processes of this machine or of the cluster at `cluster`, host:port.

    Raises UsageError where no cluster answers, and LimakitError where a process has died. However this ends, nothing that it started is left.
    """
    if cluster is not None:
        _knock(cluster)
    reader, writer = Pipe(duplex=False)
    with tempfile.TemporaryFile() as said, reader:
        command = [sys.executable, "-P", "-m", "limakit.curate.crew", str(writer.fileno()), str(os.getpid())]
        foreman = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            pass_fds=[writer.fileno()],
            start_new_session=True,
            env=os.environ | _ENVIRONMENT,
        )
        writer.close()
        try:
            assert foreman.stdin is not None
            with suppress(BrokenPipeError), foreman.stdin as orders:  # one that died is told below
                orders.write(json.dumps([cluster, [asdict(call) for call in calls]]).encode())
            if not reader.poll(START_SECONDS):
                raise _no_cluster(cluster, f"no answer within {START_SECONDS:.0f} seconds")
            _started(reader.recv_bytes(), cluster)
            for _ in calls:
                yield reader.recv_bytes()
        except EOFError:
            raise LimakitError(
                f"the process that curates has died: {_last_line(said)}",
                remedy="run the same command again: what is done is kept; if it dies again, on a larger machine or fewer cores",
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(foreman.pid, signal.SIGKILL)
            foreman.wait()


def _knock(address: str) -> None:
    """Raises UsageError where nobody listens; Ray would try for minutes. "auto" is Ray's word for the cluster of this machine."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError("is no address of a cluster", where=address, remedy="give host:port, as ray start --head says it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str | None, why: str) -> LimakitError:
    if address is None:
        return LimakitError(f"Daft does not start: {why}", remedy="run the same command again, with less other work on the machine")
    return UsageError(
        f"no Ray cluster answers: {why[:200]}", where=address, remedy="start one (ray start --head), and give its address, host:port"
    )


def _started(word: bytes, cluster: str | None) -> None:
    """What the foreman says first: nothing, or why there are no workers."""
    if word == b"ray":
        raise UsageError("--cluster needs ray, which is not installed", remedy="pip install 'limakit[cluster]'")
    if word:
        raise _no_cluster(cluster, word.decode())


def _last_line(said: Any) -> str:
    said.seek(0)
    lines = said.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "it was killed"


def main() -> None:
    """The foreman: python -m limakit.curate.crew FD PARENT, with the calls on stdin."""
    pipe, parent = Connection(int(sys.argv[1]), readable=False), int(sys.argv[2])
    Thread(target=_end_without, args=(parent,), daemon=True).start()
    cluster, calls = json.load(sys.stdin)
    logging.basicConfig(level=logging.CRITICAL)
    workers = os.cpu_count() or 1
    try:
        workers = _connect(cluster) if cluster is not None else workers
    except ModuleNotFoundError as error:
        pipe.send_bytes((error.name or "ray").encode())
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        pipe.send_bytes((str(error).splitlines() or [type(error).__name__])[0].encode())
    else:
        pipe.send_bytes(b"")
        try:
            for one in _daft(calls, workers, on_ray=cluster is not None):
                pipe.send_bytes(one)
        except Exception:
            traceback.print_exc()
        sys.stderr.flush()
    os._exit(0)  # an orderly exit while Daft's threads end aborts


def _end_without(parent: int) -> None:
    """End the foreman and its workers when the process that waits for them has ended, however it did."""
    while os.getppid() == parent:
        time.sleep(0.3)
    os.killpg(0, signal.SIGKILL)


def _connect(address: str) -> int:
    """Connect Daft to the cluster; returns its cores."""
    import daft
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    daft.set_runner_ray()
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _daft(calls: list[dict[str, Any]], workers: int, *, on_ray: bool) -> Iterator[bytes]:
    import daft

    if not on_ray:
        daft.set_runner_native()  # left to itself Daft loads Ray, to see whether this is a cluster: a third of what a start takes

    @daft.cls(max_concurrency=min(workers, len(calls)), use_process=True)
    class Worker:
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
        def answer(self, calls: daft.Series) -> list[bytes]:
            with _quiet():
                return [number.to_bytes(8) + answer(Call(**call)) for number, call in map(json.loads, calls.to_pylist())]

    frame = daft.from_pydict({"call": [json.dumps([number, call]) for number, call in enumerate(calls)]})
    if on_ray:
        frame = frame.into_partitions(len(calls))
    frame = frame.select(Worker().answer(frame["call"]).alias("answer"))  # type: ignore[attr-defined, arg-type]
    for number, row in enumerate(frame.iter_rows(results_buffer_size=2 * workers)):
        if int.from_bytes(row["answer"][:8]) != number:  # Daft leaves out the rows of a process that has died, and says so later
            raise RuntimeError(f"no answer to task {number + 1} of {len(calls)}")
        yield row["answer"][8:]


@contextmanager
def _quiet() -> Iterator[None]:
    """What a task prints goes nowhere: Daft reads its processes' streams after their answer only, and a full pipe would stop both."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


if __name__ == "__main__":
    main()
