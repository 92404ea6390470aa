"""The source of a request's Claude credentials: the pool, one key of it, or one of the client or the deployment."""

import functools
from typing import Protocol

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import BUSY_SECONDS, Pool, PoolRequest
from claude_proxy.credentials.queue import Waiter
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.proxy.waiting import WaitQueues


class Source(Protocol):
    """The source of one request's credentials."""

    pooled: bool

    def choose(self, tried: frozenset[str]) -> Credential | None:
        """Return the next credential for this request, or None."""

    def probe(self, tried: frozenset[str]) -> Credential | None:
        """Return a rate-limited credential to probe; None if no probe is due."""

    def release(self, credential: Credential) -> None:
        """Record that the request has finished with a credential."""

    def others(self, credential: Credential) -> frozenset[str]:
        """Return the labels of the credentials of the same kind, which would give the same response."""

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Wait for a rate-limited credential, as long as the settings allow; None if that is not long enough.

        Returns ``tried`` without the credentials that were rate-limited; only those may be used again.
        """

    def record_response(self, credential: Credential, verdict: Verdict, response: UpstreamResponse) -> None:
        """Learn from a response."""

    def suspect(self, credential: Credential, refusal: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller received the same one from this credential."""

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        """Apply a verdict that another response has confirmed."""

    def record_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> bool:
        """Record a refusal with unknown wording; return whether the request should be repeated with another credential."""

    def confirm_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> None:
        """Record that another credential served a request that this one refused with unknown wording."""


class PoolSource:
    """The pool's credentials for one request. ``max_wait`` is in seconds; ``caller`` identifies the sender.

    ``queues`` are those of the process: a request waits for its turn if others wait for the same credentials.
    """

    pooled = True

    def __init__(
        self, pool: Pool, request: PoolRequest, *, caller: str = "", max_wait: float = 0.0, queues: WaitQueues | None = None
    ) -> None:
        self._pool = pool
        self._request = request
        self._caller = caller
        self._wait_left = max_wait
        self._queues = queues or WaitQueues()
        # The request's place in the order of arrival, once it has waited, and whether it was admitted to test a credential.
        self._arrival = 0
        self._was_admitted = False

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return None if self._must_wait(tried) else self._pool.choose(self._request, tried)

    def probe(self, tried: frozenset[str]) -> Credential | None:
        if self._must_wait(tried) and not self._pool.delay(self._request.scope, tried, self._request.requester):
            return None
        return self._pool.probe(self._request, tried)

    def release(self, credential: Credential) -> None:
        self._pool.release(credential)

    def others(self, credential: Credential) -> frozenset[str]:
        return self._pool.of_kind(credential.kind)

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Claude Code waits 300 s for the first byte of a response; nothing has to be sent until then (2.1.197)."""
        scope, requester = self._request.scope, self._request.requester
        left = tried - self._pool.cooling_down(scope, requester)
        begun, again = self._queues.clock(), self._arrival > 0
        # A request that was admitted but came too late must not try again in a loop.
        delay = functools.partial(self._delay, left, begun + (BUSY_SECONDS if self._was_admitted else 0.0))
        seconds = delay()
        if seconds and seconds >= self._wait_left:
            return None
        self._arrival = self._arrival or self._queues.arrival()
        if not seconds and not again and not self._queues.must_wait(self._queue):
            self._was_admitted = True
            return left
        waiter = Waiter(self._caller, begun + self._wait_left, delay, self._arrival, is_restricted=bool(left))
        self._was_admitted = await self._queues.wait_for_turn(self._queue, waiter, again=again)
        self._wait_left -= self._queues.clock() - begun
        return left if self._was_admitted else None

    @property
    def _queue(self) -> tuple[Scope, tuple[frozenset[str], ...], bool]:
        """The queue: requests that may use other credentials wait in another one."""
        requester = self._request.requester
        return self._request.scope, requester.groups, requester.api_keys_only

    def _delay(self, tried: frozenset[str], not_before: float) -> float:
        return self._pool.delay(self._request.scope, tried, self._request.requester) or max(
            0.0, not_before - self._queues.clock()
        )

    def _must_wait(self, tried: frozenset[str]) -> bool:
        """Return whether earlier requests wait; a request that has started, or had its turn, is not held up."""
        return not tried and not self._arrival and self._wait_left > 0 and self._queues.must_wait(self._queue)

    def record_response(self, credential: Credential, verdict: Verdict, response: UpstreamResponse) -> None:
        self._pool.record_response(credential, verdict, response)
        if self._was_admitted:
            self._was_admitted = False
            self._queues.report(self._queue, good=verdict.action is Action.DONE)

    def suspect(self, credential: Credential, refusal: str) -> bool:
        return self._pool.suspect(credential, refusal, self._caller)

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        self._pool.confirm(credential, verdict)

    def record_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> bool:
        return self._pool.record_unknown_refusal(credential, response)

    def confirm_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> None:
        self._pool.confirm_unknown_refusal(credential, response)


class SingleSource:
    """A single credential, used once: the client's own (passthrough), or the key of a deployment in config.yaml."""

    pooled = False

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return None if self._credential.label in tried else self._credential

    def probe(self, tried: frozenset[str]) -> Credential | None:
        """A single credential has no cooldown."""

    def release(self, credential: Credential) -> None:
        """A single credential has no count of requests."""

    def others(self, credential: Credential) -> frozenset[str]:
        return frozenset({credential.label})

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """A single credential is not waited for."""

    def record_response(self, credential: Credential, verdict: Verdict, response: UpstreamResponse) -> None:
        """A single credential has no state; it belongs to its owner."""

    def suspect(self, credential: Credential, refusal: str) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        """A single credential is never rejected; it belongs to its owner."""

    def record_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def confirm_unknown_refusal(self, credential: Credential, response: UpstreamResponse) -> None:
        """A single credential cannot be compared with another one."""


class PinnedSource(SingleSource):
    """The one API key that has what a request is about. Nothing else is tried, and the pool learns from its response."""

    def __init__(self, pool: Pool, credential: Credential) -> None:
        super().__init__(credential)
        self._pool = pool

    def record_response(self, credential: Credential, verdict: Verdict, response: UpstreamResponse) -> None:
        self._pool.record_response(credential, verdict, response)
