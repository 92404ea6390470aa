"""litellm/lane_client.py: the handlers with which LiteLLM sends requests."""

import asyncio
import json

import aiohttp
import httpx
import litellm
import pytest
from lanes import Received, Response, Upstream
from litellm.llms.base_llm.chat.transformation import BaseLLMException

from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.litellm.lane_client import BetasInBody, LaneClient, PlainClient
from claude_proxy.litellm.transport import MAX_ERROR_BYTES
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.entrance import Entrance
from claude_proxy.proxy.lanes.claude_lane import ClaudeLane
from claude_proxy.proxy.lanes.messages_lane import MessagesLane
from claude_proxy.proxy.serving import Serving
from claude_proxy.upstream.client import TimedOutError, UnreachableError

URL = "https://api.anthropic.com/v1/messages"
POOLED = "sk-ant-oat01-made-up-pool"


def http_of(answer, seen=None):
    def handle(request):
        if seen is not None:
            seen.append(request)
        return answer(request)

    return httpx.AsyncClient(transport=httpx.MockTransport(handle), follow_redirects=True)


def post(client, url=URL, **more):
    return asyncio.run(client.post(url, data=b"{}", headers={"x-api-key": "made-up-key"}, **more))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_read_unless_it_streams(stream):
    """A whole response is read when ``post`` returns; a stream is not."""

    async def parts():
        yield b"whole"

    response = post(PlainClient(http_of(lambda _: httpx.Response(200, content=parts()))), stream=stream)
    assert response.is_stream_consumed is not stream


def test_an_error_is_litellms_with_status_headers_and_text():
    """LiteLLM gets status, headers and message, in an error after which it does not retry by itself."""
    answer = httpx.Response(418, headers={"retry-after": "7"}, content=b"short and stout")
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: answer)), stream=True)
    assert not isinstance(error.value, httpx.HTTPStatusError)
    assert (error.value.status_code, error.value.headers["retry-after"]) == (418, "7")
    assert error.value.message == "short and stout"


def test_a_timeout_is_litellms():
    """The error is LiteLLM's own timeout, the only one that its retries know."""

    def late(request):
        raise httpx.ReadTimeout("late", request=request)

    with pytest.raises(litellm.Timeout):
        post(PlainClient(http_of(late)))


def test_no_redirect_is_followed():
    """A redirect is an error, because it would send a key, or the client, to another host."""
    seen = []
    moved = httpx.Response(307, headers={"location": "https://evil.invalid/"})
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: moved, seen)), stream=True)
    assert [request.url.host for request in seen] == ["api.anthropic.com"]
    assert (error.value.status_code, "evil" in error.value.message) == (502, False)


@pytest.mark.parametrize("broken", [httpx.ReadError("reset"), httpx.DecodingError("no gzip")])
def test_a_broken_connection_is_told_in_plain_words(broken):
    """LiteLLM gets the name of the host that broke off, without the library's own message."""

    def fail(_):
        raise broken

    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(fail)))
    assert (error.value.status_code, error.value.message) == (502, f"api.anthropic.com broke off ({type(broken).__name__})")


def test_litellm_gets_the_beginning_of_a_large_error():
    """LiteLLM gets only the start of a large error, because it searches the whole text repeatedly."""
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: httpx.Response(400, content=b"x" * (MAX_ERROR_BYTES * 3)))))
    assert error.value.message == "x" * MAX_ERROR_BYTES


@pytest.mark.parametrize(
    ("header", "body"),
    [("b-2,a-1", {"x": 1, "anthropic_beta": ["a-1", "b-2"]}), (None, {"x": 1})],
    ids=["betas", "none"],
)
def test_betas_go_into_the_body(header, body):
    """Vertex AI reads betas from the body and rejects them in the header."""
    seen = []
    client = BetasInBody(http_of(lambda _: httpx.Response(200), seen))
    headers = {"authorization": "Bearer made-up"} | ({"anthropic-beta": header} if header else {})
    asyncio.run(client.post("https://vertex.invalid/x:rawPredict", data=b'{"x": 1}', headers=headers, timeout=7.0))
    (request,) = seen
    assert json.loads(request.content) == body
    assert "anthropic-beta" not in request.headers
    assert request.headers["content-length"] == str(len(request.content))
    assert (request.headers["authorization"], request.extensions["timeout"]["read"]) == ("Bearer made-up", 7.0)


# On a lane


CLAUDE = Deployment(Lane.CLAUDE, Provider.CLAUDE, "anthropic/claude-x", "claude-x")
GLM = Deployment(Lane.MESSAGES, Provider.ANTHROPIC_FORMAT, "anthropic/glm-5", "glm-5", api_base="https://api.z.ai")
STREAMS = b'{"model":"alias","messages":[{"role":"user","content":"hi"}],"stream":true}'
WHOLE = STREAMS.replace(b',"stream":true', b"")
START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
MESSAGE = b'{"type":"message","model":"claude-x","content":[]}'
RESET = aiohttp.ClientPayloadError("reset")


def events(*chunks):
    return Response(200, headers={"content-type": "text/event-stream", "request-id": "r"}, chunks=chunks)


