"""transport.py: the way to the upstreams."""

import asyncio
import weakref

import httpx
import litellm
import pytest
from litellm.llms.openai.common_utils import BaseOpenAILLM

from claude_proxy.connections import Connections
from claude_proxy.exchange import Exchange, current
from claude_proxy.headers import read
from claude_proxy.transport import (
    MAX_ERROR_BYTES,
    ChatTransport,
    chat_http,
    let_go,
    misfit_of,
    shared_http,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "coding", "fits"),
    [(200, "", True), (200, "gzip", True), (204, "", True), (400, "br", True), (304, "", False), (101, "", False),
     (200, "br", False), (200, "gzip, br", False)],
)  # fmt: skip
def test_what_is_no_answer(status, coding, fits):
    """A status that is neither a success nor an error, and a coding that was not asked for, are no answer."""
    response = httpx.Response(status, headers={"content-encoding": coding} if coding else {})
    assert (misfit_of(response, "gzip, deflate") is None) is fits


def test_many_credentials_are_no_circle():
    """A rotation may go through as many credentials as there are; httpx would stop after twenty."""
    assert shared_http().max_redirects > 10_000
    assert not shared_http().follow_redirects


@pytest.mark.parametrize("proxied", [True, False])
def test_proxies_of_the_environment_are_used(monkeypatch, proxied):
    """With a transport of ours httpx would not look for them."""
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy.invalid:1"} if proxied else {})
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1" if proxied else "")
    http = shared_http.__wrapped__()
    assert isinstance(http._transport_for_url(httpx.URL("https://claude.invalid")), Connections) is not proxied


async def test_a_response_that_is_let_go_needs_no_search_for_garbage(no_garbage_search):
    """Httpx binds a response and its stream to each other."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: streaming(b"a"))) as http:
        response = await http.send(http.build_request("GET", "https://claude.invalid/"), stream=True)
        held = weakref.ref(response)
        await let_go(response)
        await let_go(response)
        del response
    assert held() is None


# Chat completions


def chat(answer, body=b'{"stream": true}'):
    """Send a request by the transport; return its answer, read to the end."""

    async def run():
        async with httpx.AsyncClient(transport=ChatTransport(httpx.MockTransport(answer)), follow_redirects=True) as http:
            return await http.post("https://gpt.invalid/v1/chat/completions", content=body)

    return asyncio.run(run())


def streaming(*chunks):
    async def parts():
        for chunk in chunks:
            yield chunk

    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=parts())


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (httpx.Response(200, json={"a": 1}), 502, b'{"a":1}'),
        (httpx.Response(200, html="<html>"), 502, b"<html>"),
        (httpx.Response(307, headers={"location": "https://evil.invalid"}), 502, None),
        (httpx.Response(422, json={"a": 1}), 400, b'{"a":1}'),
        (httpx.Response(429, headers={"retry-after": "7"}, content=b"slow"), 429, b"slow"),
        (httpx.Response(400, content=b"x" * (MAX_ERROR_BYTES + 1)), 400, b"x" * MAX_ERROR_BYTES),
        (httpx.Response(400, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")), 400, b""),
        (streaming(b"data: {}\n", b"\n"), 200, b"data: {}\n\n"),
    ],
    ids=["json", "html", "moved", "422", "429", "large", "undecodable", "stream"],
)
def test_what_litellm_sees_of_chat_completions(answer, status, body):
    """LiteLLM gets errors as errors, short, and no redirection to follow."""
    got = chat(lambda _: answer)
    assert got.status_code == status
    assert got.headers.get("retry-after") == answer.headers.get("retry-after")
    assert "evil" not in got.text
    assert body is None or got.content == body


def test_a_whole_chat_completion_is_left_alone():
    """Where no stream was asked for JSON is the answer."""
    assert chat(lambda _: httpx.Response(200, json={"a": 1}), b"{}").json() == {"a": 1}


@pytest.mark.parametrize("chunks", [(), (b"null",), (b"data: {}\n",)])
def test_a_stream_without_an_event_breaks_off(chunks):
    """LiteLLM would make a good and empty message of it."""
    with pytest.raises(httpx.RemoteProtocolError):
        chat(lambda _: streaming(*chunks))


def test_what_litellm_drops_is_closed():
    """An answer that was not heard to its end is closed with the request."""
    exchange = Exchange(read([]), [], b"{}", {})
    closed = []

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"data: {}\n\n"

        async def aclose(self):
            closed.append(True)

    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    async def run():
        token = current.set(exchange)
        try:
            transport = ChatTransport(httpx.MockTransport(lambda _: answer))
            await transport.handle_async_request(httpx.Request("POST", "https://gpt.invalid/", content=b"{}"))
        finally:
            current.reset(token)
        assert closed == []
        await exchange.close()

    asyncio.run(run())
    assert (closed, exchange.opened) == ([True], [])


def test_litellm_takes_the_client_for_chat_completions():
    """LiteLLM 1.106.2 uses the session that it is told for OpenAI's format, and leaves it open."""
    before = litellm.aclient_session
    litellm.aclient_session = chat_http()
    try:
        assert BaseOpenAILLM.get_async_http_client() is chat_http()
        assert not chat_http().follow_redirects
    finally:
        litellm.aclient_session = before
