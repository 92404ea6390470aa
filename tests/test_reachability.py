"""cli/reachability.py: what a start reports of hosts that it needs."""

import logging
import socket
import threading

import pytest

from claude_proxy.cli import reachability
from claude_proxy.config.settings import Settings

OAUTH = "only=sk-ant-oat01-made-up-only"


@pytest.fixture
def dead():
    """The port of a server that has ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def alive():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def found(**environ):
    return [*reachability.warnings(Settings.parse(environ))]


def test_what_accepts_no_connection_is_a_warning(dead):
    """A warning names the host, the cause, what follows from it, and the remedy; the password is not in it."""
    redis, claude = found(
        REDIS_URL=f"redis://:made-up-password@127.0.0.1:{dead}/0",
        CLAUDE_OAUTH_TOKENS=OAUTH,
        ANTHROPIC_API_BASE=f"http://127.0.0.1:{dead}",
    )
    assert redis.text.startswith(f"Redis at 127.0.0.1:{dead} accepts no connection (Connection refused): until it does")
    assert "made-up" not in redis.text
    assert "start Redis, or correct REDIS_URL" in redis.text
    assert claude.text.startswith(
        f"Claude at 127.0.0.1:{dead} accepts no connection (Connection refused): requests for Claude fail"
    )
    assert (redis.level, claude.level) == (logging.WARNING, logging.WARNING)


def test_what_is_there_or_not_used_is_no_warning(dead, alive, monkeypatch):
    """Nothing is reported of a host that accepts connections, of Claude's without a credential, and behind a web proxy."""
    base, there = f"http://127.0.0.1:{dead}", f"127.0.0.1:{alive}"
    assert found(REDIS_URL=f"redis://{there}", CLAUDE_OAUTH_TOKENS=OAUTH, ANTHROPIC_API_BASE=f"http://{there}") == []
    assert found(ANTHROPIC_API_BASE=base, REDIS_URL="unix:///tmp/redis.sock") == []
    assert len(found(ANTHROPIC_API_BASE=base, CLAUDE_TOKEN_MODE="passthrough")) == 1
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert found(ANTHROPIC_API_BASE=base, CLAUDE_OAUTH_TOKENS=OAUTH) == []


def test_a_start_does_not_wait(monkeypatch):
    """What is not known yet is not reported, and not waited for."""
    goes_on, done = threading.Event(), threading.Event()

    def slow(_):
        goes_on.wait()
        yield reachability.Line("late")
        done.set()

    monkeypatch.setattr(reachability, "warnings", slow)
    report = reachability.begin(Settings.parse({}))
    assert report() == []
    goes_on.set()
    assert done.wait(10)
