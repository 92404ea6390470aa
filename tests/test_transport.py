"""litellm/transport.py: the HTTP clients for LiteLLM."""

import asyncio
import contextlib
import gzip
import json
import weakref

import httpx
import litellm
import pytest
from lanes import Received
from litellm.llms.openai.common_utils import BaseOpenAILLM

from claude_proxy.litellm.transport import (
    MAX_ERROR_BYTES,
    AsyncGuard,
    ChatTransport,
    Guard,
    chat_http,
    discard,
    rejection_reason,
    shared_http,
)
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.upstream.response_bounds import STEP_BYTES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "coding", "fits"),
    [(200, "", True), (200, "gzip", True), (204, "", True), (400, "br", True), (304, "", False), (101, "", False),
     (200, "br", False), (200, "gzip, br", False), (200, "gzip, gzip", False)],
)  # fmt: skip
def test_what_is_no_answer(status, coding, fits):
    """A status that is neither a success nor an error, and an unrequested content coding, cannot be used."""
    response = httpx.Response(status, headers={"content-encoding": coding} if coding else {})
    assert (rejection_reason(response, "gzip, deflate") is None) is fits


def test_no_redirection_is_followed():
    """A redirect is not followed, because it would send a key to another host."""
    assert not shared_http().follow_redirects


async def test_a_response_that_is_let_go_needs_no_search_for_garbage(no_garbage_search):
    """A closed response is freed without a garbage collection, although httpx binds it to its stream."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: streaming(b"a"))) as http:
        response = await http.send(http.build_request("GET", "https://claude.invalid/"), stream=True)
        held = weakref.ref(response)
        await discard(response)
        await discard(response)
        del response
    assert held() is None


@pytest.mark.parametrize("transport", [AsyncGuard, ChatTransport])
@pytest.mark.parametrize(
    ("answer", "begun", "at_provider"),
    [
        (lambda _: httpx.Response(200, json={}), True, True),
        (lambda _: httpx.Response(500, json={}), True, False),
        (httpx.ConnectError("refused"), True, False),
        (lambda _: httpx.Response(200, json={}), False, False),
    ],
    ids=["good", "error", "no-connection", "before-an-attempt"],
)
async def test_whether_the_provider_has_the_request(transport, answer, begun, at_provider):
    """The journal knows whether the provider has LiteLLM's request; a request before the attempt is another service's."""
    received = Received()
    if begun:
        received.journal.begin(Provider.OTHER, "bedrock/x")
    seen = []

    def handle(request):
        seen.append(received.journal.at_provider)
        if isinstance(answer, Exception):
            raise answer
        return answer(request)

    token = current.set(Entrance(received.request, received.outlet, received.journal))
    try:
        async with httpx.AsyncClient(transport=transport(httpx.MockTransport(handle))) as http:
            with contextlib.suppress(httpx.ConnectError):
                await http.post("https://gpt.invalid/v1/chat/completions", content=b"{}")
    finally:
        current.reset(token)
    assert (seen, received.journal.at_provider) == ([begun], at_provider)


# Chat completions


def chat(answer, body=b'{"stream": true}'):
    """Send a request through the transport; return its response, read to the end."""

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
    """LiteLLM gets errors as errors, with short bodies, and no redirect to follow."""
    got = chat(lambda _: answer)
    assert got.status_code == status
    assert got.headers.get("retry-after") == answer.headers.get("retry-after")
    assert "evil" not in got.text
    assert body is None or got.content == body


def test_a_whole_chat_completion_is_left_alone():
    """JSON is a valid response if no stream was requested."""
    assert chat(lambda _: httpx.Response(200, json={"a": 1}), b"{}").json() == {"a": 1}


@pytest.mark.parametrize("chunks", [(), (b"null",), (b"data: {}\n",)])
def test_a_stream_without_an_event_breaks_off(chunks):
    """The stream raises an error, because LiteLLM would report a successful empty message."""
    with pytest.raises(httpx.RemoteProtocolError):
        chat(lambda _: streaming(*chunks))


def test_what_litellm_drops_is_closed():
    """A response that was not read to its end is closed with the request."""
    received = Received()
    entrance = Entrance(received.request, received.outlet, received.journal)
    closed = []

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"data: {}\n\n"

        async def aclose(self):
            closed.append(True)

    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())

    async def run():
        token = current.set(entrance)
        try:
            transport = ChatTransport(httpx.MockTransport(lambda _: answer))
            await transport.handle_async_request(httpx.Request("POST", "https://gpt.invalid/", content=b"{}"))
        finally:
            current.reset(token)
        assert closed == []
        await entrance.close()

    asyncio.run(run())
    assert (closed, entrance.opened) == ([True], [])


def test_litellm_takes_the_client_for_chat_completions():
    """LiteLLM 1.108.7 uses the given session for OpenAI's format, and leaves it open."""
    before = litellm.aclient_session
    litellm.aclient_session = chat_http()
    try:
        assert BaseOpenAILLM.get_async_http_client() is chat_http()
        assert not chat_http().follow_redirects
    finally:
        litellm.aclient_session = before


