"""Work on large bodies off the event loop, so that other requests are served meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

# What is smaller takes less than 50 ms, and a thread would cost more than it saves.
LARGE = 1024 * 1024
# Threads share the interpreter's lock with the event loop: more of them would leave it a smaller part.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="large-body")

P = ParamSpec("P")
T = TypeVar("T")


async def offloaded(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a function of plain values returns; for a body of ``LARGE`` bytes and more it runs in a thread."""
    if size < LARGE:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *args, **kwargs))
