"""Ends the rests of one credential in every process: a row in the store that they share says that it was lifted, and when."""

import asyncio
import time
from collections.abc import Sequence

from claude_proxy.credentials import pool_rows
from claude_proxy.credentials.credential import Credential
from claude_proxy.state.replication import SALT
from claude_proxy.state.rows import Row, read_salt
from claude_proxy.state.store import Store, StoreUnavailable

# How long the store may take, in seconds.
PATIENCE_SECONDS = 10.0


class Lifts:
    """What a process has lifted itself, on its way into the store."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Let the other processes know of this one at the next exchange."""
        self._rows.append(row)

    def changed(self) -> list[Row]:
        """Return what is new since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def everything(self) -> list[Row]:
        """Return nothing: what was lifted is over."""
        return []

    def merge(self, rows: Sequence[Row], /) -> None:
        """Learn nothing: the pool does."""


async def lift(store: Store, credential: Credential, now: float | None = None) -> bool:
    """Let every process that shares the store forget the credential's rests of until now.

    Returns False for a store that no proxy has used: there is nothing to lift. Raises ``StoreUnavailable``.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            rows, _ = await store.pull(0)
            salts = [row for row in rows if row.key == SALT]
            if not salts:
                return False
            await store.push([lifted_row(pool_rows.key_of(credential, read_salt(salts[0])), now or time.time())])
    except TimeoutError:
        raise StoreUnavailable(store.kind, f"no answer within {PATIENCE_SECONDS:g} s") from None
    except ValueError:
        raise StoreUnavailable(store.kind, "its salt cannot be read") from None
    return True


def lifted_row(key: str, now: float) -> Row:
    """Return the row that lifts the rests of the credential with this key; its stamp is the time of that."""
    return Row(f"lifted:{key}", now, "null")
