"""Logs refused requests, in one line a minute for each address, and delays clients that keep sending wrong tokens."""

# Rules:
#   1. the first refusal of an address is logged immediately; further ones are counted and logged in one line a minute;
#   2. a wrong token is refused immediately the first `FREE_ATTEMPTS` times, then after a delay that doubles up to `MAX_DELAY`;
#      an address that sends none for `FORGET_SECONDS` starts again at zero;
#   3. a request with a valid token is never delayed, whatever its address has sent before: behind a load balancer all clients
#      have the same address;
#   4. at most `MAX_WAITING` requests wait at the same time, and at most `MAX_SOURCES` addresses are stored; further addresses
#      share one row.

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.asgi import Receive

logger = logging.getLogger(__name__)

LOG_SECONDS = 60.0
MAX_SOURCES = 256
FREE_ATTEMPTS = 10
FIRST_DELAY = 0.25
MAX_DELAY = 4.0
FORGET_SECONDS = 300.0
# A waiting request uses up a place. With a limit of 128 open files there are places for 24 requests.
MAX_WAITING = 16
OTHERS = "other addresses"
UNKNOWN = "an unknown address"

Clock = Callable[[], float]


def source_of(client: Any) -> str:
    """Return the address of an ASGI scope's client; for IPv6 its network, because one host may have all addresses of it."""
    try:
        address = ipaddress.ip_address(str(client[0]).partition("%")[0])
    except (TypeError, IndexError, ValueError):
        return UNKNOWN  # no address, or a text from X-Forwarded-For
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


@dataclass
class _Logged:
    since: float
    count: int = 0
    last: str = ""


class RefusalLog:
    """Rule 1. Returns the lines to log; the caller logs them, and calls again when the next one is due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The oldest minute first.
        self._rows: dict[str, _Logged] = {}

    def refused(self, source: str, request: str, status: int) -> list[str]:
        """Return the lines to log for a refused request."""
        lines = self.due()
        row = self._rows.get(source)
        if row is None and len(self._rows) >= MAX_SOURCES:
            row = self._rows.get(OTHERS)
            known_as = OTHERS
        else:
            known_as = source
        if row is None:
            self._rows[known_as] = _Logged(self._clock())
            return [*lines, f"refused {request} from {source}: HTTP {status}"]
        row.count += 1
        row.last = f"{request}: HTTP {status}"
        return lines

    def due(self) -> list[str]:
        """Return a line for each address that was refused again in its minute, if that is over; the next minute begins."""
        now, lines = self._clock(), []
        while self._rows:
            source, row = next(iter(self._rows.items()))
            if row.since + LOG_SECONDS > now:
                break
            del self._rows[source]
            if row.count:
                lines.append(f"refused {row.count} more requests from {source} within a minute, the last {row.last}")
                self._rows[source] = _Logged(now)
        return lines

    def seconds_to_next(self) -> float | None:
        """Return the seconds until ``due`` must be called again; None if nothing was refused in the last minute."""
        return next((max(0.0, row.since + LOG_SECONDS - self._clock()) for row in self._rows.values()), None)


class LoginDelays:
    """Rules 2 and 4. A caller that waits calls ``enter`` before and ``leave`` after."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By source, least recent first: the number of its wrong tokens, and the time of the last one.
        self._attempts: dict[str, tuple[int, float]] = {}
        self._waiting = 0

    def failed(self, source: str) -> float:
        """Count a wrong token and return the delay of the refusal in seconds."""
        now = self._clock()
        while self._attempts and next(iter(self._attempts.values()))[1] + FORGET_SECONDS <= now:
            del self._attempts[next(iter(self._attempts))]
        if source not in self._attempts and len(self._attempts) >= MAX_SOURCES:
            source = OTHERS
        attempts = self._attempts.pop(source, (0, now))[0] + 1
        self._attempts[source] = attempts, now
        extra = attempts - FREE_ATTEMPTS
        # Beyond a small power the result is the same, and a large power overflows.
        return 0.0 if extra <= 0 else min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(extra - 1, 16))

    def enter(self) -> bool:
        """Return whether another request may wait, and count it."""
        if self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        return True

    def leave(self) -> None:
        """Count one waiting request less."""
        self._waiting -= 1


class AttemptLimit:
    """At most ``most`` wrong attempts of one source within ``seconds``; then none is accepted until that time is over.

    For what can be guessed, unlike a token: a valid attempt of the source is not accepted either.
    """

    def __init__(self, most: int, seconds: float, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        # By source, the oldest first: the end of its time, and the number of its wrong attempts.
        self._rows: dict[str, tuple[float, int]] = {}

    def wait(self, source: str) -> int:
        """Return the seconds until another attempt is accepted; 0 if it is accepted now."""
        until, wrong = self._rows.get(self._known_as(source), (0.0, 0))
        return max(0, math.ceil(until - self._clock())) if wrong >= self._most else 0

    def failed(self, source: str) -> bool:
        """Count a wrong attempt; return whether it was the last one."""
        name, now = self._known_as(source), self._clock()
        until, wrong = self._rows.get(name, (now + self._seconds, 0))
        self._rows[name] = until, wrong + 1
        return wrong + 1 >= self._most

    def _known_as(self, source: str) -> str:
        while self._rows and next(iter(self._rows.values()))[0] <= self._clock():
            del self._rows[next(iter(self._rows))]
        return source if source in self._rows or len(self._rows) < MAX_SOURCES else OTHERS


class FailedLogins:
    """``RefusalLog`` and ``LoginDelays``, with the event loop's timers. One per process."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._log = RefusalLog(clock)
        self._delays = LoginDelays(clock)
        self._timer: asyncio.TimerHandle | None = None

    async def response_to(
        self,
        refusal: Refusal,
        source: str,
        request: str,
        receive: Receive,
        *,
        wrong_token: bool,
        busy: Refusal | None = None,
    ) -> Refusal | None:
        """Log a refused request and return the response after its delay; None if the client has disconnected before.

        Where too many others wait, ``busy`` is the response.
        """
        delay = self._delays.failed(source) if wrong_token else 0.0
        waits = delay > 0 and self._delays.enter()
        if delay > 0 and not waits:
            refusal = busy or too_many(delay)
        self._log_lines(self._log.refused(source, request, refusal.status))
        if not waits:
            return refusal
        try:
            return None if await leaves(receive, delay) else refusal
        finally:
            self._delays.leave()

    def _log_lines(self, lines: list[str]) -> None:
        for line in lines:
            logger.warning("%s", line)
        seconds = self._log.seconds_to_next()
        if self._timer is None and seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._log_due)

    def _log_due(self) -> None:
        self._timer = None
        self._log_lines(self._log.due())


def too_many(delay: float) -> Refusal:
    """Return the response to a wrong token when too many others are waiting already."""
    headers = [("retry-after", str(math.ceil(delay))), ("x-should-retry", "false")]
    return own_refusal(429, "Too many requests with a token that is not this proxy's.", headers)


async def leaves(receive: Receive, seconds: float) -> bool:
    """Wait; return true immediately if the client disconnects meanwhile. Drops what the client sends."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
