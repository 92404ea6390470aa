"""server/http_protocol.py: how much of a request's head the server takes, and how long it waits for the rest of a request."""

import asyncio
import json
from unittest.mock import Mock

import pytest

pytest.importorskip("httptools")

import uvicorn

from claude_proxy.server.client_connections import Limits
from claude_proxy.server.http_protocol import MAX_HEAD_BYTES, PATIENCE_SECONDS, BoundedProtocol

GOOD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers 200 and keeps the headers it saw."""

    def __init__(self):
        self.headers = []

    async def __call__(self, scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        self.headers.append(list(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def protocol_of(app, loop=None):
    """A protocol of uvicorn's with an app behind it."""
    config = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    return lambda: BoundedProtocol(config=config, server_state=server.server_state, app_state={}, _loop=loop)


def statuses(*pieces, app=None):
    """Send pieces over one connection and return the statuses that come back."""

    async def run():
        listening = await asyncio.get_running_loop().create_server(protocol_of(app or App()), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        came = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            came = await reader.read()
        except ConnectionError:
            came += b"HTTP/1.1 400 "
        finally:
            writer.close()
            listening.close()
        return [int(line.split()[1]) for line in came.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_heads_of_usual_size(count):
    """Requests on one connection are each counted for themselves."""
    large = b"GET / HTTP/1.1\r\nHost: x\r\nx-large: " + b"a" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n"
    assert statuses(*[large] * count) == [200] * (count + 1)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 3_000_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 3_000_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 3_000_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500_000,
    ],
    ids=["line", "value", "name", "many"],
)
def test_a_head_without_an_end(head):
    """A head that is too long is refused before it is whole, and the connection ends."""
    app = App()
    assert statuses(head, app=app) in ([400], [])
    assert app.headers == []


def test_a_body_is_no_head():
    """A body may be larger than a head, and the request behind it is answered."""
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"b" * 1_000_000
    assert statuses(body, GOOD) == [200, 200, 200]


def test_a_trailer_is_no_header():
    """What follows a body in chunks is not among the headers."""
    app = App()
    assert statuses(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-late: 1\r\n\r\n", app=app
    ) == [200, 200]
    assert not [name for headers in app.headers for name, _ in headers if name == b"x-late"]


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"


class Clock:
    """An event loop whose time passes when it is told to."""

    def __init__(self):
        self.now, self.timers = 1000.0, []
        self.create_task = asyncio.get_running_loop().create_task

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        timer = Mock(at=self.now + delay, callback=callback)
        timer.cancel = lambda: timer in self.timers and self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    async def passes(self, seconds):
        """Let time pass, a second at a time, and everybody do what is due."""
        for _ in range(seconds):
            self.now += 1
            for timer in [timer for timer in self.timers if timer.at <= self.now]:
                self.timers.remove(timer)
                timer.callback()
            await asyncio.sleep(0)


class Held(App):
    """Takes the request and answers it when it is told to."""

    def __init__(self):
        super().__init__()
        self.go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)

    async def __call__(self, scope, receive, send):
        self.begun.release()
        await self.go_on.wait()
        await super().__call__(scope, receive, send)


class Client:
    """A connection of a client's that sends what a test says, when it says so."""

    def __init__(self, app, make=None, unread=0):
        self.clock = Clock()
        self.protocol = (make or protocol_of(app, self.clock))()
        self.is_open = True
        self.transport = Mock(asyncio.Transport)
        self.transport.get_write_buffer_size.return_value = unread
        self.transport.get_extra_info.return_value = None
        self.transport.get_protocol.return_value = self.protocol
        self.transport.is_closing.side_effect = lambda: not self.is_open
        self.transport.close.side_effect = self._closed
        self.protocol.connection_made(self.transport)

    def _closed(self):
        if self.is_open:
            self.is_open = False
            self.protocol.connection_lost(None)

    async def sends(self, data, *, then=0):
        self.protocol.data_received(data)
        await self.clock.passes(then)


@pytest.mark.anyio
@pytest.mark.parametrize("said", [[], [b"POST / HT"], [HEAD], [HEAD + b"half"], [HEAD, b"half"], [GOOD, b"POST / HT"]])
async def test_a_client_that_says_no_more_is_let_go(said):
    """Nothing, half a head, a head without its body, half a body: after a while the connection is closed, with its timer."""
    client = Client(App())
    for piece in said:
        await client.clock.passes(2)
        await client.sends(piece)
    await client.clock.passes(int(PATIENCE_SECONDS) - 1)
    assert client.is_open
    await client.clock.passes(1)
    assert not client.is_open
    assert client.clock.timers == []


@pytest.mark.anyio
async def test_a_head_has_to_come_in_time():
    """Whoever sends a head letter by letter has no more time for it than who is silent."""
    client = Client(App())
    await client.sends(b"GET / HTTP/1.1\r\nx: ")
    for _ in range(int(PATIENCE_SECONDS) - 1):
        await client.sends(b"a", then=1)
    assert client.is_open
    await client.clock.passes(1)
    assert not client.is_open


