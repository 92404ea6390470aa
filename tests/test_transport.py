"""litellm/transport.py: the way to the upstreams."""

import asyncio
import gzip
import json
import weakref
import zlib

import httpx
import litellm
import pytest
from litellm.llms.openai.common_utils import BaseOpenAILLM

from claude_proxy.litellm.transport import (
    BOUNDS,
    MAX_CLAUDE_ERROR_BYTES,
    MAX_ERROR_BYTES,
    OWN_REQUEST,
    STEP_BYTES,
    STEP_LINES,
    AsyncGuard,
    Bounds,
    ChatTransport,
    Guard,
    ResponseTooLarge,
    chat_http,
    discard,
    rejection_reason,
    shared_http,
    without_end,
)
from claude_proxy.proxy.exchange import Exchange, current
from claude_proxy.upstream.connections import Connections
from claude_proxy.upstream.headers import read

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "coding", "fits"),
    [(200, "", True), (200, "gzip", True), (204, "", True), (400, "br", True), (304, "", False), (101, "", False),
     (200, "br", False), (200, "gzip, br", False), (200, "gzip, gzip", False)],
)  # fmt: skip
def test_what_is_no_answer(status, coding, fits):
    """A status that is neither a success nor an error, and a coding that was not asked for, are no answer."""
    response = httpx.Response(status, headers={"content-encoding": coding} if coding else {})
    assert (rejection_reason(response, "gzip, deflate") is None) is fits


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
        await discard(response)
        await discard(response)
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


# Bounds

TEXT = b"".join(b"%d, " % number for number in range(200_000))


def raw_deflate(text):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


CODED = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "deflate, raw": raw_deflate}


@pytest.mark.parametrize("size", [1, 1000, 10_000_000])
@pytest.mark.parametrize("coding", CODED)
def test_what_is_decoded_does_not_depend_on_how_it_was_cut(coding, size):
    """However a coded body arrives, it is decoded whole, and never in steps that are larger than one step."""
    text = TEXT[:2000] if size == 1 else TEXT
    coded, bounds = CODED[coding](text), Bounds(coding.split(",")[0])
    pieces = [piece for at in range(0, len(coded), size) for piece in bounds.feed(coded[at : at + size])] + [*bounds.finish()]
    assert b"".join(pieces) == text
    assert not coding or max(map(len, pieces)) <= STEP_BYTES


def test_a_bomb_is_not_decoded_beyond_the_bound(monkeypatch):
    """Of a chunk that holds a thousand times its size no more is decoded than a response may have."""
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_BYTES", 3 * STEP_BYTES)
    pieces = Bounds("gzip").feed(gzip.compress(bytes(100 * STEP_BYTES)))
    assert sum(len(next(pieces)) for _ in range(3)) == 3 * STEP_BYTES
    with pytest.raises(ResponseTooLarge):
        next(pieces)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_events_are_bounded_and_streams_are_not(monkeypatch, end, size):
    """A relayed stream goes on for ever, each of its events has a bound, and it is told where one ends however it is cut."""
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_BYTES", 10)
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_EVENT_SIZE", 100)
    bounds = Bounds()
    bounds.endless = True
    stream = (b"data: x\ndata: " + b"x" * 50 + end) * 20
    for at in range(0, len(stream), size):
        assert b"".join(bounds.feed(stream[at : at + size])) or size == 1
    with pytest.raises(ResponseTooLarge, match="event"):
        [*bounds.feed(b"data: x\n" * 20)]


def test_many_lines_have_steps_and_a_bound(monkeypatch):
    """What is read line by line arrives in steps of few lines; a response and an event have a bound of lines."""
    lines = b'{"a": 1}\n' * 5000
    pieces = [*Bounds().feed(lines)]
    assert b"".join(pieces) == lines
    assert max(piece.count(b"\n") for piece in pieces) <= STEP_LINES + 1
    with pytest.raises(ResponseTooLarge, match="event"):
        [*Bounds(events=True).feed(b"data: x\n" * 5000)]
    assert b"".join(Bounds(events=True).feed(b"data: x\n\n" * 5000)) == b"data: x\n\n" * 5000
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_LINES", 4999)
    with pytest.raises(ResponseTooLarge, match="lines"):
        [*Bounds().feed(lines)]


