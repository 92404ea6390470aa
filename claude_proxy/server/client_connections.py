"""Limits the connections of clients in one process, and decides which one is closed to make room. No I/O."""

# Rules:
#   1. A connection is idle from its start until a request's head is complete, and again after its response.
#   2. Beyond `Limits.connections`, an idle connection is closed for each new one, the longest idle one first.
#   3. Beyond `Limits.requests`, a request is refused, and its connection stays idle.
#   4. A connection with a request in progress is never closed for another one.

import resource
from collections.abc import Callable, Hashable, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

from claude_proxy.server.options import MANY_FILES

# Files that are not client connections or the upstream connections of their requests: logs, the state file, Redis, a database,
# idle upstream connections. With few files it is half of them; a proxy that has just started has 20 open.
OWN_FILES = 256
# Extra connections: a new client needs one until its request's head is complete, and to receive an error.
MIN_IDLE = 16

# The minimum interval between two log lines about the same limit.
LOG_SECONDS = 60.0

Connection = TypeVar("Connection", bound=Hashable)


@dataclass(frozen=True)
class Limits:
    """The maximum numbers of client connections and of requests in progress in a process."""

    connections: int
    requests: int

    @classmethod
    def of_process(cls) -> "Limits":
        """Return the limits for this process's limit of open files, at most ``MANY_FILES``."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls.of_files(MANY_FILES if soft == resource.RLIM_INFINITY else min(soft, MANY_FILES))

    @classmethod
    def of_files(cls, files: int) -> "Limits":
        """Return the limits for a number of files. A request needs two, one for the client and one for the upstream."""
        free = files - min(OWN_FILES, files // 2)
        idle = max(MIN_IDLE, free // 10)
        requests = max(1, (free - idle) // 2)
        return cls(requests + idle, requests)


class ClientConnections(Generic[Connection]):
    """One per process, used from its event loop only. ``open_now`` is the server's own set of open connections."""

    def __init__(self, limits: Limits, open_now: Sized) -> None:
        self.limits = limits
        self._open = open_now
        # The longest idle first. A dict, because a set has no order.
        self._idle: dict[Connection, None] = {}
        self._logged: dict[str, float] = {}

    def is_idle(self, connection: Connection) -> None:
        """Record that a connection is open without a request in progress."""
        self._idle.pop(connection, None)
        self._idle[connection] = None

    def is_gone(self, connection: Connection) -> None:
        """Remove a connection that is closed or belongs to another protocol."""
        self._idle.pop(connection, None)

    def admits_request(self, connection: Connection) -> bool:
        """Return whether a connection's request may be served; if so, the connection is no longer idle."""
        if connection in self._idle and len(self._open) - len(self._idle) >= self.limits.requests:
            return False
        self._idle.pop(connection, None)
        return True

    def to_close(self, newest: Connection, is_sent: Callable[[Connection], bool]) -> Connection | None:
        """Return the connection to close for the newest one, and remove it; None if there is room.

        A connection that is still sending its last response is the last choice.
        """
        if len(self._open) <= self.limits.connections:
            return None
        others = [one for one in self._idle if one is not newest]
        found = next(filter(is_sent, others), others[0] if others else newest)
        self._idle.pop(found, None)
        return found

    def should_log(self, what: str, now: float) -> bool:
        """Return whether this was not logged within the last minute, and record it as logged."""
        if what in self._logged and now - self._logged[what] < LOG_SECONDS:
            return False
        self._logged[what] = now
        return True
