"""The handlers that LiteLLM sends requests with."""

import asyncio
import json

import httpx
import litellm
import pytest
from answers import KINDS
from litellm.llms.base_llm.chat.transformation import BaseLLMException

from claude_proxy.credentials.credential import Credential
from claude_proxy.litellm.clients import (
    MAX_ERROR_BYTES,
    AttemptRefused,
    BetasInBody,
    BothKeyHeaders,
    ClaudeClient,
    FilteringClient,
    PlainClient,
    Served,
    exhausted_pool,
    refused_pool,
)
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.exchange import Exchange
from claude_proxy.proxy.rotation import Rotation, SingleSource
from claude_proxy.upstream.headers import read

OWN = "sk-ant-oat01-made-up-own"
URL = "https://api.anthropic.com/v1/messages"


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
    """A whole answer is there when ``post`` returns; a stream is left to be read."""

    async def parts():
        yield b"whole"

    response = post(PlainClient(http_of(lambda _: httpx.Response(200, content=parts()))), stream=stream)
    assert response.is_stream_consumed is not stream


def test_an_error_is_litellms_with_status_headers_and_text():
    """LiteLLM learns status, headers and wording, by an error on which it does not repeat the request by itself."""
    answer = httpx.Response(418, headers={"retry-after": "7"}, content=b"short and stout")
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: answer)), stream=True)
    assert not isinstance(error.value, httpx.HTTPStatusError)
    assert (error.value.status_code, error.value.headers["retry-after"]) == (418, "7")
    assert error.value.message == "short and stout"


def test_a_timeout_is_litellms():
    """LiteLLM's retries know its own time-out only."""

    def late(request):
        raise httpx.ReadTimeout("late", request=request)

    with pytest.raises(litellm.Timeout):
        post(PlainClient(http_of(late)))


def test_no_redirect_is_followed():
    """A redirect would take a key, or the client, to another host, so it is an error."""
    seen = []
    moved = httpx.Response(307, headers={"location": "https://evil.invalid/"})
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: moved, seen)), stream=True)
    assert [request.url.host for request in seen] == ["api.anthropic.com"]
    assert (error.value.status_code, "evil" in error.value.message) == (502, False)


@pytest.mark.parametrize("broken", [httpx.ReadError("reset"), httpx.DecodingError("no gzip")])
def test_a_broken_connection_is_told_in_plain_words(broken):
    """LiteLLM learns who broke off, and nothing of the library's own words."""

    def fail(_):
        raise broken

    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(fail)))
    assert (error.value.status_code, error.value.message) == (502, f"api.anthropic.com broke off ({type(broken).__name__})")


def test_litellm_gets_the_beginning_of_a_large_error():
    """LiteLLM looks through all of an error's text again and again, so it gets the beginning of a large one."""
    with pytest.raises(BaseLLMException) as error:
        post(PlainClient(http_of(lambda _: httpx.Response(400, content=b"x" * (MAX_ERROR_BYTES * 3)))))
    assert error.value.message == "x" * MAX_ERROR_BYTES


@pytest.mark.parametrize("sent", [{"x-api-key": "made-up"}, {"authorization": "Bearer made-up"}])
def test_a_providers_key_goes_in_both_headers(sent):
    """Kimi reads one header and OpenRouter the other, so both are set, whichever LiteLLM set."""
    seen = []
    client = PlainClient(http_of(lambda _: httpx.Response(200), seen), auth=BothKeyHeaders())
    asyncio.run(client.post("https://api.z.ai/v1/messages", data=b"{}", headers=sent))
    assert (seen[0].headers["x-api-key"], seen[0].headers["authorization"]) == ("made-up", "Bearer made-up")


def test_a_claude_credential_is_not_taken_for_a_providers_key():
    """A Claude credential in config.yaml for somebody else's endpoint does not leave."""
    seen = []
    client = PlainClient(http_of(lambda _: httpx.Response(200), seen), auth=BothKeyHeaders())
    with pytest.raises(AttemptRefused):
        asyncio.run(client.post("https://api.z.ai/v1/messages", data=b"{}", headers={"x-api-key": OWN}))
    assert seen == []


class PooledSource(SingleSource):
    """One credential that counts as the pool's."""

    pooled = True


NOW = 1_800_000_000.0
CLAUDE = Credential.of("one", OWN)


