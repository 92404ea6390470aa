"""alerts/watch.py: the rules are evaluated all the time, and the targets are notified."""

import asyncio
import logging
from itertools import pairwise

import pytest

from claude_proxy.alerts import watch
from claude_proxy.alerts.firing import HOLD_SECONDS, OVER_SECONDS
from claude_proxy.alerts.rules import Alert
from claude_proxy.alerts.situation import Situation
from claude_proxy.alerts.watch import FAILING_SECONDS, FIRST_PAUSE, LONGEST_PAUSE, AlertWatch
from claude_proxy.config.alerts import Alerts, Target
from claude_proxy.secret import Secret

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
OPS, CHAT = Target("ops", Secret("json://made-up-ops")), Target("chat", Secret("slack://made-up-chat"))


class Stage:
    """A watch with a clock, a situation, and targets that accept messages or give a reason."""

    def __init__(self, *targets):
        self.now, self.is_open, self.reasons, self.sent, self.woken = NOW, False, {}, [], 0
        self.config = Alerts(targets or (OPS,))
        self.watch = AlertWatch(
            lambda: Situation(self.now, is_open=self.is_open),
            lambda: self.config,
            clock=lambda: self.now,
            is_shared=False,
            wake=self.wake,
            deliver=self.deliver,
        )

    def wake(self):
        self.woken += 1

    async def deliver(self, found, report):
        names = {target.url: target.name for target in self.config.targets}
        for place, (url, message) in enumerate(found):
            reason = self.reasons.get(names[url], "")
            if not reason:
                self.sent.append((names[url], message.title))
            report(place, reason)

    async def step(self, seconds=0.0):
        self.now += seconds
        self.watch.step()
        if self.watch._sending is not None:
            await self.watch._sending

    async def take_sent(self):
        sent, self.sent = self.sent, []
        return sent


async def test_a_target_is_notified_and_of_the_end():
    """An alert that fires for a while is sent to each target once, and its end too."""
    stage = Stage(OPS, CHAT)
    stage.is_open = True
    await stage.step()
    assert stage.sent == []
    await stage.step(HOLD_SECONDS)
    title = "claude-proxy: This proxy is open: everyone who can reach its port can use its models and credentials."
    assert await stage.take_sent() == [("ops", title), ("chat", title)]
    assert stage.woken == 2
    for _ in range(3):
        await stage.step(60)
    assert stage.sent == []
    stage.is_open = False
    await stage.step()
    await stage.step(OVER_SECONDS)
    assert [name for name, _ in stage.sent] == ["ops", "chat"]
    await stage.step(OVER_SECONDS)
    assert len(stage.sent) == 2


async def test_a_target_that_fails_is_tried_again(caplog):
    """A failure is logged once; the pauses grow; the other target is not affected; the message arrives once."""
    stage = Stage(OPS, CHAT)
    stage.is_open, stage.reasons = True, {"ops": "HTTP 500"}
    await stage.step()
    tries = []
    original = stage.watch._deliver

    async def counted(found, report):
        tries.extend([stage.now] if any(url == OPS.url for url, _ in found) else [])
        await original(found, report)

    stage.watch._deliver = counted
    with caplog.at_level(logging.INFO, "claude_proxy.alerts.watch"):
        for _ in range(720):
            await stage.step(5)
        stage.reasons = {}
        for _ in range(200):
            await stage.step(5)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) <= LONGEST_PAUSE + 5
    # The other one has also got the alert about the failing target, and its end.
    assert [name for name, _ in stage.sent if name == "ops"] == ["ops"]
    assert [title for name, title in stage.sent if name == "chat"][1:] == [
        "claude-proxy: Alerts cannot be sent to ops: HTTP 500.",
        "claude-proxy: over: Alerts cannot be sent to ops: HTTP 500.",
    ]
    lines = [
        record.getMessage()
        for record in caplog.records
        if "ops" in record.getMessage() and "sent to ops" in record.getMessage()
    ]
    assert lines[0] == "an alert could not be sent to ops: HTTP 500; trying again"
    assert lines[-2] == "alerts are sent to ops again"
    assert len([line for line in lines if line.startswith("an alert could not")]) == 1


