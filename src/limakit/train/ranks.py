"""The processes that train together: one alone, or as many as torchrun started.

They share three things: collectives (sums, gradients, weights), a store of small answers (`lead`, `gather`, `wait`), and their end. A rank that
fails says so in the store; a thread in every other one looks there each second and ends its process. So nothing waits for a rank that is gone,
whatever it waits in, on whichever node; of all the ranks the one that failed first is heard.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..errors import LimakitError, UsageError
from ..model.load import Device, pick_device
from ..progress import muted
from ..workspace import atomic_dir, sha256_file, write_error

T = TypeVar("T")
CPU = torch.device("cpu")
LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets
MEET = timedelta(minutes=15)  # until every process has started, on every node
COLLECTIVE = timedelta(
    minutes=30
)  # one exchange of tensors: longer means that a device hangs. What takes its time waits in the store instead
LOOK = 1.0  # seconds between two looks at the others
SILENT = 120.0  # seconds without a sign of life after which a rank is gone: with its whole node, for else torchrun would have told
GRACE = 3.0  # seconds the rank that failed has, to tell its error and to be the first that torchrun sees end
FAILED = "failed"


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and the device it works on."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    local_size: int = 1  # of them on this machine
    store: Any = None  # where several are: a torch.distributed.Store
    _turns: Iterator[int] = field(
        default_factory=itertools.count, repr=False, compare=False
    )  # the ranks take the same turns in the same order

    @property
    def first(self) -> bool:
        """Whether this rank speaks, and writes what is written once."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over the ranks, in float64."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return sums.tolist()

    def lead(self, function: Callable[[], T]) -> T:
        """What `function` returns on rank 0, on every rank; it is called there alone, takes as long as it takes, and returns JSON's types.

        Where it raises, rank 0 fails, and with it the run: see `joined`.
        """
        if self.size == 1:
            return function()
        key = f"lead/{next(self._turns)}"
        if self.first:
            answer = function()
            self.store.set(key, json.dumps(answer))
            return answer
        return json.loads(self._get(key))

    def gather(self, value: T) -> list[T]:
        """Every rank's value (of JSON's types), by rank, on every rank."""
        if self.size == 1:
            return [value]
        turn = next(self._turns)
        self.store.set(f"gather/{turn}/{self.rank}", json.dumps(value))
        return [json.loads(self._get(f"gather/{turn}/{rank}")) for rank in range(self.size)]

    def wait(self) -> None:
        """Until every rank is here, however long that takes."""
        self.gather(None)

    def _get(self, key: str) -> bytes:
        pause = 0.001
        while not self.store.check([key]):  # not store.wait: it takes no Ctrl-C, and it gives up
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        return self.store.get(key)


ALONE = Ranks()


@contextmanager
def joined(device: Device) -> Iterator[Ranks]:
    """The ranks that torchrun started, joined for a block; this process alone where it started none.

    Only rank 0 speaks in the block. An error in any rank ends all of them: it is raised where it happened, with a note of the rank, and the
    others leave without a word and with exit code 1. Raises UsageError where the environment names other ranks than are there.
    """
    here = _launched()
    if here is None:
        yield Ranks(device=pick_device(device))
        return
    ranks = _join(here, pick_device(device))
    over = threading.Event()
    threading.Thread(target=_watch, args=(ranks.store.clone(), ranks.rank, ranks.size, over), daemon=True).start()
    try:
        with muted(not ranks.first):
            yield ranks
            ranks.wait()  # nobody leaves while another may still fail
    except BaseException as error:
        over.set()
        if not _tell(ranks, error):
            time.sleep(GRACE)
            os._exit(1)
        told = _gone(error) if _lost(error) else error
        if ranks.first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            time.sleep(GRACE)  # the store is in this process: the others have to read there that it failed
        told.add_note(f"rank {ranks.rank} of {ranks.size} on {socket.gethostname()}")
        raise told  # noqa: B904 (it is the error itself, or was made from it)
    over.set()
    dist.destroy_process_group()
    _leave(ranks)


