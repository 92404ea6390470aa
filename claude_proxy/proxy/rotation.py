"""The ``httpx.Auth`` flow: put a credential on a request to Claude, look at the answer, go on with the next one.

The flow sees the headers of every answer before one byte reaches the client, streaming or not. It is the only place
that puts a Claude credential on a request, and it does so only after a look at the parsed host of that request.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

import httpx

from claude_proxy.anthropic.messages import repaired, to_json, without_foreign_thinking
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import Pool, Wanted
from claude_proxy.credentials.response_rules import UNIFIED, Action, UpstreamResponse, Verdict, judge
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.proxy.exchange import Exchange
from claude_proxy.upstream import headers as header_policy

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]

# Of an error's body so much is looked at.
MAX_JUDGED_BYTES = 16 * 1024
# What httpx can undo without further libraries; the client's own list describes its connection to the proxy.
ACCEPT_ENCODING = "gzip, deflate"


class EgressRefused(Exception):
    """A request with a Claude credential would have gone to a host that is not Anthropic's."""


class NobodyUsable(Exception):
    """No credential of the pool can serve the request now; the pool knows why, and until when."""


class Source(Protocol):
    """Where a request's credentials come from: the pool, or one that is the client's or the deployment's own."""

    pooled: bool

    def choose(self, tried: frozenset[str]) -> Credential | None:
        """Return the next credential for this request; None when there is none."""

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Wait for a credential that rests, as long as the settings allow; None when that is not long enough.

        What comes back is ``tried`` without those that have rested since: they may be asked again, and nobody else.
        """

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        """Learn from an answer."""

    def suspect(self, credential: Credential, refusal: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller's request met the same one on this credential."""

    def put_out(self, credential: Credential, reason: str) -> None:
        """Put a credential out."""


