"""server/supervisor.py: what the parent of several workers does with signals. tests/e2e/test_drain.py has real ones."""

import contextlib
import signal
import socket
import sys

import pytest
from uvicorn.config import STARTUP_FAILURE

from claude_proxy.server import supervisor
from claude_proxy.server.supervisor import Workers, run


class Process:
    """A worker that drains until it has been looked at so many times, or is told to end."""

    def __init__(self, looks, pid):
        self.looks, self.pid = looks, pid
        self.process = self

    def is_alive(self):
        return self.looks > 0

    def join(self, _seconds):
        self.looks -= 1


@pytest.fixture
def workers(monkeypatch):
    """A parent of two workers whose signals are kept in a list; nothing of this process's own is changed."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    parent = Workers(type("Config", (), {"workers": 2})(), [], lambda: None)
    parent.processes = [Process(3, 101), Process(5, 102)]
    sent = []

    def kill(pid, number):
        sent.append((pid, number))
        next(process for process in parent.processes if process.pid == pid).looks = 0

    monkeypatch.setattr(supervisor.os, "kill", kill)
    return parent, sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_parent_waits_for_each_worker(workers, number):
    """After one signal the parent stops, and waits until every worker has ended by itself."""
    parent, sent = workers
    parent.signal_queue.append(number)
    parent.handle_signals()
    assert parent.should_exit.is_set()
    parent.join_all()
    assert ([process.looks for process in parent.processes], sent) == ([0, 0], [])


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_parent_passes_a_second_signal_on(workers, first):
    """A second signal while the parent waits ends every worker that is still there."""
    parent, sent = workers
    parent.signal_queue += [first]
    parent.handle_signals()
    parent.signal_queue += [signal.SIGINT]
    parent.join_all()
    assert sorted(sent) == [(101, signal.SIGQUIT), (102, signal.SIGQUIT)]


class Starting:
    """A worker that begins: whether it serves, and with what it has ended."""

    def __init__(self, *, serves=False, exitcode=None):
        self.serves, self.exitcode = serves, exitcode

    def is_ready(self, _seconds):
        return self.serves


def test_the_report_waits_for_each_worker(workers, monkeypatch):
    """What is reported at the end of a start is reported once, and not before every worker serves."""
    parent, reported = workers[0], []
    parent._ready = lambda: reported.append("ready")
    parent.processes = [Starting(serves=True), Starting()]
    parent.keep_subprocess_alive()
    assert reported == []
    parent.processes[1].serves = True
    parent.keep_subprocess_alive()
    monkeypatch.setattr(supervisor.Multiprocess, "keep_subprocess_alive", lambda _: None)
    parent.keep_subprocess_alive()
    assert (reported, parent.has_failed) == (["ready"], False)


def test_a_worker_that_cannot_start_ends_the_start(workers):
    """When a worker cannot start, the parent stops, and does not try again."""
    parent = workers[0]
    parent.processes = [Starting(), Starting(exitcode=STARTUP_FAILURE)]
    parent.keep_subprocess_alive()
    assert (parent.has_failed, parent.should_exit.is_set()) == (True, True)


async def serves(scope, receive, send):
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def fails(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed"})


@pytest.mark.parametrize(("app", "code", "reports"), [(serves, None, 1), (fails, STARTUP_FAILURE, 0)])
def test_one_process(monkeypatch, app, code, reports):
    """A single process reports once it accepts connections; where it cannot start, it exits with 3 and reports nothing."""
    found = []

    def ready():
        with socket.create_connection(("127.0.0.1", port)):
            found.append("ready")
        signal.raise_signal(signal.SIGINT)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(sys.modules[__name__], "app", app, raising=False)
    exits = pytest.raises(SystemExit) if code else contextlib.nullcontext()
    with exits as caught:
        run(f"{__name__}:app", ready=ready, host="127.0.0.1", port=port, workers=1, log_level="critical")
    assert (len(found), caught and caught.value.code) == (reports, code)


def test_several_processes(monkeypatch):
    """Several processes have a parent; the exit code says whether a worker could not start."""
    made = []
    monkeypatch.setattr(supervisor.uvicorn.Config, "bind_socket", lambda config: config.port)
    monkeypatch.setattr(
        Workers, "__init__", lambda parent, config, sockets, ready: made.append((config.workers, sockets, ready))
    )
    monkeypatch.setattr(Workers, "run", lambda _: None)
    for failed in (False, True):
        monkeypatch.setattr(Workers, "has_failed", failed, raising=False)
        with pytest.raises(SystemExit) if failed else contextlib.nullcontext():
            run("an:app", ready=print, host="127.0.0.1", port=4000, workers=3, access_log=False)
    assert made == [(3, [4000], print)] * 2
