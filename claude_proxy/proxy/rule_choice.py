"""Chooses the rule of ``config.yaml`` that applies to a request, with what a rule needs to know of body and pool."""

import time
from collections.abc import Callable, Iterable

from claude_proxy.anthropic.token_estimate import texts_of
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.request_rules import Rule
from claude_proxy.credentials.fullness import fullness
from claude_proxy.credentials.order import may_use
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.plan import LacksPrice, no_price_needed
from claude_proxy.proxy.request import Request

# Claude Code 2.1.332 names the kind of a request in this header, with CLAUDE_CODE_GATEWAY_HINT_HEADERS=1.
REQUEST_CLASS = "x-claude-code-request-class"


class RuleChoice:
    """One per process. A rule does not apply if its model lacks a key, or a price that the user's budget needs.

    ``snapshots`` returns the state of each credential; ``clock`` returns Unix seconds.
    """

    def __init__(
        self,
        config: ActiveConfig,
        meter: Meter,
        snapshots: Callable[[], Iterable[Snapshot]] = tuple,
        clock: Callable[[], float] = time.time,
        *,
        lacks_price: LacksPrice = no_price_needed,
    ) -> None:
        self._config = config
        self._meter = meter
        self._snapshots = snapshots
        self._clock = clock
        self._lacks_price = lacks_price

    async def rule(self, request: Request) -> Rule | None:
        """Return the first rule whose conditions all hold for a request; None if there is none."""
        rules = self._config.rules
        if not rules:
            return None
        now, request_class = self._clock(), _request_class(request)
        for rule in rules:
            if (
                rule.concerns(request_class, request.name, request.user, request.groups, now)
                and self._config.is_ready(rule.model)
                and not self._lacks_price(request, rule.model)
                and self._pool_is_above(rule, request)
                and await self._body_fits(rule, request)
            ):
                return rule
        return None

    def _pool_is_above(self, rule: Rule, request: Request) -> bool:
        if not rule.pool_above:
            return True
        everyone = [*self._snapshots()]
        known = {group for one in everyone for group in one.credential.terms.groups}
        requester = self._config.pool_groups.requester(request.user, request.name, groups=request.groups, known=known)
        pool = [one for one in everyone if may_use(one.credential.terms, requester)]
        full = {window: fullness(pool, window) for window in rule.pool_above}
        return all((full[window] or 0.0) > least for window, least in rule.pool_above.items())

    async def _body_fits(self, rule: Rule, request: Request) -> bool:
        if rule.images is None and rule.tokens_above is None:
            return True
        return await offloaded(len(request.raw), self._fits, rule, request)

    def _fits(self, rule: Rule, request: Request) -> bool:
        if rule.images is not None and rule.images != has_images(request):
            return False
        # A token has at least one byte.
        return rule.tokens_above is None or (len(request.raw) > rule.tokens_above < self._tokens(request))

    def _tokens(self, request: Request) -> int:
        """Return an estimate of the request's input tokens at the requested model; 0 for an unknown model."""
        deployments = self._config.deployments(request.name)
        return self._meter.guess(deployments[0].served, request.sent(deployments[0].row)) if deployments else 0


def has_images(request: Request) -> bool:
    """Return whether a request has an image or a document, in a message or in a tool's result."""
    if b'"image"' not in request.raw and b'"document"' not in request.raw:
        return False
    return texts_of(request.body.get("messages"))[1] > 0


def _request_class(request: Request) -> str:
    return next((value.strip().lower() for name, value in request.headers if name.lower() == REQUEST_CLASS), "")
