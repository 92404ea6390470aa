"""server/draining.py: what a stop does with requests, without a server and without a signal."""

import asyncio
import json
import logging
import signal

import pytest

from claude_proxy.asgi import WHEN_CUT
from claude_proxy.server import draining as module
from claude_proxy.server.draining import Draining, Step, StopSignals, step_of_worker

pytestmark = pytest.mark.anyio


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([(0.0, "SIGTERM")], [Step.DRAIN]),
        ([(0.0, "SIGINT")], [Step.DRAIN]),
        ([(0.0, "SIGINT"), (0.1, "SIGINT")], [Step.DRAIN, Step.END]),
        ([(0.0, "SIGTERM"), (0.1, "SIGINT")], [Step.DRAIN, Step.END]),
        ([(0.0, "SIGTERM"), (0.1, "SIGTERM"), (1.5, "SIGTERM")], [Step.DRAIN, None, Step.END]),
        ([(0.0, "SIGINT"), (0.1, "SIGTERM"), (60.0, "SIGTERM")], [Step.DRAIN, None, Step.END]),
    ],
)
def test_what_a_signal_asks_for(signals, expected):
    """The first signal drains and the second one ends, but for a SIGTERM that only repeats the first."""
    clock = Clock()
    steps, begin = StopSignals(clock), clock.now
    found = []
    for seconds, name in signals:
        clock.now = begin + seconds
        found.append(steps.step(signal.Signals[name]))
    assert found == expected


def test_what_a_signal_asks_for_in_a_worker():
    """A worker listens to its parent: a terminal's Ctrl-C reaches both, and is no second signal."""
    assert [step_of_worker(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM, signal.SIGQUIT)] == [
        None, Step.DRAIN, Step.DRAIN, Step.END,
    ]  # fmt: skip


class Client:
    """One request: what it got."""

    def __init__(self, app, path="/v1/messages", *, method="POST", headers=(), body=({"type": "http.request"},)):
        self.sent, self._body = [], list(body)
        scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
        self.task = asyncio.ensure_future(app(scope, self.receive, self.send))

    async def receive(self):
        return self._body.pop(0)

    async def send(self, message):
        if message["type"] == "http.response.start" and self.sent:
            raise RuntimeError("as the server says it")
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])


class Inner:
    """An app whose requests are under way until they are told to end."""

    def __init__(self):
        self.goes_on, self.begun = asyncio.Event(), []
        self.cut = None
        self.begins = False

    async def __call__(self, scope, receive, send):
        self.begun.append(scope["path"])
        if self.cut:
            scope[WHEN_CUT](self.cut)
        if self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.goes_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture
async def stage(monkeypatch):
    """An app that drains for long, its inner app, and the event that the server's own stop sets."""
    monkeypatch.setattr(module, "EVENT_SECONDS", 0.1)
    inner = Inner()
    app, stopped = Draining(inner), asyncio.Event()
    app.seconds = 3600.0
    return app, inner, stopped


async def settled():
    """Let everything that can run now have its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_stop_waits_for_the_last_request(stage, caplog):
    """The server's own stop comes when the last request has ended, and not before; the log has two lines on it."""
    caplog.set_level(logging.INFO)
    app, inner, stopped = stage
    clients = [Client(app) for _ in range(2)]
    await settled()
    app.begin(stopped.set)
    app.begin(pytest.fail)
    await settled()
    assert not stopped.is_set()
    inner.goes_on.set()
    await asyncio.wait_for(stopped.wait(), 10)
    assert [client.status for client in clients] == [200, 200]
    assert [record.getMessage() for record in caplog.records] == [
        "stopping: 2 requests in progress have 3600 s to finish, or until a second signal; new ones get HTTP 503",
        "stopping: 0 requests were cut off, 2 finished",
    ]


