"""server/supervisor.py: what the parent of several workers does with signals. tests/e2e/test_drain.py has real ones."""

import signal

import pytest

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
    parent = Workers(type("Config", (), {"workers": 2})(), [])
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


@pytest.mark.parametrize(("workers", "expected"), [(1, "one"), (3, "several")])
def test_who_serves(monkeypatch, workers, expected):
    """One process serves by itself; several have a parent, with the same options."""
    served = []
    monkeypatch.setattr(supervisor.uvicorn, "run", lambda app, **options: served.append(("one", app, options)))
    monkeypatch.setattr(supervisor.uvicorn.Config, "bind_socket", lambda config: config.port)
    monkeypatch.setattr(Workers, "__init__", lambda parent, config, sockets: setattr(parent, "made", (config, sockets)))

    def several(parent):
        config, sockets = parent.made
        served.append(("several", config.app, {"host": config.host, "port": sockets[0], "access_log": config.access_log}))

    monkeypatch.setattr(Workers, "run", several)
    run("an:app", host="127.0.0.1", port=4000, workers=workers, access_log=False)
    assert served == [(expected, "an:app", {"host": "127.0.0.1", "port": 4000, "access_log": False})]
