"""The whole terminal: lines that scroll between a head and a foot, and keys as they are pressed."""

from __future__ import annotations

import codecs
import io
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console, RenderableType

from ..progress import visible

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?2004h"  # the other screen, no cursor, pasted text comes marked
_LEAVE = "\x1b[?2004l\x1b[?25h\x1b[?1049l"
_KEYS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "pgup", "\x1b[6~": "pgdn", "\x1b[H": "home", "\x1b[F": "end",
    "\x1b[1~": "home", "\x1b[4~": "end", "\x1bOH": "home", "\x1bOF": "end", "\x1b": "esc", "\r": "enter", "\n": "enter", "\x7f": "erase", "\x08": "erase",
    "\x04": "eof", "\x15": "clear",
}  # fmt: skip
PASTED = "\x1b[200~"
_PASTE_END = "\x1b[201~"


def is_terminal() -> bool:
    """Whether somebody sits there, at a terminal that can do more than print."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def rendered(parts: Sequence[RenderableType], width: int) -> list[str]:
    """What rich makes of the parts, as lines of at most `width` columns; text is never markup."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return capture.get().rstrip("\n").split("\n")


class Screen:
    """`with Screen() as screen:` takes the terminal and gives it back as it was, also after an error, Ctrl-C or SIGTERM."""

    def __enter__(self) -> Self:
        self._in = sys.stdin.fileno()
        self._buffer = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("ignore")
        self._top = self._below = 0
        self._state = termios.tcgetattr(self._in)
        self._wake, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        self._before = {s: signal.signal(s, self._resized) for s in (signal.SIGWINCH, signal.SIGCONT)}
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminated)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._ring)

    def _take(self) -> None:
        tty.setcbreak(self._in)
        state = termios.tcgetattr(self._in)
        state[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave a shell on the wrong screen
        termios.tcsetattr(self._in, termios.TCSADRAIN, state)
        self._write(_ENTER)

    def _give_back(self) -> None:
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._state)
        except (OSError, termios.error):  # the terminal is gone
            pass

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The terminal as it was, for another program."""
        self._give_back()
        try:
            yield
        finally:
            self._take()

    def _resized(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCONT:
            self._take()
        try:
            os.write(self._ring, b".")
        except BlockingIOError:  # it rings already
            pass

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    @property
    def width(self) -> int:
        return max(shutil.get_terminal_size().columns, 20)

    def show(self, head: str, body: Sequence[str], foot: Sequence[str], *, move: str = "") -> None:
        """Draw. `move` scrolls the body: "up", "down", "pgup", "pgdn", "home" (also for a new body) or "end"; "" stays."""
        width, height = self.width, max(shutil.get_terminal_size().lines, 6)
        room = height - len(foot) - 2
        last = max(len(body) - room, 0)
        step = {"up": -1, "down": 1, "pgup": 2 - room, "pgdn": room - 2, "home": -len(body), "end": len(body)}.get(move, 0)
        self._top = min(max(self._top + step, 0), last)
        seen = list(body[self._top : self._top + room])
        below = self._below = len(body) - self._top - len(seen)
        more = (
            f"── {below} more line{'s' if below > 1 else ''} below: space ──"
            if below
            else "── space: back to the top ──"
            if self._top
            else ""
        )
        lines = [_cut(head, width), *seen, *[""] * (room - len(seen)), _cut(more, width), *(_cut(line, width) for line in foot)]
        self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[0m\x1b[K" for line in lines) + "\x1b[J")

    @property
    def at_end(self) -> bool:
        """Whether the last `show` showed the body's last line."""
        return self._below == 0

    def key(self) -> str:
        """The next key: a letter as it is, a name ("up", "pgdn", "enter", "esc", "erase", "eof"), "resize", or PASTED and what was pasted."""
        while True:
            if self._buffer.startswith(PASTED):
                text, end, rest = self._buffer[len(PASTED) :].partition(_PASTE_END)
                if end:
                    self._buffer = rest
                    return PASTED + text
            elif self._buffer.startswith("\x1b"):
                name = max((k for k in _KEYS if self._buffer.startswith(k)), key=len)
                if name != "\x1b":
                    self._buffer = self._buffer[len(name) :]
                    return _KEYS[name]
                if not self._more(0.05):  # nothing follows: the key itself, or a sequence that is not known
                    alone, self._buffer = self._buffer == "\x1b", ""
                    return "esc" if alone else "unknown"
                continue
            elif self._buffer:
                first, self._buffer = self._buffer[0], self._buffer[1:]
                return _KEYS.get(first, first)
            if not self._more(None):
                return "resize"

    def _more(self, seconds: float | None) -> bool:
        """Read what was typed; False where nothing came in time, or the window's size has changed."""
        ready, _, _ = select.select([self._in, self._wake], [], [], seconds)
        if self._wake in ready:
            os.read(self._wake, 4096)
            return False
        if not ready:
            return False
        try:
            read = os.read(self._in, 4096)
        except OSError:  # the terminal is gone
            read = b""
        self._buffer += self._decode.decode(read) if read else "\x04"
        return True

    def ask(self, head: str, body: Sequence[str], question: str, text: str = "") -> str | None:
        """A line of text, asked at the foot; None where the answer is Esc."""
        while True:
            line = f"{question}: {visible(text)}"
            keep = self.width - 2
            self.show(head, body, [("…" + line[-keep + 1 :] if len(line) > keep else line) + "▏", "Enter: done   Esc: cancel"])
            key = self.key()
            if key == "enter":
                return text.strip()
            if key in ("esc", "eof"):
                return None
            if key == "erase":
                text = text[:-1]
            elif key == "clear":
                text = ""
            elif key.startswith(PASTED):
                text += " ".join(key[len(PASTED) :].split())
            elif len(key) == 1 and key.isprintable():
                text += key


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
