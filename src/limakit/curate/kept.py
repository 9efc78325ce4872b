"""A result as it is kept on disk: a table as Arrow IPC, and after it the checksum (CRC-32) of all that, so that no flipped byte passes as data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import pyarrow as pa

from ..errors import LimakitError

_CHECKSUM = 4  # bytes, little-endian, at the end


class DamagedError(ValueError):
    """A result that is not what was written."""


class _Summed:
    """Writes to a file and adds up the checksum of what it has written."""

    closed = False

    def __init__(self, file: BinaryIO):
        self.file, self.sum = file, 0

    def write(self, data: bytes) -> int:
        self.sum = crc32(data, self.sum)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write_kept(file: BinaryIO, table: pa.Table) -> None:
    """Write a table to a file that is open and empty."""
    summed = _Summed(file)
    with pa.ipc.new_file(summed, table.schema) as writer:
        writer.write_table(table)
    file.write(summed.sum.to_bytes(_CHECKSUM, "little"))


def read_kept(path: Path) -> pa.Table:
    """The table, mapped from disk; all of it is read once, for the checksum. Raises DamagedError, and LimakitError for a file that cannot be opened."""
    try:
        if path.stat().st_size <= _CHECKSUM:
            raise DamagedError
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
    except OSError as error:
        what = f"cannot read: {os.strerror(error.errno) if error.errno else error}"
        raise LimakitError(
            what, where=path, remedy="check the folder and its permissions; nothing but time is lost if it is removed"
        ) from None
    body = data.slice(0, data.size - _CHECKSUM)
    if crc32(body).to_bytes(_CHECKSUM, "little") != data.slice(body.size).to_pybytes():
        raise DamagedError
    return pa.ipc.open_file(pa.BufferReader(body)).read_all()
