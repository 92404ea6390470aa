"""The driver of a filtered stream."""

import asyncio
from types import SimpleNamespace

import pytest

from claude_proxy.relay import close_stream, filtered
from claude_proxy.stream import KEEPALIVE, ThinkingFilter

THOUGHT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_silence_is_broken_while_thinking_is_swallowed():
    """While nothing goes out, silent upstream or swallowed thinking, a keep-alive does; then the stream goes on."""

    async def run():
        go_on = asyncio.Event()

        async def upstream():
            yield THOUGHT
            await go_on.wait()
            yield STOP

        stream = upstream()
        seen = []
        async for ready in filtered(await anext(stream), stream, ThinkingFilter(), keepalive=0.0):
            seen.append(ready)
            if len(seen) == 3:
                go_on.set()
        return seen

    seen = asyncio.run(run())
    assert seen[:3] == [KEEPALIVE] * 3
    assert [ready for ready in seen if ready != KEEPALIVE] == [STOP]


def test_a_lively_stream_gets_no_keepalive():
    """What the upstream sends in time passes alone."""

    async def run():
        async def upstream():
            yield STOP
            yield STOP

        stream = upstream()
        return [ready async for ready in filtered(await anext(stream), stream, ThinkingFilter(), keepalive=60.0)]

    assert asyncio.run(run()) == [STOP, STOP]


@pytest.mark.parametrize("leaves_after", [1, 2])
def test_a_filtered_stream_closes_its_upstream(leaves_after):
    """When the client leaves, in whatever moment, the upstream's generator is closed."""
    closed = []

    async def run():
        async def upstream():
            try:
                while True:
                    yield STOP
            finally:
                closed.append(True)

        stream = upstream()
        driver = filtered(await anext(stream), stream, ThinkingFilter(), keepalive=60.0)
        for _ in range(leaves_after):
            await anext(driver)
        await driver.aclose()

    asyncio.run(run())
    assert closed == [True]


def test_streams_inside_streams_are_closed():
    """Each of LiteLLM's wrapped streams is closed, down to the one that holds the connection."""
    closed = []

    def stream(name, **inner):
        async def aclose():
            closed.append(name)

        return SimpleNamespace(aclose=aclose, **inner)

    asyncio.run(close_stream(stream("outer", _source_iterator=SimpleNamespace(completion_stream=stream("inner")))))
    assert closed == ["outer", "inner"]
