"""Where a request's Claude credentials come from: the pool, or one that is the client's or the deployment's own."""

import functools
from typing import Protocol

from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import BUSY_SECONDS, Pool, Wanted
from claude_proxy.credentials.queue import Place
from claude_proxy.credentials.response_rules import Action, Verdict
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.proxy.waiting import WaitingLines


class Source(Protocol):
    """Where a request's credentials come from: the pool, or one that is the client's or the deployment's own."""

    pooled: bool

    def choose(self, tried: frozenset[str]) -> Credential | None:
        """Return the next credential for this request; None when there is none."""

    def probe(self, tried: frozenset[str]) -> Credential | None:
        """Return a credential to ask although it rests; None when it is not time for that."""

    def release(self, credential: Credential) -> None:
        """Note that the request is under way on a credential no longer."""

    def others(self, credential: Credential) -> frozenset[str]:
        """Return the labels of those that would get the same answer as this one, because they are of its kind."""

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Wait for a credential that rests, as long as the settings allow; None when that is not long enough.

        What comes back is ``tried`` without those that have rested since: they may be asked again, and nobody else.
        """

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        """Learn from an answer."""

    def suspect(self, credential: Credential, refusal: str) -> bool:
        """Record an unconfirmed refusal; return whether another caller's request met the same one on this credential."""

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        """Let a verdict count that another response has confirmed."""

    def doubt(self, credential: Credential, answer: UpstreamResponse) -> bool:
        """Record a refusal in words that no rule knows; return whether it is time to ask another credential the same."""

    def mistrust(self, credential: Credential, answer: UpstreamResponse) -> None:
        """Take in that another credential has answered what this one refused in words that no rule knows."""


class PoolSource:
    """The pool's credentials, for one request. ``max_wait`` is in seconds; ``caller`` tells who sent the request.

    ``lines`` are those of the process: a request that finds others waiting for the same waits for its turn, too.
    """

    pooled = True

    def __init__(
        self, pool: Pool, wanted: Wanted, *, caller: str = "", max_wait: float = 0.0, lines: WaitingLines | None = None
    ) -> None:
        self._pool = pool
        self._wanted = wanted
        self._caller = caller
        self._wait_left = max_wait
        self._lines = lines or WaitingLines()
        # Where it stands in the order of arrival, once it has waited, and whether it was let go to see who is usable.
        self._arrival = 0
        self._was_let_go = False

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return None if self._is_held_up(tried) else self._pool.choose(self._wanted, tried)

    def probe(self, tried: frozenset[str]) -> Credential | None:
        if self._is_held_up(tried) and not self._pool.delay(self._wanted.scope, tried, self._wanted.asker):
            return None
        return self._pool.probe(self._wanted, tried)

    def release(self, credential: Credential) -> None:
        self._pool.release(credential)

    def others(self, credential: Credential) -> frozenset[str]:
        return self._pool.of_kind(credential.kind)

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """Claude Code waits 300 s for the first byte of an answer, and nothing has to be sent meanwhile (2.1.197)."""
        scope, asker = self._wanted.scope, self._wanted.asker
        left = tried - self._pool.cooling_down(scope, asker)
        begun, again = self._lines.clock(), self._arrival > 0
        # One that was let go and found nobody, because others were faster, does not ask in a circle.
        delay = functools.partial(self._delay, left, begun + (BUSY_SECONDS if self._was_let_go else 0.0))
        seconds = delay()
        if seconds and seconds >= self._wait_left:
            return None
        self._arrival = self._arrival or self._lines.arrival()
        if not seconds and not again and not self._lines.hold_up(self._line):
            self._was_let_go = True
            return left
        place = Place(self._caller, begun + self._wait_left, delay, self._arrival, is_picky=bool(left))
        self._was_let_go = await self._lines.turn(self._line, place, again=again)
        self._wait_left -= self._lines.clock() - begun
        return left if self._was_let_go else None

    @property
    def _line(self) -> tuple[Scope, tuple[frozenset[str], ...]]:
        """What it waits for: who may use other credentials waits for something else."""
        return self._wanted.scope, self._wanted.asker.groups

    def _delay(self, tried: frozenset[str], not_before: float) -> float:
        return self._pool.delay(self._wanted.scope, tried, self._wanted.asker) or max(0.0, not_before - self._lines.clock())

    def _is_held_up(self, tried: frozenset[str]) -> bool:
        """Whether others came before: a request that has begun to ask, or had its turn, goes on."""
        return not tried and not self._arrival and self._wait_left > 0 and self._lines.hold_up(self._line)

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        self._pool.note(credential, verdict, answer)
        if self._was_let_go:
            self._was_let_go = False
            self._lines.heard(self._line, good=verdict.action is Action.DONE)

    def suspect(self, credential: Credential, refusal: str) -> bool:
        return self._pool.suspect(credential, refusal, self._caller)

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        self._pool.confirm(credential, verdict)

    def doubt(self, credential: Credential, answer: UpstreamResponse) -> bool:
        return self._pool.doubt(credential, answer)

    def mistrust(self, credential: Credential, answer: UpstreamResponse) -> None:
        self._pool.mistrust(credential, answer)


class SingleSource:
    """One credential, asked once: passthrough, and the key that a deployment has in config.yaml."""

    pooled = False

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def choose(self, tried: frozenset[str]) -> Credential | None:
        return None if self._credential.label in tried else self._credential

    def probe(self, tried: frozenset[str]) -> Credential | None:
        """One credential does not rest."""

    def release(self, credential: Credential) -> None:
        """One credential is not counted."""

    def others(self, credential: Credential) -> frozenset[str]:
        return frozenset({credential.label})

    async def wait(self, tried: frozenset[str]) -> frozenset[str] | None:
        """One credential is not waited for."""

    def note(self, credential: Credential, verdict: Verdict, answer: UpstreamResponse) -> None:
        """One credential has no state: it is its owner's."""

    def suspect(self, credential: Credential, refusal: str) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def confirm(self, credential: Credential, verdict: Verdict) -> None:
        """One credential is never out: it is its owner's."""

    def doubt(self, credential: Credential, answer: UpstreamResponse) -> bool:  # noqa: ARG002 - the protocol's
        return False

    def mistrust(self, credential: Credential, answer: UpstreamResponse) -> None:
        """One credential is not doubted: there is no other one."""
