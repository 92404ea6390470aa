"""The handlers that LiteLLM sends requests with."""

import asyncio

import httpx
import litellm
import pytest
from litellm.llms.base_llm.chat.transformation import BaseLLMException

from claude_proxy.clients import AttemptRefused, BothKeyHeaders, ClaudeClient, PlainClient
from claude_proxy.credentials import Credential
from claude_proxy.exchange import Exchange
from claude_proxy.headers import read
from claude_proxy.rotation import Rotation, SingleSource
from claude_proxy.targets import Hosts

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
    """A redirect would take a key to another host, so it is an answer like any other."""
    seen = []
    moved = httpx.Response(307, headers={"location": "https://evil.invalid/"})
    post(PlainClient(http_of(lambda _: moved, seen)), stream=True)
    assert [request.url.host for request in seen] == ["api.anthropic.com"]


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


@pytest.mark.parametrize(
    ("source", "status", "words", "final", "shown"),
    [
        (PooledSource, 401, "OAuth access token is invalid.", False, 503),
        (PooledSource, 403, "This credential is only authorized for use with Claude Code", False, 503),
        (PooledSource, 429, "limit", False, 429),
        (PooledSource, 400, "prompt is too long", True, 400),
        (PooledSource, 529, "Overloaded", False, 529),
        (SingleSource, 401, "OAuth access token is invalid.", True, 401),
        (SingleSource, 429, "limit", False, 429),
    ],
)
def test_what_the_client_is_to_see(monkeypatch, source, status, words, final, shown):
    """A pooled 401 or 403 never reaches the client; what is about the request does, and no fallback replaces it."""
    body = {"type": "error", "error": {"type": "x", "message": words}}
    http = http_of(lambda _: httpx.Response(status, json=body, headers={"server": "upstream", "request-id": "r"}))
    monkeypatch.setattr("claude_proxy.clients.shared_http", lambda: http)
    exchange = Exchange(read([]), [], b'{"model":"claude-x"}', {"model": "claude-x"})
    rotation = Rotation(source(Credential.of("one", OWN)), Hosts(), exchange, cooldown=60, clock=lambda: 0.0)
    with pytest.raises(BaseLLMException):
        post(ClaudeClient(rotation, exchange, "claude-x", lambda: 9))
    assert (exchange.final, exchange.refusal.status) == (final, shown)
    assert "server" not in dict(exchange.refusal.headers)
    if shown == status:
        assert dict(exchange.refusal.headers)["request-id"] == "r"
