"""One way to show progress and results: live on a terminal, a line now and then in a log, silent when LIMAKIT_PROGRESS=0.

Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

T = TypeVar("T")
LOG_SECONDS = 10.0
_NARROWEST = 8  # of a table's first column, before numbers are broken too
# What acts instead of being seen: controls (C0 as their pictures, C1, which an old terminal obeys, as codes), what turns the direction of
# the text around it, and what ends a line without saying so.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "␡"}
_CODES = [*range(0x80, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
_ESCAPES = {code: f"\\u{code:04x}" for code in (0x7F, *_CODES)}
_VISIBLE = str.maketrans(_ESCAPES | _PICTURES)


_muted = False


@contextmanager
def muted(yes: bool = True) -> Iterator[None]:
    """Nothing of this module shows anything for a block: of processes that work together one speaks."""
    global _muted
    before, _muted = _muted, yes or _muted
    try:
        yield
    finally:
        _muted = before


def _silent() -> bool:
    return _muted or os.environ.get("LIMAKIT_PROGRESS") == "0"


def duration(seconds: float) -> str:
    """0:07, 12:34 or 3:02:01."""
    s = round(seconds)
    hours, minutes, s = s // 3600, s // 60 % 60, s % 60
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


class Progress:
    """`with Progress("train", total=480, unit="steps") as bar: bar.advance(loss="1.23")`; keywords are shown beside the bar."""

    def __init__(self, label: str, total: int | None = None, unit: str = ""):
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self._notes: dict[str, str] = {}
        self._started = self._logged = time.monotonic()
        self._rich: RichProgress | None = None

    def __enter__(self) -> Self:
        self._started = self._logged = time.monotonic()
        if not _silent() and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[notes]}", markup=False),
            )  # fmt: skip
            self._rich = RichProgress(*columns, console=Console(stderr=True))
            self._task = self._rich.add_task(escape(self.label), total=self.total, notes="")
            self._rich.start()
        return self

    def skip(self, n: int) -> None:
        """Count n units as done before this run began (a resume): they do not enter the speed."""
        self.done += n
        self._skipped = n
        if self._rich:
            self._rich.reset(self._task, completed=self.done)

    _skipped = 0

    def advance(self, n: int = 1, **notes: str) -> None:
        self.done += n
        self._notes |= notes
        if self._rich:
            self._rich.update(self._task, advance=n, notes="  ".join(f"{k} {v}" for k, v in self._notes.items()))
        elif not _silent() and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        parts = [f"{self.label}: {self.done}" + (f"/{self.total}" if self.total else "") + (f" {self.unit}" if self.unit else "")]
        parts += [f"{k} {v}" for k, v in self._notes.items()]
        if self.total and self.done > self._skipped:
            parts.append(f"{duration(elapsed / (self.done - self._skipped) * (self.total - self.done))} left")
        return ", ".join(parts)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._rich:
            self._rich.stop()
        elif not _silent() and kind is None and time.monotonic() - self._started >= 1:
            print(f"{self.label}: {self.done} {self.unit} in {duration(time.monotonic() - self._started)}", file=sys.stderr, flush=True)


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    with Progress(label, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()


def say(text: str) -> None:
    """A line of result on stdout, as it is (no markup)."""
    if not _muted:
        print(text, flush=True)


def warn(text: str) -> None:
    """Something the user should know, on stderr."""
    if not _muted:
        print(f"note: {text}", file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """On one line, and nothing in it acts on a terminal: ESC is ␛, U+202E is \\u202e, a line feed is ␊."""
    return text.translate(_VISIBLE)


def escape_json(text: str) -> str:
    r"""JSON that means the same, with what `visible` would change as escapes: a terminal shows it and obeys nothing."""
    return text.translate(_ESCAPES)


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout that fits the terminal; the first column to the left, the others to the right.

    Title, columns and cells are text, never markup, and what would act on the terminal is made visible. Only the title may have lines.
    """
    if _muted:
        return
    table = Table(header_style="")
    console = Console(highlight=False)
    lines = [[visible(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = _widths(lines, console.width - 3 * len(columns) - 1)
    for i, column in enumerate(lines[0]):
        table.add_column(escape(column), justify="left" if i == 0 else "right", overflow="fold", width=widths[i] if widths else None)
    for row in lines[1:]:
        table.add_row(*map(escape, row))
    for line in title.split("\n"):  # not as the table's own title, which would be folded to the table's width
        console.print(visible(line), style="bold", markup=False)
    console.print(table)


def _widths(lines: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Columns' widths where they cannot all have what they need: each its longest word, the first one what is left if that is less, and what
    remains from left to right. So intervals break at their space and nowhere else. None where all fit, or not even that."""
    whole = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    words = [max(max(map(cell_len, cell.split()), default=1) for cell in column) for column in zip(*lines, strict=True)]
    left = room - sum(words[1:])
    if sum(whole) <= room or left < min(words[0], _NARROWEST):
        return None
    words[0] = min(words[0], left)
    for i, wanted in enumerate(whole):
        words[i] += min(wanted - words[i], room - sum(words))
    return words
