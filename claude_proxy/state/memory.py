"""A store in the memory of one process."""

from collections.abc import Sequence
from itertools import takewhile

from claude_proxy.state.rows import Row, to_bytes
from claude_proxy.state.store import generation, make_cursor, new_generation, sequence


class MemoryStore:
    """Rows in this process, for several pools in one event loop."""

    kind = "memory"

    def __init__(self) -> None:
        self._generation = new_generation()
        self._sequence = 0
        # In the order of their changes: a changed row moves to the end.
        self._rows: dict[str, tuple[int, Row]] = {}

    async def push(self, rows: Sequence[Row]) -> None:
        for row in rows:
            there = self._rows.get(row.key)
            if there is None or row.stamp > there[1].stamp:
                self._sequence += 1
                self._rows.pop(row.key, None)
                self._rows[row.key] = self._sequence, row

    async def pull(self, cursor: int) -> tuple[list[Row], int]:
        since = sequence(cursor) if generation(cursor) == self._generation else 0
        newest_first = takewhile(lambda entry: entry[0] > since, reversed(self._rows.values()))
        return [row for _, row in newest_first][::-1], make_cursor(self._generation, self._sequence)

    async def read(self, keys: Sequence[str]) -> list[Row]:
        return [self._rows[key][1] for key in keys if key in self._rows]

    async def prune(self, prefix: str, older_than: float, keep: int) -> None:
        found = sorted(
            (row for _, row in self._rows.values() if row.key.startswith(prefix)),
            key=lambda row: (row.stamp, to_bytes(row.key)),
        )
        surplus = len(found) - keep
        for place, row in enumerate(found):
            if row.stamp < older_than or place < surplus:
                del self._rows[row.key]

    async def close(self) -> None:
        """Do nothing: other pools may still use the store."""
