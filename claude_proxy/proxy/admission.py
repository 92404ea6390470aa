"""Checks a user's budgets before any provider is asked."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN, input_tokens
from claude_proxy.config.budgets import Budget
from claude_proxy.config.users import folded
from claude_proxy.proxy.budget_responses import budget_reached, store_unavailable, too_little_left
from claude_proxy.proxy.charge import Charge, Cost
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.request import Request
from claude_proxy.usage.spend import Tab, scopes_of
from claude_proxy.usage.standing import ActiveBudgets, foremost

logger = logging.getLogger(__name__)


class Reservation(NamedTuple):
    """What a batch may cost at most, as it counts in the budgets of ``scopes`` on ``day``."""

    tab: Tab
    scopes: tuple[str, ...]
    day: str
    confirm: Callable[[], Awaitable[bool]]

    async def cancel(self) -> None:
        """Count nothing, because there is no batch; in every process, when this returns."""
        self.tab.set(0)
        await self.confirm()


class Admission:
    """One per process.

    ``confirm`` waits for an exchange with the store that begins after the call, and returns whether the store was available:
    the sums then include every response that a client had received, from any process, when the request arrived. So beyond
    a reached budget there is at most one response for each stream of a client. ``wake`` starts an exchange without waiting.
    """

    def __init__(
        self,
        budgets: ActiveBudgets,
        cost: Cost,
        *,
        confirm: Callable[[], Awaitable[bool]],
        wake: Callable[[], None] = lambda: None,
        unpriced: Callable[[str], Collection[str]] = lambda _: (),
        clock: Callable[[], float],
    ) -> None:
        """``unpriced`` returns the deployments of a model without a known price."""
        self._budgets = budgets
        self._cost = cost
        self._confirm = confirm
        self._wake = wake
        self._unpriced = unpriced
        self._clock = clock
        self._reported = False

    async def admit(self, request: Request, journal: Journal) -> Charge | None:
        """Return the charge of an admitted request; None without budgets. Raises ``Refused`` if a hard budget is spent.

        Token counts cost nothing and are always admitted.
        """
        budgets = self._budgets
        if not budgets:
            return None
        own = budgets.of_user(request.user, request.groups)
        is_hard = _has_hard(own) and not request.counts_tokens
        if is_hard:
            await self._up_to_date()
            own = budgets.of_user(request.user, request.groups)
        standing = foremost(budgets.standings(own))
        if is_hard and standing is not None and standing.is_reached:
            raise budget_reached(standing, self._clock(), budgets.configured.timezone)
        tab = budgets.book.open(scopes_of(folded(request.user), request.groups), budgets.today())
        return Charge(
            tab,
            journal,
            request.name,
            _free if request.counts_tokens else self._cost,
            standing=lambda: foremost(budgets.standings(own)),
            confirm=self._confirm if is_hard else None,
            wake=self._wake,
            input_tokens=lambda: offloaded(len(request.raw), _input_tokens, request),
        )

    async def reserve(self, request: Request, amount: int) -> Reservation | None:
        """Count what a batch may cost at most; None without budgets. Raises ``Refused`` if a hard budget has less left.

        The amount counts before it is checked, so two batches at the same moment cannot both use what is left.
        """
        budgets = self._budgets
        if not budgets:
            return None
        scopes, today = scopes_of(folded(request.user), request.groups), budgets.today()
        tab = budgets.book.open(scopes, today)
        tab.set(amount)
        found = Reservation(tab, scopes, today.isoformat(), self._confirm)
        if _has_hard(budgets.of_user(request.user, request.groups)):
            try:
                await self._up_to_date()
                self._check_room(request, amount)
            except Refused:
                await found.cancel()
                raise
        return found

    def _check_room(self, request: Request, amount: int) -> None:
        """Raise ``Refused`` if a budget was spent before this amount, or is exceeded with it."""
        budgets = self._budgets
        standings = budgets.standings(budgets.of_user(request.user, request.groups))
        hard = [one for one in standings if not one.budget.soft]
        spent = foremost(one for one in hard if one.spent - amount >= one.limit)
        if spent is not None:
            raise budget_reached(spent, self._clock(), budgets.configured.timezone)
        exceeded = foremost(one for one in hard if one.spent > one.limit)
        if exceeded is not None:
            raise too_little_left(exceeded, amount, budgets.configured.timezone)

    async def correct(self, scopes: Iterable[str], day: str, change: int) -> None:
        """Replace the reserved amount of a batch by its real cost, on the day on which it was reserved."""
        self._budgets.book.add(scopes, change, day=day)
        await self._confirm()

    def lacks_price(self, request: Request, model: str) -> bool:
        """Whether the user may not use a model of config.yaml, because a deployment of it has no known price.

        That is so for users with a hard budget, if ``unpriced_models`` in config.yaml is ``refuse``.
        """
        budgets = self._budgets
        if not budgets.configured.refuses_unpriced or not self._unpriced(model):
            return False
        return _has_hard(budgets.of_user(request.user, request.groups))

    async def _up_to_date(self) -> None:
        """Get the amounts of other processes; without them continue or raise ``Refused``, as config.yaml says."""
        if await self._confirm():
            self._reported = False
            return
        if self._budgets.configured.refuses_without_store:
            raise store_unavailable()
        if not self._reported:
            self._reported = True
            logger.warning("the store is not available: budgets are checked with the amounts that this process knows")


def _has_hard(budgets: Iterable[Budget]) -> bool:
    return any(not budget.soft for budget in budgets)


def _input_tokens(request: Request) -> int:
    """Return the estimated input tokens of a request; 0 for a count of tokens, which is free."""
    if request.counts_tokens:
        return 0
    try:
        return input_tokens(request.body, lambda text: len(text) // CHARACTERS_PER_TOKEN)
    except Refused:  # there is no memory for the parsed body
        return len(request.raw) // CHARACTERS_PER_TOKEN


def _free(*_: object) -> int:
    return 0
