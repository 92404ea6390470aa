"""server/under_way.py: what ends a request for a model early."""

import asyncio
import json

import pytest

from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.asgi import WHEN_CUT, WHEN_GONE
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.under_way import UnderWay
from claude_proxy.upstream import headers as header_policy

pytestmark = pytest.mark.anyio

EVENT = b"event: ping\ndata: {}\n\n"


class Started:
    """A request in a task of its own that waits for an upstream without an end."""

    def __init__(self, *, stream=True):
        self.sent = []
        self.scope = {WHEN_CUT: lambda call: setattr(self, "cut", call), WHEN_GONE: lambda call: setattr(self, "leave", call)}
        view = RequestView("m", streams=stream)
        request = Request(header_policy.read([]), [], b"{}", view, "", "anna", counts_tokens=False, weigh=lambda: None)
        self.outlet = ClientResponse(self._send, request, Redactor([]), Journal())
        self.task = asyncio.ensure_future(self._run())

    async def _send(self, message):
        self.sent.append(message)

    async def _run(self):
        under_way = UnderWay(self.outlet)
        watched = under_way.watch(self.scope, None)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as ended:
            under_way.accept_end(ended)
        finally:
            watched()
            await under_way.close()
            await self.outlet.conclude()

    async def begun(self, *parts):
        await asyncio.sleep(0)
        if parts:
            await self.outlet.begin(200, [("content-type", "text/event-stream")])
        for part in parts:
            await self.outlet.write(part)
        return self

    @property
    def last(self):
        return json.loads(self.sent[-1]["body"].rpartition(b"data: ")[2])


async def test_a_stop_ends_a_stream_between_two_events():
    """A stream that stands between two events gets an error event as its last one."""
    started = await Started().begun(EVENT)
    assert started.cut(force=False)
    await started.task
    assert (started.last["error"]["type"], started.sent[-1]["more_body"]) == ("overloaded_error", False)
    assert started.outlet.record(0).error == "overloaded_error"


async def test_a_stop_lets_an_event_end():
    """A stream that stands within an event goes on until that is whole."""
    started = await Started().begun(EVENT, b"event: ping\n")
    assert not started.cut(force=False)
    await started.outlet.write(b"data: {}\n\n")
    assert started.cut(force=False)
    await started.task
    assert b"".join(message["body"] for message in started.sent[1:-1]) == EVENT * 2
    assert started.last["type"] == "error"


async def test_a_stop_ends_at_last_wherever_a_stream_stands():
    """By force a stream ends within an event, without its end."""
    started = await Started().begun(EVENT, b"event: ping\n")
    assert started.cut(force=True)
    await started.task
    assert started.sent[-1] == {"type": "http.response.body", "body": b"event: ping\n", "more_body": True}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_stop_answers_where_nothing_has_left(stream):
    """A response that has not begun is a 503 that says when to ask again."""
    started = await Started(stream=stream).begun()
    assert started.cut(force=False)
    await started.task
    assert (started.sent[0]["status"], dict(started.sent[0]["headers"])[b"retry-after"]) == (503, b"1")
    assert started.last["error"]["type"] == "overloaded_error"


async def test_who_has_left_is_not_cut_off():
    """A client that is gone is nobody's to end once more."""
    started = await Started().begun(EVENT)
    started.leave()
    assert not started.cut(force=True)
    await started.task
    assert len(started.sent) == 2
    assert started.outlet.record(0).status == 499


async def test_what_has_ended_is_not_cut_off():
    """A response that has its end gets no other."""
    started = await Started().begun(EVENT)
    await started.outlet.end()
    assert not started.cut(force=True)
    started.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await started.task
