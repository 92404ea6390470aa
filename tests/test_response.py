"""proxy/response.py: what a client gets, by the states of a response; and the record that is left of it."""

import json

import pytest

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Lane
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import EARLY_SECONDS, KEEPALIVE_SECONDS, ClientResponse, State, StreamFormat
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import read
from claude_proxy.usage.record import AttemptRecord

pytestmark = pytest.mark.anyio

TOKEN, OAUTH, POOLED = "sk-made-up-token-of-anna", "sk-ant-oat01-made-up-client", "sk-ant-oat01-made-up-pool"
SENT = [("x-litellm-api-key", TOKEN), ("authorization", f"Bearer {OAUTH}")]
EVENT = b"event: x\ndata: {}\n\n"
REFUSAL = own_refusal(503, "no luck", [("retry-after", "7")])
BROKEN_OFF = Refusal(200, [("request-id", "r")], b"", whole=False)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Client:
    """One request's response, and what the client got of it."""

    def __init__(self, provider=Provider.OPENAI, *, stream=True, **more):
        self.sent = []
        self.clock = Clock()
        self.journal = Journal()
        request = Request(read(SENT), SENT, b"{}", RequestView("claude-proxy/m", streams=stream), user="anna", **more)
        if provider:
            self.journal.begin(provider, "some/model")
        self.response = ClientResponse(self.send, request, Redactor([Secret(POOLED)]), self.journal, self.clock)

    async def send(self, message):
        self.sent.append(message)

    async def reach(self, state):
        """Bring the response into a state, and forget what was sent on the way."""
        await WAYS[state](self.response)
        assert self.response.state is state
        self.sent.clear()
        return self

    @property
    def statuses(self):
        return [message["status"] for message in self.sent if message["type"] == "http.response.start"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self):
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)


async def waiting(_):
    """Nothing has happened yet."""


async def begun(response):
    await response.begin(200, [])


async def ended(response):
    await begun(response)
    await response.end()


async def left(response):
    response.leave()


WAYS = {
    State.WAITING: waiting, State.EARLY: ClientResponse.reassure, State.PASSING: begun, State.ENDED: ended, State.LEFT: left,
}  # fmt: skip


def start(status, *headers):
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def part(data, *, more=True):
    return {"type": "http.response.body", "body": data, "more_body": more}