def guarded(answer, *, blocks=False, stream=False, own=False):
    """Ask by a guarded transport; return the response, read to the end or streamed."""
    inner = httpx.MockTransport(lambda _: answer)
    request = httpx.Request("POST", "https://gpt.invalid/v1", content=b"{}", extensions={OWN_REQUEST: True} if own else {})
    if blocks:
        with httpx.Client(transport=Guard(inner), follow_redirects=True) as http:
            return http.send(request)

    async def run():
        async with httpx.AsyncClient(transport=AsyncGuard(inner), follow_redirects=True) as http:
            response = await http.send(request, stream=stream)
            if stream:
                without_end(response)
                response.parts = [part async for part in response.aiter_bytes()]
            return response

    return asyncio.run(run())


@pytest.mark.parametrize("blocks", [True, False])
def test_a_guarded_redirection_is_an_error(blocks):
    """A client that follows redirections sees none, and nothing of where one leads."""
    for status in (301, 302, 303, 304, 307, 308):
        got = guarded(httpx.Response(status, headers={"location": "https://evil.invalid"}), blocks=blocks)
        assert (got.status_code, got.history, got.next_request) == (502, [], None)
        assert got.json() == {"error": {"message": f"gpt.invalid answered with HTTP {status}, which the proxy does not follow"}}
        assert "location" not in got.headers


@pytest.mark.parametrize("blocks", [True, False])
def test_a_response_that_is_too_large_is_an_error(monkeypatch, blocks):
    """Whoever reads it as a whole, LiteLLM or its packages, sees a 502 in words; the project's own client an exception."""
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_BYTES", 1000)
    bomb = gzip.compress(bytes(10_000))
    coded = {"content-encoding": "gzip"}
    got = guarded(httpx.Response(200, headers=coded, stream=httpx.ByteStream(bomb)), blocks=blocks)
    assert (got.status_code, "more than" in got.json()["error"]["message"]) == (502, True)
    if not blocks:
        with pytest.raises(ResponseTooLarge):
            guarded(httpx.Response(200, headers=coded, stream=httpx.ByteStream(bomb)), own=True)
    fits = guarded(httpx.Response(200, headers=coded, stream=httpx.ByteStream(gzip.compress(b"{}"))), blocks=blocks)
    assert (fits.json(), "content-encoding" in fits.headers) == ({}, False)


def test_a_response_of_too_many_parts_is_an_error(monkeypatch):
    """What would take many times its size in memory once it is parsed is not parsed."""
    monkeypatch.setattr("claude_proxy.litellm.transport.SMALL_RESPONSE_BYTES", 100)
    monkeypatch.setattr("claude_proxy.litellm.transport.MAX_RESPONSE_PARTS", 1000)
    assert guarded(httpx.Response(200, text=json.dumps([[]] * 1000))).status_code == 502
    assert guarded(httpx.Response(200, text=json.dumps([0] * 900))).status_code == 200


def test_a_stream_goes_on_in_its_own_bytes():
    """A relayed stream is not read as a whole, and keeps its chunks."""
    got = guarded(streaming(b"data: 1\n\n", b"data: 2\n\n"), stream=True)
    assert got.parts == [b"data: 1\n\n", b"data: 2\n\n"]
    assert got.extensions[BOUNDS].endless


@pytest.mark.parametrize(("own", "size"), [(False, MAX_ERROR_BYTES), (True, MAX_CLAUDE_ERROR_BYTES)])
def test_errors_end_early(own, size):
    """An error keeps its status, its body ends at a bound, and what cannot be decoded is left out, or told of Claude's."""
    text = b"x" * (size + STEP_BYTES)
    coded = {"content-encoding": "gzip"}
    for answer in (
        httpx.Response(400, content=text),
        httpx.Response(400, headers=coded, stream=httpx.ByteStream(gzip.compress(text))),
    ):
        got = guarded(answer, own=own)
        assert (got.status_code, len(got.content)) == (400, size)
    lying = httpx.Response(400, headers=coded, stream=httpx.ByteStream(b"no gzip"))
    if own:
        with pytest.raises(httpx.DecodingError):
            guarded(lying, own=True)
    else:
        assert guarded(lying).content == b""
    twice = {"content-encoding": "gzip, gzip"}
    assert guarded(httpx.Response(400, headers=twice, stream=httpx.ByteStream(text)), own=own).content == b""
