"""What every process knows of the sign-ins of all processes, so that it needs no store to check an access token."""

import time
from collections.abc import Callable, Sequence

from claude_proxy.state.rows import Row

SIGN_INS, SIGN_OUTS, SUSPECTS, KEYS = "signin:", "signout:", "suspect:", "signing-keys"
# As in ``state/replication.py``; beyond it, the oldest are dropped here too.
MAX_ROWS = 20_000


class SharedSignIns:
    """A part of a process's state (``state/replication.py``): sign-ins, those that have ended, and the sealed keys.

    The sign-ins are kept so that a store that has lost its rows gets them again, and nobody has to sign in once more.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sign_ins: dict[str, Row] = {}
        self._ended: dict[str, Row] = {}
        self._unpushed: list[Row] = []
        self.keys: Row | None = None
        self.loaded = False

    def changed(self) -> list[Row]:
        """Return what a request could not write to the store; else they write themselves."""
        unpushed, self._unpushed = self._unpushed, []
        return unpushed

    def push_later(self, row: Row) -> None:
        """Apply a row that the store did not take, and push it when the store is back."""
        self.merge([row])
        self._unpushed.append(row)

    def everything(self) -> list[Row]:
        """Return all rows, for a store that may have lost them."""
        return [*([self.keys] if self.keys else []), *self._ended.values(), *self._sign_ins.values()]

    def merge(self, rows: Sequence[Row], /) -> None:
        """Apply rows of the store."""
        for row in rows:
            if row.key.startswith(SIGN_OUTS):
                identifier = row.key.removeprefix(SIGN_OUTS)
                self._ended.setdefault(identifier, row)
                self._sign_ins.pop(identifier, None)
            elif row.key.startswith(SIGN_INS):
                self._add(row)
            # With equal stamps the row of the store stays, as there: else processes could have different keys.
            elif row.key == KEYS and (self.keys is None or row.stamp >= self.keys.stamp) and row != self.keys:
                self.keys = row
        for held in (self._ended, self._sign_ins):
            if len(held) > MAX_ROWS:
                for identifier in sorted(held, key=lambda one: held[one].stamp)[: len(held) - MAX_ROWS]:
                    del held[identifier]

    def _add(self, row: Row) -> None:
        identifier = row.key.removeprefix(SIGN_INS)
        there = self._sign_ins.get(identifier)
        if identifier not in self._ended and (there is None or row.stamp > there.stamp):
            self._sign_ins[identifier] = row

    def known(self, identifier: str) -> Row | None:
        """Return the row of a sign-in that has not ended, as far as this process knows."""
        return self._sign_ins.get(identifier)

    def has_ended(self, identifier: str) -> bool:
        """Whether a sign-in has ended."""
        return identifier in self._ended