@pytest.fixture
def claude(monkeypatch):
    """Return the exchange of one request to Claude, after the upstream's answer or with a pool that has nobody."""

    def ask(source, answer, nobody=None):
        http = http_of(lambda _: answer)
        monkeypatch.setattr("claude_proxy.litellm.clients.shared_http", lambda: http)
        exchange = Exchange(read([]), [], b'{"model":"claude-x"}', {"model": "claude-x"})
        rotation = Rotation(source, Hosts(), exchange, family="x", cooldown=60, clock=lambda: NOW)
        with pytest.raises(BaseLLMException) as error:
            post(ClaudeClient(rotation, exchange, "claude-x", lambda: nobody))
        return exchange, error.value

    return ask


def refused(status, words, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"type": "error", "error": {"type": KINDS[status], "message": words}}, headers=named)


LIMITED = {"retry_after": "60"}


@pytest.mark.parametrize(
    ("source", "answer", "final"),
    [
        # About the request: another model of the fallbacks would hide it from Claude Code, which acts on it.
        (PooledSource, refused(400, "prompt is too long"), True),
        (PooledSource, refused(404, "model: claude-none"), True),
        (PooledSource, refused(429, "Error"), True),
        (PooledSource, refused(429, "Extra usage is required for long context requests."), True),
        (PooledSource, refused(400, "Third-party apps now draw from your extra usage"), True),
        (PooledSource, refused(400, "each thinking block must contain thinking"), True),
        # About Anthropic, and a 429 that names no limit: the fallbacks may answer.
        (PooledSource, refused(529, "Overloaded"), False),
        (PooledSource, refused(500, "Internal server error"), False),
        (PooledSource, refused(429, "x"), False),
        # About the account or about the request: no second credential is there to tell.
        (PooledSource, refused(400, "Your credit balance is too low"), False),
        # The user's own credential.
        (SingleSource, refused(401, "OAuth access token is invalid."), True),
        (SingleSource, refused(401, "invalid x-api-key"), True),
        (SingleSource, refused(403, "OAuth token has been revoked."), True),
        (SingleSource, refused(403, "Request not allowed"), True),
        (SingleSource, refused(400, "Your credit balance is too low"), True),
        (SingleSource, refused(429, "limit", **LIMITED), False),
        (SingleSource, refused(529, "Overloaded"), False),
    ],
)
def test_what_the_client_is_to_see(claude, source, answer, final):
    """Anthropic's answer is kept as it came, and no fallback replaces one that is about the request or the user's login."""
    answer.headers.update({"server": "upstream", "request-id": "r", "set-cookie": "c"})
    exchange, error = claude(source(CLAUDE), answer)
    headers = dict(exchange.refusal.headers)
    assert (exchange.final, exchange.refusal.status, error.status_code) == (final, answer.status_code, answer.status_code)
    assert (exchange.refusal.body, headers["request-id"]) == (answer.content, "r")
    assert not {"server", "set-cookie", "content-length"} & set(headers)


@pytest.mark.parametrize(
    "answer",
    [
        refused(401, "invalid x-api-key"),
        refused(401, "OAuth authentication is currently not supported."),
        refused(403, "This credential is only authorized for use with Claude Code"),
    ],
)
def test_a_pooled_refusal_is_not_the_clients(claude, answer):
    """A 401 or 403 of a pooled credential would make Claude Code drop the user's own login, so it is a 503 that says why."""
    exchange, _ = claude(PooledSource(CLAUDE), answer)
    body = json.loads(exchange.refusal.body)
    assert (exchange.refusal.status, body["type"], exchange.final) == (503, "error", False)
    assert "operator" in body["error"]["message"]
    assert dict(exchange.refusal.headers)["x-should-retry"] == "false"
    assert b"made-up" not in exchange.refusal.body


class NobodyLeft(SingleSource):
    """A pool that has nobody for the request."""

    pooled = True

    def choose(self, tried):
        return None


def test_nobody_usable_is_what_the_pool_says(claude):
    """With nobody to ask nothing is sent, the client gets what the pool says, and LiteLLM sees a 429: its fallbacks decide."""
    for refusal in (exhausted_pool(90, NOW, "five_hour"), refused_pool(90)):
        exchange, error = claude(NobodyLeft(CLAUDE), None, refusal)
        assert exchange.refusal is refusal
        assert (exchange.final, exchange.labels, error.status_code) == (False, [], 429)


def test_nobody_usable_after_an_answer(claude):
    """An answer that puts the pool's last credential out is not shown: the pool says what there is to say."""
    refusal = refused_pool(90)
    exchange, _ = claude(PooledSource(CLAUDE), refused(401, "OAuth access token is invalid."), refusal)
    assert (exchange.refusal, exchange.labels) == (refusal, ["one"])


