"""A real Ray cluster of two machines that are both this one, at two loopback addresses."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def two_nodes(pythonpath: str) -> Iterator[str]:
    """The address of a cluster with one core at 127.0.0.1 and one at 127.0.0.2, whose workers find modules in `pythonpath`.

    Whatever happens, the processes that were started here, and no others, are gone at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # the names of Ray's sockets must stay below 108 bytes
    port = free_port()
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--disable-usage-stats", "--object-store-memory=200000000"]
    env = os.environ | {"PYTHONPATH": pythonpath, "TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    try:
        for more in (
            ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}/t"],
            [f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.2"],
        ):
            subprocess.run([*ray, *more], env=env, check=True, capture_output=True, timeout=90, stdin=subprocess.DEVNULL)
        yield f"127.0.0.1:{port}"
    finally:
        mine = [
            process for process in psutil.process_iter(["environ", "pid"]) if (process.info["environ"] or {}).get("TMPDIR") == str(folder)
        ]
        for process in mine:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(mine, timeout=10)
        shutil.rmtree(folder, ignore_errors=True)
