"""What a client gets: an upstream's answer past LiteLLM, LiteLLM's own, or an error in Anthropic's shape."""

import asyncio
import json

import pytest

from claude_proxy.anthropic.errors import Refusal
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.anthropic.usage import Usage
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.exchange import Exchange
from claude_proxy.proxy.response import EARLY_SECONDS, KEEPALIVE_SECONDS, ClientResponse, usage_of
from claude_proxy.upstream.headers import read

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
FAILED = {"type": "http.response.start", "status": 500, "headers": []}
LAST = {"type": "http.response.body", "body": b""}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Client:
    """One request's answer, and what the client got of it."""

    def __init__(self, provider=Provider.OPENAI, *, stream=True):
        self.sent = []
        self.clock = Clock()
        self.exchange = Exchange(read([]), [], b"{}", {"model": "m", "stream": stream}, user="anna")
        if provider:
            self.exchange.begin(provider, "some/model")
        self.answer = ClientResponse(self.send, self.exchange, Redactor([]), self.clock)

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self):
        return not self.sent[-1].get("more_body", False)


def part(data):
    return {"type": "http.response.body", "body": data, "more_body": True}


async def test_an_upstreams_answer_goes_past_litellm():
    """What an upstream says is sent as it is; nothing of what LiteLLM says about it afterwards is."""
    client = Client(Provider.CLAUDE)
    await client.answer.begin(201, [("Request-Id", "r")])
    await client.answer.write(b"one")
    await client.answer.write(b"")
    for message in (START, part(b"litellm"), LAST, FAILED, part(b"error"), LAST):
        await client.answer(message)
    await client.answer.end()
    assert client.sent == [
        {"type": "http.response.start", "status": 201, "headers": [(b"request-id", b"r")]},
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]


async def test_an_answer_that_breaks_off_is_not_ended():
    """An upstream that went away in the middle leaves an answer without an end, whatever LiteLLM says then."""
    client = Client(Provider.CLAUDE)
    await client.answer.begin(200, [])
    await client.answer.write(b"half")
    await client.answer(FAILED)
    await client.answer(LAST)
    assert not client.complete


@pytest.mark.parametrize("early", [False, True])
async def test_a_refusal_without_an_end(early):
    """What an upstream broke off before its first event has the upstream's status and no end, also after keep-alives."""
    client = Client(Provider.OPENAI if early else Provider.CLAUDE)
    if early:
        await client.answer.reassure()
        client.exchange.first_provider = None
    client.exchange.refusal = Refusal(200, [("request-id", "r")], b"", whole=False)
    await client.answer(FAILED)
    await client.answer(LAST)
    assert (client.status, client.body) == (200, KEEPALIVE if early else b"")
    assert early or client.sent == [{"type": "http.response.start", "status": 200, "headers": [(b"request-id", b"r")]}]
    assert client.sent[-1].get("more_body", True)
    assert client.answer.record(0).error == "interrupted"


async def test_a_silent_provider_does_not_cost_the_connection():
    """After a minute of silence a stream begins, a keep-alive follows at each interval, and then the answer itself."""
    client = Client()
    assert client.answer.patience() == EARLY_SECONDS
    client.clock.now += EARLY_SECONDS
    await client.answer.reassure()
    assert client.answer.patience() == KEEPALIVE_SECONDS
    await client.answer.reassure()
    for message in (START, part(b"event: x\ndata: {}\n\n"), LAST):
        await client.answer(message)
    assert client.answer.patience() is None
    await client.answer.reassure()
    assert (client.status, client.body, client.complete) == (200, KEEPALIVE * 2 + b"event: x\ndata: {}\n\n", True)
    assert [message["type"] for message in client.sent].count("http.response.start") == 1


async def test_an_upstreams_stream_can_follow_keep_alives():
    """A stream that comes past LiteLLM after the silence continues the one that has begun."""
    client = Client(Provider.ANTHROPIC_FORMAT)
    await client.answer.reassure()
    await client.answer.begin(200, [("x", "y")])
    await client.answer.write(b"data: 1\n\n")
    await client.answer.end()
    assert client.body == KEEPALIVE + b"data: 1\n\n"
    assert [message["type"] for message in client.sent].count("http.response.start") == 1


@pytest.mark.parametrize("refusal", [None, Refusal(200, [], b'event: error\ndata: {"type":"error"}\n\n')])
async def test_an_error_after_keep_alives_ends_the_stream(refusal):
    """When the status has left already, an error is the stream's last event, in Anthropic's shape."""
    client = Client()
    await client.answer.reassure()
    client.exchange.refusal, client.exchange.first_provider = refusal, None if refusal else Provider.OPENAI
    await client.answer({**FAILED, "status": 503})
    await client.answer({"type": "http.response.body", "body": b'{"error":{"message":"no\\nluck"}}'})
    event = client.body.removeprefix(KEEPALIVE)
    assert event.startswith(b"event: error\ndata: ")
    assert event.endswith(b"}\n\n")
    assert json.loads(event.split(b"data: ")[1])["type"] == "error"
    assert client.complete


@pytest.mark.parametrize(
    "client",
    [Client(Provider.CLAUDE), Client(None), Client(stream=False)],
    ids=["claude", "nobody-yet", "whole"],
)
async def test_who_speaks_for_itself(client):
    """Claude, a request that nobody is asked for yet and an answer that is no stream get no keep-alive of the proxy's."""
    await client.answer.reassure()
    assert client.sent == []


async def test_a_relay_ends_with_its_client():
    """What runs for a client ends when it leaves, and says so; the request itself goes on, for LiteLLM's books."""
    client = Client(Provider.CLAUDE)
    begun = asyncio.Event()

    async def endless():
        begun.set()
        await asyncio.Event().wait()

    work = asyncio.ensure_future(client.answer.while_client_stays(endless()))
    await begun.wait()
    assert client.answer.leave() is True
    assert await work is False
    assert client.answer.record(0).status == 499


