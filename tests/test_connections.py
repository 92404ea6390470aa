"""upstream/connections.py: who meets which connection, and when one is let go."""

import asyncio
import contextlib

import anyio
import httpx
import pytest

from claude_proxy.upstream.connections import IDLE_CONNECTIONS, IDLE_SECONDS, Connections

pytestmark = pytest.mark.anyio


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
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client is gone
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
