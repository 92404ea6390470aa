"""Credentials of clouds: loaded and refreshed in a thread, once for all requests that wait for one."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

# The longest wait for a credential, in seconds: a refresh is one request, or a few.
SECONDS = 60.0
# The limit for kept sources: config.yaml names them, and may change.
MAX_SOURCES = 200

T = TypeVar("T")
V = TypeVar("V")


class CloudCredentialError(Exception):
    """There is no usable credential. The text is for the operator's log and contains no secret."""


class CredentialCache(Generic[T, V]):
    """Sources of credentials by key. ``T`` is a source, ``V`` what is used of it. Used from one event loop.

    ``fresh`` returns what is used of a source without waiting; None if it must be refreshed. ``refreshed`` may wait for a
    network, and so may loading a source. All three raise ``CloudCredentialError``.
    """

    def __init__(self, fresh: Callable[[T], V | None], refreshed: Callable[[T], V]) -> None:
        self._fresh = fresh
        self._refreshed = refreshed
        self._sources: dict[Hashable, T] = {}
        self._locks: dict[Hashable, asyncio.Lock] = {}

    async def get(self, key: Hashable, load: Callable[[], T]) -> V:
        """Return what is used of the source with this key; ``load`` returns a source that is not known yet."""
        if (found := self._ready(key)) is not None:
            return found
        async with self._locks.setdefault(key, asyncio.Lock()):
            if (found := self._ready(key)) is not None:
                return found
            try:
                async with asyncio.timeout(SECONDS):
                    return await self._renewed(key, load)
            except TimeoutError:
                raise CloudCredentialError("no response in time while a credential was requested") from None

    def forget(self, key: Hashable) -> None:
        """Load the source again with the next request, because the cloud has rejected it."""
        self._sources.pop(key, None)

    def _ready(self, key: Hashable) -> V | None:
        source = self._sources.get(key)
        return None if source is None else self._fresh(source)

    async def _renewed(self, key: Hashable, load: Callable[[], T]) -> V:
        source = self._sources.get(key)
        if source is None:
            source = await asyncio.to_thread(load)
            if len(self._sources) >= MAX_SOURCES:
                self._sources.clear()
                self._locks = {name: lock for name, lock in self._locks.items() if lock.locked()}
            self._sources[key] = source
        return await asyncio.to_thread(self._refreshed, source)
