"""ndjson files as the Reddit dumps come: one JSON object a line, compressed with zstd (.zst) or plain, read as a stream however large.

A .zst is one frame or several, with windows of up to 2 GiB (the publishers' own scripts read them with max_window_size=2**31:
Watchful1/PushshiftDumps, scripts/combine_folder_multiprocess.py; ArthurHeitmann/arctic_shift, scripts/fileStreams.py). A frame needs memory as
large as its window, or as its content where that is smaller; beyond this a few megabytes are held. Damaged downloads are known
(PushshiftDumps issue 21, arctic_shift issue 37), so a file that ends within a frame is an error here, not an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from ..errors import LimakitError

WINDOW = 2**31
LONGEST = 16 << 20  # bytes of a line; Reddit's rows have some kilobytes, a few with many awards a few hundred
_COMPRESSED, _PLAIN = 1 << 14, 1 << 18  # bytes read at a time; 16 kB of .zst are some 200 kB of rows
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?\s*(.?)", re.DOTALL)  # a byte order mark, white space, and what the first row begins with


def blocks(path: Path) -> Iterator[bytes]:
    """A file's bytes in pieces, decompressed if it is called .zst. Raises LimakitError naming file and byte where it cannot be read to its end."""
    try:
        with open(path, "rb") as file:
            if path.suffix == ".zst":
                yield from _frames(file, path)
            else:
                while block := file.read(_PLAIN):
                    yield block
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None


def _frames(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Frame after frame; the library's own reader takes a truncated one for a whole."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame = None
    read = 0
    again = "download it again and compare its checksum with the publisher's"
    while data := file.read(_COMPRESSED):
        read += len(data)
        while data:
            frame = frame or decompressor.decompressobj()
            try:
                block = frame.decompress(data)
            except zstandard.ZstdError as error:
                reason = str(error).rpartition(": ")[2]
                what = "is no zstd file" if reason.startswith("Unknown frame") and read == len(data) else "is damaged"
                raise LimakitError(f"{what} ({reason}, bytes {read - len(data):,} to {read:,})", where=path, remedy=again) from None
            if block:
                yield block
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None or read == 0:
        raise LimakitError(f"is truncated: it ends within a zstd frame, at byte {read:,}" if read else "is empty", where=path, remedy=again)


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """(byte offset in the decompressed text, block, how much of it is whole lines); the last line may lack its newline. A line over LONGEST is told
    as an empty block."""
    at, tail, overlong = 0, b"", False
    for fresh in blocks(path):
        if at == 0 and not tail:
            _check_opening(fresh, path)
        skip = 0
        if overlong:
            skip = fresh.find(b"\n") + 1 or len(fresh)
            overlong = fresh[skip - 1 : skip] != b"\n"
            at += skip
        block = tail + fresh[skip:] if tail or skip else fresh
        end = block.rfind(b"\n") + 1
        if end:
            yield at, block, end
        at, tail = at + end, block[end:]
        if len(tail) > LONGEST:
            yield at, b"", 0
            at, tail, overlong = at + len(tail), b"", True
    if tail:
        yield at, tail, len(tail)


def _check_opening(block: bytes, path: Path) -> None:
    first = _OPENING.match(block)[1]  # type: ignore[index]
    if first not in (b"", b"{"):
        what = f"is no ndjson: its first row begins with {first!r}, not with a JSON object"
        raise LimakitError(what, where=path, remedy="name a dump as published: a JSON object a line, in .zst, .jsonl or .ndjson")


def lines_with(path: Path, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes | None]]:
    r"""(byte offset in the decompressed text, line without its newline) of each line in which `pattern` is found, in the file's order.

    Lines are split on b"\n" alone and never decoded; a line over LONGEST bytes comes as None, whatever is in it. The pattern must not match
    across a newline.
    """
    for at, block, end in _whole_lines(path):
        if not block:
            yield at, None
        start = 0
        while hit := pattern.search(block, start, end):
            start = max(block.rfind(b"\n", start, hit.start()) + 1, start)
            stop = block.find(b"\n", hit.end(), end)
            line = block[start : stop if stop >= 0 else end]
            yield at + start, line
            start += len(line) + 1


def lines_at(path: Path, offsets: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of the lines that begin at these byte offsets of the decompressed text, each of which `lines_with` has told; ascending."""
    wanted = sorted(offsets, reverse=True)
    for at, block, end in _whole_lines(path):
        while wanted and wanted[-1] < at + end:
            start = wanted.pop() - at
            stop = block.find(b"\n", start, end)
            yield at + start, block[start : stop if stop >= 0 else end]
        if not wanted:
            return
