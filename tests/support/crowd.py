"""Ranks without torchrun: real processes, forked from a server that has torch loaded, with the environment that torchrun would set.

torchrun itself takes 10 s of a core to start two processes; the tests that are about it say so and are few.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["rank_jobs"])


def _start_server() -> None:
    """It finds this folder by the environment alone (until Python 3.13 it forgets sys.path, and then loads nothing beforehand)."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _run(job: str, arguments: tuple, rank: int, size: int, local_size: int, port: int, folder: Path, keeper: str) -> None:
    out = os.open(folder / f"rank-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    sizes = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank % local_size, "LOCAL_WORLD_SIZE": local_size}
    os.environ |= {name: str(value) for name, value in sizes.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = keeper
    import rank_jobs
    import torch

    torch.set_num_threads(1)
    answer = rank_jobs.call(getattr(rank_jobs, job), arguments)
    (folder / f"rank-{rank}.json").write_text(json.dumps(answer))


class Crowd:
    """So many ranks that do one job of rank_jobs.py. What they print lies in rank-N.txt of the folder, what they return in rank-N.json.

    `port`: where somebody keeps their store, as torchrun does; else rank 0 keeps one.
    """

    def __init__(self, folder: Path, size: int, job: str, *arguments: Any, local_size: int | None = None, port: int = 0):
        _start_server()
        self.folder, self.size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        where = (port or free_port(), folder, str(bool(port)))
        self.processes = [
            _server.Process(target=_run, args=(job, arguments, rank, size, local_size or size, *where)) for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def wait(self, seconds: float = 120) -> list[int]:
        """Exit codes by rank, once all have ended."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        stuck = [rank for rank, process in enumerate(self.processes) if process.exitcode is None]
        for rank in stuck:
            self.processes[rank].kill()
        assert not stuck, f"ranks {stuck} did not end:\n" + "\n".join(map(self.said, range(self.size)))
        return [int(process.exitcode or 0) for process in self.processes]

    def said(self, rank: int) -> str:
        path = self.folder / f"rank-{rank}.txt"
        return path.read_text() if path.exists() else ""

    def answers(self) -> list[Any]:
        codes = self.wait()
        assert codes == [0] * self.size, f"{codes}\n" + "\n".join(map(self.said, range(self.size)))
        return [json.loads((self.folder / f"rank-{rank}.json").read_text()) for rank in range(self.size)]

    def kill(self, rank: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def torchrun(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("torchrun")), *map(str, arguments)]
