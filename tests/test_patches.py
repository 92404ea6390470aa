"""litellm/patches.py: what is changed in LiteLLM itself and in what it sends with, seen at work in the real ones."""

import asyncio
import json
from types import SimpleNamespace
from unittest.mock import Mock

import aiohttp
import httpx
import litellm
import pytest
import requests
from aiohttp import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, HTTPHandler
from litellm.types.utils import ModelResponse, Usage
from openai import AsyncOpenAI
from openai._utils import async_maybe_transform
from openai.resources.chat.completions import completions

from claude_proxy.litellm import patches
from claude_proxy.proxy.exchange import Exchange, current
from claude_proxy.upstream.headers import read

# Pydantic warns of LiteLLM's own types.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")]
TOLD = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 5}}


@pytest.fixture
def built(monkeypatch):
    """Yield how often LiteLLM built a whole answer from chunks."""
    build, calls = litellm.stream_chunk_builder, []
    monkeypatch.setattr(litellm, "stream_chunk_builder", lambda *args, **more: calls.append(1) or build(*args, **more))
    patches.build_nothing_unread.__wrapped__()
    return calls


async def last_usage(usages, *, booked, words=("hello",)):
    """Stream an answer with such usages in its chunks through LiteLLM; return the usage of its end."""
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks = [chunk | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words]
    chunks += [chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    chunks += [chunk | {"choices": [], "usage": usage} for usage in usages]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer))
    exchange = Exchange(read([]), [], b"", {}, booked=booked)
    token = current.set(exchange)
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


@pytest.mark.parametrize("before", [[], [TOLD | {"prompt_tokens": 1}], [{"prompt_tokens": 0, "completion_tokens": 0}]])
async def test_a_told_usage_is_taken(built, before):
    """Where nobody reads the whole answer, none is built, and the client gets what the provider said last."""
    usage = await last_usage([*before, TOLD], booked=False)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens) == (11, 7, 5)
    assert not built


@pytest.mark.parametrize("usages", [[], [TOLD | {"completion_tokens": 0}]])
async def test_a_usage_that_is_not_told_is_estimated(built, usages):
    """A provider that says nothing, or a half of it, leaves it to LiteLLM."""
    assert (await last_usage(usages, booked=False)).prompt_tokens > 0
    assert built


async def test_books_get_the_whole_answer(built):
    """Where books are kept, LiteLLM builds what it always does."""
    assert (await last_usage([TOLD], booked=True)).prompt_tokens == 11
    assert built


