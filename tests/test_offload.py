"""proxy/offload.py: work on large bodies runs beside the event loop."""

import asyncio
import threading

import pytest

from claude_proxy.proxy.offload import LARGE, offloaded


def test_a_large_body_does_not_hold_the_loop_up():
    """While a function works on a large body, the loop goes on: here with what the function waits for."""

    async def run():
        go = threading.Event()
        work = asyncio.ensure_future(offloaded(LARGE, go.wait, 60))
        await asyncio.sleep(0)
        go.set()
        return await work

    assert asyncio.run(run())


def test_a_small_body_stays_in_the_loops_thread():
    """A function that works on a small body is called at once, with its arguments, and its error is raised."""
    assert asyncio.run(offloaded(LARGE - 1, threading.get_ident)) == threading.get_ident()
    assert asyncio.run(offloaded(LARGE, int, "11", base=2)) == 3
    for size in (0, LARGE):
        with pytest.raises(ValueError, match="x"):
            asyncio.run(offloaded(size, int, "x"))
