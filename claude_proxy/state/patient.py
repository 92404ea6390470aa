"""A store whose calls have a time limit, for requests that wait for them."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store, StoreUnavailable

Result = TypeVar("Result")

# In seconds: a slow disk may take a moment, and a client waits for the response.
PATIENCE_SECONDS = 3.0


class PatientStore:
    """Passes each call on, and raises ``StoreUnavailable`` if it takes longer than ``seconds``."""

    def __init__(self, store: Store, seconds: float = PATIENCE_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self.kind = store.kind

    async def push(self, rows: Sequence[Row]) -> None:
        await self._within(self._store.push(rows))

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        return await self._within(self._store.pull(cursor))

    async def read(self, keys: Sequence[str]) -> list[Row]:
        return await self._within(self._store.read(keys))

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        await self._within(self._store.prune(prefix, older_than, keep))

    async def close(self) -> None:
        await self._within(self._store.close())

    async def _within(self, call: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise StoreUnavailable(self.kind, f"no response within {self._seconds:g} s") from None
