"""A program in a terminal of its own."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

from screen import Screen


class Terminal:
    """Start a program, wait for words on its screen, end it.

    ``output`` is all that it has written so far, ``descriptor`` this end of the terminal.
    """

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.columns, self.rows = 92, 24
        self.descriptor, slave = pty.openpty()
        self.resize(self.columns, self.rows)
        colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | colours, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.output = b""

    @property
    def words(self) -> str:
        """What is on the screen, without blanks: a line may have been broken at any of them."""
        return "".join(self.screen.text.split())

    def wait_for(self, words: str, seconds: float = 90, *, quiet: float = 1.5) -> None:
        """Read until the words are on the screen, and then until the program is quiet, or only moves a sign of its life.

        Raise where the words do not come.
        """
        wanted, end = "".join(words.split()), time.monotonic() + seconds
        while wanted not in self.words:
            if not self._read(1) and (self.process.poll() is not None or time.monotonic() > end):
                raise RuntimeError(f"the terminal does not show {words!r}:\n{self.screen.text}")
        end = min(end, time.monotonic() + 4 * quiet)
        while self._read(quiet) and time.monotonic() < end:
            pass

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; the screen is empty until the program draws it again."""
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen = Screen(columns, rows)

    def wait_for_end(self, seconds: float = 30) -> int:
        """Read until the program has ended, and return its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.wait(1)

    def send(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def _read(self, seconds: float) -> bool:
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return False
        try:
            part = os.read(self.descriptor, 65536)
        except OSError:  # the program has ended
            return False
        self.output += part
        self.screen.feed(part)
        return bool(part)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.descriptor)