def test_an_exhausted_pool_in_anthropics_words():
    """A pool that rests is a 429 with the headers by which Claude Code tells its user when to come back, rounded up."""
    refusal = exhausted_pool(89.2, NOW + 0.5, "seven_day")
    assert refusal.status == 429
    assert dict(refusal.headers) == {
        "content-type": "application/json",
        "retry-after": "90",
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(NOW) + 90),
        "anthropic-ratelimit-unified-representative-claim": "seven_day",
    }
    error = json.loads(refusal.body)["error"]
    assert error["type"] == "rate_limit_error"
    assert error["message"] == "This request would exceed your account's rate limit. Please try again later."


def test_a_refused_pool():
    """A pool that is out is a 503 that is not repeated, says who has to act, and when the next try is."""
    refusal = refused_pool(900.1)
    headers = dict(refusal.headers)
    assert (refusal.status, headers["retry-after"], headers["x-should-retry"]) == (503, "901", "false")
    assert json.loads(refusal.body)["error"]["type"] == "overloaded_error"


# Past LiteLLM


class Out:
    """The way to a client that stays, or that leaves after the first write."""

    def __init__(self, *, stays=True):
        self.stays = stays
        self.begun = None
        self.body = b""
        self.ended = False

    async def begin(self, status, headers):
        self.begun = (status, dict(headers))

    async def write(self, data):
        self.body += data
        if not self.stays:
            raise asyncio.CancelledError

    async def end(self):
        self.ended = True

    async def while_client_stays(self, work):
        try:
            await work
        except asyncio.CancelledError:
            return False
        return True


START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude-x"}}\n\n'
THOUGHT = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
CLAUDES_HEADERS = {
    "request-id": "r", "anthropic-ratelimit-unified-status": "allowed", "retry-after": "7", "x-new": "1", "set-cookie": "c",
    "server": "s", "strict-transport-security": "max-age=1", "alt-svc": "h3", "content-type": "text/event-stream",
}  # fmt: skip


def relaying(monkeypatch, chunks, out, *, asked="claude-x", headers=None, client=None, stream=True, **about):
    """Send one request with an outlet; return its exchange, and what LiteLLM got or the error that it got."""

    async def body():
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    http = http_of(lambda _: httpx.Response(200, headers=headers or CLAUDES_HEADERS, content=body()))
    monkeypatch.setattr("claude_proxy.litellm.clients.shared_http", lambda: http)
    exchange = Exchange(read([]), [], b'{"model":"claude-x"}', {"model": asked}, outlet=out, **about)
    rotation = Rotation(SingleSource(CLAUDE), Hosts(), exchange, family="x", cooldown=60, clock=lambda: NOW)
    try:
        return exchange, post(client(exchange) if client else ClaudeClient(rotation, exchange, "claude-x", None), stream=stream)
    except (BaseLLMException, httpx.TransportError) as error:
        return exchange, error


def test_claudes_stream_goes_to_the_client_first(monkeypatch):
    """The client gets Claude's bytes and headers, without what is about the connection; LiteLLM gets a copy of all of it."""
    out = Out()
    exchange, response = relaying(monkeypatch, [START, THOUGHT, STOP], out)
    assert out.begun == (
        200,
        {
            name: value
            for name, value in CLAUDES_HEADERS.items()
            if name in ("request-id", "retry-after", "x-new", "content-type", "anthropic-ratelimit-unified-status")
        },
    )
    assert (out.body, out.ended, exchange.final, exchange.error) == (START + THOUGHT + STOP, True, True, "")
    assert response.content == out.body


def test_a_stream_that_ends_with_an_error_is_a_failure(monkeypatch):
    """The client has the error event already; LiteLLM counts a failure, and may not try again."""
    out = Out()
    exchange, error = relaying(monkeypatch, [START, ERROR], out)
    assert (out.body, out.ended, exchange.final, exchange.error) == (START + ERROR, True, True, "overloaded_error")
    assert error.status_code == 529


def test_a_stream_that_breaks_off_is_a_failure(monkeypatch, caplog):
    """What was dropped stays without an end, is logged with the model's name, and is not tried again."""
    out = Out()
    exchange, error = relaying(monkeypatch, [START, httpx.ReadError("reset")], out)
    assert (out.body, out.ended, exchange.final, exchange.error) == (START, False, True, "interrupted")
    assert error.status_code == 502
    assert "broke its answer off" in caplog.text