class PoolSource:
    """The pool's credentials, for one request. ``max_wait`` is in seconds; ``caller`` tells who sent the request."""

    pooled = True

    def __init__(
        self, pool: Pool, wanted: Wanted, *, caller: str = "", max_wait: float = 0.0, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._pool = pool
        self._wanted = wanted
        self._caller = caller
        self._wait_left = max_wait
        self._sleep = sleep

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return self._pool.choose(self._wanted, tried)

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Claude Code waits 300 s for the first byte of an answer, and nothing has to be sent meanwhile (2.1.197)."""
        untried = self._pool.resting(self._wanted.family)
        delay = self._pool.delay(self._wanted.family, tried)
        try:
            if delay > self._wait_left:
                return None
            self._wait_left -= delay
            await self._sleep(delay)
        finally:
            self._pool.waited()
        return tried - untried

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        self._pool.note(credential, verdict, answer)

    def suspect(self, credential: Credential, refusal: str) -> bool:
        return self._pool.suspect(credential, refusal, self._caller)

    def put_out(self, credential: Credential, reason: str) -> None:
        self._pool.put_out(credential, reason)


class SingleSource:
    """One credential, asked once: passthrough, and the key that a deployment has in config.yaml."""

    pooled = False

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return None if self._credential.label in tried else self._credential

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """One credential is not waited for."""

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        """One credential has no state: it is its owner's."""

    def suspect(self, credential: Credential, refusal: str) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def put_out(self, credential: Credential, reason: str) -> None:
        """One credential is never out: it is its owner's."""


class Refusals:
    """The refusals of the account that one request met with a 400; the request itself may have caused them.

    Five rules:

    1. the first one puts no credential out: another credential is asked;
    2. a credential that answers the request confirms it, and the refused credential goes out;
    3. a second credential that gives the same refusal shows that the request is at fault: the client gets that answer;
    4. another caller's request that met the same refusal on the same credential confirms it as well;
    5. one request puts at most one credential out.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._met: set[str] = set()
        self._first: tuple[Credential, Verdict] | None = None
        self._done = False

    def meet(self, credential: Credential, verdict: Verdict) -> Verdict:
        """Record a refusal; return the verdict on it that these rules come to."""
        repeated = verdict.unconfirmed in self._met
        self._met.add(verdict.unconfirmed)
        met_by_another = self._source.suspect(credential, verdict.unconfirmed)
        if repeated:
            reason = "gave the same refusal as the credential before; the request is taken to be the cause"
            return verdict._replace(action=Action.CLIENT, reason=reason)
        if met_by_another and not self._done:
            self._put_out(credential, verdict, "another caller's request met the same refusal")
            return verdict._replace(unconfirmed="")
        if self._first is None:
            self._first = credential, verdict
        return verdict

    def answered(self) -> None:
        """Put the credential out that refused the request first, now that another one has answered it."""
        if self._first is not None and not self._done:
            self._put_out(*self._first, "another credential answered the same request")

    def _put_out(self, credential: Credential, verdict: Verdict, evidence: str) -> None:
        self._done = True
        self._source.put_out(credential, verdict.reason)
        logger.warning("credential %s is out: %s, and %s", credential.label, verdict.reason, evidence)


class Rotation(httpx.Auth):
    """The flow of one attempt. After it, ``verdict`` says how the last answer was taken.

    Raises ``NobodyUsable`` when the pool has no credential for the request, be it at once or after some were refused.
    """

    def __init__(
        self, source: Source, hosts: Hosts, exchange: Exchange, *, family: str, cooldown: float, clock: Callable[[], float]
    ) -> None:
        self._source = source
        self._hosts = hosts
        self._exchange = exchange
        self._family = family
        self._cooldown = cooldown
        self._clock = clock
        self.pooled = source.pooled
        self.verdict: Verdict | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if not self._hosts.is_claude(str(request.url)):
            raise EgressRefused(f"{request.url.host} is not Anthropic's host")
        tried: frozenset[str] = frozenset()
        credential = self._source.choose(tried)
        refusals = Refusals(self._source)
        mended = hopped = False
        while True:
            credential, tried = await self._usable(credential, tried)
            if credential is None:
                if self.verdict is None or not self.verdict.unconfirmed:
                    raise NobodyUsable
                # No credential is left to show whether the request is at fault: a fallback answers, or the client gets the 400.
                self.verdict = self.verdict._replace(action=Action.ROUTER)
                return
            tried |= {credential.label}
            self._exchange.labels.append(credential.label)
            _set_headers(request, self._exchange, credential)
            response = yield request
            answer = await _answer(response, self._family, self._clock())
            verdict = self.verdict = self._judged(credential, answer, refusals)
            _report(credential, verdict, response, pooled=self.pooled)
            if verdict.action is Action.REPAIR and not mended and (mend := _repair(request)):
                mended = True
                request = mend
                continue
            if verdict.action is Action.TRY_ONE_OTHER and not hopped:
                hopped = True
            elif verdict.action is not Action.NEXT:
                return
            left_for = self._source.choose(tried)
            if left_for is None and (verdict.action is Action.TRY_ONE_OTHER or not self.pooled):
                return
            self._exchange.failovers.append(f"{credential.label}: {verdict.reason} (HTTP {response.status_code})")
            credential = left_for

    async def _usable(self, credential: Credential | None, tried: frozenset[str]) -> tuple[Credential | None, frozenset[str]]:
        """Return the chosen credential or one that was worth waiting for, and the labels that still count as tried."""
        while credential is None:
            left = await self._source.wait(tried)
            if left is None:
                break
            tried, credential = left, self._source.choose(left)
        return credential, tried

    def _judged(self, credential: Credential, answer: UpstreamResponse, refusals: Refusals) -> Verdict:
        """Return the verdict on an answer, and let the source learn from it."""
        verdict = judge(answer, self._cooldown)
        self._source.note(credential, verdict, answer)
        if verdict.unconfirmed and self.pooled:
            return refusals.meet(credential, verdict)
        if verdict.action is Action.DONE:
            refusals.answered()
        return verdict


def outgoing(request: httpx.Request, exchange: Exchange, model: str) -> httpx.Request:
    """Build the request that Claude gets: what the client sent, with the deployment's model, not what LiteLLM made of it.

    The body keeps its bytes when the model's name and the thinking blocks can stay; else its values and their order.
    """
    body: dict[str, Any] = dict(exchange.body)
    content = exchange.raw_body
    messages = body.get("messages")
    mended = without_foreign_thinking(messages) if isinstance(messages, list) else messages
    if body.get("model") != model or mended is not messages:
        body = body | {"model": model} | ({"messages": mended} if mended is not messages else {})
        content = to_json(body)
    url = request.url.copy_with(query=exchange.query.encode()) if exchange.query else request.url
    return httpx.Request(request.method, url, content=content, extensions=request.extensions)


def _set_headers(request: httpx.Request, exchange: Exchange, credential: Credential) -> None:
    """Replace all headers: Claude gets the client's, the credential, and what belongs to this connection."""
    own = [("host", request.headers["host"]), ("content-length", request.headers["content-length"])]
    headers = [*own, *header_policy.for_claude(exchange.headers, credential), ("accept-encoding", ACCEPT_ENCODING)]
    # As bytes: httpx takes ASCII texts only, and the client's bytes beyond that were read as Latin-1.
    request.headers = httpx.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])


def _repair(request: httpx.Request) -> httpx.Request | None:
    """Return the request without any thinking blocks; None when there is none in it."""
    body = repaired(json.loads(request.content))
    if body is None:
        return None
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    return httpx.Request(request.method, request.url, headers=headers, content=to_json(body), extensions=request.extensions)


async def _answer(response: httpx.Response, family: str, now: float) -> UpstreamResponse:
    body = b""
    if response.is_error:
        body = (await response.aread())[:MAX_JUDGED_BYTES]
    return UpstreamResponse(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, body, family, now
    )


def _report(credential: Credential, verdict: Verdict, response: httpx.Response, *, pooled: bool) -> None:
    """Tell the operator what somebody may want to act on, by the credential's label."""
    if verdict.action in (Action.DONE, Action.ROUTER) or not verdict.reason:
        return
    level = logging.WARNING if pooled and verdict.action is not Action.REPAIR else logging.INFO
    if verdict.ours:
        level = logging.ERROR
    claim = response.headers.get(f"{UNIFIED}representative-claim", "")
    logger.log(
        level,
        "credential %s: %s (HTTP %d%s); %s",
        credential.label,
        verdict.reason,
        response.status_code,
        f", {claim}" if claim else "",
        verdict.action.value,
    )
