"""proxy/lanes/attempt.py: how a relayed stream ends, and what its attempt comes to."""

import asyncio
import logging

import pytest
from lanes import Raw, Received, Response

from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import deployment
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.proxy.lanes.attempt import Attempt, failed_stream, relay, words_of
from claude_proxy.proxy.lanes.claude_lane import renamed
from claude_proxy.proxy.outcome import DONE
from claude_proxy.proxy.relay import FailedStream, Renaming, StreamCapture
from claude_proxy.upstream.client import BrokenOffError, StreamedResponse, UnreadableError, UpstreamError

pytestmark = pytest.mark.anyio

CLAUDE = deployment({"model": "anthropic/claude-x"}, Hosts())
START = b'data: {"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
DELTA = b'data: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
FAILED = object()


class Relayed:
    """One stream on its way to a client, and what its attempt came to."""

    def __init__(self, *chunks, capture=None):
        self.client = Received()
        self.failures = []
        self.attempt = Attempt(self.client.request, CLAUDE, self.client.outlet, self.client.journal, capture=capture)
        self.response = StreamedResponse(Raw(Response(chunks=[*chunks])))

    async def run(self):
        def failure(error):
            self.failures.append(error)
            return FAILED

        editor = Renaming(*renamed("claude-x", "claude-x"))
        begin = lambda: self.client.outlet.begin(200, [])  # noqa: E731
        return await relay(self.attempt, self.response, editor, failure, begin=begin)


async def test_a_stream_to_its_end():
    """The client has the whole stream, and its tokens are in the journal."""
    one = Relayed(START, DELTA)
    assert await one.run() is DONE
    assert (one.client.body, one.client.ended, one.failures) == (START + DELTA, True, [])
    assert (one.client.journal.usage, one.client.journal.error) == (Usage(7, 9), "")


async def test_litellm_hears_what_the_client_gets():
    """Of an attempt that LiteLLM has begun a copy is kept."""
    capture = StreamCapture(copies=True)
    await Relayed(START, DELTA, capture=capture).run()
    assert capture.copy == START + DELTA


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [([ERROR], FailedStream), ([OSError("reset")], BrokenOffError), ([START[:9], OSError("reset")], BrokenOffError)],
    ids=["error", "nothing", "half-an-event"],
)
async def test_a_stream_that_fails_before_it_has_begun(chunks, kind):
    """The client has seen nothing, so the lane says what the attempt comes to."""
    one = Relayed(*chunks)
    assert await one.run() is FAILED
    assert [type(error) for error in one.failures] == [kind]
    assert one.client.messages == []


async def test_a_stream_that_breaks_off(caplog):
    """A response that has begun is the client's, without an end; what was counted until then is known, and a line is logged."""
    one = Relayed(START, OSError("reset"))
    assert await one.run() is DONE
    assert (one.client.body, one.client.ended, one.failures) == (START, False, [])
    assert (one.client.journal.usage, one.client.journal.error) == (Usage(7, 1), "interrupted")
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage() == f"anthropic/claude-x broke off its response after {len(START)} bytes (OSError)"


async def test_a_stream_that_ends_with_an_error(caplog):
    """An error event after the first event is the client's; its kind is in the journal, and a line is logged."""
    one = Relayed(START, ERROR)
    assert await one.run() is DONE
    assert (one.client.body, one.client.ended) == (START + ERROR, True)
    assert one.client.journal.error == "overloaded_error"
    assert [line.getMessage() for line in caplog.records] == [
        "anthropic/claude-x ended its response with an error: overloaded_error"
    ]


async def test_a_client_that_leaves(caplog):
    """What a client that left has heard is counted and logged, and the attempt is cancelled."""
    caplog.set_level(logging.INFO)
    one = Relayed(START)
    never = asyncio.Event()

    async def readany():
        if one.client.body:
            await never.wait()
        return START

    one.response._raw.readany = readany
    sent = asyncio.Event()
    one.client.at_body = sent.set
    running = asyncio.ensure_future(one.run())
    await sent.wait()
    one.client.outlet.leave()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert one.client.journal.usage == Usage(7, 1)
    assert [line.getMessage() for line in caplog.records] == [
        f"the client disconnected during a response of anthropic/claude-x, after {len(START)} bytes"
    ]


@pytest.mark.parametrize(
    ("kind", "status", "final"),
    [
        ("invalid_request_error", 400, True),
        ("request_too_large", 413, True),
        ("authentication_error", 401, False),
        ("rate_limit_error", 429, False),
        ("overloaded_error", 529, False),
        ("of_tomorrow", 500, False),
    ],
)
def test_an_error_in_the_place_of_a_stream(kind, status, final):
    """It counts as the status that it stands for: one about the request is final; the client gets the event as it came."""
    found = failed_stream(FailedStream(kind, ERROR), [("request-id", "r")], 200)
    assert (found.status, found.final) == (status, final)
    assert (found.refusal.status, found.refusal.headers, found.refusal.body) == (200, [("request-id", "r")], ERROR)


@pytest.mark.parametrize(
    ("error", "words"),
    [(UnreadableError("sent an event of more than 1 MB"), "sent an event of more than 1 MB"),
     (UpstreamError("ClientOSError"), "ClientOSError"), (FailedStream("api_error", b"secret"), "FailedStream")],
)  # fmt: skip
def test_what_became_of_a_response(error, words):
    """The words name the kind of an error, and nothing of what was sent."""
    assert words_of(error) == words