# Everybody else's clients


def guarded(answer, *, blocks=False):
    """Send a request through a guarded transport; return the response, read to the end."""
    inner = httpx.MockTransport(lambda _: answer)
    request = httpx.Request("POST", "https://gpt.invalid/v1", content=b"{}")
    if blocks:
        with httpx.Client(transport=Guard(inner), follow_redirects=True) as http:
            return http.send(request)

    async def run():
        async with httpx.AsyncClient(transport=AsyncGuard(inner), follow_redirects=True) as http:
            return await http.send(request)

    return asyncio.run(run())


@pytest.mark.parametrize("blocks", [True, False])
def test_a_guarded_redirection_is_an_error(blocks):
    """A client that follows redirects gets none, and no information about its target."""
    for status in (301, 302, 303, 304, 307, 308):
        got = guarded(httpx.Response(status, headers={"location": "https://evil.invalid"}), blocks=blocks)
        assert (got.status_code, got.history, got.next_request) == (502, [], None)
        assert got.json() == {
            "error": {"message": f"gpt.invalid responded with HTTP {status}, which the proxy does not follow"}
        }
        assert "location" not in got.headers


@pytest.mark.parametrize("blocks", [True, False])
def test_a_response_that_is_too_large_is_an_error(monkeypatch, blocks):
    """A reader of the whole body, LiteLLM or its packages, gets a 502 with a message."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_BYTES", 1000)
    bomb = gzip.compress(bytes(10_000))
    coded = {"content-encoding": "gzip"}
    got = guarded(httpx.Response(200, headers=coded, stream=httpx.ByteStream(bomb)), blocks=blocks)
    assert (got.status_code, "more than" in got.json()["error"]["message"]) == (502, True)
    fits = guarded(httpx.Response(200, headers=coded, stream=httpx.ByteStream(gzip.compress(b"{}"))), blocks=blocks)
    assert (fits.json(), "content-encoding" in fits.headers) == ({}, False)


def test_a_response_of_too_many_parts_is_an_error(monkeypatch):
    """A body that would need many times its size in memory when parsed is not parsed."""
    monkeypatch.setattr("claude_proxy.litellm.transport.SMALL_RESPONSE_BYTES", 100)
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_PARTS", 1000)
    assert guarded(httpx.Response(200, text=json.dumps([[]] * 1000))).status_code == 502
    assert guarded(httpx.Response(200, text=json.dumps([0] * 900))).status_code == 200


def test_errors_end_early():
    """An error keeps its status, its body ends at a limit, and an undecodable body is left out."""
    text = b"x" * (MAX_ERROR_BYTES + STEP_BYTES)
    coded = {"content-encoding": "gzip"}
    for answer in (
        httpx.Response(400, content=text),
        httpx.Response(400, headers=coded, stream=httpx.ByteStream(gzip.compress(text))),
    ):
        got = guarded(answer)
        assert (got.status_code, len(got.content)) == (400, MAX_ERROR_BYTES)
    assert guarded(httpx.Response(400, headers=coded, stream=httpx.ByteStream(b"no gzip"))).content == b""
    twice = {"content-encoding": "gzip, gzip"}
    assert guarded(httpx.Response(400, headers=twice, stream=httpx.ByteStream(text))).content == b""


# What LiteLLM loses


async def answered(*chunks, status=200, **headers):
    """Send a client's request, and return its entrance after the response was read."""
    client = Received()
    entrance = Entrance(client.request, client.outlet, client.journal)
    token = current.set(entrance)
    try:
        inner = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=streamed(*chunks)))
        async with httpx.AsyncClient(transport=AsyncGuard(inner)) as http:
            response = await http.post("https://provider.invalid/")
            assert response.content == b"".join(chunks)
    finally:
        current.reset(token)
    return entrance


async def streamed(*chunks):
    for chunk in chunks:
        yield chunk


async def test_an_error_says_when_to_come_back():
    """``retry-after`` is kept until the next response."""
    found = await answered(b"{}", status=429, **{"retry-after": "20"})
    assert (found.retry_after, found.native_end) == ("20", None)
    assert (await answered(b"{}", **{"retry-after": "20"})).retry_after is None
