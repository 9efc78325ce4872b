"""The processes that train together: one alone, or as many as torchrun started.

They share three things: collectives (sums, gradients, weights), a store of small answers (`lead`, `gather`, `wait`), and their end. A rank that
fails says so in the store; a thread in every other one looks there each second and ends its process. One that was killed says nothing, so
each also looks whether the next one still gives signs of life. Thus nothing waits for a rank that is gone, whatever it waits in, on whichever
node; of all the ranks the one that failed first is heard.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
import uuid
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
SILENT = 30.0  # seconds without a sign of life after which a rank is gone. Saving or hashing large files keeps no thread from giving it
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
        for _ in _looks():  # not store.wait: it takes no Ctrl-C, and it gives up
            if self.store.check([key]):
                break
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
    rank, size, local, local_size = here.values()
    store = _meet(rank, size)
    over = threading.Event()
    threading.Thread(target=_watch, args=(store.clone(), rank, size, over), daemon=True).start()
    try:
        ranks = Ranks(rank, size, _join(rank, size, local, local_size, pick_device(device), store), local_size, store)
        with muted(not ranks.first):
            yield ranks
            ranks.wait()  # nobody leaves while another may still fail
    except BaseException as error:
        over.set()
        if not _tell(store, rank, error):
            time.sleep(GRACE)
            os._exit(1)
        told = _gone(error) if _lost(error) else error
        if rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            time.sleep(GRACE)  # the store is in this process: the others have to read there that it failed
        told.add_note(f"rank {rank} of {size} on {socket.gethostname()}")
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


def _meet(rank: int, size: int) -> Any:
    """The store in which the ranks of this attempt have met, without what others left there: torchrun keeps one over its restarts.

    Its count of restarts is no name for an attempt, for nodes may count differently. So rank 0 draws one. The others knock, each with a word of its
    own drawn now, until rank 0 has answered that word; a former attempt cannot have.
    """
    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=MEET)))
        own, door = uuid.uuid4().hex, dist.PrefixStore("limakit/door", store)
        if rank:
            door.set(f"knock/{rank}", own)
        for _ in _looks(MEET):
            if rank == 0:
                for other in range(1, size):
                    if door.check([f"knock/{other}"]):
                        door.set(f"answer/{door.get(f'knock/{other}').decode()}", own)
                if door.add(f"in/{own}", 0) == size - 1:
                    return dist.PrefixStore(f"limakit/{own}", store)
            elif door.check([f"answer/{own}"]):
                attempt = door.get(f"answer/{own}").decode()
                door.add(f"in/{attempt}", 1)
                return dist.PrefixStore(f"limakit/{attempt}", store)
        raise TimeoutError("some have not started")
    except (dist.DistError, RuntimeError, ValueError, TimeoutError) as error:
        raise _apart(size, error) from error


def _join(rank: int, size: int, local: int, local_size: int, device: torch.device, store: Any) -> torch.device:
    """This rank's device, once the ranks exchange tensors: with gloo on CPU and NCCL on CUDA, where each has the GPU of its local number."""
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"{local_size} processes here, but PyTorch sees {torch.cuda.device_count()} GPUs",
                where=socket.gethostname(), remedy="start one process for each GPU: torchrun --nproc-per-node gpu",
            )  # fmt: skip
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=dist.PrefixStore("torch", store), rank=rank, world_size=size, timeout=COLLECTIVE,
            device_id=device if device.type == "cuda" else None,
        )  # fmt: skip
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise _apart(size, error) from error
    return device


def _apart(size: int, error: BaseException) -> LimakitError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return LimakitError(
        f"the {size} ranks do not find each other: {reason}",
        where=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        remedy="start all nodes within 15 minutes, with the same --rdzv-endpoint, which each of them can reach (docs/cluster.md)",
    )


def _looks(within: timedelta | None = None) -> Iterator[None]:
    """A turn whenever it is time to look again: soon at first, then ten times a second; without end, or as long as said."""
    end, pause = time.monotonic() + within.total_seconds() if within else float("inf"), 0.001
    while time.monotonic() < end:
        yield
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


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
                gone = f"rank {(rank + 1) % size} of {size} has given no sign of life for {SILENT:.0f} s: its process or its node is gone"
                print(f"limakit: {gone}", file=sys.stderr, flush=True)
                break
    except (dist.DistError, RuntimeError):  # whoever keeps the store has ended, so the run has
        pass
    if not over.wait(GRACE):
        os._exit(1)


def _tell(store: Any, rank: int, error: BaseException) -> bool:
    """Have every rank end. Whether this is the first to fail, so that its error is the one to be heard."""
    try:
        if _lost(error):  # what follows from another's failure waits for that
            end = time.monotonic() + 3 * LOOK
            while time.monotonic() < end and not store.check([FAILED]):
                time.sleep(0.05)
        return store.compare_set(FAILED, "", str(rank)) == str(rank).encode()
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
    """sha256_tree of a folder that all ranks see, its files shared out among them: for large models hashing takes as long as writing.

    Each rank names the files it sees and hashes only such: over NFS a node may see late what another has written.
    """
    ranks.wait()  # until all has been written
    seen = ranks.gather(sorted(str(p.relative_to(folder)) for p in folder.rglob("[!.]*") if p.is_file()))
    shares: list[list[str]] = [[] for _ in seen]
    for name in sorted(set().union(*seen)):
        least = min((rank for rank, names in enumerate(seen) if name in names), key=lambda rank: len(shares[rank]))
        shares[least].append(name)
    found = ranks.gather({name: sha256_file(folder / name) for name in shares[ranks.rank]})
    return dict(sorted(item for share in found for item in share.items()))
