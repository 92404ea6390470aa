"""One attempt at Claude over several credentials: put one on the request, judge the response, go on with the next one.

Every response's headers are judged before one byte reaches the client, streaming or not. This is the only place that puts
a Claude credential on a request, and it does so only after a look at the parsed host of that request.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from claude_proxy.anthropic.messages import repaired, to_json, without_foreign_thinking
from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import Pool, Wanted
from claude_proxy.credentials.response_rules import UNIFIED, Action, UpstreamResponse, Verdict, judge
from claude_proxy.providers.endpoints import Hosts, Origin
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.request import Request
from claude_proxy.upstream import headers as header_policy
from claude_proxy.upstream.client import StreamedResponse
from claude_proxy.upstream.response_bounds import CODINGS

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]

# Of an error's body so much is looked at.
MAX_JUDGED_BYTES = 16 * 1024
# Claude's errors reach the client unmodified up to this size.
MAX_CLAUDE_ERROR_BYTES = 16 * 1024 * 1024

# Sends a POST with these headers and this body.
SendUpstream = Callable[[Headers, bytes], Awaitable[StreamedResponse]]


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


class Judged(NamedTuple):
    """A response and what it says about the credential; ``body`` is there for an error only, whole."""

    response: StreamedResponse
    verdict: Verdict
    body: bytes


class Rotation:
    """The credentials of one attempt; the journal says which were asked, and which were left and why."""

    def __init__(
        self,
        source: Source,
        request: Request,
        journal: Journal,
        *,
        family: str,
        cooldown: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._request = request
        self._journal = journal
        self._family = family
        self._cooldown = cooldown
        self._clock = clock

    async def ask(self, hosts: Hosts, url: str, content: bytes, send: SendUpstream, extra: Headers = ()) -> Judged:
        """Send the request until a response is the last one.

        Raises ``NobodyUsable`` when no credential of the pool can serve the request, be it at once or after some were
        refused; ``EgressRefused`` for a host that is not Anthropic's; what ``send`` raises.
        """
        if not hosts.is_claude(url):
            origin = Origin.of(url)
            raise EgressRefused(f"{origin.host if origin else 'the URL'} is not Anthropic's host")
        tried: frozenset[str] = frozenset()
        credential = self._source.choose(tried)
        refusals = Refusals(self._source)
        judged: Judged | None = None
        mended = hopped = False
        while True:
            credential, tried = await self._usable(credential, tried)
            if credential is None:
                if judged is None or not judged.verdict.unconfirmed:
                    raise NobodyUsable
                # No credential is left to show whether the request is at fault: a fallback answers, or the client gets the 400.
                return Judged(judged.response, judged.verdict._replace(action=Action.ROUTER), judged.body)
            tried |= {credential.label}
            self._journal.labels.append(credential.label)
            judged = await self._judged(credential, await send(self._headers(credential, extra), content), refusals)
            verdict = judged.verdict
            if verdict.action is Action.REPAIR and not mended and (mend := repaired(json.loads(content))):
                mended, content = True, to_json(mend)
                continue
            if verdict.action is Action.TRY_ONE_OTHER and not hopped:
                hopped = True
            elif verdict.action is not Action.NEXT:
                return judged
            left_for = self._source.choose(tried)
            if left_for is None and (verdict.action is Action.TRY_ONE_OTHER or not self._source.pooled):
                return judged
            self._journal.failovers.append(f"{credential.label}: {verdict.reason} (HTTP {judged.response.status})")
            credential = left_for

    def _headers(self, credential: Credential, extra: Headers) -> Headers:
        sent = header_policy.for_claude(self._request.headers, credential)
        if extra:
            added = [pair for pair in extra if header_policy.may_be_added(pair[0])]
            names = {name.lower() for name, _ in added}
            sent = [*(pair for pair in sent if pair[0].lower() not in names), *added]
        return [*sent, ("accept-encoding", CODINGS)]

    async def _usable(self, credential: Credential | None, tried: frozenset[str]) -> tuple[Credential | None, frozenset[str]]:
        """Return the chosen credential or one that was worth waiting for, and the labels that still count as tried."""
        while credential is None:
            left = await self._source.wait(tried)
            if left is None:
                break
            tried, credential = left, self._source.choose(left)
        return credential, tried

    async def _judged(self, credential: Credential, response: StreamedResponse, refusals: Refusals) -> Judged:
        """Return the verdict on a response, and let the source learn from it."""
        body = b""
        if response.status >= 400:
            try:
                body = await response.read(cut_at=MAX_CLAUDE_ERROR_BYTES)
            finally:
                response.close()
        answer = UpstreamResponse(response.status, response.first_headers, body[:MAX_JUDGED_BYTES], self._family, self._clock())
        verdict = judge(answer, self._cooldown)
        self._source.note(credential, verdict, answer)
        if verdict.unconfirmed and self._source.pooled:
            verdict = refusals.meet(credential, verdict)
        elif verdict.action is Action.DONE:
            refusals.answered()
        _report(credential, verdict, answer, pooled=self._source.pooled)
        return Judged(response, verdict, body)


def body_for_claude(request: Request, model: str) -> bytes:
    """Return the body that Claude gets: what the client sent, with the deployment's model and without foreign thinking.

    It keeps its bytes when the model's name and the thinking blocks can stay; else its values and their order.
    """
    view = request.view
    if view.model == model and not view.needs_mending:
        return request.raw
    body: dict[str, Any] = dict(request.body)
    history = body.get("messages")
    mended = without_foreign_thinking(history) if isinstance(history, list) else history
    if view.model == model and mended is history:
        return request.raw
    return to_json(body | {"model": model} | ({"messages": mended} if mended is not history else {}))


def _report(credential: Credential, verdict: Verdict, answer: UpstreamResponse, *, pooled: bool) -> None:
    """Tell the operator what somebody may want to act on, by the credential's label."""
    if verdict.action in (Action.DONE, Action.ROUTER) or not verdict.reason:
        return
    level = logging.WARNING if pooled and verdict.action is not Action.REPAIR else logging.INFO
    if verdict.ours:
        level = logging.ERROR
    claim = answer.headers.get(f"{UNIFIED}representative-claim", "")
    logger.log(
        level,
        "credential %s: %s (HTTP %d%s); %s",
        credential.label,
        verdict.reason,
        answer.status,
        f", {claim}" if claim else "",
        verdict.action.value,
    )
