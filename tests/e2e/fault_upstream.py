"""A loopback upstream that breaks in every way a server can: raw sockets, so that nothing it says has to be HTTP.

It listens on two ports as ``upstream.py`` does: ``url`` stands for Anthropic, ``other_url`` for everybody else, in Anthropic's
format and in OpenAI's. What happens to a request is the script of its ``Case``, which a word in the request names.
"""

import asyncio
import contextlib
import functools
import itertools
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import upstream as up

WORDS = "an answer with an é in it"
ELSEWHERE = "/elsewhere"
_NAME = re.compile(rb"case-[0-9]+")
_SECONDS = 60.0


class Line:
    """One connection of the proxy's. ``serving`` is whether a request on it is not answered yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_claude: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.is_claude = is_claude
        self.serving = False
        self.keeps = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_slowly(self, data: bytes) -> None:
        """Send single bytes, each in a packet of its own."""
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(0)

    def end(self) -> None:
        """Send no more, and go on listening: a half-closed connection."""
        self.keeps = False
        self.writer.write_eof()

    def close(self) -> None:
        self.keeps = False
        self.writer.close()

    def reset(self) -> None:
        """End the connection without a farewell: the peer reads ECONNRESET, and loses what it has not read yet."""
        self.keeps = False
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the peer has closed the connection."""
        self.keeps = False
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass


@dataclass
class Turn:
    """One request in a script's hands: ``number`` counts the case's requests from 0."""

    line: Line
    seen: up.Seen
    number: int
    case: "Case"
    # What was said to the proxy: the status, and the answer's body before any coding.
    status: int = 0
    said: bytearray = field(default_factory=bytearray)

    @property
    def streams(self) -> bool:
        return bool(self.seen.json.get("stream"))

    @property
    def is_openai(self) -> bool:
        return self.seen.path.endswith("/chat/completions")

    @functools.cached_property
    def parts(self) -> list[bytes]:
        """A good answer in the format that was asked for, one part an event; a whole message is one part."""
        answer = up.openai_reply if self.is_openai else up.anthropic_reply
        reply = answer(self.seen, up.text(WORDS))
        return list(reply.chunks) if reply.chunks is not None else [reply.body]

    @property
    def elsewhere(self) -> str:
        """An address of another origin, to which nothing may come that this one was sent."""
        return self.case.urls[not self.line.is_claude] + ELSEWHERE

    @property
    def media_type(self) -> str:
        return "text/event-stream" if self.streams else "application/json"

    async def head(self, *headers: str, status: str = "200 OK", media_type: str | None = None) -> None:
        """Send status and headers; ``media_type`` is the answer's own when it is None, and left out when it is empty."""
        named = self.media_type if media_type is None else media_type
        self.status = int(status.split(maxsplit=1)[0])
        lines = [f"HTTP/1.1 {status}", *([f"content-type: {named}"] if named else []), "request-id: req_made_up", *headers]
        await self.line.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def chunked(self, *headers: str, status: str = "200 OK", media_type: str | None = None) -> None:
        await self.head("transfer-encoding: chunked", *headers, status=status, media_type=media_type)

    async def chunk(self, data: bytes, said: bytes | None = None) -> None:
        """Send a chunk; ``said`` is what it means where that is something else."""
        self.said += data if said is None else said
        await self.line.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def last(self) -> None:
        await self.line.send(b"0\r\n\r\n")

    async def whole(
        self,
        body: bytes,
        *headers: str,
        status: str = "200 OK",
        media_type: str | None = None,
        said: bytes | None = None,
    ) -> None:
        """Send an answer whose length is told; ``said`` is what its body means where that is something else."""
        self.said += body if said is None else said
        await self.head(f"content-length: {len(body)}", *headers, status=status, media_type=media_type)
        await self.line.send(body)

    async def answer(self, *parts: bytes) -> None:
        """Send a good answer, or these parts in its place, as a server does: events in chunks, a message with its length."""
        parts = parts or tuple(self.parts)
        if not self.streams:
            await self.whole(b"".join(parts))
            return
        await self.chunked()
        for part in parts:
            await self.chunk(part)
        await self.last()


