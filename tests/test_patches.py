"""litellm/patches.py: the changes to LiteLLM and its HTTP clients, tested with the real ones."""

import asyncio
import json
import os
from unittest.mock import Mock

import aiohttp
import httpx
import litellm
import pytest
import requests
from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from lanes import Received
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
from openai import AsyncOpenAI

from claude_proxy.config.outbound_proxies import OutboundProxies
from claude_proxy.litellm import patches
from claude_proxy.proxy.entrance import Entrance, current

# Pydantic warns of LiteLLM's own types.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")]
TOLD = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 5}}


async def last_usage(planned, words):
    """Stream a response through LiteLLM, with or without a client's request; return the usage of its last chunk."""
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [chunk | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words]
    chunks += [chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    chunks += [chunk | {"choices": [], "usage": TOLD}]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer))
    client = Received()
    token = current.set(None if planned is None else Entrance(client.request, client.outlet, client.journal, planned=planned))
    try:
        stream = await litellm.acompletion(
            "openai/m",
            [{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
            client=AsyncOpenAI(api_key="made-up", base_url="http://gpt.invalid/v1", http_client=http),
        )
        return [each.usage async for each in stream if getattr(each, "usage", None)][-1]
    finally:
        current.reset(token)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BEGINNING = HEAD + b"5\r\nhello\r\n"


def connected():
    """A connection of aiohttp that waits for a response."""
    patches.end_what_cannot_be_understood()
    connection = ResponseHandler(asyncio.get_running_loop())
    connection.connection_made(Mock(asyncio.Transport))
    connection.set_response_params()
    return connection


@pytest.mark.parametrize("cut", range(len(HEAD), len(BEGINNING) + 1))
async def test_who_reads_an_answer_hears_that_the_rest_is_no_http(cut):
    """However an invalid chunk size is split into packets, the reader gets an error and does not wait forever."""
    connection = connected()
    connection.data_received(BEGINNING[:cut])
    _, answer = await connection.read()
    reading = asyncio.create_task(answer.read())
    await asyncio.sleep(0)
    connection.data_received(BEGINNING[cut:] + b"no-number\r\n")
    async with asyncio.timeout(10):
        with pytest.raises(ClientPayloadError, match="not valid HTTP"):
            await reading


async def test_an_answer_that_came_whole_is_read_whatever_comes_after_it():
    """Invalid HTTP after a complete response does not affect the response."""
    connection = connected()
    connection.data_received(BEGINNING + b"0\r\n\r\n")
    _, answer = await connection.read()
    connection.data_received(b"no HTTP\r\n\r\n")
    assert await answer.read() == b"hello"


@pytest.fixture
def every_client(http_clients_as_they_were):
    """Guard httpx, aiohttp and requests, and restore them afterwards."""
    patches.guard_every_request.__wrapped__()
    patches.guard_other_clients.__wrapped__()


@pytest.fixture
async def redirecting(every_client):
    """Yield the URL of a server that redirects every request, and the requests that it received."""
    asked = []

    async def serve(reader, writer):
        asked.append((await reader.readuntil(b"\r\n")).split()[1].decode())
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: /stolen\r\ncontent-length: 5\r\nconnection: close\r\n\r\nmoved")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/asked", asked
    server.close()


@pytest.mark.parametrize("name", ["httpx", "httpx, blocking", "aiohttp", "requests", "LiteLLM", "LiteLLM, blocking"])
async def test_no_client_of_the_process_follows_a_redirection(redirecting, name):
    """No HTTP client of the process, with its defaults, follows a redirect."""
    url, asked = redirecting
    status = await ASKING[name](url)
    assert (status // 100 if name == "requests" else status, asked) == (3 if name == "requests" else 502, ["/asked"])


@pytest.fixture
async def behind_a_dead_proxy(http_clients_as_they_were, monkeypatch):
    """Return a function that starts with a NO_PROXY beside a dead proxy; it yields a server's URL."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def start(exceptions):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", exceptions.format(port=port))
        found = OutboundProxies.of(os.environ)
        found.simplify(os.environ)
        patches.except_from_proxies.__wrapped__(found)
        return f"http://127.0.0.1:{port}/"

    yield start
    server.close()


EXCEPTED = ["127.0.0.0/8,::1/128", "[::1],127.0.0.1", "127.0.0.1:{port}", "fd00::/8,*"]


@pytest.mark.parametrize("exceptions", EXCEPTED)
async def test_a_host_of_no_proxy_is_asked_directly(behind_a_dead_proxy, exceptions):
    """Whatever form the host has in NO_PROXY, httpx and LiteLLM's clients connect directly."""
    url = behind_a_dead_proxy(exceptions)
    async with httpx.AsyncClient() as client:
        assert (await client.post(url)).text == "ok"
    blocking = await asyncio.to_thread(lambda: httpx.Client().post(url).text)
    assert blocking == "ok"
    assert (await AsyncHTTPHandler().post(url)).text == "ok"


async def test_another_host_is_asked_through_the_proxy(behind_a_dead_proxy):
    """A host without an exception is reached only through the proxy."""
    url = behind_a_dead_proxy("128.0.0.0/8,::1/128")
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(url)
    with pytest.raises(httpx.ConnectError):
        await asyncio.to_thread(httpx.Client().post, url)
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        await AsyncHTTPHandler().post(url)


async def by_httpx(url):
    async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
        return (await client.post(url)).status_code


async def by_aiohttp(url):
    async with aiohttp.ClientSession() as session:
        try:
            return (await session.post(url)).status
        except aiohttp.ClientResponseError as error:
            return error.status


async def by_litellm(url):
    try:
        return (await AsyncHTTPHandler().post(url)).status_code
    except httpx.HTTPStatusError as error:
        return error.response.status_code


def by_litellm_blocking(url):
    try:
        return HTTPHandler().post(url).status_code
    except httpx.HTTPStatusError as error:
        return error.response.status_code


ASKING = {
    "httpx": by_httpx,
    "httpx, blocking": lambda url: asyncio.to_thread(
        lambda: httpx.Client(follow_redirects=True, trust_env=False).post(url).status_code
    ),
    "aiohttp": by_aiohttp,
    "requests": lambda url: asyncio.to_thread(lambda: requests.post(url, timeout=5).status_code),
    "LiteLLM": by_litellm,
    "LiteLLM, blocking": lambda url: asyncio.to_thread(by_litellm_blocking, url),
}


async def test_aiohttp_reads_no_more_than_a_response_may_have(every_client, monkeypatch):
    """A body that is read as a whole has a limit; one that is read in parts has none."""
    monkeypatch.setattr("claude_proxy.litellm.patches.MAX_RESPONSE_BYTES", 10)
    for size, fits in ((10, True), (11, False)):
        stream = aiohttp.StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        stream.feed_data(bytes(size))
        stream.feed_eof()
        if fits:
            assert await stream.read() == bytes(size)
            continue
        with pytest.raises(ClientPayloadError):
            await stream.read()
    stream = aiohttp.StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(bytes(20))
    assert await stream.read(15) == bytes(15)


@pytest.mark.parametrize("planned", [None, False, True])
@pytest.mark.parametrize("rules", [True, False])
async def test_litellm_keeps_the_latest_chunks(monkeypatch, caplog, planned, rules):
    """LiteLLM keeps as many chunks of a long stream as fit, with its end and its usage, and a limited text.

    The limit is higher if a setting may read the records, and then removed chunks are logged.
    """
    monkeypatch.setattr(patches, "MAX_UNREAD_CHUNKS" if planned else "MAX_CHUNKS", 20 * patches.CHUNK_BYTES)
    monkeypatch.setattr(patches, "MAX_TEXT", 100)
    monkeypatch.setattr(litellm, "post_call_rules", [lambda _: True] if rules else [])
    for name in ("chunks", "response_uptil_now"):
        monkeypatch.setattr(CustomStreamWrapper, name, None, raising=False)
    patches.keep_the_latest_chunks.__wrapped__()
    made, init = [], CustomStreamWrapper.__init__
    monkeypatch.setattr(
        CustomStreamWrapper, "__init__", lambda self, *args, **more: made.append(self) or init(self, *args, **more)
    )
    use = await last_usage(planned, [f"{number:04}" for number in range(200)])
    assert (use.prompt_tokens, use.completion_tokens) == (11, 7)
    (stream,) = made
    assert 5 <= len(stream.chunks) <= 20
    assert len(stream.response_uptil_now) == (800 if rules else 100)
    assert any("LiteLLM's record of a stream is too large" in message for message in caplog.messages) is not bool(planned)
