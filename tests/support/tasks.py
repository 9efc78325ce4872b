"""What the tests of the engine have done in other processes: module-level functions of a file, as its readers are."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa

from limakit.errors import LimakitError, UsageError


def count(path: Path, *, base: int = 0, seconds: float = 0.0) -> pa.Table:
    """The length of a file and its first word, after a while."""
    time.sleep(seconds)
    data = path.read_bytes()
    return pa.table({"bytes": [len(data) + base], "first": [data.split()[0].decode() if data else ""]})


def whereabouts(path: Path) -> pa.Table:
    """Which process did it."""
    time.sleep(0.3)
    return pa.table({"pid": [os.getpid()]})


def switches(path: Path, *, n: int) -> pa.Table:
    """Whether the libraries themselves say that they report nothing, as they are in the process that does the work."""
    from daft.scarf_telemetry import opted_out
    from ray._common.usage import usage_lib

    return pa.table({"daft": [opted_out()], "ray": [not usage_lib.usage_stats_enabled()]})


def noisy(path: Path) -> pa.Table:
    """More on both streams than a pipe holds."""
    for stream in (sys.stdout, sys.stderr):
        stream.write("much to say\n" * 50_000)
    return count(path)


def large(path: Path, *, mb: int) -> pa.Table:
    """A table of so many megabytes."""
    return pa.table({"x": pa.array(bytes([path.read_bytes()[0]]) * 1_000_000 for _ in range(mb))})


def picky(path: Path, *, kind: str = "run") -> pa.Table:
    """Takes no file that begins with "bad"."""
    if path.read_bytes().startswith(b"bad"):
        error = UsageError if kind == "usage" else LimakitError
        raise error("is bad", where=f"{path.name}, byte 0", remedy="write a good one")
    return count(path)


def buggy(path: Path) -> pa.Table:
    """Has a fault that is ours, not the user's."""
    return pa.table({"x": [1 / (len(path.read_bytes()) - len(path.read_bytes()))]})


def fatal(path: Path, *, mark: str) -> pa.Table:
    """The process is killed the first time that a file "deadly" is met; `mark` is a file that remembers it."""
    time.sleep(0.2)
    if path.read_bytes().startswith(b"deadly") and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return count(path)


def logged(path: Path, *, log: str) -> pa.Table:
    """Notes in a file that it was called, by which process, and on which node of a cluster."""
    node = "here"
    if "ray" in sys.modules:
        import ray

        if ray.is_initialized():
            node = ray.util.get_node_ip_address()
            time.sleep(0.3)  # so that one node cannot do it all before the other has begun
    with open(log, "a") as file:
        file.write(f"{path.name} {os.getpid()} {node}\n")
    return count(path)


def slow(path: Path, *, log: str) -> pa.Table:
    """Notes its process, then takes a minute."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(60)
    return count(path)