async def test_nothing_under_way_stops_at_once(stage, caplog):
    """Without a request the stop waits for nothing."""
    caplog.set_level(logging.INFO)
    app, _, stopped = stage
    app.begin(stopped.set)
    await settled()
    assert stopped.is_set()
    assert [record.getMessage() for record in caplog.records] == ["stopping: no requests in progress"]


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/v1/messages", "POST", [], 503),
        ("/health/readiness", "GET", [], 503),
        ("/", "HEAD", [], 503),
        ("/v1/messages", "POST", [(b"via", b"1.1 claude-proxy-balancer")], 425),
        ("/v1/messages", "POST", [(b"via", b"1.1 claude-proxy-balancer, 1.1 other")], 503),
    ],
)
async def test_a_new_request_is_refused(stage, path, method, headers, status):
    """What is new gets a 503 in Anthropic's form with when to ask again; the balancer, a status that it repeats on."""
    app, inner, stopped = stage
    Client(app, "/under-way")
    await settled()
    app.begin(stopped.set)
    pieces = [{"type": "http.request", "body": b"x", "more_body": True}] * 3
    client = Client(app, path, method=method, headers=headers, body=[*pieces, {"type": "http.request", "more_body": False}])
    await client.task
    assert (client.status, client.headers[b"retry-after"], client.headers[b"connection"]) == (status, b"1", b"close")
    body = client.sent[1]["body"]
    assert body == b"" if method == "HEAD" else json.loads(body)["error"]["type"] == "overloaded_error"
    assert client._body == []
    assert inner.begun == ["/under-way"]
    inner.goes_on.set()


@pytest.mark.parametrize("path", sorted(module.LIVELINESS))
async def test_a_process_that_drains_lives(stage, path):
    """The check that the process lives is answered as ever: nobody is to kill it meanwhile."""
    app, inner, stopped = stage
    Client(app, "/under-way")
    await settled()
    app.begin(stopped.set)
    client = Client(app, path, method="GET")
    await settled()
    inner.goes_on.set()
    await client.task
    assert client.status == 200


async def test_who_leaves_before_the_refusal_gets_none(stage):
    """A client that is gone before its body was read is answered nothing."""
    app, inner, stopped = stage
    Client(app, "/under-way")
    await settled()
    app.begin(stopped.set)
    client = Client(app, body=[{"type": "http.request", "more_body": True}, {"type": "http.disconnect"}])
    await client.task
    assert client.sent == []
    inner.goes_on.set()


@pytest.mark.parametrize("hurried", [False, True], ids=["over-time", "second-signal"])
async def test_what_is_left_is_cut_off(stage, caplog, hurried):
    """Over time, or at a second signal, a request without a way of its own to end is cancelled and answered with 503."""
    caplog.set_level(logging.INFO)
    app, _, stopped = stage
    app.seconds = 3600.0 if hurried else 0.0
    client = Client(app)
    await settled()
    app.begin(stopped.set)
    if hurried:
        await settled()
        app.end()
    await asyncio.wait_for(stopped.wait(), 10)
    await client.task
    assert (client.status, json.loads(client.sent[1]["body"])["error"]["type"]) == (503, "overloaded_error")
    assert "1 requests were cut off, 0 finished" in caplog.text


async def test_a_response_that_has_begun_only_ends(stage):
    """Where a response has begun no other one follows."""
    app, inner, stopped = stage
    inner.begins, app.seconds = True, 0.0
    client = Client(app)
    await settled()
    app.begin(stopped.set)
    await asyncio.wait_for(stopped.wait(), 10)
    await client.task
    assert [message["type"] for message in client.sent] == ["http.response.start"]


async def test_a_request_ends_in_its_own_way(stage):
    """Who has said how to end it is asked, at first not by force, until the request ends."""
    app, inner, stopped = stage
    app.seconds, asked = 0.0, []

    def cut(*, force):
        asked.append(force)
        if force:
            inner.goes_on.set()
        return force

    inner.cut = cut
    client = Client(app)
    await settled()
    app.begin(stopped.set)
    await asyncio.wait_for(stopped.wait(), 10)
    assert (asked[0], asked[-1], asked.count(True)) == (False, True, 1)
    assert client.status == 200


async def test_another_cancellation_is_passed_on(stage):
    """Only the stop's own cancellation is taken for an end."""
    app, _, _ = stage
    client = Client(app)
    await settled()
    client.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.task


async def test_what_is_no_request_passes():
    """The server's lifespan goes to the app behind."""
    seen = []

    async def other(scope, _receive, _send):
        seen.append(scope["type"])

    await Draining(other)({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