async def test_a_client_that_leaves_during_keep_alives_ends_its_request():
    """While nothing but keep-alives has been sent nobody else notices that the client leaves, so the request is to be ended."""
    client = Client()
    await client.answer.reassure()
    assert client.answer.leave() is False


async def test_only_the_attempt_that_answered_is_counted():
    """What an attempt said that was left for another one is neither the answer's usage nor its error."""
    client = Client(Provider.CLAUDE)
    client.exchange.usage, client.exchange.error = Usage(1, 1), "interrupted"
    client.exchange.begin(Provider.OPENAI, "openai/x")
    await client.answer(START)
    await client.answer(part(b'data: {"type":"message_delta","usage":{"input_tokens":10,"output_tokens":5}}\n\n'))
    await client.answer(LAST)
    record = client.answer.record(0)
    assert (record.usage, record.error) == (Usage(10, 5), "")


async def test_a_cancelled_request_is_cancelled():
    """The end of the process is not taken for the client's leaving."""
    client = Client(Provider.CLAUDE)
    begun = asyncio.Event()

    async def endless():
        begun.set()
        await asyncio.Event().wait()

    work = asyncio.ensure_future(client.answer.while_client_stays(endless()))
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_what_is_remembered():
    """A record names who asked for what, who answered, with which credential, how long it took and what it cost."""
    client = Client(Provider.CLAUDE)
    client.exchange.labels += ["one", "two"]
    client.exchange.failovers.append("one: limit (HTTP 429)")
    client.clock.now += 1
    await client.answer.begin(200, [])
    await client.answer.write(b"x")
    client.clock.now += 2
    await client.answer.end()
    client.exchange.usage = Usage(3, 4)
    record = client.answer.record(1_800_000_000.0)
    assert (record.user, record.asked, record.served, record.credential) == ("anna", "m", "some/model", "two")
    assert (record.status, record.first_byte_seconds, record.seconds, record.error) == (200, 1, 3, "")
    assert (record.usage, record.failovers) == (Usage(3, 4), ("one: limit (HTTP 429)",))


async def test_a_refused_request_is_remembered_by_its_error():
    """A refusal has Anthropic's type of error and nobody who served it."""
    client = Client()
    await client.answer({**FAILED, "status": 429})
    await client.answer({"type": "http.response.body", "body": b"{}"})
    record = client.answer.record(0)
    assert (record.status, record.error, record.served, record.credential) == (429, "rate_limit_error", "", "")


STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":7,'
    b'"cache_creation_input_tokens":2,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\""}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":55}}\n\n'
)


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (STREAM, Usage(10, 55, 7, 2)),
        (STREAM.replace(b"\n", b"\r\n"), Usage(10, 55, 7, 2)),
        (STREAM[:-70], Usage(10, 1, 7, 2)),
        (b' {"usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":null}}', Usage(1, 2)),
        (b'{"usage":{"input_tokens":-1,"output_tokens":true,"x":"y"}}', Usage()),
        (b'{"usage":[]}', Usage()),
        (b"[1]", Usage()),
        (b"{", Usage()),
        (b"", Usage()),
    ],
)
def test_tokens_are_read_from_the_answer(answer, usage):
    """The counts are those that the answer says last, in either form; what is no count counts as none."""
    assert usage_of(answer) == usage


def test_a_large_answer_is_not_parsed(monkeypatch):
    """Of an answer that is too large to be parsed beside other requests the usage at its end is read."""
    monkeypatch.setattr("claude_proxy.proxy.response.MAX_READ_ANSWER", 100)
    said = {
        "content": [{"text": '"usage": {"input_tokens": 1}'}] * 10,
        "usage": {"input_tokens": 3, "output_tokens": 4},
        "x": 1,
    }
    assert usage_of(json.dumps(said).encode()) == Usage(3, 4)
    assert usage_of(b"{" + b" " * 100 + b'"usage": [}') == usage_of(b"{" + b" " * 100) == Usage()


async def test_litellms_stream_is_counted():
    """Of a stream of LiteLLM's the events with counts are read, one message each."""
    client = Client()
    await client.answer(START)
    for event in STREAM.split(b"\n\n")[:-1]:
        await client.answer(part(event + b"\n\n"))
    await client.answer(LAST)
    assert client.answer.record(0).usage == Usage(10, 55, 7, 2)


@pytest.mark.parametrize("status", [101, 300, 304])
async def test_a_status_that_is_neither_good_nor_an_error(status):
    """LiteLLM answers with whatever status an error of a provider's has; to the client it is a 502, in Anthropic's shape."""
    client = Client()
    await client.answer({"type": "http.response.start", "status": status, "headers": []})
    await client.answer({"type": "http.response.body", "body": b'{"error":{"message":"odd"}}'})
    assert (client.status, client.complete) == (502, True)
    assert json.loads(client.body) == {"type": "error", "error": {"type": "api_error", "message": "odd"}}


async def test_a_page_may_lead_elsewhere():
    """What is no request for a model, such as a page of administration, has its own statuses."""
    client = Client(provider=None)
    client.exchange.raw_body = b""
    await client.answer({"type": "http.response.start", "status": 303, "headers": [(b"location", b"/ui/")]})
    await client.answer(LAST)
    assert client.status == 303


async def test_what_is_open_is_closed_at_the_end():
    """Each of an upstream's answers is let go once."""
    client, closed = Client(), []

    async def close():
        closed.append(True)

    client.exchange.opened += [close, close]
    await client.answer.close()
    await client.answer.close()
    assert closed == [True, True]
