"""The money that requests cost, by scope and day. Plain and synchronous; amounts are micro-USD.

Five rules:
  1. A row belongs to one day and one process, which alone writes it, and its stamps only grow. Sums are made of all rows, so a
     row that arrives twice, late or out of order changes nothing.
  2. A request counts on the day of its arrival, with the amount that is known so far. A later amount replaces it.
  3. A row includes the requests in progress. If its process dies, the amounts that they had reached stay counted.
  4. A day is a date in the configured time zone; weeks and months are sums of days.
  5. Nothing is forgotten because of the clock, which may be wrong: the oldest days go when there are ``MAX_ROWS`` rows.

All calls come from one event loop. The book is shared like the pool's state (``state/replication.py``).
"""

import json
import math
import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import date

from claude_proxy.config.budgets import Period
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.usage.periods import days_of

PREFIX = "spend"
# The maximum number of rows, which the store keeps, too. A process writes one each day.
MAX_ROWS = 20_000
MAX_WRITER = 64
# The maximum length of a scope, and the largest amount: 9 billion USD.
MAX_SCOPE = 300
MAX_AMOUNT = 2**53
ALL = "all"


def scopes_of(user: str, groups: Collection[str]) -> tuple[str, ...]:
    """Return the scopes in which a user's requests count; both arguments are case-folded."""
    return (f"user:{user}", *(f"group:{group}" for group in groups), ALL)


@dataclass(slots=True)
class _Page:
    """The amounts of one day and process, by scope."""

    stamp: float = -math.inf
    amounts: dict[str, int] = field(default_factory=dict)


class Tab:
    """The amount of one request, which may change until its end."""

    def __init__(self, book: "SpendBook", day: str, scopes: tuple[str, ...]) -> None:
        self._book = book
        self._day = day
        self._scopes = scopes
        self.amount = 0

    def set(self, amount: int) -> None:
        """Replace the amount."""
        if amount != self.amount:
            self._book.add(self._scopes, amount - self.amount, day=self._day)
            self.amount = amount


class SpendBook:
    """``clock`` returns Unix seconds; ``writer`` names this process. Days are dates in the configured time zone."""

    def __init__(self, *, clock: Callable[[], float], writer: str | None = None) -> None:
        self._clock = clock
        self._writer = writer or secrets.token_hex(8)
        self._pages: dict[tuple[str, str], _Page] = {}
        # The sums of all processes, by day and scope.
        self._sums: dict[str, dict[str, int]] = {}
        self._changed: set[str] = set()

    def open(self, scopes: tuple[str, ...], today: date) -> Tab:
        """Return the tab of a request that arrives today."""
        return Tab(self, today.isoformat(), scopes)

    def add(self, scopes: Iterable[str], amount: int, *, day: str) -> None:
        """Add an amount to a day; a negative one corrects an earlier one."""
        page = self._pages.setdefault((day, self._writer), _Page())
        sums = self._sums.setdefault(day, {})
        for scope in scopes:
            page.amounts[scope] = page.amounts.get(scope, 0) + amount
            sums[scope] = sums.get(scope, 0) + amount
        page.stamp = max(self._clock(), math.nextafter(page.stamp, math.inf))
        self._changed.add(day)

    def spent(self, scope: str, period: Period, today: date) -> int:
        """Return the amount of a scope in the period that contains today."""
        none: dict[str, int] = {}
        return sum(self._sums.get(day, none).get(scope, 0) for day in days_of(period, today))

    def scopes(self, period: Period, today: date) -> set[str]:
        """Return the scopes with an amount in the period that contains today."""
        return {scope for day in days_of(period, today) for scope in self._sums.get(day, ())}

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return the rows that have changed here since the last call."""
        days, self._changed = self._changed, set()
        return [self._row(day, self._writer) for day in days]

    def everything(self) -> list[Row]:
        """Return all rows, including those of other processes: the store may have lost them."""
        return [self._row(*place) for place in self._pages]

    def _row(self, day: str, writer: str) -> Row:
        page = self._pages[day, writer]
        return Row(f"{PREFIX}:{day}:{writer}", page.stamp, json.dumps(page.amounts, separators=(",", ":")))

    def merge(self, rows: Iterable[Row]) -> None:
        """Apply rows of other processes. Rows that do not belong to the book are skipped."""
        for row in rows:
            if row.key.startswith(f"{PREFIX}:"):
                with skipping_unreadable(row):
                    self._merge_row(row)

    def _merge_row(self, row: Row) -> None:
        _, day, writer = row.key.split(":")
        if date.fromisoformat(day).isoformat() != day or len(writer) > MAX_WRITER or not math.isfinite(row.stamp):
            raise ValueError("not a row of the book")
        page = self._pages.get((day, writer), _Page())
        if writer == self._writer or row.stamp <= page.stamp:
            return
        amounts = _read_amounts(json.loads(row.value))
        sums = self._sums.setdefault(day, {})
        for scope, amount in page.amounts.items():
            sums[scope] -= amount
        for scope, amount in amounts.items():
            sums[scope] = sums.get(scope, 0) + amount
        self._pages[day, writer] = _Page(row.stamp, amounts)
        if len(self._pages) > MAX_ROWS:
            self._forget_oldest_day()

    def _forget_oldest_day(self) -> None:
        oldest = min(self._sums)
        self._pages = {place: page for place, page in self._pages.items() if place[0] != oldest}
        self._changed.discard(oldest)
        del self._sums[oldest]


def _read_amounts(value: object) -> dict[str, int]:
    """Return the amounts of a row; raise ValueError or TypeError for an invalid one.

    An amount may be negative for a while, after a correction.
    """
    if not isinstance(value, dict):
        raise TypeError("not amounts")
    for scope, amount in value.items():
        if len(scope) > MAX_SCOPE or type(amount) is not int or abs(amount) > MAX_AMOUNT:
            raise ValueError("not an amount")
    return value
