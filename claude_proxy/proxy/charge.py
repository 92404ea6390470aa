"""The cost of one request while its response passes: counted before the client receives its end."""

import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from claude_proxy.anthropic.token_estimate import CHARACTERS_PER_TOKEN
from claude_proxy.anthropic.usage import Usage
from claude_proxy.asgi import Headers
from claude_proxy.proxy.budget_responses import with_budget
from claude_proxy.proxy.journal import Journal
from claude_proxy.usage.spend import Tab
from claude_proxy.usage.standing import Standing

# How often the amount of a stream in progress is updated, in seconds.
UPDATE_SECONDS = 0.25
# About how many bytes of each event of a stream are not content.
EVENT_BYTES = 115
EVENT_END = b"\n\n"

# Returns the cost in micro-USD of a model's response: by its name in config.yaml, provider and model, and token counts. None if
# no price is known.
Cost = Callable[[str, str, Usage], int | None]


async def _none() -> int:
    return 0


class Charge:
    """One per request of a proxy with budgets.

    Five rules:
      1. The input counts as soon as the provider has reported it, and the output while it streams: as reported, or an estimate
         by the length of what has passed, whichever is larger.
      2. The provider's final counts replace that, before the client receives the end of the response: with ``confirm``, the
         amount is then also in the store, so the client's next request meets it in every process.
      3. A response without final counts, because it broke off or the client disconnected, keeps the amount of rule 1. It is
         pushed to the store at once. If the provider has not reported the input, it is estimated, because the provider counts
         it from the moment at which it has the request: also for a client that disconnects before the first byte, and at a
         provider that reports the input only at the end. A request that was not sent costs nothing, and neither does one whose
         last attempt failed before a part of its response had passed.
      4. A response to the client's own login costs the proxy's operator nothing.
      5. A request is never ended because of its cost.
    """

    def __init__(
        self,
        tab: Tab,
        journal: Journal,
        model: str,
        cost: Cost,
        *,
        standing: Callable[[], Standing | None] = lambda: None,
        confirm: Callable[[], Awaitable[object]] | None = None,
        wake: Callable[[], None] = lambda: None,
        input_tokens: Callable[[], Awaitable[int]] = _none,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``model`` is the requested model; ``standing`` returns the state of the user's foremost budget, if there is one.

        ``input_tokens`` estimates the input; ``wake`` starts the next exchange with the store, without waiting for it.
        """
        self._tab = tab
        self._journal = journal
        self._model = model
        self._cost = cost
        self._standing = standing
        self._confirm = confirm
        self._wake = wake
        self._input_tokens = input_tokens
        self._clock = clock
        self._due = 0.0
        self._characters = 0
        self._settled = False

    def headers(self, headers: Headers) -> Headers:
        """Return the headers of a good response with the user's budget; unchanged for a user without one."""
        standing = self._standing()
        return headers if standing is None else with_budget(headers, standing, of_client=self._journal.of_client)

    async def passing(self, data: bytes) -> None:
        """Count a part of the response, before it is sent."""
        if self._settled:
            return
        self._characters += max(0, len(data) - EVENT_BYTES * data.count(EVENT_END))
        summary = self._journal.summary
        if summary is not None and summary.is_final:
            await self._settle(self._usage_so_far())
        elif summary is not None and (now := self._clock()) >= self._due:
            self._due = now + UPDATE_SECONDS
            self._count(self._usage_so_far())

    async def ending(self) -> None:
        """Count a whole response, before its end is sent. Some providers report final counts more than once."""
        before, usage = self._tab.amount, await self._whole_usage()
        self._count(usage)
        if not self._settled or self._tab.amount != before:
            await self._settle(usage)

    async def finish(self) -> None:
        """Count what is known of the response, at the end of the request."""
        before, self._settled = self._tab.amount, True
        self._count(await self._whole_usage())
        if self._tab.amount != before:
            self._wake()

    def _final_usage(self) -> Usage | None:
        """Return the final counts of the provider; None if they are not known."""
        journal = self._journal
        if journal.summary is None:
            return journal.usage if journal.usage and journal.usage.output else None
        if not journal.summary.is_final:
            return None
        return journal.reported() if journal.reported else journal.summary.usage

    def _usage_so_far(self) -> Usage:
        journal = self._journal
        if (final := self._final_usage()) is not None:
            return final
        reported = journal.usage or (journal.summary.usage if journal.summary else Usage())
        return replace(reported, output=max(reported.output, self._characters // CHARACTERS_PER_TOKEN))

    async def _whole_usage(self) -> Usage:
        """Return the counts of a response of which no more will pass, with an estimate of an input that was not reported."""
        found, journal = self._usage_so_far(), self._journal
        is_known = found.input or found.cache_read or found.cache_write or self._final_usage() is not None
        if is_known or journal.of_client or not (found.output or journal.at_provider):
            return found
        return replace(found, input=await self._input_tokens())

    async def _settle(self, usage: Usage) -> None:
        self._settled = True
        self._count(usage)
        if self._confirm is not None:
            await self._confirm()

    def _count(self, usage: Usage) -> None:
        journal = self._journal
        cost = 0 if journal.of_client else self._cost(journal.model or self._model, journal.served, usage)
        self._tab.set(cost or 0)
