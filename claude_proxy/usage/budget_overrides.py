"""Budgets that were changed while the proxy runs, by scope. They apply on top of config.yaml, in every process of the store."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from claude_proxy.config.budgets import Period
from claude_proxy.state.rows import Row, skipping_unreadable
from claude_proxy.usage.spend import MAX_AMOUNT, MAX_SCOPE

PREFIX = "budget"
# The maximum number of scopes with an override.
MAX_OVERRIDES = 10_000
# The amount of a period, or None for no limit.
Limits = Mapping[Period, int | None]
NONE: Limits = MappingProxyType({})


class _Entry(NamedTuple):
    stamp: float
    limits: Limits


class BudgetOverrides:
    """The latest change of a scope applies. An override without a period is one that was removed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._changed: set[str] = set()

    def __bool__(self) -> bool:
        return any(entry.limits for entry in self._entries.values())

    def of(self, scope: str) -> Limits:
        """Return the amounts that override those of config.yaml."""
        entry = self._entries.get(scope)
        return entry.limits if entry else NONE

    def scopes(self) -> list[str]:
        """Return the scopes that have an override."""
        return [scope for scope, entry in self._entries.items() if entry.limits]

    def change(self, scope: str, limits: Limits) -> None:
        """Add periods to a scope's override, or replace them; without any, remove the override."""
        before = self._entries.get(scope, _Entry(-math.inf, NONE))
        stamp = max(self._clock(), math.nextafter(before.stamp, math.inf))
        self._entries[scope] = _Entry(stamp, {**before.limits, **limits} if limits else NONE)
        self._changed.add(scope)

    def changed(self) -> list[Row]:
        """Return the overrides that have changed here since the last call."""
        scopes, self._changed = self._changed, set()
        return [self._row(scope) for scope in scopes]

    def everything(self) -> list[Row]:
        """Return all overrides."""
        return [self._row(scope) for scope in self._entries]

    def _row(self, scope: str) -> Row:
        entry = self._entries[scope]
        amounts = {period.value: limit for period, limit in entry.limits.items()}
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
                self._entries[scope] = _Entry(row.stamp, _read_limits(json.loads(row.value)))


def _read_limits(value: object) -> Limits:
    """Return the amounts of a row; raise ValueError or TypeError for invalid ones."""
    if not isinstance(value, dict):
        raise TypeError("not amounts")
    for limit in value.values():
        if limit is not None and (type(limit) is not int or not 0 < limit <= MAX_AMOUNT):
            raise ValueError("not an amount")
    return {Period(name): limit for name, limit in value.items()}