class Begun:
    """One attempt that LiteLLM has started, on a lane with an upstream."""

    def __init__(self, *responses, raw=STREAMS, deployment=CLAUDE, fields=None):
        self.upstream = Upstream(*responses)
        settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": f"one={POOLED}"})
        self.pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: 0.0)
        claude = ClaudeLane(settings, Hosts(), self.pool, self.upstream, lambda: 0.0)
        lanes = {Lane.CLAUDE: claude, Lane.MESSAGES: MessagesLane(self.upstream, Meter(len))}
        self.received = Received(raw=raw)
        self.entrance = Entrance(self.received.request, self.received.outlet, self.received.journal)
        self.client = LaneClient(Serving(lanes, ActiveConfig({}, {}), meter=Meter(len)), self.entrance, deployment, fields)

    def post(self):
        """Return LiteLLM's response or error."""
        try:
            return post(self.client)
        except (BaseLLMException, litellm.Timeout) as error:
            return error


def test_litellm_gets_a_copy_of_a_stream():
    """When LiteLLM gets its copy, the client has the stream as Claude sent it, whatever LiteLLM changed in the request."""
    begun = Begun(events(START, STOP))
    response = begun.post()
    assert (begun.received.body, begun.received.ended) == (START.replace(b"claude-x", b"alias") + STOP, True)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert (response.content, str(response.request.url)) == (START + STOP, URL)
    assert (begun.upstream.sent[0].url, begun.received.journal.attempts, begun.received.journal.labels) == (URL, 1, ["one"])


def test_litellm_gets_a_copy_of_a_whole_message():
    """The same for a whole response."""
    begun = Begun(Response(200, headers={"content-type": "application/json"}, body=MESSAGE), raw=WHOLE)
    response = begun.post()
    assert begun.received.body == MESSAGE.replace(b"claude-x", b"alias")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.content == MESSAGE


def test_another_providers_whole_message_is_litellms():
    """LiteLLM sends the message, after its callbacks; the provider gets the request as LiteLLM has it."""
    changed = {"model": "glm", "messages": [{"role": "user", "content": [{"type": "text", "text": "masked"}]}]}
    begun = Begun(Response(200, body=MESSAGE), raw=WHOLE, deployment=GLM, fields=changed)
    assert (begun.post().content, begun.received.begun) == (MESSAGE, None)
    assert json.loads(begun.upstream.sent[0].body) == changed | {"model": "glm-5"}


@pytest.mark.parametrize(
    ("end", "status", "kind"),
    [(ERROR, 529, "overloaded_error"), (RESET, 502, "interrupted")],
    ids=["error-event", "broken-off"],
)
def test_a_stream_that_does_not_end_well_is_a_failure(end, status, kind):
    """The client keeps what it received, LiteLLM records a failure, and no fallback is used."""
    begun = Begun(events(START, end))
    error = begun.post()
    assert (type(error), error.status_code, begun.received.journal.error) == (BaseLLMException, status, kind)
    assert (begun.entrance.last.done, begun.entrance.last.final) == (True, True)


@pytest.mark.parametrize(
    ("response", "status", "final"),
    [
        (Response(400, json={"type": "error", "error": {"type": "x", "message": "prompt is too long"}}), 400, True),
        (Response(529, json={"type": "error", "error": {"type": "x", "message": "Overloaded"}}), 529, False),
        (events(ERROR), 529, False),
        (events(RESET), 502, False),
        (UnreachableError("refused"), 502, False),
    ],
    ids=["about-the-request", "overloaded", "error-event", "broken-off", "unreachable"],
)
def test_an_attempt_that_sent_nothing_is_litellms_error(response, status, final):
    """LiteLLM gets the status, in an error after which it does not retry by itself; the client's error is kept."""
    begun = Begun(response)
    error = begun.post()
    assert (type(error), error.status_code, begun.received.begun) == (BaseLLMException, status, None)
    assert (begun.entrance.last.status, begun.entrance.last.final) == (status, final)


def test_an_attempts_error_has_its_words_and_headers():
    """LiteLLM's fallbacks depend on the message, its retries on ``retry-after``; it gets the start of a large error."""
    begun = Begun(Response(529, headers={"retry-after": "7"}, body=b"x" * MAX_ERROR_BYTES * 3))
    error = begun.post()
    assert (error.message, error.headers["retry-after"]) == ("x" * MAX_ERROR_BYTES, "7")
    assert len(begun.entrance.last.refusal.body) == MAX_ERROR_BYTES * 3


def test_litellm_does_not_wait_for_the_pool():
    """An exhausted pool is a 429 without ``retry-after``, because LiteLLM would wait that long and use the same pool again."""
    limited = {"retry-after": "30"}
    begun = Begun(Response(429, headers=limited, json={"type": "error", "error": {"type": "x", "message": "limit"}}))
    error = begun.post()
    assert (error.status_code, error.headers) == (429, {})
    assert "retry-after" in dict(begun.entrance.last.refusal.headers)


def test_an_attempt_that_is_late_is_litellms_timeout():
    """The error is LiteLLM's own timeout, the only one that its retries know."""
    error = Begun(TimedOutError("late")).post()
    assert isinstance(error, litellm.Timeout)
    assert "anthropic/claude-x" in str(error)


def test_a_client_that_leaves_ends_the_attempt():
    """The upstream's connection is closed, and LiteLLM gets what was received until then, for its records."""
    begun = Begun(events(START, STOP))

    def leave():
        begun.received.outlet.leave()
        assert begun.entrance.interrupt()

    begun.received.at_body = leave
    response = begun.post()
    assert (response.content, begun.upstream.sent[0].response.was_closed, begun.entrance.interrupt()) == (START, True, False)


def test_what_litellm_gives_up_ends():
    """If LiteLLM's own work is cancelled while the client stays connected, the attempt ends too."""
    begun = Begun(events(START, STOP))

    async def run():
        task = asyncio.ensure_future(begun.client.post(URL))
        begun.received.at_body = task.cancel
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert begun.upstream.sent[0].response.was_closed
