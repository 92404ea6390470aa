"""transport.py: the way to the upstreams."""

import asyncio

import anyio
import httpx
import litellm
import pytest
from litellm.llms.openai.common_utils import BaseOpenAILLM

from claude_proxy.exchange import Exchange, current
from claude_proxy.headers import read
from claude_proxy.transport import (
    IDLE_CONNECTIONS,
    IDLE_SECONDS,
    MAX_ERROR_BYTES,
    ChatTransport,
    Connections,
    chat_http,
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


# Connections


class Line(httpx.AsyncBaseTransport):
    """One connection that counts what it is asked."""

    def __init__(self, *, fails=False):
        self.fails = fails
        self.asked = 0
        self.closed = False

    async def handle_async_request(self, request):
        self.asked += 1
        if self.fails:
            raise httpx.ConnectError("no")
        return httpx.Response(200, stream=Stream())

    async def aclose(self):
        self.closed = True


class Stream(httpx.AsyncByteStream):
    """An answer without a body."""

    async def __aiter__(self):
        for chunk in ():
            yield chunk


class Lines:
    """Connections of which every one is known, on a clock that stands."""

    def __init__(self, *, fails=False):
        self.made, self.now = [], 0.0
        self.connections = Connections(lambda: self.made.append(Line(fails=fails)) or self.made[-1], lambda: self.now)

    async def open(self, host="claude.invalid"):
        return await self.connections.handle_async_request(httpx.Request("GET", f"https://{host}/"))

    async def ask(self, host="claude.invalid"):
        await (await self.open(host)).aclose()

    @property
    def open_lines(self):
        return sum(not line.closed for line in self.made)


async def test_one_connection_serves_one_after_the_other():
    """A request takes the connection that the one before it left."""
    lines = Lines()
    for _ in range(3):
        await lines.ask()
    assert [line.asked for line in lines.made] == [3]


async def test_at_once_each_has_its_own():
    """Nobody waits for a connection, and each is free again once, however often its answer is closed."""
    lines = Lines()
    answers = [await lines.open() for _ in range(3)]
    assert len(lines.made) == 3
    for answer in answers:
        await answer.aclose()
        await answer.aclose()
    again = [await lines.open() for _ in range(4)]
    assert (len(lines.made), len(again)) == (4, 4)


async def test_a_host_has_its_own_connections():
    """A connection goes to one host, port and scheme."""
    lines = Lines()
    for host in ("a.invalid", "b.invalid", "a.invalid:8443"):
        await lines.ask(host)
    assert [line.asked for line in lines.made] == [1, 1, 1]


async def test_the_idle_are_closed():
    """Those beyond a number at once, and those beyond a time when another one becomes idle."""
    lines = Lines()
    for answer in [await lines.open() for _ in range(IDLE_CONNECTIONS + 5)]:
        await answer.aclose()
    assert lines.open_lines == IDLE_CONNECTIONS
    lines.now = IDLE_SECONDS + 1
    await lines.ask()
    assert lines.open_lines == 1
    await lines.connections.aclose()
    assert lines.open_lines == 0


async def test_what_fails_is_closed():
    """A connection whose request failed serves nobody else."""
    lines = Lines(fails=True)
    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            await lines.open()
    assert (len(lines.made), lines.open_lines) == (2, 0)


async def test_an_answer_whose_end_fails_leaves_its_connection():
    """The transport sees to its connection; it is asked again."""
    lines = Lines()

    class Broken(Stream):
        async def aclose(self):
            raise httpx.ReadError("gone")

    answer = await lines.open()
    answer.stream._stream = Broken()
    with pytest.raises(httpx.ReadError):
        await answer.aclose()
    await lines.ask()
    assert [line.asked for line in lines.made] == [2]


@pytest.mark.parametrize("closes", [True, False])
async def test_a_connection_that_the_host_has_closed_is_not_used(closes):
    """With the real transports: one that its host keeps serves again; in the place of one that it closed there is another."""
    served = []

    async def serve(reader, writer):
        served.append(0)
        while await reader.readuntil(b"\r\n\r\n"):
            served[-1] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
            if closes:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    connections = Connections(httpx.AsyncHTTPTransport)
    async with server, httpx.AsyncClient(transport=connections) as http:
        for _ in range(3):
            assert (await http.get(url)).content == b"ok"
            for socket in sockets_of(connections) if closes else ():
                # The end of the connection has not arrived yet.
                await anyio.wait_readable(socket)
    assert served == ([1, 1, 1] if closes else [3])


def sockets_of(connections):
    """Return the sockets of the idle connections that are thought to be open."""
    pools = [transport._pool for idle in connections._idle.values() for _, transport in idle]
    return [each._connection._network_stream.get_extra_info("socket") for pool in pools for each in pool.connections]


@pytest.mark.parametrize("proxied", [True, False])
def test_proxies_of_the_environment_are_used(monkeypatch, proxied):
    """With a transport of ours httpx would not look for them."""
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy.invalid:1"} if proxied else {})
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1" if proxied else "")
    http = shared_http.__wrapped__()
    assert isinstance(http._transport_for_url(httpx.URL("https://claude.invalid")), Connections) is not proxied


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
