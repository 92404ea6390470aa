"""upstream/client.py: requests and responses, with a server on this machine."""

import asyncio
import datetime as dt
import gzip
import ipaddress
import os
import socket
import ssl
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from claude_proxy.upstream.client import (
    PART_BYTES,
    BrokenOffError,
    TimedOutError,
    UnreachableError,
    UnreadableError,
    UpstreamClient,
    UpstreamError,
)
from claude_proxy.upstream.connector import MAX_LINE_BYTES
from claude_proxy.upstream.response_bounds import STEP_BYTES

pytestmark = pytest.mark.anyio

# What a turn of the server does beside sending bytes and waiting for an event: end the connection, end it with a reset, or
# wait for the client's end.
CLOSE, RESET, WAIT = object(), object(), object()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SHORTLY = 0.05
# Making one takes most of a test's time; only where certificates are looked at the client makes its own.
ANY_CERTIFICATES = ssl.create_default_context()


@dataclass
class Seen:
    """A received request, and the number of its connection."""

    connection: int
    head: bytes
    body: bytes

    @property
    def headers(self):
        return [tuple(line.split(b": ", 1)) for line in self.head.split(b"\r\n")[1:-2]]


class Server:
    """Responds to requests with ``turns`` in order, on any connection."""

    def __init__(self, *turns):
        self.turns = [*turns]
        self.seen = []
        self.connections = 0
        self.arrived, self.left = asyncio.Event(), asyncio.Event()
        self._writers = []

    async def __call__(self, reader, writer):
        self.connections += 1
        number = self.connections
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                self.seen.append(Seen(number, head, await reader.readexactly(length)))
                self.arrived.set()
                for step in self.turns.pop(0):
                    if isinstance(step, asyncio.Event):
                        await step.wait()
                        continue
                    if step is RESET:
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if step in (CLOSE, RESET):
                        return
                    if step is WAIT:
                        await reader.read()
                        return
                    writer.write(step)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has ended the connection
        finally:
            self.left.set()
            writer.close()

    @asynccontextmanager
    async def listening(self, host="127.0.0.1", **options):
        server = await asyncio.start_server(self, host, 0, **options)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1/messages"
        try:
            async with server:
                yield self
        finally:
            for writer in self._writers:
                writer.close()


@pytest.fixture(autouse=True)
def no_proxies():
    """Remove this machine's own proxies from the environment."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


@asynccontextmanager
async def between(*turns, certificates=ANY_CERTIFICATES, **options):
    """Yield a client and a server that responds with ``turns``."""
    client = UpstreamClient(certificates)
    try:
        async with Server(*turns).listening(**options) as server:
            yield client, server
            await client.close()
    finally:
        await client.close()


async def asked(client, server, *, body=b"{}", headers=(), read_seconds=5.0):
    """Send a request, read the response to its end and close it; return its status and body."""
    response = await client.send(server.url, headers, body, read_seconds=read_seconds)
    try:
        return response.status, await response.read()
    finally:
        response.close()


# What leaves


HEADERS = [
    ("User-Agent", "claude-cli/2.1.197"),
    ("anthropic-beta", "a-1"),
    ("X-App", "cli"),
    ("anthropic-beta", "b-2"),
    ("authorization", "Bearer made-up"),
    ("x-empty", ""),
]


async def test_the_head_of_a_request():
    """The headers keep their order, case and number; only the host and the length are added."""
    async with between([OK]) as (client, server):
        await asked(client, server, headers=HEADERS)
        host = f"127.0.0.1:{server.port}".encode()
    (seen,) = server.seen
    assert seen.head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    sent = [(name.encode(), value.encode()) for name, value in HEADERS]
    assert [(name, value) for name, value in seen.headers if name.lower() not in (b"host", b"content-length")] == sent
    assert [pair for pair in seen.headers if (pair[0], pair[1]) not in sent] == [(b"Host", host), (b"Content-Length", b"2")]
    assert seen.body == b"{}"


@pytest.mark.parametrize("value", [b"M\xc3\xbcller", b"\xff\xfe", b"caf\xe9 \xc3\xa9", bytes(range(0x80, 0x100))])
async def test_a_header_that_is_not_ascii(value):
    """A header's bytes beyond ASCII, read as Latin-1, are sent unchanged, in UTF-8 or not."""
    async with between([OK]) as (client, server):
        await asked(client, server, headers=[("x-project", value.decode("latin-1"))])
    assert (b"x-project", value) in server.seen[0].headers


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\0b"])
async def test_a_header_that_would_be_two(value):
    """A value with a line end is not sent."""
    async with between([OK]) as (client, server):
        with pytest.raises(UnreachableError):
            await asked(client, server, headers=[("x-project", value)])
    assert server.seen == []


