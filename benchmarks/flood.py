"""Floods: what one proxy does with an unreasonable load. Each function returns its figures, including what was lost."""

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
# Seconds between two checks, and the number of checks: longer than idle connections are kept.
PAUSE = 0.5
SETTLE_TRIES = int(2 * IDLE_SECONDS / PAUSE) + 20
AT_ONCE = 40
MOST_SHOWN = 5


@dataclass(frozen=True)
class Flood:
    """One flood: the number of attempts and losses, and what the proxy held before, during and after it."""

    name: str
    tried: int
    lost: int
    files: tuple[int, int, int]
    # Connections afterwards: with clients, with Claude, and with other providers (LiteLLM keeps those for two minutes).
    held: tuple[int, int, int]
    rss: tuple[int, int, int]
    # What some lost requests got instead, each different response once.
    instead: tuple[str, ...] = ()


async def connections(stage: Stage, crowd: Crowd, count: int) -> Flood:
    """Open connections, half of them silent and half with half a request; meanwhile all clients send a request."""
    before = stage.sample()
    async with _silent(stage, count) as opened:
        during = await _reached(stage, before.files + opened)
        asked = len(crowd.outcomes)
        await crowd.burst()
        answered = len(crowd.outcomes) - asked
    held = await settled(stage)
    return Flood(
        f"{count:,} connections without a request, or with half of one",
        count,
        count - opened + crowd.clients - answered,
        (before.files, during, stage.sample().files),
        held,
        (before.rss, stage.sample().rss, stage.sample().rss),
    )


async def burst(stage: Stage, crowd: Crowd) -> Flood:
    """Let all clients of a crowd send a request at the same moment. The audit finds what was lost."""
    before = stage.sample()
    work = asyncio.ensure_future(crowd.burst())
    most = before
    while not work.done():
        await asyncio.wait({work}, timeout=0.2)
        most = max(most, stage.sample(), key=lambda sample: sample.files)
    work.result()
    held = await settled(stage)
    return Flood(
        f"{crowd.clients:,} requests at one moment",
        crowd.clients,
        0,
        (before.files, most.files, stage.sample().files),
        held,
        (before.rss, most.rss, stage.sample().rss),
    )


async def sessions(stage: Stage, crowd: Crowd, count: int, name: str) -> Flood:
    """Send one token-count request, the cheapest kind, in each of so many new sessions."""
    before = stage.sample()
    body = json.dumps({"model": "claude-sonnet-5", "messages": [{"role": "user", "content": "hello"}]}).encode()
    numbers = iter(range(count))
    good, instead = 0, set[str]()
    # While all credentials are rate-limited, the proxy responds with an estimate, as intended.
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
                    text = await response.text()
                    if response.status == 200 and json.loads(text)["input_tokens"] > 0:
                        good += 1
                    elif len(instead) < MOST_SHOWN:
                        instead.add(f"HTTP {response.status} {text[:300]}")

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
        tuple(instead),
    )


async def settled(stage: Stage) -> tuple[int, int, int]:
    """Wait until the proxy holds no connection with clients and Claude, within a limit; return what it holds, by peer.

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
    """Hold so many connections open; yield how many were opened."""
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
    """Wait until the proxy has accepted the connections, within a limit; return its number of open files."""
    for _ in range(SETTLE_TRIES):
        if stage.sample().files >= files:
            break
        await asyncio.sleep(0.2)
    return stage.sample().files


def megabytes(flood: Flood) -> str:
    """Return the memory before, during and after a flood, in MB."""
    return " / ".join(f"{bytes_ / MEGABYTE:.0f}" for bytes_ in flood.rss)
