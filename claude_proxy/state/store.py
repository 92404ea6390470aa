"""What a store is: rows under keys that outlive the process, in memory, in an SQLite file or in Redis.

Four rules, the same for all three, each with a test that runs against all three:
  1. of two rows with one key the one with the larger stamp wins; with equal stamps the one that is there stays, so
     pushing again is harmless, and the first writer of a row with stamp 0 wins for ever;
  2. a cursor stands for a moment in the life of one store: pulling with it gives what changed since, pulling with 0,
     or after the store has lost its rows, gives everything;
  3. a key or a value is any text, half a surrogate pair included: clients choose what a session is called;
  4. what goes wrong is a ``StoreUnavailable``, and its text holds no secret: the URL of a Redis may hold a password.
"""

import secrets
from collections.abc import Sequence
from typing import Protocol

from claude_proxy.state.rows import Row

# A cursor holds in its lower bits how many changes the store has seen, and above them the store's generation: a random
# number that is drawn anew when the store may have lost rows.
_SEQUENCE_BITS = 48


class StoreUnavailable(Exception):
    """The store cannot be used now. ``kind`` says which one it is; neither it nor the text holds a secret."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind} is not available: {reason}")
        self.kind = kind


class Store(Protocol):
    """Rows that outlive the process or are seen by several. Nothing is raised but ``StoreUnavailable``."""

    kind: str

    async def push(self, rows: Sequence[Row]) -> None:
        """Merge rows into the store by rule 1. When this fails, some of them may have been merged."""

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        """Return the rows that changed after the cursor, in that order, and the new cursor. Own rows come back too.

        Of what was pruned nothing is said. When the new cursor is of another ``generation``, rows may have been lost.
        """

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        """Drop the rows under a prefix of the key whose stamp is below ``older_than``, then the oldest beyond ``keep``."""

    async def close(self) -> None:
        """Let go of what is open. Closing again does nothing."""


def generation(cursor: int) -> int:
    """Return which life of the store a cursor belongs to; 0 for the cursor 0, which belongs to none."""
    return cursor >> _SEQUENCE_BITS


def new_generation() -> int:
    """Return a random number for a life of the store that begins now."""
    return 1 + secrets.randbelow(2**_SEQUENCE_BITS - 1)


def make_cursor(of: int, count: int) -> int:
    """Return the cursor for a moment in the life of a store: its generation, and how many changes it had seen by then."""
    return of << _SEQUENCE_BITS | count


def sequence(cursor: int) -> int:
    """Return how many changes the store had seen at a cursor."""
    return cursor & (1 << _SEQUENCE_BITS) - 1
