"""The processes that train together: one alone, or as many as torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..model.load import Device, pick_device

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and the device it works on."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this rank speaks, and writes what is written once."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over the ranks, in float64."""
        return list(numbers)

    def wait(self) -> None:
        """Until every rank is here."""


ALONE = Ranks()


@contextmanager
def joined(device: Device) -> Iterator[Ranks]:
    """The ranks that torchrun started, joined for a block; this process alone where it started none."""
    yield Ranks(device=pick_device(device))
