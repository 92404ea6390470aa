"""Executes the plan of one request: attempts, retries, fallbacks, and one error for the client if all fail."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from claude_proxy.anthropic.error_kinds import is_content_policy
from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, Refused, own_refusal
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.routing import pause
from claude_proxy.providers.endpoints import Provider
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.budget_responses import unpriced_model
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.attempt import READ_SECONDS, Attempt, LaneOf
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import Outcome, failed
from claude_proxy.proxy.plan import LacksPrice, Plan, Target, no_price_needed, plan, why_no_fallback
from claude_proxy.proxy.provider_errors import input_tokens, overflow_of
from claude_proxy.proxy.relay import StreamCapture
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.proxy.rule_choice import RuleChoice

Sleep = Callable[[float], Awaitable[None]]


# With this error Claude Code (2.1.332) learns to check tool calls itself, and sends the request again.
NO_SAFEGUARDS = own_refusal(
    400, "safeguards: Extra inputs are not permitted: this model cannot check tool calls, the client has to."
)


class CallLitellm(Protocol):
    """Calls LiteLLM's app for one request. ``planned``: the plan decides about fallbacks, not LiteLLM."""

    async def __call__(self, model: str, *, planned: bool) -> Outcome: ...


class Serving:
    """One per process. ``meter`` estimates a request's tokens where Claude does not count them.

    ``ready`` is awaited before each request; it returns once the pool has the state of the other processes. ``rules`` chooses
    another model than the requested one. ``lacks_price`` returns whether a user may not use a model.
    """

    def __init__(
        self,
        lanes: Mapping[Lane, LaneOf],
        config: ActiveConfig,
        *,
        meter: Meter,
        rules: RuleChoice | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
        lacks_price: LacksPrice = no_price_needed,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._lanes = lanes
        self._config = config
        self._meter = meter
        self._rules = rules or RuleChoice(config, meter)
        self._ready = ready
        self._lacks_price = lacks_price
        self._sleep = sleep

    async def serve(
        self, request: Request, outlet: ClientResponse, journal: Journal, call_litellm: CallLitellm, *, enters_litellm: bool
    ) -> None:
        """Send the client a response or an error. Raises ``Refused`` if no attempt is made.

        With ``enters_litellm``, LiteLLM does everything, and makes its attempts at Claude through the lane.
        """
        if self._ready is not None:
            await self._ready()
        if not enters_litellm:
            await self.check_model(request)
        name = await self._model_of(request, outlet)
        if enters_litellm:
            outcome = await self._with_keepalives(outlet, call_litellm(name, planned=False))
        else:
            planned = self.plan(request, name, by_rule=name != request.name)
            if request.counts_tokens:
                outcome = await self.count_tokens(request, planned.first, outlet, journal)
            else:
                outcome = await self._by_plan(request, planned, outlet, journal, call_litellm)
        if outcome.refusal is not None:
            journal.record_failed()
            await outlet.refuse(outcome.refusal)

    async def check_model(self, request: Request) -> None:
        """Raise ``Refused`` if the user may not use the model, or a model that the request configures for Claude.

        The status is 400: after a 403, Claude Code tells its user to log in.
        """
        limits = self._config.limits
        if not limits.patterns:
            return
        forbidden = await offloaded(len(request.raw), limits.forbidden, request.user, request.name, request.raw)
        if forbidden:
            raise Refused(400, limits.refusal(request.user, forbidden), reason=MODEL_NOT_ALLOWED)

    async def _model_of(self, request: Request, outlet: ClientResponse) -> str:
        """Return the model that responds to a request: the requested one, or that of the first rule that applies."""
        rule = await self._rules.rule(request)
        if rule is None:
            return request.name
        outlet.follow(rule.name)
        return rule.model

    def plan(self, request: Request, name: str, *, by_rule: bool) -> Plan:
        """Return the plan for a model. If a rule has chosen it, the requested model is its last fallback.

        Fallbacks that the user may not use, because no price is known, are left out. Raises ``Refused`` for an unknown model,
        for one without its key, and for one that the user may not use; its tokens can be counted, which costs nothing.
        """
        planned = plan(name, self._config)
        if by_rule and self._config.is_ready(request.name):
            general = [one for one in planned.fallbacks.general if one != request.name]
            planned = planned._replace(fallbacks=planned.fallbacks._replace(general=(*general, request.name)))
        if not request.counts_tokens:
            self.check_price(request, name)
        return planned.without(partial(self._lacks_price, request))

    def check_price(self, request: Request, name: str) -> None:
        """Raise ``Refused`` if the user may not use a model, because no price is known."""
        if self._lacks_price(request, name):
            raise unpriced_model(name)

    async def count_tokens(self, request: Request, target: Target, outlet: ClientResponse, journal: Journal) -> Outcome:
        """Count the tokens of a request: Claude's own count with a credential, otherwise an estimate.

        Claude Code repeats a refused count as a billed request (thirteen times for ``/context``), so a Claude
        without a usable credential also leads to an estimate.
        """
        one = target.deployments[0]
        if one.lane is Lane.CLAUDE:
            outcome = await self.attempt(request, one, outlet, journal, model=target.name)
            if outcome.done or outcome.final:
                return outcome
        else:
            journal.begin(one.provider, one.served, target.name, one.lane)
        tokens = await offloaded(len(request.raw), input_tokens, self._meter, request, one)
        body = b'{"input_tokens":%d}' % tokens
        await outlet.begin(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        await outlet.end(body)
        return Outcome()

    async def attempt(
        self,
        request: Request,
        one: Deployment,
        outlet: ClientResponse,
        journal: Journal,
        *,
        model: str = "",
        capture: StreamCapture | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Make one attempt at a deployment of a model of config.yaml; ``capture`` and ``fields`` as in ``Attempt``."""
        journal.begin(one.provider, one.served, model, one.lane)
        routing = self._config.routing
        seconds = one.timeout or routing.timeout or READ_SECONDS
        if request.streams:
            seconds = one.stream_timeout or routing.stream_timeout or seconds
        outcome = await self._lanes[one.lane].attempt(Attempt(request, one, outlet, journal, seconds, capture, fields))
        journal.end(outcome.why)
        if outcome.refusal is not None or journal.error:
            journal.record_failed()
        return outcome

    async def _by_plan(
        self, request: Request, planned: Plan, outlet: ClientResponse, journal: Journal, call_litellm: CallLitellm
    ) -> Outcome:
        first = planned.first
        if request.view.safeguards and not first.is_claude:
            return failed(400, NO_SAFEGUARDS, final=True)
        outcome = shown = await self._target(
            request, first, outlet, journal, call_litellm, repeats=bool(planned.fallbacks.general)
        )
        if _lacks_fallback(planned, outcome) and not request.wants_no_fallback:
            journal.record_no_fallback(why_no_fallback(self._config.skipped_fallbacks(first.name)))
        for name in () if outcome.done or request.wants_no_fallback else _fallbacks(planned, outcome):
            target = Target(name, self._config.deployments(name))
            if request.view.safeguards and not target.is_claude:
                return failed(400, NO_SAFEGUARDS, final=True)
            outcome = await self._target(request, target, outlet, journal, call_litellm)
            if outcome.done:
                return outcome
            if target.is_claude or not first.is_claude:
                shown = outcome
            if outcome.final:
                break
        return shown

    async def _target(
        self,
        request: Request,
        target: Target,
        outlet: ClientResponse,
        journal: Journal,
        call_litellm: CallLitellm,
        *,
        repeats: bool = True,
    ) -> Outcome:
        """Try a model's deployments until one responds, with the configured number of retries.

        Without ``repeats`` (no fallback could follow), a single Claude deployment is tried once, because Claude Code itself
        retries ten times.
        """
        if target.enters_litellm:
            outcome = await self._with_keepalives(outlet, call_litellm(target.name, planned=True))
            journal.end(journal.cause or outcome.why)
            return self._rewritten(request, target, outcome)
        work = self._attempts(request, target, outlet, journal, repeats=repeats)
        return await (work if target.is_claude else self._with_keepalives(outlet, work))

    def _rewritten(self, request: Request, target: Target, outcome: Outcome) -> Outcome:
        """Rewrite LiteLLM's outcome to a wording that Claude Code handles, if the provider's error has that meaning."""
        if outcome.refusal is None or (found := overflow_of(outcome.status, outcome.refusal.body)) is None:
            return outcome
        estimate = partial(input_tokens, self._meter, request, target.deployments[0])
        sentence = found.sentence(estimate, request.max_tokens)
        return replace(outcome, status=400, refusal=own_refusal(400, sentence))

    async def _attempts(
        self, request: Request, target: Target, outlet: ClientResponse, journal: Journal, *, repeats: bool
    ) -> Outcome:
        routing, order = self._config.routing, target.in_order()
        made = 0
        while True:
            one = order[made % len(order)]
            outcome = await self.attempt(request, one, outlet, journal, model=target.name)
            if outcome.done or outcome.final:
                return outcome
            again = routing.retries(target.name, outcome.status, one.num_retries)
            if one.provider is Provider.CLAUDE and not repeats:
                again = 0
            if made >= max(again, len(order) - 1):
                return outcome
            if len(order) == 1:
                await self._sleep(pause(made, routing.retry_after, outcome.retry_after))
            made += 1

    async def _with_keepalives(self, outlet: ClientResponse, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Wait for an attempt, and send keep-alives while its provider is silent."""
        if outlet.patience() is None:
            return await work
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=outlet.patience())
                if not task.done():
                    await outlet.reassure()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                _forget_frames(task)


def _forget_frames(task: asyncio.Future[Outcome]) -> None:
    """Release the data of a cancelled attempt now instead of at the next garbage collection; see the gateway."""
    if not task.cancelled():
        return
    try:
        task.result()
    except asyncio.CancelledError as ended:
        traceback.clear_frames(ended.__traceback__)
        ended.__traceback__ = None


def _lacks_fallback(planned: Plan, outcome: Outcome) -> bool:
    """Whether a general fallback would follow this outcome, and the plan has none."""
    return not (outcome.done or outcome.final or planned.fallbacks.general)


def _fallbacks(planned: Plan, outcome: Outcome) -> tuple[str, ...]:
    """Return the fallback models for this outcome, in order."""
    if outcome.done or outcome.refusal is None:
        return ()
    fallbacks = planned.fallbacks
    if fallbacks.context_window is not None and overflow_of(outcome.status, outcome.refusal.body) is not None:
        return fallbacks.context_window
    if fallbacks.content_policy is not None and is_content_policy(outcome.refusal.body):
        return fallbacks.content_policy
    return () if outcome.final else fallbacks.general