def test_a_stream_that_breaks_off_at_once_is_litellms(monkeypatch):
    """Nothing has left: LiteLLM may fall back; else the client's connection closes as the upstream's did."""
    out = Out()
    exchange, error = relaying(monkeypatch, [httpx.ReadError("reset")], out)
    assert (out.begun, exchange.final, error.status_code) == (None, False, 502)
    assert (exchange.refusal.status, exchange.refusal.body, exchange.refusal.whole) == (200, b"", False)


def test_a_stream_that_begins_with_an_error_is_litellms(monkeypatch):
    """Nothing has left: LiteLLM may repeat or fall back, and in the end the client gets the stream as it came."""
    out = Out()
    exchange, error = relaying(monkeypatch, [ERROR], out)
    assert (out.begun, exchange.final, error.status_code) == (None, False, 529)
    refusal = exchange.refusal
    assert (refusal.status, refusal.body, dict(refusal.headers)["request-id"]) == (200, ERROR, "r")


def test_a_whole_answer_that_breaks_off_is_litellms(monkeypatch):
    """The same for an answer that is no stream, of which the client has seen nothing either."""
    out = Out()
    exchange, error = relaying(monkeypatch, [b'{"type"', httpx.ReadError("reset")], out, stream=False)
    assert error.status_code == 502
    assert (out.begun, exchange.final, exchange.refusal.whole) == (None, False, False)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (httpx.ConnectError("refused"), 502, "api_error"),
        (httpx.ReadTimeout("late"), 504, "api_error"),
        (httpx.DecodingError("no gzip"), 502, "api_error"),
    ],
)
def test_who_cannot_be_reached_is_named_in_plain_words(monkeypatch, error, status, kind):
    """When Anthropic does not answer at all, the client reads so in words of the proxy's own, and may try again."""

    def broken(_):
        raise error

    http = http_of(broken)
    monkeypatch.setattr("claude_proxy.litellm.clients.shared_http", lambda: http)
    exchange = Exchange(read([]), [], b'{"model":"claude-x"}', {"model": "claude-x"})
    rotation = Rotation(SingleSource(CLAUDE), Hosts(), exchange, family="x", cooldown=60, clock=lambda: NOW)
    with pytest.raises((BaseLLMException, litellm.Timeout)):
        post(ClaudeClient(rotation, exchange, "claude-x", None))
    body = json.loads(exchange.refusal.body)
    assert (exchange.refusal.status, body["error"]["type"]) == (status, kind)
    assert "Anthropic" in body["error"]["message"]
    assert "x-should-retry" not in dict(exchange.refusal.headers)


def test_a_client_that_leaves_ends_the_stream(monkeypatch, caplog):
    """The upstream is let go, and LiteLLM gets what had come until then, for its books."""
    caplog.set_level("INFO")
    out = Out(stays=False)
    exchange, response = relaying(monkeypatch, [START, STOP], out)
    assert (out.body, response.content, exchange.final) == (START, START, True)
    assert "the client left" in caplog.text


def test_claudes_whole_answer_goes_to_the_client_first(monkeypatch):
    """A whole answer has its length and the name that was asked for; LiteLLM's copy has Claude's."""
    body = b'{"type":"message", "model":"claude-x" ,"content":[]}'
    out = Out()
    headers = {"content-type": "application/json", "request-id": "r"}
    exchange, response = relaying(monkeypatch, [body], out, asked="alias", headers=headers)
    seen = body.replace(b"claude-x", b"alias")
    assert (out.body, out.ended, exchange.final) == (seen, True, True)
    assert out.begun == (200, headers | {"content-length": str(len(seen))})
    assert response.content == body


def test_another_providers_stream_loses_its_thinking(monkeypatch):
    """Of another provider's stream the client gets the filtered events and the type, and LiteLLM all of it."""
    out = Out()
    _, response = relaying(
        monkeypatch,
        [START, THOUGHT, STOP],
        out,
        asked="glm",
        client=lambda exchange: FilteringClient(exchange, ThinkingFilter("glm")),
    )
    assert out.begun == (200, {"content-type": CLAUDES_HEADERS["content-type"]})
    assert THOUGHT not in out.body
    assert b'"model":"glm"' in out.body
    assert response.content == START + THOUGHT + STOP


def test_another_providers_whole_answer_is_litellms(monkeypatch):
    """A whole answer of another provider's is left to the hooks, which take the thinking out."""
    out = Out()
    headers = {"content-type": "application/json"}
    client = lambda exchange: FilteringClient(exchange, ThinkingFilter("glm"))  # noqa: E731
    exchange, response = relaying(monkeypatch, [MESSAGE], out, headers=headers, client=client, stream=False)
    assert (out.begun, exchange.final, response.is_success) == (None, False, True)


