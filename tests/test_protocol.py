"""protocol.py: how much of a request's head the server takes."""

import asyncio

import pytest

pytest.importorskip("httptools")

import uvicorn

from claude_proxy.protocol import MAX_HEAD_BYTES, BoundedProtocol

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


def statuses(*pieces, app=None):
    """Send pieces over one connection and return the statuses that come back."""

    async def run():
        config = uvicorn.Config(app or App(), http=BoundedProtocol, lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        protocol = lambda: BoundedProtocol(config=config, server_state=server.server_state, app_state={})  # noqa: E731
        listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
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
