"""Runs work on large bodies in threads, so that the event loop stays responsive."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

# Smaller bodies take less than 50 ms; a thread would cost more than it saves.
LARGE = 1024 * 1024
# Threads share the interpreter's lock with the event loop, so more threads would slow it down.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="large-body")

P = ParamSpec("P")
T = TypeVar("T")


async def offloaded(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the function's result; for a body of ``LARGE`` bytes and more the function runs in a thread."""
    if size < LARGE:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *args, **kwargs))