async def test_a_failing_target_is_an_alert():
    """The page shows that a target cannot be reached, for as long as that is so."""
    stage = Stage()
    stage.is_open, stage.reasons = True, {"ops": "HTTP 500"}
    await stage.step()
    await stage.step(HOLD_SECONDS)
    await stage.step(FAILING_SECONDS)
    assert [one.key for one in stage.watch.current(Situation(stage.now))] == ["delivery:ops"]
    assert stage.watch.since("delivery:ops") == stage.now


async def test_while_a_message_is_sent_the_rules_are_evaluated():
    """A service that does not respond stops nothing: what fires meanwhile is noted, and sent later."""
    stage, release = Stage(), asyncio.Event()

    async def slow(found, report):
        await release.wait()
        await stage.deliver(found, report)

    stage.watch._deliver, stage.is_open = slow, True
    stage.watch.step()
    stage.now += HOLD_SECONDS
    stage.watch.step()
    sending = stage.watch._sending
    stage.now += 5
    stage.watch.step()
    assert stage.watch._sending is sending
    assert not sending.done()
    release.set()
    await sending
    assert len(stage.sent) == 1


async def test_each_alert_is_a_line_in_the_log(caplog):
    """Without any target, the log has each alert and its end."""
    stage = Stage()
    stage.config = Alerts()
    stage.is_open = True
    with caplog.at_level(logging.INFO, "claude_proxy.alerts.watch"):
        await stage.step()
        for _ in range(3):
            await stage.step(HOLD_SECONDS)
        stage.is_open = False
        await stage.step()
        await stage.step(OVER_SECONDS)
        await stage.step(OVER_SECONDS)
    first, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("alert (info): This proxy is open")
    assert last.startswith("alert is over: This proxy is open")


async def test_nothing_here_raises(monkeypatch, caplog):
    """A rule or a service with a bug is logged, and everything else goes on."""
    stage = Stage()
    monkeypatch.setattr(watch, "TICK_SECONDS", 0.0)
    calls, done = [], asyncio.Event()

    def situation():
        calls.append(1)
        if len(calls) == 3:
            done.set()
        raise ZeroDivisionError

    stage.watch._situation = situation
    running = asyncio.ensure_future(stage.watch.run())
    await done.wait()
    running.cancel()
    await asyncio.wait({running})
    assert [record.getMessage() for record in caplog.records] == [
        "alerts cannot be evaluated (ZeroDivisionError); trying again"
    ]

    async def broken(*_):
        raise ValueError("made-up-secret")

    stage = Stage()
    stage.watch._deliver, stage.is_open = broken, True
    await stage.step()
    await stage.step(HOLD_SECONDS)
    assert "an alert could not be sent to ops: it failed (ValueError); trying again" in caplog.text
    assert "made-up" not in caplog.text


async def test_who_does_not_hold_the_lease_sends_nothing():
    """Another process only notes since when an alert fires, and shows what was recorded."""
    stage = Stage()
    stage.is_open = True
    stage.watch._lease._is_shared = True
    await stage.step()
    (row,) = stage.watch._lease.everything()
    stage.watch._lease._holder = "another"
    for _ in range(4):
        await stage.step(10)
    assert stage.sent == []
    assert stage.watch.since("open-proxy") == NOW
    assert row.stamp == NOW


async def test_a_stop_waits_a_moment_for_what_is_being_sent():
    """What a service has just accepted is recorded, so that the next process does not send it again."""
    stage = Stage()

    async def slow(found, report):
        await asyncio.sleep(0)
        await stage.deliver(found, report)

    stage.watch._deliver, stage.is_open = slow, True
    stage.watch.step()
    stage.now += HOLD_SECONDS
    stage.watch.step()
    await stage.watch.close()
    assert len(stage.sent) == 1
    assert stage.watch._firing.due(OPS) == []


async def test_a_stop_ends_what_is_being_sent(monkeypatch):
    """A stop does not wait long for a service, and lets another process take over."""
    monkeypatch.setattr(watch, "STOP_SECONDS", 0.01)
    stage = Stage()

    async def forever(*_):
        await asyncio.Event().wait()

    stage.watch._deliver, stage.is_open = forever, True
    stage.watch.step()
    stage.now += HOLD_SECONDS
    stage.watch.step()
    await stage.watch.close()
    assert stage.watch._sending.cancelled()


async def test_rejected_credentials_are_known_to_the_rules():
    """The rules get since when a rejected credential is one."""
    stage = Stage()
    stage.watch._firing.update([Alert("credential-rejected:anna", "warning", "x", "y")])
    assert stage.watch.rejected_since() == {"anna": NOW}
