"""How much money may be spent: ``budget`` of users, groups and of all, under ``claude_proxy:`` in config.yaml.

Plain values, no I/O. Amounts are USD in config.yaml and whole micro-USD here.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from claude_proxy.config.money import amount, micro_usd
from claude_proxy.config.spelling import unknown
from claude_proxy.config.timezones import UTC, is_timezone, timezone
from claude_proxy.config.users import folded
from claude_proxy.providers.endpoints import BLOCK

USERS, GROUPS, BUDGET, DEFAULT = "users", "groups", "budget", "default_budget"
TIMEZONE, SOFT, WITHOUT_STORE, UNPRICED = "timezone", "soft", "budget_without_store", "unpriced_models"
REFUSE, ALLOW = "refuse", "allow"
# The scope of the budget of all users together.
ALL = "all"
# The holder of the master key has no budget of its own; the budget of all includes it.
UNLIMITED = "admin"
EXAMPLE = "{day: 10, week: 40, month: 120}"


class Period(Enum):
    """The time for which an amount applies. A week starts on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


PERIODS = tuple(period.value for period in Period)


@dataclass(frozen=True)
class Budget:
    """Amounts in micro-USD by period. ``scope`` names the counter: ``user:anna``, ``group:team-a`` or ``all``."""

    scope: str
    limits: Mapping[Period, int]
    # Whether an exceeded budget is only reported.
    soft: bool = False


@dataclass(frozen=True)
class Budgets:
    """All budgets of a configuration. Names of users and groups are case-folded."""

    users: Mapping[str, Budget]
    groups: Mapping[str, Budget]
    default: Budget | None = None
    everyone: Budget | None = None
    # The time zone in which days, weeks and months start.
    timezone: ZoneInfo = UTC
    # Whether requests are refused while the store with the sums of other processes is not available.
    refuses_without_store: bool = False
    # Whether models without a known price are refused to users with a budget that is not soft.
    refuses_unpriced: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Budgets":
        """Read a configuration in which ``mistakes`` found no error."""
        block = config.get(BLOCK) or {}
        everyone = block.get(BUDGET) or {}
        return cls(
            {folded(name): _budget(f"user:{folded(name)}", entry) for name, entry in _entries(block, USERS)},
            {folded(name): _budget(f"group:{folded(name)}", entry) for name, entry in _entries(block, GROUPS)},
            _budget("user:", block[DEFAULT]) if block.get(DEFAULT) else None,
            _budget(ALL, everyone) if any(period in everyone for period in PERIODS) else None,
            timezone(everyone.get(TIMEZONE)),
            block.get(WITHOUT_STORE) == REFUSE,
            block.get(UNPRICED) == REFUSE,
        )

    def __bool__(self) -> bool:
        return bool(self.users or self.groups or self.default or self.everyone)

    def of_user(self, user: str, groups: Collection[str]) -> tuple[Budget, ...]:
        """Return the budgets that a request counts towards: the user's own, those of the case-folded groups, that of all."""
        name = folded(user)
        own = self.users.get(name)
        if own is None and self.default is not None and name != UNLIMITED:
            own = Budget(f"user:{name}", self.default.limits, self.default.soft)
        found = (own, *(self.groups.get(group) for group in groups), self.everyone)
        return tuple(budget for budget in found if budget is not None)


def _entries(block: Mapping[str, Any], section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the names in a section that have a budget, and the budgets as written."""
    for name, entry in (block.get(section) or {}).items():
        if isinstance(entry, dict) and entry.get(BUDGET):
            yield name, entry[BUDGET]


def _budget(scope: str, entry: Mapping[str, Any]) -> Budget:
    amounts = {period: amount(entry[period.value]) for period in Period if period.value in entry}
    limits = {period: micro_usd(usd) for period, usd in amounts.items() if usd is not None}
    return Budget(scope, limits, entry.get(SOFT) is True)


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error about budgets; ``config`` is a mapping that is not validated yet."""
    for key in (BUDGET, DEFAULT, WITHOUT_STORE, UNPRICED):
        if key in config:
            yield f"{key}: belongs under {BLOCK}; at the beginning of a line it limits nothing"
    block = config.get(BLOCK)
    if not isinstance(block, dict):
        return
    for section in (USERS, GROUPS):
        yield from _mistakes_of_section(section, block.get(section))
    if DEFAULT in block:
        yield from _mistakes_of_budget(f"{BLOCK}: {DEFAULT}", block[DEFAULT])
    if BUDGET in block:
        yield from _mistakes_of_budget(f"{BLOCK}: {BUDGET}", block[BUDGET], timezone=True)
    for key in (WITHOUT_STORE, UNPRICED):
        if key in block and block[key] not in (REFUSE, ALLOW):
            yield f"{BLOCK}: {key}: should be {REFUSE} or {ALLOW}"


def _mistakes_of_section(section: str, entries: object) -> Iterator[str]:
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and BUDGET in entry:
            yield from _mistakes_of_budget(f"{BLOCK}: {section}: {name}: {BUDGET}", entry[BUDGET])


def _mistakes_of_budget(at: str, entry: object, *, timezone: bool = False) -> Iterator[str]:
    if not isinstance(entry, dict):
        written = amount(entry)
        meant = f"{{month: {entry}}}" if written else EXAMPLE
        yield f"{at}: should have amounts in USD by day, week or month; write {meant}"
        return
    keys = (*PERIODS, SOFT, *((TIMEZONE,) if timezone else ()))
    for key, value in entry.items():
        if key in PERIODS:
            usd = amount(value)
            if usd is None or not micro_usd(usd):
                yield f"{at}: {key}: should be an amount in USD above 0, a number without a currency; write {key}: 10"
        elif key == TIMEZONE and not timezone:
            yield f"{at}: {TIMEZONE} applies to all budgets; write it as {BLOCK}: {BUDGET}: {{{TIMEZONE}: ...}}"
        elif key not in keys:
            yield f"{at}: {unknown(key, keys)}"
    if SOFT in entry and not isinstance(entry[SOFT], bool):
        yield f"{at}: {SOFT}: should be true, if an exceeded budget is only reported, or false"
    if timezone and TIMEZONE in entry and not is_timezone(entry[TIMEZONE]):
        missing = "" if available_timezones() else "; this machine has no time zone data: install tzdata, or write UTC"
        yield f"{at}: {TIMEZONE}: should be a name such as Europe/Berlin or America/New_York{missing}"
    if not any(period in entry for period in PERIODS) and not (timezone and set(entry) == {TIMEZONE}):
        yield f"{at}: should have an amount in USD for day, week or month; write {EXAMPLE}"
