"""cli/keyboard.py: single keys of a terminal, which is as it was afterwards."""

import os
import pty
import sys
import termios

import pytest

from claude_proxy.cli import keyboard as module
from claude_proxy.cli.keyboard import END_OF_INPUT, Keyboard, keyboard, keys


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"q", ["q"]),
        (b"cr", ["c", "r"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~ ", ["page up", "page down", "page down"]),
        (b"\x1b[H\x1b[F\x1b[1~\x1b[4~", ["home", "end", "home", "end"]),
        (b"\x1b", ["escape"]),
        (b"\t\x04", ["tab", END_OF_INPUT]),
        (b"\x1b[1;5C", ["\x1b[1;5C"]),
        ("ä".encode(), ["ä"]),
        (b"\xffq", ["q"]),
        (b"\x1b[" + b"1" * 500, ["escape", "[", *"1" * 500]),
    ],
)
def test_keys(data, found):
    """Characters are keys, sequences of a terminal have names, and what is neither does no harm."""
    assert keys(data) == found


@pytest.fixture
def terminal(monkeypatch):
    """A terminal as stdin; the value is its other end."""
    master, slave = pty.openpty()
    stdin = os.fdopen(slave)
    monkeypatch.setattr(sys, "stdin", stdin)
    yield master
    os.close(master)
    stdin.close()


def test_a_key_needs_no_enter_and_has_no_echo(terminal):
    """Keys arrive one by one, nothing of them is on the screen, and Ctrl-Z does not stop the program."""
    with keyboard() as found:
        os.write(terminal, b"q\x1b[A\x1a")
        pressed = []
        while len(pressed) < 3:
            more = found.pressed(10)
            assert more
            pressed += more
        assert pressed == ["q", "up", "\x1a"]
        assert found.pressed(0) == []
        os.write(sys.stdin.fileno(), b"shown")
        assert os.read(terminal, 100) == b"shown"


def test_the_terminal_is_as_it_was(terminal):
    """An error ends the block, too, with the terminal as it was."""
    before = termios.tcgetattr(sys.stdin.fileno())
    during = []

    def interrupted():
        with keyboard():
            during.extend(termios.tcgetattr(sys.stdin.fileno()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert during != before
    assert termios.tcgetattr(sys.stdin.fileno()) == before


@pytest.mark.parametrize("stdin", [None, "a file"])
def test_without_a_terminal_there_are_no_keys(monkeypatch, tmp_path, stdin):
    """Where stdin is a file, or closed, a wait is only a wait."""
    naps = []
    monkeypatch.setattr(module.time, "sleep", naps.append)
    if stdin:
        (tmp_path / stdin).write_text("q")
        stdin = (tmp_path / stdin).open()
    monkeypatch.setattr(sys, "stdin", stdin)
    with keyboard() as found:
        assert found.pressed(0.5) == []
    assert naps == [0.5]
    if stdin:
        stdin.close()


def test_the_end_of_the_input():
    """A terminal that is gone is the end of the input, not a key that never comes."""
    read, write = os.pipe()
    os.close(write)
    assert Keyboard(read).pressed(1) == [END_OF_INPUT]
    os.close(read)
