"""Single keys of a terminal, for commands that show something until a key ends them."""

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from typing import Any

# What a terminal sends for keys that are no character (ECMA-48, xterm).
SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\x04": "end of input",
    "\t": "tab",
    " ": "page down",
}
END_OF_INPUT = "end of input"
_KEY = re.compile(r"\x1b[\[O][0-9;]{0,16}[A-Za-z~]|.", re.DOTALL)
AT_ONCE = 1024


class Keyboard:
    """The keys that are pressed. Without a terminal there are none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def pressed(self, seconds: float) -> list[str]:
        """Wait for keys, so many seconds at most, and return them by the names of ``SEQUENCES`` or as a character."""
        if self._descriptor is None:
            time.sleep(seconds)
            return []
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        return keys(os.read(self._descriptor, AT_ONCE)) or [END_OF_INPUT]


def keys(data: bytes) -> list[str]:
    """Return the keys in what a terminal has sent."""
    found = _KEY.findall(data.decode(errors="ignore"))
    return [SEQUENCES.get(key.replace("\x1bO", "\x1b["), key) for key in found]


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Read stdin key by key, without an echo; at the end the terminal is as it was. Ctrl-C remains ``KeyboardInterrupt``."""
    try:
        import termios  # noqa: PLC0415 - Windows has none

        descriptor = sys.stdin.fileno()
        before: list[Any] = termios.tcgetattr(descriptor)
    except (ImportError, ValueError, OSError, AttributeError, termios.error):
        yield Keyboard(None)
        return
    changed = [*before[:6], [*before[6]]]
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    # A stopped program would leave the terminal to the shell as it is now.
    changed[6][termios.VSUSP] = os.fpathconf(descriptor, "PC_VDISABLE").to_bytes(1, "little")
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
