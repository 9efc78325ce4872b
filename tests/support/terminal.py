"""A real terminal (pty) with a program in it, for tests that press keys and look at the screen."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

_FRAME = "\x1b[H"
_CODES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z~]|[()][A-Z0-9]|[=>])")


class Terminal:
    """`with Terminal(code, cwd=folder) as screen:` runs Python code in a terminal of its own."""

    def __init__(self, code: str, *, cwd: Path, columns: int = 100, lines: int = 30, env: dict[str, str] | None = None):
        self._fd, child = pty.openpty()
        self.resize(columns, lines, tell=False)
        self.before = termios.tcgetattr(child)
        self._child = child
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "VISUAL", "NO_COLOR")}
        environment |= {"TERM": "xterm-256color", "USER": "ann"} | (env or {})
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=cwd, stdin=child, stdout=child, stderr=child, env=environment,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.output = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self._child)

    def resize(self, columns: int, lines: int, tell: bool = True) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return False
        self.output += self._decoder.decode(os.read(self._fd, 65_536))
        return True

    @property
    def screen(self) -> str:
        """What the last whole frame shows, without colours."""
        return _CODES.sub("", self.output.rpartition(_FRAME)[2]).replace("\r", "")

    @property
    def text(self) -> str:
        """All that was written, without colours."""
        return _CODES.sub("", self.output).replace("\r", "")

    def see(self, what: str, seconds: float = 20) -> str:
        """Wait until the screen shows it; returns the screen."""
        end = time.monotonic() + seconds
        while self._read(0.02) or what not in self.screen:
            assert time.monotonic() < end, f"never saw {what!r}; the screen:\n{self.screen}"
        return self.screen

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def end(self, seconds: float = 20) -> int:
        """Wait for the program's end; returns its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still running; the screen:\n{self.screen}"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    @property
    def restored(self) -> bool:
        """Whether the terminal is as the program found it, on its first screen, with its cursor."""
        shown = self.output.rfind("\x1b[?1049l") > self.output.rfind("\x1b[?1049h") and self.output.rfind("\x1b[?25h") > self.output.rfind(
            "\x1b[?25l"
        )
        return termios.tcgetattr(self._child)[:4] == self.before[:4] and shown
