"""alerts/delivery.py: messages are sent by a process of its own, with a time limit."""

import os
import sys

import pytest
from test_sender import webhook  # noqa: F401 - a fixture

from claude_proxy.alerts import delivery
from claude_proxy.alerts.delivery import deliver, environment
from claude_proxy.alerts.messages import Message
from claude_proxy.secret import Secret

pytestmark = pytest.mark.anyio

MESSAGE = Message("title", "body", "warning")


async def test_messages_arrive(webhook):  # noqa: F811 - the fixture
    """A message arrives at its target, and each target has its own reason."""
    address, handler = webhook
    found = [(Secret(f"json://{address}/x"), MESSAGE), (Secret("nonsense://x"), MESSAGE), (Secret(f"json://{address}/y"), None)]
    reasons = await deliver(found)
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert [(path, body["title"], body["type"]) for path, _, body in handler.received] == [("/x", "title", "warning")]


async def test_nothing_to_send():
    """Without a message no process is started."""
    assert await deliver([]) == []


async def test_a_service_that_does_not_respond(monkeypatch, tmp_path):
    """The process is ended at the time limit."""
    (tmp_path / "hangs.py").write_text(
        f"import os, sys, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setattr(delivery, "SENDER", "hangs")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert await deliver([(Secret("json://made-up"), MESSAGE)], seconds=2.0) == ["no response within 2 s"]
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("text", ["", "print('x')", "print('[]')", "print('{}')", "raise SystemExit(1)"])
async def test_a_process_without_a_result(monkeypatch, tmp_path, text):
    """Whatever the process writes, there is a reason."""
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setattr(delivery, "SENDER", "broken")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert await deliver([(Secret("json://made-up"), MESSAGE)]) == ["the process that sends ended without a result"]


async def test_no_process(monkeypatch):
    """A machine that cannot start a process is a reason."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (reason,) = await deliver([(Secret("json://made-up"), MESSAGE)])
    assert reason.startswith("no process could be started")


def test_the_process_gets_no_secret():
    """Of the environment it gets proxies and certificates, and no token or key; the address is on no command line."""
    environ = {"PATH": "/bin", "HTTPS_PROXY": "http://proxy.example.org", "PROXY_STATIC_TOKEN": "x", "ZAI_API_KEY": "y"}
    found = environment(environ)
    assert found.keys() == {"PATH", "HTTPS_PROXY", "PYTHONPATH"}
