"""ndjson files as the Reddit dumps come: one JSON object a line, compressed with zstd (.zst) or plain, read as a stream however large.

A .zst is one frame or several, with windows of up to 2 GiB (the publishers' own scripts read them with max_window_size=2**31:
Watchful1/PushshiftDumps, scripts/combine_folder_multiprocess.py; ArthurHeitmann/arctic_shift, scripts/fileStreams.py). A frame needs memory as
large as its window, or as its content where that is smaller; beyond this a few megabytes and the longest line are held. Damaged downloads are known
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
_PLAIN = 1 << 18  # bytes read at a time
_BLOCK, _HELD = 1 << 17, 100_000  # bytes of a zstd block at most; of blocks that are handed on together at least
_SKIPPABLE = b"\x2a\x4d\x18"
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?\s*(.?)", re.DOTALL)  # a byte order mark, white space, and what the first row begins with


def blocks(path: Path) -> Iterator[bytes]:
    """A file's bytes in pieces, decompressed if it is called .zst. Raises LimakitError naming file and byte where it cannot be read to its end."""
    try:
        with open(path, "rb") as file:
            if path.suffix.lower() == ".zst":
                yield from _frames(file, path)
            else:
                while block := file.read(_PLAIN):
                    yield block
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None


def _frames(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """What the frames hold, block after block (RFC 8878, section 3.1.1): a block holds 128 kB at most, so a few bytes that stand for gigabytes fill no
    memory, and where the file ends is seen (the library's own reader takes a truncated frame for a whole)."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    held: list[bytes] = []
    size = 0
    for block in _decompressed(file, path, decompressor):
        if size + len(block) >= _HELD:
            yield block if not held else b"".join([*held, block])
            held, size = [], 0
        elif block:
            held.append(block)
            size += len(block)
    yield b"".join(held)


def _decompressed(file: BinaryIO, path: Path, decompressor: zstandard.ZstdDecompressor) -> Iterator[bytes]:
    again = "download it again and compare its checksum with the publisher's"
    at = 0  # the next byte to be read

    def take(n: int) -> bytes:
        nonlocal at
        data = file.read(n)
        at += len(data)
        if len(data) < n:
            raise LimakitError(f"is truncated: it ends within a zstd frame, at byte {at:,}", where=path, remedy=again)
        return data

    def damage(reason: object, start: int, what: str = "is damaged") -> LimakitError:
        return LimakitError(f"{what} ({reason}, bytes {start:,} to {at:,})", where=path, remedy=again)

    if not file.peek(1):  # type: ignore[attr-defined]
        raise LimakitError("is empty", where=path, remedy=again)
    while file.peek(1):  # type: ignore[attr-defined]
        start = at
        data = take(4)
        if data[1:] == _SKIPPABLE and data[0] & 0xF0 == 0x50:
            left = int.from_bytes(take(4), "little")
            while left:
                left -= len(take(min(left, _PLAIN)))
            continue
        if data != zstandard.FRAME_HEADER:
            raise damage("Unknown frame descriptor", start, "is no zstd file" if start == 0 else "is damaged")
        data += take(1)
        checksum = bool(data[4] & 4)
        data += take(zstandard.frame_header_size(data) - 5)
        frame = decompressor.decompressobj()
        last = False
        while not last:
            header = take(3)
            word = int.from_bytes(header, "little")
            last, kind, length = bool(word & 1), word >> 1 & 3, word >> 3
            if kind == 3 or length > _BLOCK:
                raise damage("Data corruption detected", start)
            data += header + take(1 if kind == 1 else length) + (take(4) if last and checksum else b"")
            try:
                yield frame.decompress(data)
            except zstandard.ZstdError as error:
                raise damage(str(error).rpartition(": ")[2], at - len(data)) from None
            start, data = at, b""
        if not frame.eof:
            raise damage("the frame does not end where it says", start)


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
