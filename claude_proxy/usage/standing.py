"""How much of each budget is spent: config.yaml, the overrides and the book together."""

from collections.abc import Callable, Collection, Iterable
from datetime import date
from typing import NamedTuple

from claude_proxy.config.budgets import UNLIMITED, Budget, Budgets, Period
from claude_proxy.config.users import folded
from claude_proxy.usage.budget_overrides import BudgetOverrides
from claude_proxy.usage.periods import day_at, moment, resets_at
from claude_proxy.usage.spend import SpendBook, scopes_of

USER, GROUP = "user:", "group:"


class Standing(NamedTuple):
    """One amount of a budget, and what is spent of it; in micro-USD. ``resets_at`` is in Unix seconds."""

    budget: Budget
    period: Period
    limit: int
    spent: int
    resets_at: float

    @property
    def percent(self) -> int:
        """The share that is spent, in whole per cent, rounded down."""
        return max(0, self.spent) * 100 // self.limit

    @property
    def is_reached(self) -> bool:
        """Whether requests are refused because of it."""
        return self.spent >= self.limit and not self.budget.soft


def foremost(standings: Iterable[Standing]) -> Standing | None:
    """Return the standing that a user should know: of those reached the last one to reset, otherwise the fullest.

    None without any.
    """
    return max(standings, key=_weight, default=None)


def _weight(one: Standing) -> tuple[bool, float, float]:
    return (True, one.resets_at, 0.0) if one.is_reached else (False, one.spent / one.limit, one.resets_at)


class ActiveBudgets:
    """The budgets that apply now. ``configured`` returns those of config.yaml."""

    def __init__(self, configured: Callable[[], Budgets], clock: Callable[[], float]) -> None:
        self._configured = configured
        self._clock = clock
        self.overrides = BudgetOverrides(clock)
        self.book = SpendBook(clock=clock)
        # What the processes share.
        self.parts = self.book, self.overrides

    def __bool__(self) -> bool:
        return bool(self._configured()) or bool(self.overrides)

    @property
    def configured(self) -> Budgets:
        """The budgets of config.yaml."""
        return self._configured()

    def today(self) -> date:
        """Return the date in the time zone of the budgets."""
        return day_at(self._clock(), self.configured.timezone)

    def moment(self, text: str) -> float:
        """Return the moment that a text names in that time zone, in Unix seconds; raise ``ValueError`` (``periods.moment``)."""
        return moment(text, self._clock(), self.configured.timezone)

    def of_user(self, user: str, groups: Collection[str]) -> list[Budget]:
        """Return the budgets to which a user's requests count, with the overrides."""
        return self._overridden(scopes_of(folded(user), groups), self.configured.of_user(user, groups))

    def every(self) -> list[Budget]:
        """Return all budgets: also the default budget of each user who has spent something this month."""
        found, today = self.configured, self.today()
        named = {folded(name) for name in found.users}
        known = {scope.removeprefix(USER) for scope in self.book.scopes(Period.MONTH, today) if scope.startswith(USER)}
        users = sorted(named | (known - {UNLIMITED} if found.default else set()))
        budgets = [*([found.everyone] if found.everyone else []), *found.groups.values()]
        budgets += [budget for user in users for budget in found.of_user(user, ())[:1] if budget.scope == f"{USER}{user}"]
        scopes = dict.fromkeys([*(budget.scope for budget in budgets), *sorted(self.overrides.scopes())])
        return self._overridden(scopes, budgets)

    def _overridden(self, scopes: Iterable[str], budgets: Iterable[Budget]) -> list[Budget]:
        by_scope = {budget.scope: budget for budget in budgets}
        found = (self._with_override(scope, by_scope.get(scope)) for scope in scopes)
        return [budget for budget in found if budget is not None and budget.limits]

    def _with_override(self, scope: str, budget: Budget | None) -> Budget | None:
        override = self.overrides.of(scope)
        if not override:
            return budget
        limits = {**(budget.limits if budget else {}), **override}
        kept = {period: limits[period] for period in Period if limits.get(period) is not None}
        return Budget(scope, {period: int(limit or 0) for period, limit in kept.items()}, bool(budget and budget.soft))

    def standings(self, budgets: Iterable[Budget]) -> list[Standing]:
        """Return how much of each amount is spent."""
        today, timezone = self.today(), self.configured.timezone
        return [
            Standing(budget, period, limit, self.book.spent(budget.scope, period, today), resets_at(period, today, timezone))
            for budget in budgets
            for period, limit in budget.limits.items()
        ]
