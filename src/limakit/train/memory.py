"""Memory as it is: what a device has free, and what this process took of it at most."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import torch

GIB = 2**30
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


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


def keep_freed(device: torch.device) -> None:
    """From here on the C library keeps what is freed for what comes next, up to 2 GiB, where it is glibc and the device is the CPU.

    As it comes, it gives a row's activations back to the system after each step and gets them again page by page, at a twentieth of a small
    model's time. What this process takes at its peak stays the same.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if device.type == "cpu" and mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most it accepts: single tensors above are given back all the same
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