@pytest.mark.parametrize(
    ("header", "body"),
    [("b-2,a-1", {"x": 1, "anthropic_beta": ["a-1", "b-2"]}), (None, {"x": 1})],
    ids=["betas", "none"],
)
def test_betas_go_into_the_body(header, body):
    """Vertex AI reads betas from the body, and refuses them in the header."""
    seen = []
    client = BetasInBody(http_of(lambda _: httpx.Response(200), seen))
    headers = {"authorization": "Bearer made-up"} | ({"anthropic-beta": header} if header else {})
    asyncio.run(client.post("https://vertex.invalid/x:rawPredict", data=b'{"x": 1}', headers=headers, timeout=7.0))
    (request,) = seen
    assert json.loads(request.content) == body
    assert "anthropic-beta" not in request.headers
    assert request.headers["content-length"] == str(len(request.content))
    assert (request.headers["authorization"], request.extensions["timeout"]["read"]) == ("Bearer made-up", 7.0)


@pytest.mark.parametrize("stream", [True, False])
def test_where_no_books_are_kept_litellm_is_done_with_the_answer(monkeypatch, stream):
    """What the client has whole LiteLLM does not get: its work on the request ends as if the client had left."""
    out = Out()
    headers = CLAUDES_HEADERS if stream else {"content-type": "application/json"}
    chunks = [START, STOP] if stream else [b'{"model":"claude-x"}']
    with pytest.raises(Served) as end:
        relaying(monkeypatch, chunks, out, headers=headers, stream=stream, booked=False)
    assert isinstance(end.value, asyncio.CancelledError)
    assert (bytes(out.body), out.ended) == (b"".join(chunks), True)


def test_a_count_goes_on_where_no_books_are_kept(monkeypatch):
    """The proxy's own route for counting waits for the answer."""
    headers = {"content-type": "application/json"}
    _, got = relaying(
        monkeypatch, [b'{"input_tokens":1}'], Out(), headers=headers, stream=False, booked=False, counts_tokens=True
    )
    assert got.json() == {"input_tokens": 1}


def test_a_failure_is_litellms_where_no_books_are_kept(monkeypatch):
    """Without books retries and fallbacks are LiteLLM's all the same."""
    _, error = relaying(monkeypatch, [ERROR], Out(), booked=False)
    assert isinstance(error, BaseLLMException)


ERROR_BODY = b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}'
MESSAGE = b'{"type":"message","content":[]}'


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (ERROR_BODY, "application/json", 404),
        (b"<html>", "text/html", 502),
        (b"null", "application/json", 502),
        (b'{"made":"up"}', "application/json", 502),
        (MESSAGE, "application/json", None),
        (MESSAGE, "text/plain", None),
    ],
)
def test_another_providers_good_status_is_no_proof(monkeypatch, body, kind, status):
    """Of a provider in Anthropic's format an error with a good status is an error, and so is what is no message."""
    client = lambda exchange: FilteringClient(exchange, ThinkingFilter("glm"))  # noqa: E731
    out = Out()
    _, got = relaying(monkeypatch, [body], out, headers={"content-type": kind}, client=client, stream=False)
    assert (got.status_code, out.begun) == (status or 200, None)


@pytest.mark.parametrize(
    ("chunks", "kind", "status"),
    [
        ([ERROR_BODY], "application/json", 404),
        ([MESSAGE], "application/json", 502),
        ([b"<html>"], "text/html", 502),
        ([b"<html>"], "text/event-stream", 500),
        ([], "text/event-stream", 500),
        ([START, STOP], "text/plain", None),
        ([START, STOP], None, None),
    ],
)
def test_another_providers_stream_has_events(monkeypatch, chunks, kind, status):
    """Where a stream was asked for, a whole body and a stream without events are errors; a missing type is forgiven."""
    out = Out()

    def client(exchange):
        exchange.body = {"model": "claude-x", "stream": True}
        return FilteringClient(exchange, ThinkingFilter("claude-x"))

    headers = {"content-type": kind} if kind else {"x-none": "1"}
    _, got = relaying(monkeypatch, chunks, out, headers=headers, client=client)
    assert got.status_code == (status or 200)
    assert out.begun == (None if status else (200, {"content-type": "text/event-stream; charset=utf-8"}))


def test_an_event_about_the_request_is_final(monkeypatch):
    """Where a stream's first event refuses the request itself, no other model is asked."""
    event = ERROR.replace(b"overloaded_error", b"invalid_request_error")
    exchange, error = relaying(monkeypatch, [event], Out())
    assert (exchange.final, error.status_code) == (True, 400)
