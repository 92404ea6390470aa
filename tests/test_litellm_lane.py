"""proxy/lanes/litellm_lane.py: what LiteLLM's app says becomes the client's response, or an outcome."""

import json

import pytest
from lanes import Received

from claude_proxy.anthropic.sse import KEEPALIVE
from claude_proxy.anthropic.usage import Usage
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.lanes.litellm_lane import LitellmResponse
from claude_proxy.proxy.outcome import DONE

pytestmark = pytest.mark.anyio

LAST = {"type": "http.response.body", "body": b""}
EVENTS = [(b"content-type", b"text/event-stream")]


def start(status, headers=()):
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def part(data):
    return {"type": "http.response.body", "body": data, "more_body": True}


class Client(Received):
    """A client, and LiteLLM's way to it."""

    def __init__(self, *, streams=True, only_success=True):
        super().__init__(b'{"model":"m","messages":[1],"stream":true}')
        self.litellm = LitellmResponse(self.outlet, self.journal, streams=streams, only_success=only_success)

    async def hears(self, *messages):
        for message in messages:
            await self.litellm(message)
        return self.litellm.outcome()


async def test_a_success_passes():
    """A success passes part by part as it comes, without LiteLLM's own headers."""
    client = Client()
    headers = [
        *EVENTS, (b"x-litellm-model-api-base", b"hidden"), (b"X-LiteLLM-Call-Id", b"hidden"),
        (b"llm_provider-retry-after", b"hidden"), (b"x-request-id", b"kept"),
    ]  # fmt: skip
    assert await client.hears(start(200, headers), part(b"one"), part(b"two"), LAST) == DONE
    assert client.begun == (200, {"content-type": "text/event-stream", "x-request-id": "kept"})
    assert [message["body"] for message in client.messages[1:]] == [b"one", b"two", b""]
    assert client.ended


async def test_a_part_is_sent_before_the_next_one_comes():
    """Nothing of a response is held back until its end; the status of a stream waits for its first part."""
    client = Client()
    await client.litellm(start(200, EVENTS))
    assert client.begun is None
    await client.litellm(part(b"one"))
    assert (client.begun[0], client.body, client.ended) == (200, b"one", False)
    whole = Client(streams=False)
    await whole.litellm(start(200))
    assert whole.begun is not None