def _launched() -> dict[str, int] | None:
    """Rank and sizes as torchrun's environment has them, or None for a process by itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    absent = [name for name in LAUNCH if name not in os.environ]
    if absent:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(absent)} is not set", where="the environment",
            remedy="start with torchrun, which sets them all (docs/cluster.md), or unset WORLD_SIZE to train with one process",
        )  # fmt: skip
    return {name: int(os.environ[name]) for name in LAUNCH[:4]}


def _join(here: dict[str, int], device: torch.device) -> Ranks:
    """Meet the other ranks, with gloo on CPU and NCCL on CUDA, where each rank has the GPU of its local number."""
    rank, size, local, local_size = here.values()
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"{local_size} processes here, but PyTorch sees {torch.cuda.device_count()} GPUs",
                where=socket.gethostname(), remedy="start one process for each GPU: torchrun --nproc-per-node gpu",
            )  # fmt: skip
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=MEET)))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=dist.PrefixStore("torch", store), rank=rank, world_size=size, timeout=COLLECTIVE,
            device_id=device if device.type == "cuda" else None,
        )  # fmt: skip
    except (dist.DistError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise LimakitError(
            f"the {size} ranks do not find each other: {reason}",
            where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            remedy="start all nodes within 15 minutes, with the same --rdzv-endpoint, which each of them can reach (docs/cluster.md)",
        ) from error
    return Ranks(rank, size, device, local_size, dist.PrefixStore("limakit", store))


def _watch(store: Any, rank: int, size: int, over: threading.Event) -> None:
    """Give a sign of life each second and look for the next rank's; end this process where one has failed, is silent, or the store is gone."""
    heard, since, other = b"", time.monotonic(), f"alive/{(rank + 1) % size}"
    try:
        for beat in itertools.count():
            if over.wait(LOOK):
                return
            store.set(f"alive/{rank}", str(beat))
            if store.check([FAILED]):
                break
            now = store.get(other) if store.check([other]) else heard
            if now != heard:
                heard, since = now, time.monotonic()
            elif time.monotonic() - since > SILENT:
                if store.compare_set(FAILED, "", "silent") != b"silent":
                    break
                print(
                    f"limakit: rank {(rank + 1) % size} of {size} has been silent for {SILENT:.0f} s: its node is gone",
                    file=sys.stderr,
                    flush=True,
                )
                break
    except (dist.DistError, RuntimeError):  # whoever keeps the store has ended, so the run has
        pass
    if not over.wait(GRACE):
        os._exit(1)


def _tell(ranks: Ranks, error: BaseException) -> bool:
    """Have every rank end. Whether this is the first to fail, so that its error is the one to be heard."""
    try:
        if _lost(error):  # what follows from another's failure waits for that
            end = time.monotonic() + 3 * LOOK
            while time.monotonic() < end and not ranks.store.check([FAILED]):
                time.sleep(0.05)
        return ranks.store.compare_set(FAILED, "", str(ranks.rank)) == str(ranks.rank).encode()
    except (dist.DistError, RuntimeError):  # the store is gone, and with it whoever failed
        return not _lost(error)


def _lost(error: BaseException) -> bool:
    """Whether a collective failed: gloo and NCCL raise these where the other side is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _gone(error: BaseException) -> LimakitError:
    gone = LimakitError(
        "another rank is gone: it ended without a word",
        remedy="look for its exit code in what torchrun says; -9 is mostly the kernel, out of memory (dmesg)",
    )
    gone.__cause__ = error
    return gone


def _leave(ranks: Ranks) -> None:
    """Rank 0 leaves last: it may be the one that keeps the store. (Under torchrun that is the agent.)"""
    try:
        if not ranks.first:
            ranks.store.add("left", 1)
            return
        end = time.monotonic() + 10
        while ranks.store.add("left", 0) < ranks.size - 1 and time.monotonic() < end:
            time.sleep(0.01)
    except (dist.DistError, RuntimeError):
        pass  # everything is done and written


@contextmanager
def shared_dir(path: Path, ranks: Ranks) -> Iterator[Path]:
    """`atomic_dir` for all ranks: each writes its files into the folder, which appears whole when all have ended the block, or not at all.

    The file system has to be one that all nodes see.
    """
    if ranks.size == 1:
        with atomic_dir(path) as part:
            yield part
    elif ranks.first:
        with atomic_dir(path) as part:
            ranks.lead(lambda: str(part))
            yield part
            ranks.wait()
        ranks.wait()
    else:
        part = Path(ranks.lead(lambda: ""))
        if not part.is_dir():
            raise LimakitError(
                f"this node ({socket.gethostname()}) does not see the folder that rank 0 made", where=part,
                remedy="keep the workspace on a file system that all nodes share, under the same path (docs/cluster.md)",
            )  # fmt: skip
        try:
            yield part
        except OSError as error:
            raise write_error(error, path) from error
        ranks.wait()
        ranks.wait()


def hashes_together(folder: Path, ranks: Ranks) -> dict[str, str]:
    """sha256_tree of a folder that all ranks see, its files shared out among them: for large models hashing takes as long as writing."""
    ranks.wait()  # until all has been written
    names = ranks.lead(lambda: sorted(str(p.relative_to(folder)) for p in folder.rglob("[!.]*") if p.is_file()))
    shares = ranks.gather({name: sha256_file(folder / name) for name in names[ranks.rank :: ranks.size]})
    return dict(sorted(item for share in shares for item in share.items()))
