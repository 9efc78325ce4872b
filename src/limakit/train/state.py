"""The optimiser's state on disk: what a run needs, besides the newest epoch's weights, to go on, on as many ranks as it then has.

    optimizer-00000-000.safetensors   of each rank that has a part, its rows of each tensor, a few GB a file
    parameters.json                   the parameters that have a state

One way for one rank and for many. A file's header says for each tensor which rows of the whole it holds, and a rank reads the rows that it needs
from whichever files have them. Not torch's distributed checkpoint: its index is a pickle, and its safetensors writer, which has none,
holds each rank's part in memory twice.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import LimakitError
from ..model.save import rust_io_errors
from ..workspace import write_json
from .optimizer import optimizer_tensors, parameters_with_state, restore_optimizer
from .ranks import ALONE, Ranks
from .shard import Rows, rows_of

FILE_BYTES = 4 * 2**30  # so much of the state is in host memory at a time
ROWS = "rows"  # the header's key: {tensor: [first row, rows of the whole]}


def save_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> None:
    """Write this rank's part of the state into a folder that all ranks see; rank 0's also holds what all have alike."""
    parameters = dict(model.named_parameters())
    part: dict[str, torch.Tensor] = {}
    rows: dict[str, tuple[int, int]] = {}
    files = 0
    for name, tensor in optimizer_tensors(model, optimizer).items():
        if tensor.ndim == 0:
            here, mine = (0, 0), ranks.first
        else:
            own = rows_of(parameters[name.rpartition(".")[0]])
            here, mine = (own.start, own.of), own.mine and own.stop > own.start
        if not mine:
            continue
        if part and _bytes(part) + tensor.nbytes > FILE_BYTES:
            _write(folder / f"optimizer-{ranks.rank:05}-{files:03}.safetensors", part, rows)
            part, rows, files = {}, {}, files + 1
        part[name], rows[name] = tensor.cpu().contiguous(), here
    if part or ranks.first:
        _write(folder / f"optimizer-{ranks.rank:05}-{files:03}.safetensors", part, rows)
    if ranks.first:
        write_json(folder / "parameters.json", parameters_with_state(model, optimizer))


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer, remedy: str) -> None:
    """Take this rank's part of a state that any number of ranks wrote. Raises LimakitError, with this remedy, if it is unreadable or not that
    of this model."""
    try:
        names = json.loads((folder / "parameters.json").read_bytes())
        parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        tensors = {}
        with ExitStack() as stack:
            for name, pieces in _index(folder, stack).items():
                parameter = parameters[name.rpartition(".")[0]]
                tensors[name] = pieces[0].all() if pieces[0].of == 0 else _read(pieces, rows_of(parameter), parameter.shape)
            restore_optimizer(model, optimizer, tensors, names)
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise LimakitError(f"cannot read the optimiser's state: {error}", where=folder, remedy=remedy) from error


@dataclass(frozen=True)
class _Piece:
    """Rows of one tensor in one file; `of` is 0 for a number, which has none."""

    file: Any
    name: str
    start: int
    of: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + self.shape[0]

    def all(self) -> torch.Tensor:
        return self.file.get_tensor(self.name)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        return self.file.get_slice(self.name)[start - self.start : stop - self.start]


def _index(folder: Path, stack: ExitStack) -> dict[str, list[_Piece]]:
    """Every tensor's pieces in the order of their rows."""
    index: dict[str, list[_Piece]] = {}
    for path in sorted(folder.glob("optimizer-*.safetensors")):
        file = stack.enter_context(safe_open(path, framework="pt"))
        for name, (start, of) in json.loads(file.metadata()[ROWS]).items():
            index.setdefault(name, []).append(_Piece(file, name, start, of, tuple(file.get_slice(name).get_shape())))
    return {name: sorted(pieces, key=lambda piece: piece.start) for name, pieces in index.items()}


def _read(pieces: list[_Piece], wanted: Rows, shape: torch.Size) -> torch.Tensor:
    """The wanted rows of a parameter's tensor. Raises ValueError where they are not all there, once."""
    ends = [0, *(piece.stop for piece in pieces)]
    if [piece.start for piece in pieces] != ends[:-1] or {piece.of for piece in pieces} != {wanted.of} or ends[-1] != wanted.of:
        raise ValueError(f"{pieces[0].name} is not whole")
    if any(piece.shape[1:] != tuple(shape[1:]) for piece in pieces):
        raise ValueError(f"{pieces[0].name} has another shape")
    parts = [
        piece.rows(max(piece.start, wanted.start), min(piece.stop, wanted.stop))
        for piece in pieces
        if piece.start < wanted.stop and piece.stop > wanted.start
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else pieces[0].rows(pieces[0].start, pieces[0].start)


def _bytes(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _write(path: Path, tensors: dict[str, torch.Tensor], rows: dict[str, tuple[int, int]]) -> None:
    with rust_io_errors():
        save_file(tensors, path, metadata={ROWS: json.dumps(rows)})
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # by the machine that wrote it
