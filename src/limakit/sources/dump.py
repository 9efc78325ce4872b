"""How a community's dump is packed: a folder of XML files, NAME.7z with all of them, or NAME-Posts.7z and its like, one file each.

Archives are read through a pipe from 7-Zip and never unpacked to the disk.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from ..errors import LimakitError, UsageError
from .opening import BLOCK, Opening, file_bytes, read_opening
from .scan import Scan, goes_on, truncated

RANGE = 256_000_000  # bytes of a file that one process scans at a time
TABLES = ("Posts", "Users", "Comments")
_PART = re.compile(r"-(posts|users|comments)(?:\.7z)?$", re.IGNORECASE)
_UNREAD = re.compile(r"-(?:posthistory|postlinks|tags|votes|badges)\.7z$", re.IGNORECASE)
_PIECE = re.compile(r"\.7z\.\d+$", re.IGNORECASE)
_MISSING = UsageError(
    "7-Zip is needed to read .7z archives", remedy="install it (apt install 7zip, brew install sevenzip), or unpack the archives"
)


@dataclass(frozen=True)
class Table:
    """One table of a dump: an XML file, or `member` of the archive at `path`."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """As candidates name it: not by the archive, whose name is none of its content (the manifest has it)."""
        return (self.member or self.path.name).replace("\\", "/").rpartition("/")[2]

    @property
    def where(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"

    def open(self, root: str) -> tuple[Opening, Iterator[bytes]]:
        """The opening, and what comes after the root's start tag. Raises LimakitError for what cannot be read or is no such table."""
        blocks = file_bytes(self.path) if self.member is None else archive_bytes(self.path, self.member)
        return read_opening(blocks, self.where, root)


def ranges(table: Table, root: str) -> list[tuple[int, int | None]]:
    """The ranges [start, stop) of bytes in which a table is scanned: one, unless it is a large file in UTF-8. Raises LimakitError."""
    if table.member is not None or table.path.stat().st_size <= 1.5 * RANGE or table.open(root)[0].encoding is not None:
        return [(0, None)]
    cuts = list(range(0, table.path.stat().st_size, RANGE))
    return list(zip(cuts, [*cuts[1:], None], strict=True))


def scan_of(table: Table, root: str, start: int = 0, stop: int | None = None) -> Scan:
    """The scan of such a range. Raises LimakitError for what cannot be read or is no such table."""
    if start:
        return Scan(file_bytes(table.path, start), table.where, root, start, stop, within=True)
    begins, blocks = table.open(root)
    scan = Scan(blocks, table.where, root, begins.end, stop)
    if begins.empty:
        scan.end_at(begins.end)
    return scan


def check_ranges(tables: Sequence[pa.Table], where: object, root: str) -> bool:
    """Whether the ranges of a file, scanned each for itself, are the file; if not, it must be scanned as one.

    Raises LimakitError naming the byte where the file is truncated or goes on after its end.
    """
    notes = [table.schema.metadata for table in tables]
    if len(tables) > 1 and any(note[b"hides"] for note in notes):
        return False
    first = next((note for note in notes if note[b"ended"]), None)
    if first is None:
        raise truncated(where, root, int(notes[-1][b"read"]))
    if first[b"goes_on"]:
        raise goes_on(where, root, first[b"goes_on"].decode(), first[b"ended"].decode())
    return True


# --- archives -------------------------------------------------------------------------------------------------------------------------


def _seven_zip() -> str:
    program = shutil.which("7zz") or shutil.which("7z") or shutil.which("7za")
    if program is None:
        raise _MISSING
    return program


def archive_members(path: Path) -> list[str]:
    """The names of the files in an archive. Raises LimakitError naming the archive where it is damaged, empty or encrypted, UsageError without 7-Zip."""
    # with an empty password it does not ask for one
    command = [_seven_zip(), "l", "-slt", "-ba", "-p", "-sccUTF-8", "--", str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        raise _broken(path, done.stdout + done.stderr, done.returncode)
    entries = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n")
    fields = [dict(line.split(" = ", 1) for line in entry.split("\n") if " = " in line) for entry in entries]
    if any(f.get("Encrypted") == "+" for f in fields):
        raise _encrypted(path)
    return [f["Path"] for f in fields if "Path" in f and not f.get("Attributes", "").startswith("D")]


def archive_bytes(path: Path, member: str) -> Iterator[bytes]:
    """The bytes of a member, as 7-Zip writes them to a pipe. Raises LimakitError naming the archive where 7-Zip fails or is killed."""
    command = [_seven_zip(), "x", "-so", "-bd", "-p", "-spd", "-sccUTF-8", "--", str(path), member]
    with _temporary() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, bufsize=0)
        try:
            assert process.stdout is not None
            while data := process.stdout.read(BLOCK):
                yield data
            if process.wait() != 0:
                said.seek(0)
                raise _broken(path, said.read(), process.returncode)
        finally:  # also where the reader wants no more
            with suppress(OSError):
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _encrypted(path: Path) -> LimakitError:
    return LimakitError(
        "is encrypted", where=path, remedy="unpack it with its password; the archives that Stack Exchange publishes have none"
    )


