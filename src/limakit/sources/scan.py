"""The rows of a dump file found on its raw bytes, so that most of them are dealt with unparsed.

In well-formed XML "<" never stands inside a tag, so what lies between one "<" and the next is a tag and the white space after it: a *piece*.
A pattern reads the few numbers that decide a row's fate from the beginning of its piece; a piece that the pattern does not match (another
order of attributes, other quotes, references in numbers) is read by expat, alone, and so is every row that is wanted in full. A dump is read
in ranges, so that one huge file can be shared out over processes; what stands between rows and is no tag (comments, CDATA sections,
processing instructions) can hide a "<" from a range that begins inside it, so a range says that it met such, and the file is then scanned as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.parsers import expat

import numpy as np

from ..errors import LimakitError
from .opening import REMEDY

Row = dict[str, str]
LONGEST = 1 << 26  # 64 MiB, of one row; a file without any "<" must not fill the memory
_LT = ord("<")
_TAG = re.compile(rb"""<row(?=[ \t\r\n/>])(?:[^"'<>]++|"[^"<]*+"|'[^'<]*+')*+>""")
_ROW = re.compile(rb"<row[ \t\r\n/>]")
_HIDES = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}


# --- pieces ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of a stretch of a file: row i is data[starts[i]:ends[i]], up to the next "<"; byte 0 of `data` is byte `base` of the file.

    `plain`: nothing but these rows stands between the first and the last of them.
    """

    data: bytes
    base: int
    starts: np.ndarray  # int64[n]
    ends: np.ndarray  # int64[n]
    plain: bool

    def __len__(self) -> int:
        return len(self.starts)

    def row(self, i: int) -> bytes:
        return self.data[self.starts[i] : self.ends[i]]


class Scan:
    """One pass over the rows of a file, or of a range of it: iterate over it, then ask how it went.

    `blocks` are the bytes from byte `base` of the file on; the rows are those whose "<" stands before byte `stop` (None: all). Of a file that expat
    accepts, and in which no other element is called as the root is, a scan from the root's content to the end finds the rows that expat finds.
    Raises LimakitError naming the byte where the file goes on after its root's end (comments and processing instructions may), a comment or its
    like has no end, or something is longer than LONGEST.

    `within`: the range begins somewhere in the file, maybe inside a comment, where nothing that is met is what it looks like. Then the first two of
    these faults are no errors but noted: dump.check_ranges knows whether the file must be scanned as one. The range in which the root ends looks at
    all that comes after, as one pass would.
    """

    def __init__(self, blocks: Iterable[bytes], where: object, root: str, base: int = 0, stop: int | None = None, *, within: bool = False):
        self.where, self.root, self.base, self.stop, self.within = where, root, base, stop, within
        self.ended: int | None = None  # the byte at which the root ends
        self.goes_on: int | None = None  # the byte at which something stands after that
        self.hides = False  # it met comments, CDATA sections or processing instructions
        self.read = base  # the byte after the last one that was read
        self._blocks = iter(blocks)
        self._closed = base  # the byte after the root's end tag
        self._shown = base  # a "<" before this byte is hidden
        self._closing = b""  # what is hidden goes on up to this mark
        self._hidden = base  # where it began
        self._last = b""  # the row before

    def end_at(self, byte: int) -> None:
        """Its root has ended before the first of the bytes: <posts/>."""
        self.ended = self._closed = byte

    def __iter__(self) -> Iterator[Block]:
        data, base = b"", self.base
        while self.ended is None and (more := self._more()):
            data += more
            found = np.flatnonzero(np.frombuffer(data, np.uint8) == _LT)
            if len(found) > 1:
                block = self._rows(data, base, found)
                if len(block):
                    yield block
            if self.ended is not None:
                break
            if self.stop is not None and len(found) and base + found[-1] >= self.stop:
                return
            keep = int(found[-1]) if len(found) else len(data)  # the last piece may go on in the next block
            if len(data) - keep > LONGEST:
                what = f"is damaged: what begins at byte {base + keep} is longer than {LONGEST >> 20} MiB"
                raise LimakitError(what, where=self.where, remedy=REMEDY)
            data, base = data[keep:], base + keep
        if self.ended is None and data[:1] == b"<":
            block = self._rows(data, base, np.array([0, len(data)], np.int64))
            if len(block):
                yield block
        if self._closing:
            self._endless(self._hidden)
        if self.ended is not None:
            self._after_the_end(data[self._closed - base :])

    def _more(self) -> bytes:
        more = next(filter(None, self._blocks), b"")
        self.read += len(more)
        return more

    def _after_the_end(self, data: bytes) -> None:
        """Look at what stands after the root's end tag; `data` is what was read of it."""
        at = self._closed
        while True:
            rest = data.lstrip(b" \t\r\n")
            at, data = at + len(data) - len(rest), rest
            opens = next((mark for mark in (b"<!--", b"<?") if data.startswith(mark)), None)
            if opens is not None:
                self.hides, begun = True, at
                at, data = at + len(opens), data[len(opens) :]
                while (close := data.find(_HIDES[opens])) < 0:
                    more = self._more()
                    if not more:
                        return self._endless(begun)
                    at, data = at + max(len(data) - 2, 0), data[-2:] + more
                at, data = at + close + len(_HIDES[opens]), data[close + len(_HIDES[opens]) :]
            elif b"<!--".startswith(data) or b"<?".startswith(data):  # or nothing is left of it
                more = self._more()
                if not more and not data:
                    return None
                if not more:
                    break
                data += more
            else:
                break
        self.goes_on = at
        if not self.within:
            raise goes_on(self.where, self.root, at, self.ended)
        return None

    def _endless(self, begun: int) -> None:
        if not self.within:
            what = f"is damaged: the comment or its like that begins at byte {begun} does not end"
            raise LimakitError(what, where=self.where, remedy=REMEDY)

    def notes(self) -> dict[str, str]:
        """How it went, as the metadata of a table; dump.check_ranges reads them."""
        ended, goes_on = ("" if byte is None else str(byte) for byte in (self.ended, self.goes_on))
        return {"hides": "1" if self.hides else "", "ended": ended, "goes_on": goes_on, "read": str(self.read)}

    def _rows(self, data: bytes, base: int, found: np.ndarray) -> Block:
        """The rows among the pieces that begin at found[:-1]; each ends where the next one begins."""
        starts, ends = found[:-1], found[1:]
        if self.stop is not None and base + starts[-1] >= self.stop:
            n = int(np.searchsorted(starts, self.stop - base))
            starts, ends = starts[:n], ends[:n]
        plain = self._plain(data, base, starts)
        if not plain:
            chosen = self._walk(data, base, starts.tolist(), ends.tolist())
            starts, ends = starts[chosen], ends[chosen]
        if len(starts):
            self._last = data[starts[-1] : ends[-1]]
        return Block(data, base, starts, ends, plain)

    def _plain(self, data: bytes, base: int, starts: np.ndarray) -> bool:
        """Whether each piece begins with "<row " and nothing from before hides it."""
        if self._closing or self.ended is not None or not len(starts) or base + starts[0] < self._shown or starts[-1] + 4 >= len(data):
            return False
        d = np.frombuffer(data, np.uint8)
        return bool(((d[starts + 1] == 0x72) & (d[starts + 2] == 0x6F) & (d[starts + 3] == 0x77) & (d[starts + 4] == 0x20)).all())

    def _walk(self, data: bytes, base: int, starts: Sequence[int], ends: Sequence[int]) -> np.ndarray:
        """Which pieces are rows, where there is more than rows."""
        chosen: list[int] = []
        end_tag = b"</" + self.root.encode()
        for i, start in enumerate(starts):
            if self._closing:
                self._hide(data, base)
            if self._closing or base + start < self._shown:
                continue
            hides = next((opens for opens in _HIDES if data.startswith(opens, start)), None)
            if hides is not None:
                before = data[starts[chosen[-1]] : ends[chosen[-1]]] if chosen else self._last
                if not before or _TAG.match(before):  # in a row that lost its end it is part of the damage
                    self.hides, self._closing, self._shown = True, _HIDES[hides], base + start + len(hides)
                    self._hidden = base + start
                    self._hide(data, base)
            elif _ROW.match(data, start):
                chosen.append(i)
            elif data.startswith(end_tag, start) and data[start + len(end_tag) : ends[i]].lstrip()[:1] == b">":
                self.ended, self._closed = base + start, base + data.index(b">", start) + 1
                break
        if self._closing:
            self._hide(data, base)
        return np.array(chosen, np.int64)

    def _hide(self, data: bytes, base: int) -> None:
        """Look for the end of what is hidden."""
        close = data.find(self._closing, max(self._shown - base, 0))
        if close >= 0:
            self._closing, self._shown = b"", base + close + len(self._closing)
        else:
            self._shown = max(self._shown, base + len(data) - len(self._closing))


def truncated(where: object, root: str, read: int) -> LimakitError:
    return LimakitError(f"is truncated (it ends at byte {read} without </{root}>)", where=where, remedy=REMEDY)


def goes_on(where: object, root: str, at: object, ended: object) -> LimakitError:
    return LimakitError(f"goes on at byte {at} after its end </{root}> at byte {ended}", where=where, remedy=REMEDY)


# --- rows -----------------------------------------------------------------------------------------------------------------------------


class RowError(ValueError):
    """A row that expat does not accept; the message says why."""


def parse_row(piece: bytes) -> Row:
    """The attributes of the row whose piece this is, as expat reads them. Raises RowError."""
    try:
        if _ROW.match(piece):
            return _attributes(piece)  # nearly every row is an empty element with white space after it, which is a document
    except expat.ExpatError:
        pass
    tag = _TAG.match(piece)
    if tag is None:
        raise RowError("the row's tag is not closed")
    try:
        return _attributes(tag[0] if tag[0].endswith(b"/>") else tag[0] + b"</row>")
    except expat.ExpatError as error:
        raise RowError(expat.ErrorString(error.code)) from None


def _attributes(document: bytes) -> Row:
    """The attributes of a document's root. Raises ExpatError."""
    found: list[Row] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda name, attributes: found.append(attributes)
    parser.Parse(document, True)
    return found[0]


def heads(block: Block, pattern: re.Pattern[bytes]) -> tuple[list[tuple[bytes, ...]], list[int]]:
    """(groups of `pattern` at the beginning of each row, which rows it does not match); those rows' groups are empty.

    The pattern must begin with the one "<" that it can match, and have a group.
    """
    if block.plain and len(block):
        found = pattern.findall(block.data, int(block.starts[0]), int(block.ends[-1]))
        if pattern.groups == 1:
            found = [(text,) for text in found]
        if len(found) == len(block):  # there is one "<" a row, so each row gave one
            return found, []
    groups, odd = [], []
    nothing = (b"",) * pattern.groups
    for i, (start, end) in enumerate(zip(block.starts.tolist(), block.ends.tolist(), strict=True)):
        match = pattern.match(block.data, start, end)
        if match is None:
            odd.append(i)
        groups.append(nothing if match is None else match.groups(b""))
    return groups, odd


def attributes(name: str) -> bytes:
    """A pattern's beginning: a row whose first attribute is `name`. That "<" is all that a search looks for is what makes it quick."""
    return rb"<[r\x00]ow %s=" % name.encode()  # a class of two, one of which is never there, keeps the search to one byte