# What can be done to a response.
CALLS = {
    "begin": lambda response: response.begin(201, [("Request-Id", "r")]),
    "reassure": lambda response: response.reassure(),
    "refuse": lambda response: response.refuse(REFUSAL),
    "refuse, not whole": lambda response: response.refuse(BROKEN_OFF),
    "write": lambda response: response.write(b"one"),
    "end": lambda response: response.end(),
    "end with the last part": lambda response: response.end(b"last"),
}
EARLY_START = start(200, (b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
REFUSED_START = start(
    503, (b"content-type", b"application/json"), (b"retry-after", b"7"), (b"content-length", b"%d" % len(REFUSAL.body))
)
# The table of the module's docstring: a state, what is done in it, the state it becomes, and what is sent.
ROWS = [
    (State.WAITING, "begin", State.PASSING, [start(201, (b"request-id", b"r"))]),
    (State.WAITING, "reassure", State.EARLY, [EARLY_START, part(KEEPALIVE)]),
    (State.WAITING, "refuse", State.ENDED, [REFUSED_START, {"type": "http.response.body", "body": REFUSAL.body}]),
    (State.WAITING, "refuse, not whole", State.PASSING, [start(200, (b"request-id", b"r"))]),
    (State.EARLY, "reassure", State.EARLY, [part(KEEPALIVE)]),
    (State.EARLY, "begin", State.PASSING, []),
    (State.EARLY, "refuse", State.ENDED, [part(b"event: error\ndata: " + REFUSAL.body + b"\n\n", more=False)]),
    (State.EARLY, "refuse, not whole", State.PASSING, []),
    (State.PASSING, "write", State.PASSING, [part(b"one")]),
    (State.PASSING, "end", State.ENDED, [part(b"", more=False)]),
    (State.PASSING, "end with the last part", State.ENDED, [part(b"last", more=False)]),
]
OTHERS = [(state, call) for state in State for call in CALLS if (state, call) not in {row[:2] for row in ROWS}]


@pytest.mark.parametrize(("before", "call", "after", "sent"), ROWS, ids=[f"{row[0].name}-{row[1]}" for row in ROWS])
async def test_a_row_of_the_table(before, call, after, sent):
    """Each row of the table leads from its state to the next one, and sends what stands there."""
    client = await Client().reach(before)
    await CALLS[call](client.response)
    assert (client.response.state, client.sent) == (after, sent)


@pytest.mark.parametrize(("state", "call"), OTHERS, ids=[f"{state.name}-{call}" for state, call in OTHERS])
async def test_what_is_not_in_the_table(state, call):
    """What is not in the table changes nothing and sends nothing."""
    client = await Client().reach(state)
    await CALLS[call](client.response)
    assert (client.response.state, client.sent) == (state, [])


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("call", [ClientResponse.leave, ClientResponse.revoke], ids=["leave", "revoke"])
async def test_a_client_goes_or_is_sent_away(state, call):
    """A response that is not ended is left, whatever state it is in, and nothing is sent meanwhile; what had its end stays."""
    client = await Client().reach(state)
    assert call(client.response) is (state is not State.ENDED)
    assert client.response.left is (state is not State.ENDED)
    assert client.response.state is (State.ENDED if state is State.ENDED else State.LEFT)
    assert client.sent == []


@pytest.mark.parametrize(
    ("state", "has_begun"),
    [(State.WAITING, False), (State.EARLY, False), (State.PASSING, True), (State.ENDED, True), (State.LEFT, True)],
    ids=lambda value: value.name if isinstance(value, State) else "",
)
async def test_what_may_be_replaced(state, has_begun):
    """As long as nothing but keep-alives has been sent another target may answer."""
    assert (await Client().reach(state)).response.begun is has_begun


# A whole response


async def test_an_upstreams_response_passes():
    """What an upstream says is sent as it is, and an empty part is not sent."""
    client = Client(Provider.CLAUDE)
    await client.response.begin(201, [("Request-Id", "r")], of_claude=True)
    await client.response.write(b"one")
    await client.response.write(b"")
    await client.response.end()
    assert client.sent == [start(201, (b"request-id", b"r")), part(b"one"), part(b"", more=False)]


async def test_a_response_that_breaks_off_is_not_ended():
    """An upstream that went away in the middle leaves a response without an end, whatever comes afterwards."""
    client = Client(Provider.CLAUDE)
    await client.response.begin(200, [])
    await client.response.write(b"half")
    await client.response.refuse(REFUSAL)
    assert not client.complete


@pytest.mark.parametrize("early", [False, True])
async def test_a_refusal_without_an_end(early):
    """What an upstream broke off before its first event has the upstream's status and no end, also after keep-alives."""
    client = Client(Provider.OPENAI if early else Provider.CLAUDE)
    if early:
        await client.response.reassure()
    await client.response.refuse(BROKEN_OFF)
    assert (client.statuses, client.body) == ([200], KEEPALIVE if early else b"")
    assert client.sent[-1].get("more_body", True)
    assert client.response.record(0).error == "interrupted"


# Keep-alives


async def test_a_silent_provider_does_not_cost_the_connection():
    """After a minute of silence a stream begins, a keep-alive follows at each interval, and then the response itself."""
    client = Client()
    assert client.response.patience() == EARLY_SECONDS
    client.clock.now += EARLY_SECONDS
    await client.response.reassure()
    assert client.response.patience() == KEEPALIVE_SECONDS
    await client.response.reassure()
    await client.response.begin(200, [("x", "y")])
    assert client.response.patience() is None
    await client.response.write(EVENT)
    await client.response.end()
    await client.response.reassure()
    assert (client.statuses, client.body, client.complete) == ([200], KEEPALIVE * 2 + EVENT, True)


async def test_another_format():
    """A stream of another API has that API's keep-alives, and its form of an error."""
    client = Client()
    own = StreamFormat(lambda body: b"data: " + body + b"\n\n", b": keep-alive\n\n")
    client.response = ClientResponse(
        client.send, client.response.request, Redactor([]), client.journal, client.clock, stream_format=own
    )
    client.clock.now += EARLY_SECONDS
    await client.response.reassure()
    await client.response.refuse(REFUSAL)
    assert client.body == b": keep-alive\n\ndata: " + REFUSAL.body + b"\n\n"


async def test_patience_ends_a_minute_after_the_request_came():
    """What an attempt before took is part of the silence; where it is used up, the next keep-alive is due at its interval."""
    client = Client()
    client.clock.now += EARLY_SECONDS - 1
    assert client.response.patience() == 1
    client.clock.now += 2
    assert client.response.patience() == KEEPALIVE_SECONDS


@pytest.mark.parametrize(
    "client",
    [Client(Provider.CLAUDE), Client(None), Client(stream=False)],
    ids=["claude", "nobody-yet", "whole"],
)
async def test_who_speaks_for_itself(client):
    """Claude, a request that nobody is asked for yet and a response that is no stream get no keep-alive of the proxy's."""
    await client.response.reassure()
    assert client.sent == []


def test_a_whole_response_is_not_waited_for_in_steps():
    """Where no keep-alive is ever due there is no patience that could end."""
    assert Client(stream=False).response.patience() is None


@pytest.mark.parametrize(
    "refusal",
    [
        own_refusal(503, "no\nluck"),
        Refusal(503, [], b'{"type":"error",\n"error":{"type":"overloaded_error","message":"no luck"}}'),
        Refusal(200, [], b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no luck"}}\n\n'),
    ],
    ids=["own", "on-two-lines", "event"],
)
async def test_an_error_after_keep_alives_ends_the_stream(refusal):
    """When the status has left already, an error is the stream's last event, in Anthropic's shape."""
    client = Client()
    await client.response.reassure()
    await client.response.refuse(refusal)
    event = client.body.removeprefix(KEEPALIVE)
    assert event.startswith(b"event: error\ndata: ")
    assert event.endswith(b"}\n\n")
    assert json.loads(event.split(b"data: ")[1])["error"]["type"] == "overloaded_error"
    assert client.complete
    record = client.response.record(0)
    assert (record.status, record.error, record.served) == (200, "overloaded_error", "")


# A client whose user is removed

KIND = "authentication_error"


@pytest.mark.parametrize("state", [State.WAITING, State.EARLY, State.PASSING], ids=lambda state: state.name)
async def test_a_removed_users_stream_ends_with_an_error(state):
    """The client reads that its token was removed: as a response where nothing has left, else as the stream's last event."""
    client = Client()
    await WAYS[state](client.response)
    if state is State.PASSING:
        await client.response.write(EVENT)
    sent = len(client.body)
    client.response.revoke()
    await client.response.write(b"too late")
    await client.response.conclude()
    said = client.body[sent:]
    assert said.startswith(b"{" if state is State.WAITING else b"event: error\ndata: ")
    assert json.loads(said[said.index(b"{") :])["error"]["type"] == KIND
    assert (client.statuses, client.complete) == ([401 if state is State.WAITING else 200], True)
    record = client.response.record(0)
    assert (record.status, record.error) == (client.statuses[0], KIND)


async def test_a_status_alone_can_be_followed_by_an_error():
    """A stream of which only the status has left has room for an event."""
    client = await Client().reach(State.PASSING)
    client.response.revoke()
    await client.response.conclude()
    assert client.body.startswith(b"event: error\n")


@pytest.mark.parametrize(("stream", "data"), [(True, b"data: 1\n"), (False, EVENT)], ids=["within-an-event", "whole"])
async def test_a_removed_users_response_breaks_off(stream, data):
    """Where no event can follow, the connection ends without one."""
    client = Client(stream=stream)
    await client.response.begin(200, [])
    await client.response.write(data)
    client.response.revoke()
    await client.response.conclude()
    assert (client.body, client.complete) == (data, False)
    assert client.response.record(0).error == KIND


@pytest.mark.parametrize("parts", [[b"data: 1\n", b"\n"], [b"data: 1", b"\n\n"], [EVENT, b"\n", b"\n"]])
async def test_the_end_of_an_event_may_come_in_parts(parts):
    """Whether an event is whole does not depend on how it was cut."""
    client = Client()
    await client.response.begin(200, [])
    for each in parts:
        await client.response.write(each)
    client.response.revoke()
    await client.response.conclude()
    assert client.body.removeprefix(b"".join(parts)).startswith(b"event: error\n")


async def test_who_leaves_is_told_nothing():
    """A client that is gone gets no error, and its request is recorded as one that was left."""
    client = Client()
    client.response.leave()
    await client.response.conclude()
    assert (client.sent, client.response.record(0).status) == ([], 499)


async def test_what_has_ended_is_not_concluded():
    """A user who is removed when the response has its end gets no other."""
    client = await Client().reach(State.ENDED)
    client.response.revoke()
    await client.response.conclude()
    assert (client.sent, client.response.record(0).error) == ([], "")


# Secrets

QUOTED = f"{TOKEN} {OAUTH} {POOLED}"
# In a stream what takes their place is as long, so that nothing waits for the end.
STARS = b" ".join(b"*" * len(secret) for secret in (TOKEN, OAUTH, POOLED))


async def test_no_secret_leaves_in_a_response():
    """Headers and body of a provider's response leave without the client's secrets and the pool's, however they are cut."""
    client = Client()
    await client.response.begin(200, [("x-said", QUOTED), ("x-other", "é")])
    for place in range(len(QUOTED)):
        await client.response.write(QUOTED[place : place + 1].encode())
    await client.response.end()
    assert client.sent[0]["headers"] == [(b"x-said", b"*** *** ***"), (b"x-other", b"\xe9")]
    assert client.body == STARS


async def test_claudes_message_passes_as_it_came():
    """Of Claude only headers and error events are searched: its message is the model's, to the byte."""
    client = Client(Provider.CLAUDE)
    error = b'event: error\ndata: {"type":"error","error":{"message":"%s"}}\n\n'
    await client.response.begin(200, [("x-said", QUOTED)], of_claude=True)
    await client.response.write(b"data: " + QUOTED.encode() + b"\n\n")
    await client.response.end(error % QUOTED.encode())
    assert client.sent[0]["headers"] == [(b"x-said", b"*** *** ***")]
    assert client.body == b"data: " + QUOTED.encode() + b"\n\n" + error % STARS


async def test_no_secret_leaves_in_a_refusal():
    """A refusal's headers and body leave without secrets, and otherwise in their own bytes."""
    client = Client(Provider.CLAUDE)
    await client.response.refuse(Refusal(400, [("x-said", QUOTED)], b"\xff " + QUOTED.encode() + b" \xc3\xa9"))
    assert client.body == b"\xff *** *** *** \xc3\xa9"
    assert client.sent[0]["headers"] == [(b"x-said", b"*** *** ***"), (b"content-length", b"%d" % len(client.body))]


# The record


async def test_the_record():
    """A record names who asked for what, who answered, with which credential, how long it took and what it cost."""
    client = Client(Provider.CLAUDE)
    client.journal.labels += ["one", "two"]
    client.journal.failovers.append("one: limit (HTTP 429)")
    client.clock.now += 1
    await client.response.begin(200, [])
    await client.response.write(b"x")
    client.clock.now += 2
    await client.response.end()
    client.journal.usage = Usage(3, 4)
    record = client.response.record(1_800_000_000.0)
    assert (record.at, record.user, record.requested, record.served) == (1_800_000_000.0, "anna", "m", "some/model")
    assert (record.status, record.first_byte_seconds, record.seconds, record.error) == (200, 1, 3, "")
    assert (record.credential, record.usage, record.failovers) == ("two", Usage(3, 4), ("one: limit (HTTP 429)",))
    assert record.counts_tokens is False
    assert (record.size, record.lane, record.request_id) == (1, "", "")


async def test_a_record_has_its_attempts():
    """A record has lane, attempts, the provider's id and the length of what the client received."""
    client = Client(None)
    client.journal.clock = client.clock
    client.journal.begin(Provider.CLAUDE, "anthropic/claude-x", "claude-x", Lane.CLAUDE)
    client.journal.use("anna")
    client.journal.learn_request_id({"request-id": "req_1"})
    await client.response.begin(200, [])
    await client.response.write(EVENT)
    await client.response.write(EVENT)
    client.clock.now += 2
    client.response.leave()
    record = client.response.record(0)
    assert record.attempts == (AttemptRecord("anna", "the client disconnected", 2),)
    assert (record.lane, record.request_id, record.size) == ("claude", "req_1", 2 * len(EVENT))


async def test_a_refusal_is_why_the_attempt_failed():
    """An attempt that LiteLLM made by itself has the type of the error that the client received, and its length."""
    client = Client(None)
    client.journal.begin(Provider.CLAUDE, "bedrock/claude-x", "claude-x", Lane.LITELLM)
    await client.response.refuse(REFUSAL)
    record = client.response.record(0)
    assert [one[:2] for one in record.attempts] == [("bedrock/claude-x", "overloaded_error")]
    assert (record.lane, record.size) == ("litellm", len(REFUSAL.body))


class Priced:
    """Prices that are one micro-USD for each token."""

    def cost(self, model, served, usage):
        self.asked = model, served
        return usage.input + usage.output


async def test_a_record_has_why_no_fallback_followed():
    """The reason is a part of the record, and of its last attempt."""
    client = Client()
    client.response.journal.begin(Provider.CLAUDE, "anthropic/claude-x")
    client.response.journal.end("no usable credential")
    client.response.journal.record_no_fallback("fallback glm is not ready: set GLM_KEY")
    record = client.response.record(0)
    assert record.no_fallback == "fallback glm is not ready: set GLM_KEY"
    assert record.attempts[-1].why == "no usable credential; fallback glm is not ready: set GLM_KEY"


async def test_a_record_has_its_cost():
    """A record has the cost of the response at the model that responded, a fallback's own name, and the user's groups."""
    client, prices = Client(Provider.CLAUDE), Priced()
    client.journal.begin(Provider.OPENAI, "openai/gpt", "gpt")
    await client.response.begin(200, [])
    client.journal.usage = Usage(3, 4)
    record = client.response.record(1.0, prices)
    assert (record.cost, record.model, record.groups, prices.asked) == (7, "gpt", (), ("gpt", "openai/gpt"))
    assert client.response.record(1.0).cost is None


async def test_what_costs_nothing():
    """A response without reported tokens, an error, and a response to the client's own login cost the operator nothing."""
    silent, refused = Client(Provider.CLAUDE), Client(Provider.CLAUDE)
    await refused.response.refuse(own_refusal(429, "busy"))
    refused.journal.usage = Usage(3, 4)
    assert [one.response.record(1.0, Priced()).cost for one in (silent, refused)] == [0, 0]
    own, pooled = Client(Provider.CLAUDE), Client(Provider.CLAUDE)
    for one, labels in ((own, ["first", "client"]), (pooled, ["client", "first"])):
        await one.response.begin(200, [])
        one.journal.labels += labels
        one.journal.usage = Usage(3, 4)
    assert [one.response.record(1.0, Priced()).cost for one in (own, pooled)] == [0, 7]


async def test_a_keep_alive_is_no_first_byte():
    """The time to the first byte is that of the response's own."""
    client = await Client().reach(State.EARLY)
    client.clock.now += 1
    await client.response.begin(200, [])
    await client.response.write(b"x")
    client.clock.now += 2
    assert client.response.record(0).first_byte_seconds == 1


async def test_of_another_provider_no_credential_is_recorded():
    """After a fallback the credentials that Claude was asked with before are nobody's."""
    client = Client(Provider.CLAUDE, counts_tokens=True)
    client.journal.labels.append("one")
    client.journal.begin(Provider.OPENAI, "openai/x")
    await ended(client.response)
    record = client.response.record(0)
    assert (record.credential, record.served, record.counts_tokens) == ("", "openai/x", True)


async def test_a_broken_response_is_recorded_by_its_error():
    """What ended a response whose status was a success is its error; who served it is known."""
    client = await Client().reach(State.PASSING)
    client.journal.error = "interrupted"
    record = client.response.record(0)
    assert (record.status, record.error, record.served) == (200, "interrupted", "some/model")


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(429, [], b"{}"), "rate_limit_error"),
        (Refusal(429, [], b'{"error":{"type":"of_tomorrow"}}'), "of_tomorrow"),
        (Refusal(429, [], b'{"error":{"type":["rate_limit_error"]}}'), "rate_limit_error"),
        (Refusal(429, [], b'{"error":"slow down"}'), "rate_limit_error"),
        (Refusal(200, [], b'event: error\ndata: {"error":{"type":"overloaded_error"}}\n\n'), "overloaded_error"),
        (Refusal(500, [], b"[" * 100_000), "api_error"),
        (Refusal(500, [], b"<html>"), "api_error"),
    ],
    ids=["status", "said", "odd-type", "odd-error", "event", "brackets", "page"],
)
async def test_a_refused_request_is_recorded_by_its_error(refusal, kind):
    """A refusal has Anthropic's type of error, by its words or its status, and nobody who served it."""
    client = Client()
    await client.response.refuse(refusal)
    record = client.response.record(0)
    assert (record.status, record.error, record.served, record.credential) == (refusal.status, kind, "", "")
