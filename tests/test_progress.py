"""cli/progress.py: what is shown while a command takes long."""

import io
import os
import pty
import subprocess
import sys

import pytest

from claude_proxy.cli import progress
from claude_proxy.cli.project import ROOT

SHOW = "from claude_proxy.cli.progress import each; print([one for one in each([('Asking [red]glm ...', 1)])])"


@pytest.mark.parametrize(("environ", "shown"), [({}, True), ({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False)])
def test_a_terminal_sees_what_is_done(environ, shown):
    """The words are shown as they are on a terminal's stderr, and never in the output; not where TERM is dumb."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SHOW], stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=60,
        env={"PYTHONPATH": str(ROOT), "TERM": "xterm", **environ},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"Asking" not in seen or not shown:
        try:
            seen += os.read(ours, 1000)
        except OSError:
            break
    os.close(ours)
    assert done.stdout == b"[1]\n"
    assert (b"Asking [red]glm ..." in seen) is shown
    assert (b"\x1b[31m" in seen) is False


def test_no_terminal_sees_nothing(monkeypatch):
    """Where stderr is a file nothing is written."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert [*progress.each([("Asking a", 1), ("Asking b", 2)])] == [1, 2]
    assert sys.stderr.getvalue() == ""
