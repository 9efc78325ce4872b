"""Memory as it is: what a device has free, and what this process took of it at most."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

GIB = 2**30


def amount(size: float) -> str:
    """Bytes for people."""
    return f"{size / GIB:,.2f} GiB" if size >= GIB else f"{size / 2**20:,.2f} MiB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a device's full memory; the CPU's is a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on the device now; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_bytes(device: torch.device) -> int:
    """The most this process had at once: of tensors on a GPU (torch.cuda.max_memory_allocated), else resident of everything, Python and
    libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def forget_peak(device: torch.device) -> None:
    """Count the peak anew from here, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # what getrusage tells starts again at what is resident now
    except OSError:
        pass