def _broken(path: Path, said: bytes, code: int) -> LimakitError:
    if re.search(rb"encrypted archive|encrypted file|wrong password", said, re.IGNORECASE):
        return _encrypted(path)
    if path.is_file() and not path.stat().st_size:
        return LimakitError("cannot be read as an archive: it is empty (0 bytes)", where=path, remedy="fetch it again")
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    why = next(
        (
            line
            for line in lines
            if re.search(r"error|wrong|unexpected|cannot|can't|no such", line, re.IGNORECASE) and str(path) not in line
        ),
        "",
    )
    why = why or (f"7-Zip was ended by signal {-code}" if code < 0 else f"7-Zip ended with code {code}")
    return LimakitError(f"cannot be read as an archive: {why}", where=path, remedy="fetch it again; 7zz t FILE tests an archive")


# --- what lies in a folder ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Package:
    """A folder or archive and the tables that it holds; `name` is what a community's name is read from."""

    name: str
    tables: dict[str, Table]


def packages(root: Path) -> list[Package]:
    """The folders here that hold tables, and the archives, which may hold none, by name.

    Raises LimakitError for an archive that cannot be listed, OSError for a folder.
    """
    found = []
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if tables := {name: Table(path / f"{name}.xml") for name in TABLES if (path / f"{name}.xml").is_file()}:
                found.append(Package(path.name, tables))
        elif path.suffix.lower() == ".7z" and not _UNREAD.search(path.name):
            found.append(Package(path.name, _in_archive(path)))
    return found


def passed_over(root: Path) -> list[str]:
    """What the folder holds that was surely meant to be read and is not, and why: a table's file in other letters, a piece of an archive.

    Raises OSError.
    """
    found = []
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            there = {file.name for file in path.iterdir()}
            for name in sorted(there):
                right = next((f"{table}.xml" for table in TABLES if name.lower() == f"{table}.xml".lower()), name)
                if right not in there:
                    found.append(f"{path.name}/{name} (is called {right} in a dump)")
        elif _PIECE.search(path.name):
            found.append(f"{path.name} (a piece of an archive: put the pieces together, cat NAME.7z.* > NAME.7z)")
    return found


def _in_archive(path: Path) -> dict[str, Table]:
    members = archive_members(path)
    part = _PART.search(path.name)
    tables = {}
    for name in TABLES:
        files = [m for m in members if m.replace("\\", "/").rpartition("/")[2].lower() == f"{name.lower()}.xml"]
        if len(files) > 1:
            raise UsageError(f"holds {len(files)} files called {name}.xml", where=path, remedy="one archive holds one community")
        if files and (part is None or part[1].lower() == name.lower()):
            tables[name] = Table(path, files[0])
    return tables


# --- rows by their place --------------------------------------------------------------------------------------------------------------


@contextmanager
def rows_at(table: Table, root: str, at: np.ndarray, size: np.ndarray) -> Iterator[Callable[[int, int], bytes]]:
    """A function (byte, size) -> those bytes, for the rows that begin at bytes `at` (int64[n], any order, as a scan gives them).

    Of a plain file they are read when asked for. From anything else (an archive, another encoding) these rows, whole and one after another, are
    collected first, in one reading, into a temporary file that nobody else sees; it takes as many bytes as they have. Raises LimakitError, also
    where there is no room for that file.
    """
    start, rest = table.open(root)
    if table.member is None and start.encoding is None:
        try:
            with open(table.path, "rb", buffering=0) as file:

                def read(byte: int, length: int) -> bytes:
                    file.seek(byte)
                    return file.read(length)

                yield read
        except OSError as error:
            raise LimakitError(f"cannot read: {error.strerror}", where=table.path, remedy="check the path and its permissions") from None
        return
    with _temporary() as spool:
        order = np.argsort(at, kind="stable")
        in_order = at[order].tolist()
        places = _collect(spool, in_order, _cut(rest, start.end, in_order, size[order].tolist()))

        def recall(byte: int, length: int) -> bytes:
            spool.seek(places[byte])
            return spool.read(length)

        yield recall


def _collect(spool: BinaryIO, at: list[int], rows: Iterator[bytes]) -> dict[int, int]:
    """Write the rows one after another; returns where each one begins, by its byte in the table."""
    places, end = {}, 0
    for byte, row in zip(at, rows, strict=True):
        places[byte] = end
        end += len(row)
        try:
            while row:  # a file that is not buffered may take a part
                row = row[spool.write(row) :]
        except OSError as error:
            raise _no_room(error) from None
    return places


def _temporary() -> BinaryIO:
    """A temporary file without a name, not buffered, so that its faults come where it is written. Raises LimakitError."""
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> LimakitError:
    folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
    what = f"cannot write to the temporary folder: {os.strerror(error.errno) if error.errno else error}"
    return LimakitError(what, where=folder, remedy="free some space there, or set TMPDIR to a folder that has more")


def _cut(blocks: Iterator[bytes], base: int, at: list[int], size: list[int]) -> Iterator[bytes]:
    """The bytes [at, at + size) of a stream whose first byte is byte `base`, in ascending order."""
    data = b""
    for byte, length in zip(at, size, strict=True):
        while base + len(data) < byte + length:
            if base + len(data) <= byte:
                base, data = base + len(data), b""
            else:
                base, data = byte, data[byte - base :]
            data += next(blocks)
        yield data[byte - base : byte - base + length]
