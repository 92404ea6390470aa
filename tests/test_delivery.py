"""alerts/delivery.py: messages are sent by a process of its own, with a time limit."""

import asyncio
import os
import sys

import pytest
from test_sender import webhook  # noqa: F401 - a fixture

from claude_proxy.alerts import delivery
from claude_proxy.alerts.delivery import deliver as deliver_and_report
from claude_proxy.alerts.delivery import deliver_now, environment
from claude_proxy.alerts.messages import Message
from claude_proxy.secret import Secret

pytestmark = pytest.mark.anyio

MESSAGE = Message("title", "body", "warning")


async def deliver(found, **more):
    """Deliver, and return the reason of each message; each is reported once."""
    reported = []
    await deliver_and_report(found, lambda place, reason: reported.append((place, reason)), **more)
    assert [place for place, _ in sorted(reported)] == [*range(len(found))]
    return [reason for _, reason in sorted(reported)]


async def test_messages_arrive(webhook):  # noqa: F811 - the fixture
    """A message arrives at its target, and each target has its own reason."""
    address, handler = webhook
    found = [(Secret(f"json://{address}/x"), MESSAGE), (Secret("nonsense://x"), MESSAGE), (Secret(f"json://{address}/y"), None)]
    reasons = await deliver(found)
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert [(path, body["title"], body["type"]) for path, _, body in handler.received] == [("/x", "title", "warning")]


async def test_a_redirection_is_not_followed(webhook):  # noqa: F811 - the fixture
    """A service that sends messages elsewhere gets one, and nobody else does."""
    address, handler = webhook
    handler.status = 307
    handler.location = f"http://{address}/elsewhere"
    (reason,) = await deliver([(Secret(f"json://{address}/x"), MESSAGE)])
    assert "error=307" in reason
    assert [path for path, _, _ in handler.received] == ["/x"]


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


async def test_a_message_is_reported_as_soon_as_it_is_sent(monkeypatch, tmp_path):
    """A service that does not respond keeps nothing of the others back."""
    (tmp_path / "half.py").write_text("import time\nprint('[1, \"\"]', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(delivery, "SENDER", "half")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reported = asyncio.Queue()
    messages = [(Secret("json://made-up"), MESSAGE)] * 2
    running = asyncio.ensure_future(deliver_and_report(messages, lambda *one: reported.put_nowait(one)))
    assert await reported.get() == (1, "")
    running.cancel()
    await asyncio.wait({running})
    assert await reported.get() == (0, "the process that sends ended without a result")


def test_a_command_waits(webhook, monkeypatch, tmp_path):  # noqa: F811 - the fixture
    """A command gets all reasons at once, also when a service does not respond."""
    address, handler = webhook
    found = [(Secret(f"json://{address}/x"), MESSAGE), (Secret("nonsense://x"), None)]
    assert [bool(reason) for reason in deliver_now(found)] == [False, True]
    assert len(handler.received) == 1
    assert deliver_now([]) == []
    (tmp_path / "half.py").write_text("import time\nprint('[1, \"\"]', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(delivery, "SENDER", "half")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert deliver_now([(Secret("json://made-up"), MESSAGE)] * 2, seconds=2.0) == ["no response within 2 s", ""]
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert deliver_now(found)[0].startswith("no process could be started")


@pytest.mark.parametrize("text", ["", "print('x')", "print('[]')", "print('[7, 8]')", "print('{}')", "raise SystemExit(1)"])
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