async def test_a_stream_that_begins_with_an_error_is_not_begun():
    """LiteLLM begins some streams before it has asked; the error has a status then, and something else may answer."""
    client = Client()
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "made up"}}
    outcome = await client.hears(start(200, EVENTS), part(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"), LAST)
    assert (client.begun, outcome.status) == (None, 429)
    assert json.loads(outcome.refusal.body)["error"]["message"] == "made up"


async def test_what_a_lane_has_sent_stays():
    """When the client has its response from a lane, nothing that LiteLLM makes of it is sent, be it an error."""
    client = Client()
    await client.outlet.begin(201, [("request-id", "r")])
    await client.outlet.write(b"one")
    assert await client.hears(start(200), part(b"litellm"), LAST) == DONE
    assert await client.hears(start(500), part(b"error"), LAST) == DONE
    assert (client.begun, client.body, client.ended) == ((201, {"request-id": "r"}), b"one", False)


async def test_a_stream_follows_keep_alives():
    """A response whose status has left early goes on where it stands."""
    client = Client()
    client.journal.begin(Provider.OPENAI, "openai/x")
    await client.outlet.reassure()
    assert await client.hears(start(200, EVENTS), part(b"data: 1\n\n"), LAST) == DONE
    assert (client.begun[0], client.body, client.ended) == (200, KEEPALIVE + b"data: 1\n\n", True)


@pytest.mark.parametrize("kind", ["key", "team", "user", "org"])
async def test_a_model_that_a_key_may_not_use(kind):
    """It is a 400: after a 403 Claude Code tells its user to log in, which changes nothing."""
    body = json.dumps({"error": {"message": "key not allowed", "type": f"{kind}_model_access_denied", "code": "403"}}).encode()
    outcome = await Client().hears(start(403), part(body), LAST)
    assert (outcome.status, outcome.refusal.status) == (400, 400)
    assert json.loads(outcome.refusal.body)["error"] == {"type": "invalid_request_error", "message": "key not allowed"}
    assert outcome.why == "HTTP 400 model_not_allowed"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, [], ("invalid_request_error", {"x-should-retry": "false"})),
        (401, [], ("authentication_error", {"x-should-retry": "false"})),
        (403, [], ("permission_error", {"x-should-retry": "false"})),
        (404, [], ("not_found_error", {"x-should-retry": "false"})),
        (422, [], ("invalid_request_error", {"x-should-retry": "false"})),
        (400, [(b"X-Should-Retry", b"true")], ("invalid_request_error", {"x-should-retry": "true"})),
        (408, [], ("invalid_request_error", {})),
        (429, [(b"retry-after", b"7")], ("rate_limit_error", {"retry-after": "7"})),
        (500, [], ("api_error", {})),
        (503, [], ("overloaded_error", {})),
        (529, [], ("overloaded_error", {})),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_an_error_becomes_an_outcome(status, headers, expected):
    """An error is sent to nobody: it is in Anthropic's shape, without LiteLLM's headers, and another target may answer."""
    client = Client()
    hidden = (b"x-litellm-model-api-base", b"hidden")
    outcome = await client.hears(
        start(status, [hidden, *headers]), part(b'{"error":{"message":"m'), part(b'","code":1}}'), LAST
    )
    assert client.messages == []
    assert (outcome.status, outcome.refusal.status, outcome.final, outcome.done) == (status, status, False, False)
    kind, more = expected
    assert json.loads(outcome.refusal.body) == {"type": "error", "error": {"type": kind, "message": "m"}}
    assert dict(outcome.refusal.headers) == {"content-type": "application/json"} | more


@pytest.mark.parametrize("status", [101, 300, 304])
async def test_a_status_that_is_neither_good_nor_an_error(status):
    """LiteLLM answers with whatever status an error of a provider's has; of a request for a model that is a 502."""
    outcome = await Client().hears(start(status), {"type": "http.response.body", "body": b'{"error":{"message":"odd"}}'})
    assert outcome.status == 502
    assert json.loads(outcome.refusal.body) == {"type": "error", "error": {"type": "api_error", "message": "odd"}}


async def test_a_page_may_lead_elsewhere():
    """What is no request for a model, such as a page of administration, has its own statuses."""
    client = Client(streams=False, only_success=False)
    assert await client.hears(start(303, [(b"location", b"/ui/")]), LAST) == DONE
    assert (client.begun, client.ended) == ((303, {"location": "/ui/"}), True)


async def test_a_refused_key_leaves_no_trace_in_the_words():
    """LiteLLM's 401 names the end of the key and its hash; the outcome does not."""
    said = "Authentication Error, Invalid proxy server token passed. Received API Key = sk-...tual, Key Hash (Token) =0123abcd"
    body = json.dumps({"error": {"message": said}}).encode()
    outcome = await Client().hears(start(401), part(body), LAST)
    assert json.loads(outcome.refusal.body)["error"]["message"] == "Authentication Error, Invalid proxy server token passed."


async def test_no_traceback_leaves_in_a_stream():
    """LiteLLM's error event with a traceback leaves without it."""
    client = Client()
    error = {"error": {"message": "no luck Traceback (most recent call last): secret", "type": "x"}}
    await client.hears(start(200, EVENTS), part(b"one\n\n"), part(b"data: " + json.dumps(error).encode() + b"\n\n"), LAST)
    assert b"Traceback" not in client.body
    assert json.loads(client.body.split(b"data: ")[1])["error"]["type"] == "x"


STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":7,'
    b'"cache_creation_input_tokens":2,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"usage\\""}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":55}}\n\n'
)


async def test_a_stream_is_counted():
    """The events of a translated stream that hold counts are read, and no others."""
    client = Client()
    await client.hears(start(200, EVENTS), *[part(event + b"\n\n") for event in STREAM.split(b"\n\n")[:-1]], LAST)
    assert client.journal.usage == Usage(10, 55, 7, 2)


async def test_an_interrupted_stream_is_counted():
    """What was reported before the client disconnected is counted."""
    client = Client()
    first, *_ = STREAM.split(b"\n\n")
    await client.hears(start(200, EVENTS), part(first + b"\n\n"), part(b'event: content_block_start\ndata: {"type":"x"}\n\n'))
    assert client.journal.usage == Usage(10, 1, 7, 2)


async def test_a_whole_response_is_counted():
    """A whole message is counted when it is there to its end."""
    client = Client(streams=False)
    await client.hears(start(200), part(b'{"usage":{"input_tokens":3,'), part(b'"output_tokens":4}}'), LAST)
    assert client.journal.usage == Usage(3, 4)
