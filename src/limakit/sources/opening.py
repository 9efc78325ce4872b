"""How a dump file begins: byte order mark, XML declaration, encoding, root; and its bytes from there on, as UTF-8."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from ..errors import LimakitError

# A scan asks NumPy some two hundred things about each, which weighs on smaller ones. In the processes of crew.py the C library keeps what they take;
# elsewhere it may map it afresh for each.
BLOCK = 1 << 22
_LONGEST_OPENING = 1 << 24  # of comments before the root; one that never ends must not fill the memory
_DECLARATION = re.compile(rb"""<\?xml\s(?:[^?]|\?(?!>))*\?>""")
_ENCODING = re.compile(rb"""\sencoding\s*=\s*["']([^"']*)["']""")
_ROOT = re.compile(rb"""<([^\s/><!?]+)((?:[^"'<>]++|"[^"<]*+"|'[^'<]*+')*+)>""")
REMEDY = "take the file from the original archive, and check that the disk was not full"


@dataclass(frozen=True)
class Opening:
    """How a dump file begins: the byte after its root's start tag (0 for what is read as UTF-8 and is not), and the encoding that is not UTF-8."""

    end: int
    encoding: str | None = None
    empty: bool = False  # <posts/>


def file_bytes(path: Path, start: int = 0) -> Iterator[bytes]:
    """The bytes of a file from `start` on, in blocks. Raises LimakitError where it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            while data := file.read(BLOCK):
                yield data
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None


def opening(head: bytes, where: object, root: str, recoded: bool = False) -> Opening | None:
    """How the file that begins with `head` opens; None: more of it is needed. `recoded`: it is UTF-8 now, whatever it declares.

    A byte order mark and comments before the XML declaration (both occur) are passed over. Raises LimakitError for a file that is no XML or has
    another root, for an encoding that expat cannot read, and for a document type (no dump has one; entities could expand without bound).
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Opening(0, "utf-16")
    at = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    encoding = None
    while True:
        at = re.compile(rb"\s*").match(head, at).end()  # type: ignore[union-attr]
        rest = head[at : at + 16]
        if declared := _DECLARATION.match(head, at):
            if (found := _ENCODING.search(declared[0])) and not recoded:
                encoding = _readable(declared[0], found[1].decode("ascii", "replace"), where)
            at = declared.end()
        elif rest.startswith((b"<!--", b"<?")):
            close = b"-->" if rest.startswith(b"<!--") else b"?>"
            end = head.find(close, at + 2)
            if end < 0:
                return None
            at = end + len(close)
        elif rest.startswith(b"<!DOCTYPE"):
            raise LimakitError(
                "declares a document type, which no dump does", where=where, remedy="take the file from the original archive"
            )
        elif found := _ROOT.match(head, at):
            if found[1] != root.encode():
                what = f"is not what it is called: its root is <{found[1].decode('utf-8', 'replace')[:40]}>, expected <{root}> (byte {at})"
                raise LimakitError(what, where=where, remedy="unpack the archive again, each file under its own name")
            return Opening(found.end(), encoding, found[2].endswith(b"/"))
        elif len(rest) < 16 or (rest.startswith(b"<") and len(head) - at < BLOCK and rest[1:2] not in b"!?"):
            return None
        else:
            raise LimakitError(f"is malformed XML: no element begins at byte {at}", where=where, remedy=REMEDY)


def _readable(declaration: bytes, encoding: str, where: object) -> str | None:
    """The encoding, or None for UTF-8; as expat reads what is declared."""
    if encoding.lower() in ("utf-8", "utf8"):
        return None
    try:
        expat.ParserCreate().Parse(declaration + b"<a/>", True)
    except (LookupError, ValueError, expat.ExpatError):  # the first two are of the codec
        raise LimakitError(
            "declares an encoding that cannot be read", where=where, remedy="dumps are UTF-8: take the file from the original archive"
        ) from None
    return encoding


def read_opening(blocks: Iterable[bytes], where: object, root: str, recoded: bool = False) -> tuple[Opening, Iterator[bytes]]:
    """The opening, and the bytes after the root's start tag: as they are or, from another encoding, as UTF-8.

    In that case offsets are of the file as it would be in UTF-8 without its opening. Raises LimakitError as `opening`, and where the file ends
    before its root begins.
    """
    stream = iter(blocks)
    head = b""
    while (found := opening(head, where, root, recoded) if head else None) is None:
        more = next(stream, b"")
        head += more
        if not more or len(head) > _LONGEST_OPENING:
            what = f"is truncated (it ends before its root <{root}> begins, byte {len(head)})" if head else "is empty"
            raise LimakitError(what, where=where, remedy=REMEDY)
    if found.encoding is None:
        return found, _after(head[found.end :], stream)
    if found.end:
        return Opening(0, found.encoding, found.empty), _recoded(_after(head[found.end :], stream), found.encoding, where)
    inner, rest = read_opening(_recoded(_after(head, stream), found.encoding, where), where, root, recoded=True)
    return Opening(0, found.encoding, inner.empty), rest


def _after(first: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from stream


def _recoded(blocks: Iterator[bytes], encoding: str, where: object) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    try:
        for data in blocks:
            read += len(data)
            if text := decoder.decode(data).encode():  # of a byte order mark alone nothing comes
                yield text
        decoder.decode(b"", True)
    except UnicodeError:
        raise LimakitError(f"is not {encoding} as it says (before byte {read})", where=where, remedy=REMEDY) from None
