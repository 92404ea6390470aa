"""cli/status_command.py: the running proxy that ``status`` and ``usage`` ask. What they show is in test_terminal.py."""

import socket

import pytest
from command_line import run


@pytest.fixture
def closed_port():
    """A port that is taken, and where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.mark.parametrize("command", ["status", "usage"])
def test_a_proxy_that_does_not_run(project, command, capsys, closed_port):
    """A proxy that does not answer is a sentence with its address, and the exit code is 1."""
    with pytest.raises(SystemExit) as caught:
        run(project, command, "--url", f"http://127.0.0.1:{closed_port}")
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    first, mistake = printed.err.splitlines()
    assert first == "The proxy was not asked:"
    assert f"http://127.0.0.1:{closed_port}" in mistake
