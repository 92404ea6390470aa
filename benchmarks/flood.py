"""Floods: what one proxy does with far more than is sensible. Each returns figures; what was lost stands in them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.crowd import Crowd
from benchmarks.measure import MEGABYTE
from benchmarks.stage import TOKEN, Stage
from claude_proxy.upstream.client import IDLE_SECONDS

HALF = b'POST /v1/messages HTTP/1.1\r\nhost: proxy\r\nx-litellm-api-key: %s\r\ncontent-length: 100000\r\n\r\n{"model": '
# Seconds between two looks, and how many looks there are: more than an idle connection is kept.
PAUSE = 0.5
SETTLE_TRIES = int(2 * IDLE_SECONDS / PAUSE) + 20
AT_ONCE = 40


@dataclass(frozen=True)
class Flood:
    """One flood: what was tried, how many of how many were lost, and what the proxy held before, during and after it."""

    name: str
    tried: int
    lost: int
    files: tuple[int, int, int]
    # Connections after it: with clients, with Claude, with the other providers, whose LiteLLM keeps for two minutes.
    held: tuple[int, int, int]
    rss: tuple[int, int, int]


async def connections(stage: Stage, crowd: Crowd, count: int) -> Flood:
    """Open so many connections, half of which say nothing and half of which half a request; all clients ask meanwhile."""
    before = stage.sample()
    async with _silent(stage, count) as opened:
        during = await _reached(stage, before.files + opened)
        asked = len(crowd.outcomes)
        await crowd.burst()
        answered = len(crowd.outcomes) - asked
    held = await settled(stage)
    return Flood(
        f"{count:,} connections that say nothing, or half a request",
        count,
        count - opened + crowd.clients - answered,
        (before.files, during, stage.sample().files),
        held,
        (before.rss, stage.sample().rss, stage.sample().rss),
    )


async def burst(stage: Stage, crowd: Crowd) -> Flood:
    """Let all clients of a crowd ask in the same moment. What was lost is the audit's to say."""
    before = stage.sample()
    work = asyncio.ensure_future(crowd.burst())
    most = before
    while not work.done():
        await asyncio.wait({work}, timeout=0.2)
        most = max(most, stage.sample(), key=lambda sample: sample.files)
    work.result()
    held = await settled(stage)
    return Flood(
        f"{crowd.clients:,} requests in one moment",
        crowd.clients,
        0,
        (before.files, most.files, stage.sample().files),
        held,
        (before.rss, most.rss, stage.sample().rss),
    )


async def sessions(stage: Stage, crowd: Crowd, count: int, name: str) -> Flood:
    """Ask once in each of so many sessions that nobody has seen before, for a count of tokens, which is the cheapest."""
    before = stage.sample()
    body = json.dumps({"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hello"}]}).encode()
    numbers = iter(range(count))
    good = 0
    # While all credentials rest there is an estimate: that is how the proxy means it.
    async with crowd.connected() as http:

        async def one_after_another() -> None:
            nonlocal good
            for number in numbers:
                headers = {
                    "x-litellm-api-key": TOKEN,
                    "content-type": "application/json",
                    "x-claude-code-session-id": f"{name}-{number}",
                }
                async with http.post(f"{stage.proxy.url}/v1/messages/count_tokens", data=body, headers=headers) as response:
                    good += response.status == 200 and (await response.json())["input_tokens"] > 0

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(one_after_another())
        during = stage.sample()
    held = await settled(stage)
    return Flood(
        f"{count:,} new sessions ({name})",
        count,
        count - good,
        (before.files, during.files, stage.sample().files),
        held,
        (before.rss, during.rss, stage.sample().rss),
    )


async def settled(stage: Stage) -> tuple[int, int, int]:
    """Wait for a while until the proxy holds no connection with clients and with Claude; return what it holds, by peer.

    Idle connections to Claude are kept for ``IDLE_SECONDS``.
    """
    held = stage.connections()
    for _ in range(SETTLE_TRIES):
        if held[:2] == (0, 0):
            break
        await asyncio.sleep(PAUSE)
        held = stage.connections()
    return held


@contextlib.asynccontextmanager
async def _silent(stage: Stage, count: int) -> AsyncIterator[int]:
    """Hold so many connections open; give how many there are."""
    address = urlsplit(stage.proxy.url)
    writers: list[asyncio.StreamWriter] = []
    try:
        for number in range(count):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                writers.append(writer)
                if number % 2:
                    writer.write(HALF % TOKEN.encode())
        yield len(writers)
    finally:
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _reached(stage: Stage, files: int) -> int:
    """Wait until the proxy has accepted what was opened, for a while; return what it holds."""
    for _ in range(SETTLE_TRIES):
        if stage.sample().files >= files:
            break
        await asyncio.sleep(0.2)
    return stage.sample().files


def megabytes(flood: Flood) -> str:
    """Return the memory before, during and after a flood, in MB."""
    return " / ".join(f"{bytes_ / MEGABYTE:.0f}" for bytes_ in flood.rss)
