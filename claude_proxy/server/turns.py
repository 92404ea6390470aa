"""One after the other for each user, so that nobody takes the time of all others. Plain asyncio, no I/O."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooMany(Exception):
    """So many calls of one user wait already."""


class Turns:
    """Lets one call of each user run at a time; ``most`` others of the same user may wait for it, in order."""

    def __init__(self, most: int) -> None:
        self._most = most
        # The lock of each user with calls in progress, and their number.
        self._users: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[None]:
        """Wait for the user's turn; raise ``TooMany`` if too many wait."""
        lock, count = self._users.get(user, (asyncio.Lock(), 0))
        if count > self._most:
            raise TooMany
        self._users[user] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            lock, count = self._users.pop(user)
            if count > 1:
                self._users[user] = lock, count - 1
