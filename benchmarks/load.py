"""Clients that send requests in a loop, and their times in seconds, from the start of each request."""

import asyncio
import itertools
import json
import random
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from benchmarks.servers import Server
from benchmarks.upstream import PIECES, STAMP

# The time between two pieces of a paced stream, in seconds.
PACE = 0.02
# Body sizes, and the number of tool calls in each history: the largest has about 100,000 tokens.
SMALL, MIDDLE, LARGE = "2 kB", "100 kB", "440 kB"
CALLS: Mapping[str, int] = {SMALL: 0, MIDDLE: 14, LARGE: 60}
# A stamp may be split between two chunks: keep so many bytes.
LONGEST_STAMP = 60
_STAMP = re.compile(STAMP.encode() + rb"([\d.]+) ")
_numbers = itertools.count()
# The session that every request names, as Claude Code's do.
SESSION = "5e551011-0000-4000-8000-000000000000"


@dataclass
class Seen:
    """The results of one run. ``lags`` are the times of single events from the upstream to a client."""

    first: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0

    @property
    def requests_per_second(self) -> float:
        """The rate of all clients together."""
        return len(self.end) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """The server's processor time per request, in milliseconds."""
        return self.cpu / len(self.end) * 1000


def body(model: str, size: str, *, stream: bool, order: str = "") -> bytes:
    """Return a request like Claude Code's, with a size from ``CALLS``; ``order`` contains commands for the upstream."""
    source = random.Random(1)  # noqa: S311 - words, not secrets
    turns = [{"role": "user", "content": [{"type": "text", "text": "Look at the files of this project."}]}]
    for number in range(CALLS[size]):
        call = f"toolu_made_up_{number:04}"
        words = " ".join(source.choice(("def", "return", "value", "self", "list", "(x)", "=", "#")) for _ in range(1600))
        turns += [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": call, "name": "Read", "input": {"file": f"{number}.py"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": words}]},
        ]
    turns.append({"role": "user", "content": [{"type": "text", "text": f"What is next? {order}"}]})
    schema = {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}
    return json.dumps(
        {
            "model": model,
            "max_tokens": 32000,
            "stream": stream,
            "system": [{"type": "text", "text": "You are a helpful assistant. " * 45, "cache_control": {"type": "ephemeral"}}],
            "messages": turns,
            "tools": [{"name": "Read", "description": "Read a file. " * 10, "input_schema": schema}],
            "metadata": {"user_id": json.dumps({"account_uuid": "", "session_id": SESSION})},
        }
    ).encode()


def repeated(content: bytes, least: int, seconds: float) -> Iterator[bytes]:
    """Yield ``content`` for ``seconds`` from the first one, and at least ``least`` times."""
    until = time.monotonic() + seconds
    for number in itertools.count():
        if number >= least and time.monotonic() >= until:
            return
        yield content


async def ask(http: aiohttp.ClientSession, server: Server, content: bytes, seen: Seen, *, stream: bool) -> None:
    """Send one request and read its response; an incomplete response ends the benchmark."""
    began = time.monotonic()
    headers = {
        "content-type": "application/json", "anthropic-version": "2023-06-01", "x-made-up-request": str(next(_numbers)),
        **server.headers,
    }  # fmt: skip
    async with http.post(f"{server.url}/v1/messages", data=content, headers=headers) as response:
        first, tail, unread = 0.0, b"", b""
        async for data in response.content.iter_any():
            now = time.monotonic()
            first = first or now
            unread += data
            seen.lags += [now - float(stamp) for stamp in _STAMP.findall(unread)]
            unread = _STAMP.split(unread)[-1][-LONGEST_STAMP:]
            tail = (tail + data)[-600:]
        if response.status != 200 or (b"message_stop" if stream else b'"end_turn"') not in tail:
            raise RuntimeError(f"{server.name} responded with {response.status}: {tail.decode(errors='replace')}")
    seen.first.append(first - began)
    seen.end.append(time.monotonic() - began)


async def run(server: Server, contents: Iterable[bytes], concurrency: int, *, stream: bool, pieces: int = PIECES) -> Seen:
    """Send all requests, ``concurrency`` at a time; ``pieces`` is the number of pieces of a paced stream."""
    seen, pending = Seen(), iter(contents)
    trusted = ssl.create_default_context(cafile=server.trusted) if server.trusted else True
    connector = aiohttp.TCPConnector(limit=0, ssl=trusted)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as http:

        async def client() -> None:
            for content in pending:
                await ask(http, server, content, seen, stream=stream)

        cpu, began = server.cpu_seconds(), time.monotonic()
        await asyncio.gather(*(client() for _ in range(concurrency)))
        seen.seconds, seen.cpu = time.monotonic() - began, server.cpu_seconds() - cpu
    if stream and seen.lags:
        assert len(seen.lags) == len(seen.end) * pieces, "pieces of a stream are missing"  # noqa: S101
    return seen