Script = Callable[[Turn], Awaitable[None]]


@dataclass
class Case:
    """What happens to the requests that carry its words, and what was seen of them."""

    name: str
    script: Script
    # The two origins, by whether they are Claude's.
    urls: dict[bool, str]
    turns: list[Turn] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    # Whether the peer has closed the connection of a request that was not answered.
    left: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def words(self) -> str:
        return f"hello {self.name}"

    @property
    def seen(self) -> list[up.Seen]:
        return [turn.seen for turn in self.turns]

    async def abandoned(self, turn: Turn) -> None:
        """Say that the request has arrived, and wait until the proxy gives it up."""
        self.arrived.set()
        await turn.line.gone()
        self.left.set()


class FaultUpstream:
    """Runs in a thread of its own until ``close``."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.lines: set[Line] = set()
        self.unknown: list[up.Seen] = []
        self.failures: list[BaseException] = []
        self.slams = False
        self._names = itertools.count()
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = [self._run(self._listen(0, is_claude=is_claude)) for is_claude in (True, False)]
        self.ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        self.url, self.other_url = (f"http://127.0.0.1:{port}" for port in self.ports)

    def case(self, script: Script) -> Case:
        case = Case(f"case-{next(self._names)}", script, {True: self.url, False: self.other_url})
        self.cases[case.name] = case
        return case

    @property
    def serving(self) -> list[Line]:
        """The connections with a request that is not answered yet."""
        return [line for line in self.lines if line.serving]

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections, and drop those that there are."""
        self._run(self._stop())
        try:
            yield
        finally:
            self._servers = [self._run(self._listen(port, is_claude=port == self.ports[0])) for port in self.ports]

    @contextlib.contextmanager
    def slamming(self) -> Iterator[None]:
        """Accept connections and reset them before anything is read."""
        self._run(self._drop())
        self.slams = True
        try:
            yield
        finally:
            self.slams = False

    def close(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(_SECONDS)

    async def _listen(self, port: int, *, is_claude: bool) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = Line(reader, writer, is_claude=is_claude)
            task = asyncio.current_task()
            assert task is not None
            self._serving.add(task)
            self.lines.add(line)
            try:
                await self._serve(line)
            except (OSError, asyncio.IncompleteReadError):
                pass  # the proxy is gone
            except asyncio.CancelledError:
                line.reset()
            finally:
                self.lines.discard(line)
                self._serving.discard(task)
                writer.close()

        return await asyncio.start_server(connected, "127.0.0.1", port, limit=64 * 1024 * 1024)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        await self._drop()

    async def _drop(self) -> None:
        tasks = [*self._serving]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, line: Line) -> None:
        while line.keeps and not self.slams:
            head = await line.reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")[:-2]
            headers = tuple((name, value.strip()) for name, _, value in (header.partition(":") for header in rest))
            method, target, _ = first.split(" ")
            parts = urlsplit(target)
            seen = up.Seen(method, parts.path, parts.query, headers, b"", line.is_claude)
            body = await line.reader.readexactly(int(seen.header("content-length") or 0))
            seen = up.Seen(method, parts.path, parts.query, headers, body, line.is_claude)
            await self._answer(line, seen)
        if self.slams:
            line.reset()

    async def _answer(self, line: Line, seen: up.Seen) -> None:
        found = _NAME.search(seen.body)
        case = self.cases.get(found[0].decode()) if found else None
        if case is None:  # LiteLLM looks for model lists of its own accord
            self.unknown.append(seen)
            await line.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        turn = Turn(line, seen, len(case.turns), case)
        case.turns.append(turn)
        line.serving = True
        try:
            await case.script(turn)
        except OSError:
            case.left.set()  # the proxy left while it was spoken to
            raise
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            line.serving = False