@pytest.mark.anyio
async def test_a_body_may_come_slowly():
    """As long as there is a piece of it now and then, a body may take what it takes."""
    app = App()
    client = Client(app)
    await client.sends(HEAD)
    for _ in range(20):
        await client.sends(b"b" * 10_000, then=int(PATIENCE_SECONDS) - 1)
    assert len(app.headers) == 1


@pytest.mark.anyio
async def test_an_answer_may_take_its_time():
    """While an answer is under way nothing is awaited of the client; when it is over the server's keep-alive counts."""
    app = Held()
    client = Client(app)
    await client.sends(GOOD, then=10 * int(PATIENCE_SECONDS))
    assert client.is_open
    app.go_on.set()
    await client.clock.passes(3)
    assert client.is_open
    await client.sends(GOOD, then=3)
    assert client.is_open
    await client.clock.passes(10)
    assert not client.is_open


@pytest.mark.anyio
async def test_a_body_that_nobody_reads_is_not_awaited():
    """Where the proxy has not taken what is there yet, it is not the client who is slow."""
    app = Held()
    client = Client(app)
    await client.sends(HEAD + b"b" * 100_000, then=3 * int(PATIENCE_SECONDS))
    assert client.is_open
    app.go_on.set()
    await client.clock.passes(3 * int(PATIENCE_SECONDS))
    assert not client.is_open


@pytest.mark.anyio
async def test_what_follows_an_early_answer_is_awaited_no_longer():
    """A request that was refused before its body came does not hold the connection when the body stops."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    client = Client(app)
    await client.sends(HEAD, then=1)
    await client.sends(b"half a body", then=int(PATIENCE_SECONDS) - 1)
    assert client.is_open
    await client.clock.passes(int(PATIENCE_SECONDS))
    assert not client.is_open


@pytest.fixture
def few_connections(monkeypatch):
    """Limits of four connections and two requests, whatever this process may open."""
    monkeypatch.setattr(Limits, "of_process", lambda: Limits(connections=4, requests=2))


class Server:
    """A server on loopback with an app that a test holds, and its clients."""

    def __init__(self):
        self.app = Held()
        self.opened = []

    async def __aenter__(self):
        self.listening = await asyncio.get_running_loop().create_server(protocol_of(self.app), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        for _, writer in self.opened:
            writer.close()
        self.listening.close()

    async def client(self, said=b""):
        """Open a connection that says this."""
        reader, writer = await asyncio.open_connection(*self.listening.sockets[0].getsockname()[:2])
        self.opened.append((reader, writer))
        writer.write(said)
        return reader, writer


async def status_and_headers(reader):
    """The status of a response and its head, with its body read too."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    body = await reader.readexactly(length)
    return int(head.split()[1]), head, body


@pytest.mark.anyio
@pytest.mark.parametrize("said", [b"", b"G", GOOD[:-2]], ids=["silent", "one byte", "half a head"])
async def test_connections_without_a_request_make_room(few_connections, said):
    """However many connections say nothing, or not enough, a request on a new one is served, and one under way goes on."""
    async with Server() as server:
        begun, _ = await server.client(GOOD)
        strangers = [await server.client(said) for _ in range(20)]
        # The first of them are closed, in turn, while the request of the first client is under way.
        assert [await reader.read() for reader, _ in strangers[:17]] == [b""] * 17
        new, _ = await server.client(GOOD)
        server.app.go_on.set()
        assert [(await status_and_headers(reader))[0] for reader in (begun, new)] == [200, 200]


@pytest.mark.anyio
async def test_more_requests_than_there_is_room_for(few_connections, caplog):
    """A request beyond the limit gets a 503 that says when to repeat it; those under way go on, and its connection stays."""
    async with Server() as server:
        served = [await server.client(GOOD) for _ in range(2)]
        for _ in served:
            await server.app.begun.acquire()
        body = b"x" * 300_000
        reader, writer = await server.client(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body)
        status, head, answer = await status_and_headers(reader)
        assert (status, "retry-after: 5\r\n" in head, json.loads(answer)["error"]["type"]) == (503, True, "overloaded_error")
        server.app.go_on.set()
        assert [(await status_and_headers(one))[0] for one, _ in served] == [200, 200]
        writer.write(GOOD)
        assert (await status_and_headers(reader))[0] == 200
    assert [record.getMessage() for record in caplog.records if record.name == "claude_proxy.server.http_protocol"] == [
        "refusing requests with HTTP 503: the limit of open files (ulimit -n) allows 2 at the same time"
    ]


@pytest.mark.anyio
async def test_a_client_that_does_not_read_holds_no_place(few_connections):
    """A connection whose client never takes all of its response gives its file back when no other one can be closed."""
    make = protocol_of(App(), Clock())
    clients = [Client(None, make, unread=1) for _ in range(4)]
    for client in clients:
        await client.sends(GOOD, then=3)
    Client(None, make)
    assert [client.transport.abort.called for client in clients] == [True, False, False, False]