async def test_usage_is_the_same_either_way():
    """The short way tells the client what LiteLLM's own would."""
    patches.build_nothing_unread()
    short, whole = [await last_usage([TOLD], booked=booked) for booked in (False, True)]
    assert short.prompt_tokens_details == whole.prompt_tokens_details
    assert (short.prompt_tokens, short.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


@pytest.mark.parametrize("kept", [True, False])
async def test_nothing_is_reckoned_of_a_stream_without_records(monkeypatch, kept):
    """LiteLLM's account of a stream ends where it stands, and what it assembles of what was served has no place."""
    records = Logging("m", [], True, "acompletion", None, "1", "1")  # noqa: FBT003 - LiteLLM's order
    request = {"litellm_logging_obj": records, "model": "m"}
    if not kept:
        patches.keep_no_records(request)
    done = []

    async def handle(*_, **__):
        done.append(1)

    monkeypatch.setattr(records, "async_success_handler", handle)
    await records.dispatch_success_handlers(ModelResponse(usage=Usage(prompt_tokens=1)), prefer_async_handlers=True)
    assert bool(done) is kept
    assert ("litellm_logging_obj" in request) is kept


def test_a_request_without_records_stays_as_it_is():
    """Nothing is put where nothing was."""
    request = {"litellm_logging_obj": SimpleNamespace()}
    patches.keep_no_records(request)
    assert request == {}
    patches.keep_no_records(request)
    assert request == {}


CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:x"}}]},
    {"role": "assistant", "content": "calling", "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]},
    {"role": "tool", "tool_call_id": "1", "content": "done", "made_up": {"kept": True}},
]  # fmt: skip


@pytest.mark.parametrize("streams", [True, False])
async def test_a_chat_is_sent_as_litellm_made_it(monkeypatch, streams):
    """What goes over the line is the same with the search for names to change and without."""
    sent = []

    def answer(request):
        sent.append(json.loads(request.content))
        return httpx.Response(400, json={"error": {"message": "no"}})

    async def ask():
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
        with pytest.raises(litellm.BadRequestError):
            await litellm.acompletion(
                "openai/m",
                CHAT,
                stream=streams,
                tools=tools,
                temperature=0.5,
                client=AsyncOpenAI(api_key="made-up", base_url="http://gpt.invalid/v1", http_client=http, max_retries=0),
            )

    searches = []

    async def searching(data, kind):
        searches.append(kind)
        return await async_maybe_transform(data, kind)

    monkeypatch.setattr(completions, "async_maybe_transform", searching)
    await ask()
    patches.leave_chats_as_they_are.__wrapped__()
    await ask()
    assert len(searches) == 1, "nothing is searched before the patch: it can go"
    assert sent[0] == sent[1]
    assert sent[0]["messages"] == CHAT


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BEGINNING = HEAD + b"5\r\nhello\r\n"


def connected():
    """A connection of aiohttp's over which an answer is awaited."""
    patches.end_what_cannot_be_understood()
    connection = ResponseHandler(asyncio.get_running_loop())
    connection.connection_made(Mock(asyncio.Transport))
    connection.set_response_params()
    return connection


@pytest.mark.parametrize("cut", range(len(HEAD), len(BEGINNING) + 1))
async def test_who_reads_an_answer_hears_that_the_rest_is_no_http(cut):
    """However a wrong size of a chunk falls into packets, the reader gets an error and not a wait without end."""
    connection = connected()
    connection.data_received(BEGINNING[:cut])
    _, answer = await connection.read()
    reading = asyncio.create_task(answer.read())
    await asyncio.sleep(0)
    connection.data_received(BEGINNING[cut:] + b"no-number\r\n")
    async with asyncio.timeout(10):
        with pytest.raises(ClientPayloadError, match="cannot be understood"):
            await reading


async def test_an_answer_that_came_whole_is_read_whatever_comes_after_it():
    """What is no HTTP after an answer's end is no fault of the answer."""
    connection = connected()
    connection.data_received(BEGINNING + b"0\r\n\r\n")
    _, answer = await connection.read()
    connection.data_received(b"no HTTP\r\n\r\n")
    assert await answer.read() == b"hello"


@pytest.fixture
def every_client(http_clients_as_they_were):
    """Guard httpx, aiohttp and requests, and leave them as they were."""
    patches.guard_every_request.__wrapped__()
    patches.guard_other_clients.__wrapped__()


@pytest.fixture
async def redirecting(every_client):
    """Yield the address of a server that sends everybody elsewhere, and what it was asked for."""
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
    """Whichever HTTP client sends, as it is made by default, its request goes to one host."""
    url, asked = redirecting
    status = await ASKING[name](url)
    assert (status // 100 if name == "requests" else status, asked) == (3 if name == "requests" else 502, ["/asked"])


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
    """A body that is read as a whole has a bound; one that is read in parts has none."""
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


@pytest.mark.parametrize("booked", [True, False])
@pytest.mark.parametrize("rules", [True, False])
async def test_litellm_keeps_the_latest_chunks(monkeypatch, booked, rules):
    """Of a long stream LiteLLM keeps so much as fits, its end with the usage above all, and no more text than that."""
    monkeypatch.setattr(patches, "MAX_CHUNKS" if booked else "MAX_UNREAD_CHUNKS", 20 * patches.CHUNK_BYTES)
    monkeypatch.setattr(patches, "MAX_TEXT", 100)
    monkeypatch.setattr(litellm, "post_call_rules", [lambda _: True] if rules else [])
    for name in ("chunks", "response_uptil_now"):
        monkeypatch.setattr(CustomStreamWrapper, name, None, raising=False)
    patches.keep_the_latest_chunks.__wrapped__()
    made, init = [], CustomStreamWrapper.__init__
    monkeypatch.setattr(
        CustomStreamWrapper, "__init__", lambda self, *args, **more: made.append(self) or init(self, *args, **more)
    )
    use = await last_usage([TOLD], booked=booked, words=[f"{number:04}" for number in range(200)])
    assert (use.prompt_tokens, use.completion_tokens) == (11, 7)
    (stream,) = made
    assert 5 <= len(stream.chunks) <= 20
    assert len(stream.response_uptil_now) == (800 if rules else 100)
