"""How many threads a process computes with on the CPU: a run's last bits depend on it, so the recipe may fix it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many for a block; None: as many as torch takes by itself (the machine's cores, or what OMP_NUM_THREADS says)."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