@pytest.mark.parametrize("target", ["/v1/messages?beta=true&x=a%20b&y=%2f%C3%A9", "/v1/messages?@evil.tld/", "/a%2Fb?"])
async def test_the_address_stays_as_it_is(target):
    """Path and query are neither decoded nor reordered."""
    async with between([OK]) as (client, server):
        server.url = f"http://127.0.0.1:{server.port}{target}"
        await asked(client, server)
    assert server.seen[0].head.startswith(f"POST {target.rstrip('?')}".encode())


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES], ids=str)
async def test_a_body_of_any_size(size):
    """A body arrives whole, with its length and not chunked, even if it is sent in parts."""
    body = bytes(index * 7 % 251 for index in range(size))
    async with between([OK]) as (client, server):
        assert await asked(client, server, body=body) == (200, b"ok")
    (seen,) = server.seen
    assert seen.body == body
    lengths = [pair for pair in seen.headers if pair[0].lower() in (b"content-length", b"transfer-encoding")]
    assert [(name.lower(), value) for name, value in lengths] == [(b"content-length", str(size).encode())]


async def test_nothing_is_kept_of_a_response():
    """Cookies are not kept, and no header of one request is in the next."""
    cookie = b"HTTP/1.1 200 OK\r\nset-cookie: made=up; Path=/\r\ncontent-length: 0\r\n\r\n"
    async with between([cookie], [OK]) as (client, server):
        await asked(client, server, headers=[("x-first", "1")])
        await asked(client, server)
    assert [name.lower() for name, _ in server.seen[1].headers] == [b"host", b"content-length"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status):
    """A redirect is not followed, and the response cannot be forwarded."""
    moved = f"HTTP/1.1 {status} Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".encode()
    async with between([moved]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        response.close()
    assert (response.status, response.header("location"), len(server.seen)) == (status, "/elsewhere", 1)
    assert response.rejection_reason == f"responded with HTTP {status}, which the proxy does not follow"


# What comes back


async def test_the_head_of_a_response():
    """Headers keep their order, with lower-case names and values read as Latin-1; names may repeat."""
    head = b"HTTP/1.1 418 Odd\r\nX-B: 1\r\nx-a: \xc3\xa9\xff\r\nX-b: 2\r\n"
    head += b"Content-Type: Text/Event-Stream; a=b\r\ncontent-length: 0\r\n\r\n"
    async with between([head]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        response.close()
    wanted = [
        ("x-b", "1"),
        ("x-a", "\xc3\xa9\xff"),
        ("x-b", "2"),
        ("content-type", "Text/Event-Stream; a=b"),
        ("content-length", "0"),
    ]
    assert (response.status, response.headers) == (418, wanted)
    assert (response.header("x-b"), response.header("x-c"), response.media_type) == ("1", "", "text/event-stream")


async def test_large_heads():
    """Large headers and many headers are accepted, and so is a response after an early hint."""
    large = b"x" * (MAX_LINE_BYTES - 1024)
    many = b"".join(b"x-%d: 1\r\n" % number for number in range(500))
    head = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nx-large: " + large + b"\r\n" + many
    async with between([head + b"content-length: 0\r\n\r\n"]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        response.close()
    assert (response.status, response.header("x-large").encode() == large, response.header("x-499")) == (200, True, "1")


@pytest.mark.parametrize(
    "turn",
    [
        [OK],
        [CHUNKED, b"1\r\no\r\n", b"1\r\nk\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\no", b"k", CLOSE],
        [b"HTTP/1.0 200 OK\r\n\r\nok", CLOSE],
    ],
    ids=["length", "chunked", "close", "http-1.0"],
)
async def test_where_a_body_ends(turn):
    """A body ends at its length, at its last chunk, or with the connection."""
    async with between(turn) as (client, server):
        assert await asked(client, server) == (200, b"ok")


@pytest.mark.parametrize(
    "turn",
    [
        [CHUNKED, b"2\r\nok\r\n", CLOSE],
        [CHUNKED, b"2\r\nok\r\n", RESET],
        [CHUNKED, b"4\r\nok", CLOSE],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", CLOSE],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", RESET],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-encoding: gzip\r\n\r\n", CLOSE],
    ],
    ids=["chunked", "chunked-reset", "in-a-chunk", "length", "length-reset", "encoded"],
)
async def test_a_body_that_breaks_off(turn):
    """A body that breaks off gives its bytes and then an error, and its connection is not used again."""
    async with between(turn, [OK]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        with pytest.raises(BrokenOffError) as error:
            await response.read()
        response.close()
        assert await asked(client, server) == (200, b"ok")
    assert str(error.value) == "ClientPayloadError"
    assert [seen.connection for seen in server.seen] == [1, 2]


async def test_a_body_comes_as_it_arrives():
    """A chunk is delivered before the next one is sent."""
    async with between([CHUNKED + b"2\r\nok\r\n", WAIT]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        assert await response.piece() == b"ok"
        response.close()
        await server.left.wait()


async def test_an_upstream_that_is_silent():
    """A silence that is too long is an error, before the headers, within them and within the body."""
    turns = [[WAIT], [b"HTTP/1.1 200 OK\r\ncont", WAIT]]
    async with between(*turns, [CHUNKED + b"2\r\nok\r\n", WAIT]) as (client, server):
        for _ in turns:
            with pytest.raises(TimedOutError):
                await client.send(server.url, (), b"{}", read_seconds=SHORTLY)
        response = await client.send(server.url, (), b"{}", read_seconds=SHORTLY)
        assert await response.piece() == b"ok"
        with pytest.raises(TimedOutError):
            await response.piece()
        response.close()


async def test_when_a_request_counts_as_sent():
    """A request is reported as sent before its response, on a new and on a kept connection, and not without a connection."""
    reports = []

    def on_sent():
        reports.append(len(server.seen))

    async with between([OK], [WAIT]) as (client, server):
        response = await client.send(server.url, (), b"{}", on_sent=on_sent)
        await response.read()
        response.close()
        task = asyncio.ensure_future(client.send(server.url, (), b"{}", on_sent=on_sent))
        while len(server.seen) < 2:
            server.arrived.clear()
            await server.arrived.wait()
        assert reports == [0, 1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            with pytest.raises(UnreachableError):
                await client.send(f"http://127.0.0.1:{taken.getsockname()[1]}/", (), b"{}", on_sent=on_sent)
    assert reports == [0, 1]


async def test_an_upstream_that_reads_nothing(monkeypatch):
    """A request whose body the upstream does not read ends with a timeout."""
    monkeypatch.setattr("claude_proxy.upstream.client.CONNECT_SECONDS", SHORTLY)

    async def deaf(reader, writer):
        reader._transport.pause_reading()
        writers.append(writer)

    writers = []
    client = UpstreamClient(ANY_CERTIFICATES)
    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(TimedOutError):
            await client.send(url, (), bytes(64 * 1024 * 1024), read_seconds=SHORTLY)
        await client.close()
        for writer in writers:
            writer.close()


async def parts_of(*parts):
    """The parts of a body; an event is waited for, and an exception is raised in its turn."""
    for part in parts:
        if isinstance(part, asyncio.Event):
            await part.wait()
        elif isinstance(part, Exception):
            raise part
        else:
            yield part


async def test_a_body_in_parts_is_sent_as_it_arrives():
    """Each part is sent before the next one is there, with the length that was announced."""
    arrived = asyncio.Event()

    async def respond(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 6\r\n" in head.lower()
        assert await reader.readexactly(3) == b"abc"
        arrived.set()
        assert await reader.readexactly(3) == b"def"
        writer.write(OK)
        writer.close()

    client = UpstreamClient(ANY_CERTIFICATES)
    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        response = await client.send(url, [("content-length", "6")], parts_of(b"abc", arrived, b"def"))
        assert await response.read() == b"ok"
        response.close()
        await client.close()


async def test_a_body_in_parts_that_ends_early():
    """If the body cannot be read to its end, the upstream gets no whole request, and there is no second attempt."""
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def respond(reader, writer):
        received.put_nowait(await reader.read())
        writer.close()

    client = UpstreamClient(ANY_CERTIFICATES)
    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(UpstreamError):
            await client.send(url, (), parts_of(b"abc", ConnectionAbortedError()))
        request = await received.get()
        await client.close()
    assert b"abc" in request
    assert not request.endswith(b"0\r\n\r\n")
    assert received.empty()


async def test_a_body_in_parts_uses_a_connection_of_its_own():
    """It could not be sent again, so it does not meet a kept connection that the upstream has closed."""
    async with between([OK], [OK, CLOSE]) as (client, server):
        await asked(client, server)
        response = await client.send(server.url, [("content-length", "3")], parts_of(b"abc"))
        response.close()
    assert [seen.connection for seen in server.seen] == [1, 2]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://made-up.invalid/v1/messages", "host not found"),
        ("http://[/v1/messages", "the URL is not valid"),
        ("ftp://127.0.0.1/v1/messages", "the URL is not valid"),
    ],
)
async def test_an_address_that_leads_nowhere(url, words):
    """An error in a URL is reported in words."""
    client = UpstreamClient(ANY_CERTIFICATES)
    with pytest.raises(UnreachableError, match=words):
        await client.send(url, (), b"{}")
    await client.close()


async def test_nobody_listens():
    """A failed connection is reported with the reason, without the URL and the request."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/messages"
        client = UpstreamClient(ANY_CERTIFICATES)
        with pytest.raises(UnreachableError) as error:
            await client.send(url, [("x-api-key", "made-up")], b"{}")
        await client.close()
    assert str(error.value) == "connection refused"


@pytest.mark.parametrize(
    "head", [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"\x00" * 9]
)
async def test_what_is_no_http(head):
    """A response that is not HTTP is the upstream's error."""
    async with between([head, CLOSE]) as (client, server):
        with pytest.raises(UpstreamError):
            await asked(client, server)
    assert len(server.seen) == 1


# Codings


async def pieces_of(response):
    """Return the pieces of a body as they arrive."""
    pieces = []
    while piece := await response.piece():
        pieces.append(piece)
    return pieces


def whole(body, coding, status=200):
    return b"HTTP/1.1 %d X\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (status, coding, len(body)) + body


@pytest.mark.parametrize(
    ("coding", "pack"), [(b"gzip", gzip.compress), (b"GZip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)]
)
async def test_a_coded_body_is_decoded(coding, pack):
    """The requested content codings are decoded."""
    text = b"event: ping\n\n" * 50_000
    async with between([whole(pack(text), coding)]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        pieces = await pieces_of(response)
        response.close()
    assert b"".join(pieces) == text
    assert max(map(len, pieces)) <= STEP_BYTES
    assert response.rejection_reason is None


@pytest.mark.parametrize("coding", [b"gzip", b"identity"])
async def test_a_wait_that_is_cancelled_loses_nothing(coding):
    """A cancelled wait for a piece loses nothing, whenever it is cancelled."""
    text = b"".join(b"data: %d\n\n" % number for number in range(200_000))
    async with between([whole(gzip.compress(text) if coding == b"gzip" else text, coding)]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        pieces, cancelled = [], 0
        for turn in range(1_000_000):
            waiting = asyncio.ensure_future(response.piece())
            for _ in range(turn % 3):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            if waiting.cancelled():
                cancelled += 1
            elif piece := waiting.result():
                pieces.append(piece)
            else:
                break
        response.close()
    assert b"".join(pieces) == text
    assert cancelled


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip, br", b"made-up"])
async def test_an_unrequested_content_encoding(coding):
    """A successful response cannot be forwarded or read; an error still has its status."""
    async with between([whole(b"x", coding)], [whole(b"x", coding, 400)]) as (client, server):
        for status in (200, 400):
            response = await client.send(server.url, (), b"{}")
            with pytest.raises(UnreadableError, match="content encoding that the proxy did not request"):
                await response.read()
            response.close()
            reason = "responded with a content encoding that the proxy did not request" if status == 200 else None
            assert (response.status, response.rejection_reason) == (status, reason)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
async def test_a_body_that_is_not_coded_as_it_says(coding):
    """A body that cannot be decoded is an error, in a successful response and in an error alike."""
    async with between([whole(b"no such thing", coding)], [whole(b"no such thing", coding, 400)]) as (client, server):
        for cut_at in (None, 10):
            response = await client.send(server.url, (), b"{}")
            with pytest.raises(UnreadableError, match="cannot be decoded"):
                await response.read(cut_at=cut_at)
            response.close()


async def test_a_body_that_is_too_large(monkeypatch):
    """A response that is read as a whole has a limit, a stream has none, and a cut response gives its start."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_RESPONSE_BYTES", 1000)
    bomb = whole(gzip.compress(bytes(10_000)), b"gzip")
    async with between([bomb], [bomb], [bomb]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        with pytest.raises(UnreadableError, match="responded with more than"):
            await response.read()
        response.close()
        response = await client.send(server.url, (), b"{}")
        assert len(b"".join(await pieces_of(response))) == 10_000
        response.close()
        response = await client.send(server.url, (), b"{}")
        assert await response.read(cut_at=500) == bytes(500)
        response.close()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_file_is_no_event(monkeypatch, packed):
    """A stream has no event beyond a limit; a file has none at all, so it may have any size."""
    monkeypatch.setattr("claude_proxy.upstream.response_bounds.MAX_EVENT_SIZE", 1000)
    file = whole(gzip.compress(bytes(10_000)), b"gzip") if packed else whole(bytes(10_000), b"identity")
    async with between([file], [file]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        with pytest.raises(UnreadableError, match="sent an event of more than"):
            await pieces_of(response)
        response.close()
        response = await client.send(server.url, (), b"{}")
        response.has_no_events()
        assert b"".join(await pieces_of(response)) == bytes(10_000)
        response.close()


# Connections


async def test_one_connection_serves_one_after_the_other():
    """A request uses the connection that the previous one released."""
    async with between([OK], [OK], [OK]) as (client, server):
        for _ in range(3):
            await asked(client, server)
    assert [seen.connection for seen in server.seen] == [1, 1, 1]


async def test_at_once_each_has_its_own():
    """Concurrent requests do not wait for a connection, and each connection is released once."""
    end = asyncio.Event()
    async with between(*[[CHUNKED + b"2\r\nok\r\n", end, b"0\r\n\r\n"]] * 7) as (client, server):
        for number in (3, 4):
            responses = [await client.send(server.url, (), b"{}") for _ in range(number)]
            assert server.connections == number
            end.set()
            for response in responses:
                assert await response.read() == b"ok"
                response.close()
                response.close()
            end.clear()


async def test_what_was_not_read_closes_its_connection():
    """A response that is closed early ends the upstream's work, and the next request uses another connection."""
    async with between([CHUNKED + b"2\r\nok\r\n", WAIT], [OK]) as (client, server):
        response = await client.send(server.url, (), b"{}")
        response.close()
        await server.left.wait()
        await asked(client, server)
    assert [seen.connection for seen in server.seen] == [1, 2]


async def test_a_request_that_is_cancelled_closes_its_connection():
    """A cancelled request ends the upstream's work."""
    async with between([WAIT]) as (client, server):
        task = asyncio.ensure_future(client.send(server.url, (), b"{}"))
        await server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.left.wait()


@pytest.mark.parametrize("size", [2, 2 * PART_BYTES], ids=["small", "in-parts"])
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_a_kept_connection_that_was_closed(end, size):
    """If a kept connection ends before a byte of the response, the request is sent once more, on a new one."""
    body = bytes(size)
    async with between([OK], [end], [OK], [OK]) as (client, server):
        await asked(client, server)
        assert await asked(client, server, body=body, headers=HEADERS) == (200, b"ok")
        await asked(client, server)
    assert [seen.connection for seen in server.seen][:3] == [1, 1, 2]
    assert (server.seen[1].body, server.seen[2].body) == (body, body)
    again = [pair for pair in server.seen[2].headers if pair[0].lower() != b"connection"]
    assert again == server.seen[1].headers


async def test_a_kept_connection_that_the_upstream_has_closed_meanwhile():
    """A connection whose end has arrived is replaced."""
    async with between([OK, CLOSE], [OK, CLOSE], [OK]) as (client, server):
        for _ in range(3):
            server.left.clear()
            assert await asked(client, server) == (200, b"ok")
            if server.turns:
                await server.left.wait()
    assert [seen.connection for seen in server.seen] == [1, 2, 3]


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_a_new_connection_that_is_closed(end):
    """A new connection that is closed is not stale: the upstream has refused, and the request is not sent again."""
    async with between([end], [OK]) as (client, server):
        with pytest.raises(UnreachableError, match="the connection was closed before a response"):
            await asked(client, server)
    assert len(server.seen) == 1


@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["closed", "reset"])
async def test_a_request_is_sent_twice_at_most(end):
    """A request is sent at most twice."""
    async with between([OK], [end], [end], [OK]) as (client, server):
        await asked(client, server)
        with pytest.raises(UnreachableError):
            await asked(client, server)
    assert [seen.connection for seen in server.seen] == [1, 1, 2]


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_a_response_that_has_begun_is_not_asked_for_again(part):
    """After one byte of a response the request is not sent again, because the upstream has done its work."""
    async with between([OK], [part, CLOSE], [OK]) as (client, server):
        await asked(client, server)
        with pytest.raises(UnreachableError):
            await asked(client, server)
    assert len(server.seen) == 2


async def test_a_silent_kept_connection_is_not_asked_again():
    """A silent connection is not stale, so the request is not sent again."""
    async with between([OK], [WAIT], [OK]) as (client, server):
        await asked(client, server)
        with pytest.raises(TimedOutError):
            await asked(client, server, read_seconds=SHORTLY)
    assert len(server.seen) == 2


async def test_a_closed_client_begins_anew():
    """``close`` ends every connection; a later request opens a new one."""
    async with between([OK], [OK]) as (client, server):
        await asked(client, server)
        await client.close()
        await server.left.wait()
        assert await asked(client, server) == (200, b"ok")
    assert [seen.connection for seen in server.seen] == [1, 2]


async def test_ip_version_6():
    """An IPv6 address is reached and named in the host header."""
    try:
        async with between([OK], host="::1") as (client, server):
            assert await asked(client, server) == (200, b"ok")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert (b"Host", f"[::1]:{server.port}".encode()) in server.seen[0].headers


# The environment


async def via(server, url, monkeypatch, **variables):
    """Send a request to a URL with proxies in the environment; return the response's body."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(server.port))
    client = UpstreamClient(ANY_CERTIFICATES)
    try:
        response = await client.send(url, [("x-api-key", "made-up")], b"{}", read_seconds=5.0)
        try:
            return await response.read()
        finally:
            response.close()
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("variables", "auth"),
    [
        ({"http_proxy": "http://127.0.0.1:{}"}, []),
        ({"http_proxy": "127.0.0.1:{}"}, []),
        ({"all_proxy": "http://127.0.0.1:{}"}, []),
        ({"HTTP_PROXY": "http://127.0.0.1:{}", "no_proxy": "other.invalid"}, []),
        ({"http_proxy": "http://anna:made-up@127.0.0.1:{}"}, [(b"Proxy-Authorization", b"Basic YW5uYTptYWRlLXVw")]),
        ({"http_proxy": "http://anna:made%40up@127.0.0.1:{}"}, [(b"Proxy-Authorization", b"Basic YW5uYTptYWRlQHVw")]),
    ],
    ids=["http", "no-scheme", "all", "upper-case", "password", "encoded-password"],
)
async def test_a_proxy_of_the_environment(monkeypatch, variables, auth):
    """A request for an address without an exception is sent to the proxy, with the proxy's password if there is one."""
    async with Server([OK]).listening() as server:
        assert await via(server, "http://claude.invalid/v1/messages?x=1", monkeypatch, **variables) == b"ok"
    (seen,) = server.seen
    assert seen.head.startswith(b"POST http://claude.invalid/v1/messages?x=1 HTTP/1.1\r\n")
    assert [pair for pair in seen.headers if pair[0].lower().startswith(b"proxy-")] == auth
    assert (b"Host", b"claude.invalid") in seen.headers


@pytest.mark.parametrize(
    "variables", [{"no_proxy": "127.0.0.1"}, {"https_proxy": "http://127.0.0.1:9"}], ids=["excepted", "other"]
)
async def test_an_address_without_a_proxy(monkeypatch, variables):
    """An excepted address, and a scheme without a proxy, is reached directly."""
    proxied = {"http_proxy": "http://127.0.0.1:9"} if "no_proxy" in variables else {}
    async with Server([OK]).listening() as server:
        assert await via(server, server.url, monkeypatch, **proxied, **variables) == b"ok"
    assert server.seen[0].head.startswith(b"POST /v1/messages HTTP/1.1\r\n")


async def test_a_tunnel_of_the_environment(monkeypatch):
    """A TLS request opens a tunnel with the proxy's password; the proxy sees nothing else of it."""
    refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
    async with Server([refused]).listening() as server:
        with pytest.raises(UnreachableError, match="the HTTP proxy of the environment failed"):
            await via(server, "https://claude.invalid/v1/messages", monkeypatch, https_proxy="http://anna:word@127.0.0.1:{}")
    (seen,) = server.seen
    assert seen.head.startswith(b"CONNECT claude.invalid:443 HTTP/1.1\r\n")
    assert (b"Proxy-Authorization", b"Basic YW5uYTp3b3Jk") in seen.headers
    assert b"made-up" not in seen.head + seen.body


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a certificate for this machine, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "made up")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *form))
    return path


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_of_the_environment(monkeypatch, certificate, trusted):
    """Certificates are checked against ``SSL_CERT_FILE``, like in httpx."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with between([OK], certificates=None, ssl=context) as (client, server):
        server.url = server.url.replace("http:", "https:")
        if trusted:
            assert await asked(client, server) == (200, b"ok")
        else:
            with pytest.raises(UnreachableError, match="its certificate is not trusted"):
                await asked(client, server)
    assert len(server.seen) == trusted


async def test_the_user_of_a_url_replaces_no_credential():
    """A URL with a user in it sends that user, and is refused where a header has a credential already."""
    async with between([OK]) as (client, server):
        url = server.url.replace("http://", "http://anna:made-up@")
        with pytest.raises(UnreachableError, match="the URL is not valid"):
            await client.send(url, [("authorization", "Bearer made-up")], b"{}")
        (await client.send(url, [], b"{}")).close()
    assert [b"Authorization: Basic " in seen.head for seen in server.seen] == [True]
