"""Pass a stream on: through the thinking filter, with a keep-alive in its silences, and closed when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from claude_proxy.stream import KEEPALIVE, ThinkingFilter

# While thinking is swallowed, something reaches the client this often, in seconds; Claude Code gives up after 300.
KEEPALIVE_SECONDS = 15.0


# Under these names LiteLLM's streams hold the one that they read from, at most so many inside each other.
_INNER_STREAMS = ("_source_iterator", "_anthropic_wrapper", "completion_stream", "_stream")
_DEEPEST_STREAM = 6


async def filtered(
    first: bytes, chunks: AsyncIterator[bytes], thinking: ThinkingFilter, keepalive: float
) -> AsyncGenerator[bytes, None]:
    """Yield a stream without its thinking, and a keep-alive whenever nothing was yielded for ``keepalive`` seconds."""
    loop = asyncio.get_running_loop()
    pending: asyncio.Future[bytes] | None = None
    last = loop.time()
    ready = thinking.feed(first)
    try:
        while True:
            if ready:
                yield ready
                last = loop.time()
            pending = pending or asyncio.ensure_future(anext(chunks))
            await asyncio.wait({pending}, timeout=max(0.0, last + keepalive - loop.time()))
            if pending.done():
                try:
                    ready = thinking.feed(pending.result())
                except StopAsyncIteration:
                    break
                finally:
                    pending = None
            else:
                ready = b""
            if not ready and loop.time() - last >= keepalive:
                ready = KEEPALIVE
        if rest := thinking.finish():
            yield rest
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await close_stream(chunks)


async def close_stream(stream: Any) -> None:
    """Close a stream and those inside it: LiteLLM 1.106.2 leaves the upstream of a translated one running without a client."""
    for _ in range(_DEEPEST_STREAM):
        if stream is None:
            return
        inner = next((found for name in _INNER_STREAMS if (found := getattr(stream, name, None)) is not None), None)
        if hasattr(stream, "aclose"):
            await stream.aclose()
        stream = inner
