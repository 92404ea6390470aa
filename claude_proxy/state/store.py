"""The interface of a store: rows under keys that outlive the process, in memory, in an SQLite file or in Redis.

Four rules, tested for all three stores:
  1. Of two rows with one key, the one with the larger stamp wins; with equal stamps the existing one stays. So pushing again
     is harmless, and the first writer of a row with stamp 0 wins forever.
  2. A cursor is a point in the history of one store: pulling with it returns the changes since then. Pulling with 0, or after
     the store has lost its rows, returns everything.
  3. A key or a value is any text, including unpaired surrogates, because clients choose session names.
  4. Every error is a ``StoreUnavailable`` without a secret in its text; the URL of a Redis may contain a password.
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

from claude_proxy.state.rows import Row

# The lower bits of a cursor contain the number of changes, the upper bits the store's generation: a random number that changes
# when the store may have lost rows.
_SEQUENCE_BITS = 48


class StoreUnavailable(Exception):
    """The store cannot be used now. ``kind`` is the kind of store; neither it nor the text contains a secret."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind} is not available: {reason}")
        self.kind = kind


class Store(Protocol):
    """Rows that outlive the process or are shared by several. The only exception is ``StoreUnavailable``."""

    kind: str

    async def push(self, rows: Sequence[Row]) -> None:
        """Merge rows into the store by rule 1. If this fails, some of them may have been merged."""

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        """Return the rows that changed after the cursor, in that order, and the new cursor. Own rows are included.

        Pruned rows are not reported. If the ``generation`` of the new cursor differs, rows may have been lost.
        """

    async def read(self, keys: Sequence[str]) -> list[Row]:
        """Return the rows with these keys that exist, in the order of the keys: what every earlier ``push`` has left."""

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        """Remove the rows with a key prefix whose stamp is below ``older_than``, then the oldest ones beyond ``keep``."""

    async def close(self) -> None:
        """Close what is open. Closing again does nothing."""


def generation(cursor: int) -> int:
    """Return the generation of a store that a cursor belongs to; 0 for the cursor 0, which belongs to none."""
    return cursor >> _SEQUENCE_BITS


def new_generation() -> int:
    """Return a random number for a new generation of a store."""
    return 1 + secrets.randbelow(2**_SEQUENCE_BITS - 1)


def make_cursor(of: int, count: int) -> int:
    """Return the cursor for a generation and a number of changes."""
    return of << _SEQUENCE_BITS | count


def sequence(cursor: int) -> int:
    """Return the number of changes in a cursor."""
    return cursor & (1 << _SEQUENCE_BITS) - 1
