"""Limits on the requests of a user, per minute and at the same time. No I/O; two clocks are arguments.

Four rules:
  1. A request is refused before anything is sent to a provider. A refused request does not count, nor does a count of tokens.
  2. The minute slides: at every moment, at most the limit was admitted in the 60 seconds before.
  3. Within one process both limits are exact. Processes that share a store tell each other their numbers, so with several of
     them a limit can be passed by what they admit within one exchange (``state/replication.py``), a quarter of a second.
  4. What another process has in progress counts while its row is renewed; a process that was killed counts ``ALIVE_SECONDS``.
"""

import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.user_limits import MOST, NO_LIMIT, PER_MINUTE, STREAMS, RequestLimit, UserLimits
from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row, skipping_unreadable

PREFIX = "requests:"
MINUTE = 60.0
# How often a row is renewed, and how long it counts without that.
RENEW_SECONDS = 10.0
ALIVE_SECONDS = 30.0
# The maximum number of processes and of their users whose numbers are kept.
MAX_WRITERS = 200
MAX_USERS = 10_000
# When one of the running requests ends is not known; the client's own pauses grow.
STREAM_RETRY_SECONDS = 1
# For users without a limit. It has no state.
NOT_LIMITED = nullcontext()


@dataclass
class _Own:
    """The requests of one user in this process: when they were admitted in the last minute, and how many are running."""

    admitted: deque[float] = field(default_factory=deque)
    running: int = 0

    def forget(self, now: float) -> None:
        """Forget what is older than a minute."""
        while self.admitted and self.admitted[0] <= now - MINUTE:
            self.admitted.popleft()


@dataclass
class _Other:
    """The requests of all users in another process: by user the running ones, and times with the number admitted then."""

    stamp: float
    seen: float
    users: dict[str, tuple[int, list[tuple[float, int]]]]


class RequestLimits:
    """One per process: a part of its shared state. ``limits`` returns the current limits; ``clock`` Unix seconds."""

    def __init__(
        self,
        limits: Callable[[], UserLimits],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        writer: str | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic
        self._writer = writer or secrets.token_hex(8)
        self._own: dict[str, _Own] = {}
        self._others: dict[str, _Other] = {}
        self._stamp = 0.0
        self._is_changed = False
        self._shared_at = self._forgot_at = -math.inf

    def admitted(self, user: str) -> AbstractContextManager[None]:
        """Return a context for a user's request, which ends with it. Entering it raises ``Refused`` beyond a limit."""
        limits = self._limits()
        limit = limits.limit(user) if limits else NO_LIMIT
        return NOT_LIMITED if limit == NO_LIMIT else self._counted(user, limit)

    @contextmanager
    def _counted(self, user: str, limit: RequestLimit) -> Iterator[None]:
        name, now = folded(user), self._monotonic()
        if now - self._forgot_at >= MINUTE:
            self._forget(now)
        own = self._own.setdefault(name, _Own())
        own.forget(now)
        self._check(user, name, limit, now)
        own.admitted.append(now)
        own.running += 1
        self._is_changed = True
        try:
            yield
        finally:
            own.running -= 1
            self._is_changed = True

    def _check(self, user: str, name: str, limit: RequestLimit, now: float) -> None:
        per_minute, streams = limit
        if per_minute is not None and (seconds := self._wait(name, per_minute, now)):
            raise Refused(
                429,
                f"{user} may send {per_minute} requests per minute on this proxy. Try again in {seconds} s. "
                f"The limit is {PER_MINUTE} in the proxy's config.yaml; its operator can change it.",
                _headers(seconds),
            )
        if streams is not None and self._running(name, now) >= streams:
            raise Refused(
                429,
                f"{user} may have {streams} request{'' if streams == 1 else 's'} in progress at the same time on this proxy. "
                f"Try again when one of them has ended. The limit is {STREAMS} in the proxy's config.yaml; "
                "its operator can change it.",
                _headers(STREAM_RETRY_SECONDS),
            )

    def _wait(self, name: str, limit: int, now: float) -> int:
        """Return the seconds until another request is within the limit; 0 if one is now."""
        own = self._own.get(name)
        times = [(at, 1) for at in own.admitted] if own else []
        for other in self._others.values():
            times += [one for one in other.users.get(name, (0, []))[1] if one[0] > now - MINUTE]
        beyond = sum(count for _, count in times) - limit
        if beyond < 0:
            return 0
        for at, count in sorted(times):
            beyond -= count
            if beyond < 0:
                return max(1, math.ceil(at + MINUTE - now))
        return math.ceil(MINUTE)

    def _running(self, name: str, now: float) -> int:
        own = self._own.get(name)
        others = (other.users.get(name, (0, []))[0] for other in self._others.values() if now - other.seen < ALIVE_SECONDS)
        return (own.running if own else 0) + sum(others)

    def _forget(self, now: float) -> None:
        """Forget users without a request in the last minute."""
        self._forgot_at = now
        for name, own in [*self._own.items()]:
            own.forget(now)
            if not own.admitted and not own.running:
                del self._own[name]

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return this process's numbers, if they have changed or have to be renewed."""
        now = self._monotonic()
        if not self._is_changed and not (self._is_running() and now - self._shared_at >= RENEW_SECONDS):
            return []
        self._is_changed = False
        self._shared_at = now
        return self.everything()

    def everything(self) -> list[Row]:
        """Return this process's numbers. Times are ages, because the clocks of two machines differ."""
        now = self._monotonic()
        self._forget(now)
        if not self._own and not self._stamp:
            return []
        users = {name: [own.running, _ages(own.admitted, now)] for name, own in self._own.items()}
        self._stamp = max(self._clock(), math.nextafter(self._stamp, math.inf))
        return [Row(f"{PREFIX}{self._writer}", self._stamp, json.dumps(users))]

    def merge(self, rows: Iterable[Row], /) -> None:
        """Apply the numbers of other processes. Rows of other parts, and invalid ones, are skipped."""
        for row in rows:
            writer = row.key.removeprefix(PREFIX)
            if writer in (row.key, self._writer):
                continue
            with skipping_unreadable(row):
                self._merge_row(writer, row)

    def _merge_row(self, writer: str, row: Row) -> None:
        now, there = self._monotonic(), self._others.get(writer)
        if there is not None and row.stamp <= there.stamp:
            return
        # The first row of a process may be old: it was read from the store at the start.
        elapsed = 0.0 if there is not None else max(0.0, self._clock() - row.stamp)
        users = {}
        for name, (running, ages) in [*json.loads(row.value).items()][:MAX_USERS]:
            times = [(now - elapsed - _number(age, MINUTE), int(_number(count, MOST))) for age, count in ages]
            users[name] = int(_number(running, MOST)), times
        self._others[writer] = _Other(row.stamp, now - elapsed, users)
        if len(self._others) > MAX_WRITERS:
            del self._others[min(self._others, key=lambda one: self._others[one].seen)]

    def _is_running(self) -> bool:
        return any(own.running for own in self._own.values())


def _ages(times: Sequence[float], now: float) -> list[tuple[int, int]]:
    """Return the number of requests by their age in whole seconds."""
    found: dict[int, int] = {}
    for at in times:
        age = int(now - at)
        found[age] = found.get(age, 0) + 1
    return [*found.items()]


def _number(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("not a number in the range")
    return value


def _headers(seconds: int) -> list[tuple[str, str]]:
    # Claude Code waits up to a minute and tries again by itself.
    return [("retry-after", str(seconds)), ("x-should-retry", "true")]
