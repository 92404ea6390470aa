"""Budgets that were changed while the proxy runs, by scope. They apply on top of config.yaml, in every process of the store."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from claude_proxy.config.budgets import Period
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.usage.periods import MAX_MOMENT
from claude_proxy.usage.spend import MAX_AMOUNT, MAX_SCOPE

PREFIX = "budget"
# The maximum number of scopes with an override.
MAX_OVERRIDES = 10_000
# The amount of a period, or None for no limit.
Limits = Mapping[Period, int | None]
NONE: Limits = MappingProxyType({})
# The name of the temporary amounts in a row, beside the periods of the lasting ones.
TEMPORARY = "temporary"


class Temporary(NamedTuple):
    """An amount, None for no limit, and when it ends, in Unix seconds."""

    limit: int | None
    until: float


class _Entry(NamedTuple):
    stamp: float
    lasting: Limits = NONE
    temporary: Mapping[Period, Temporary] = MappingProxyType({})


class BudgetOverrides:
    """The latest change of a scope applies. An override without a period is one that was removed.

    A temporary amount ends by itself, in every process, by its clock. Then the lasting amount of its period applies again, or
    that of config.yaml.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._changed: set[str] = set()

    def __bool__(self) -> bool:
        return any(map(self.of, self._entries))

    def of(self, scope: str) -> Limits:
        """Return the amounts that override those of config.yaml now."""
        entry = self._entries.get(scope)
        if entry is None or not entry.temporary:
            return entry.lasting if entry else NONE
        return {**entry.lasting, **{period: one.limit for period, one in self._active(entry).items()}}

    def until(self, scope: str, period: Period) -> float | None:
        """Return when the override of a period ends by itself, in Unix seconds; None for one that lasts, and without one."""
        entry = self._entries.get(scope)
        found = self._active(entry).get(period) if entry else None
        return found.until if found else None

    def scopes(self) -> list[str]:
        """Return the scopes that have an override now."""
        return [scope for scope in self._entries if self.of(scope)]

    def change(self, scope: str, limits: Limits, until: float | None = None) -> None:
        """Add periods to a scope's override, or replace them; without any, remove the override.

        With ``until``, the amounts end at that moment. Without, they last, and a temporary amount of the same period ends.
        """
        before = self._entries.get(scope, _Entry(-math.inf))
        stamp = max(self._clock(), math.nextafter(before.stamp, math.inf))
        temporary = self._active(before)
        if not limits:
            self._entries[scope] = _Entry(stamp)
        elif until is not None:
            added = {period: Temporary(limit, until) for period, limit in limits.items()}
            self._entries[scope] = _Entry(stamp, before.lasting, {**temporary, **added})
        else:
            kept = {period: one for period, one in temporary.items() if period not in limits}
            self._entries[scope] = _Entry(stamp, {**before.lasting, **limits}, kept)
        self._changed.add(scope)

    def _active(self, entry: _Entry) -> dict[Period, Temporary]:
        """Return the temporary amounts of an entry that have not ended."""
        now = self._clock() if entry.temporary else 0.0
        return {period: one for period, one in entry.temporary.items() if one.until > now}

    def changed(self) -> list[Row]:
        """Return the overrides that have changed here since the last call."""
        scopes, self._changed = self._changed, set()
        return [self._row(scope) for scope in scopes]

    def everything(self) -> list[Row]:
        """Return all overrides."""
        return [self._row(scope) for scope in self._entries]

    def _row(self, scope: str) -> Row:
        entry = self._entries[scope]
        amounts: dict[str, object] = {period.value: limit for period, limit in entry.lasting.items()}
        if entry.temporary:
            amounts[TEMPORARY] = {period.value: [one.limit, one.until] for period, one in entry.temporary.items()}
        return Row(f"{PREFIX}:{scope}", entry.stamp, json.dumps(amounts))

    def merge(self, rows: Iterable[Row]) -> None:
        """Apply overrides of other processes; other rows are skipped."""
        for row in rows:
            prefix, _, scope = row.key.partition(":")
            known = self._entries.get(scope)
            if prefix != PREFIX or not math.isfinite(row.stamp) or (known is not None and row.stamp <= known.stamp):
                continue
            if len(scope) > MAX_SCOPE or (known is None and len(self._entries) >= MAX_OVERRIDES):
                continue
            with skipping_unreadable(row):
                self._entries[scope] = _read_entry(row.stamp, json.loads(row.value))


def _read_entry(stamp: float, value: object) -> _Entry:
    """Return the amounts of a row; raise ValueError or TypeError for invalid ones."""
    if not isinstance(value, dict):
        raise TypeError("not amounts")
    temporary = value.pop(TEMPORARY, {})
    lasting = {Period(name): _read_limit(limit) for name, limit in value.items()}
    return _Entry(stamp, lasting, {Period(name): _read_temporary(one) for name, one in dict(temporary).items()})


def _read_temporary(value: object) -> Temporary:
    if not isinstance(value, list):
        raise TypeError("not an amount with an end")
    limit, until = value
    if type(until) not in (int, float) or not 0 < until < MAX_MOMENT:
        raise ValueError("not a time")
    return Temporary(_read_limit(limit), until)


def _read_limit(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 < value <= MAX_AMOUNT:
        raise ValueError("not an amount")
    return value
