"""How many connections of clients one process keeps, and which it closes to make room. Counts only, no I/O."""

# Rules:
#   1. a connection is idle from its start until the head of a request is whole, and again once its response is sent;
#   2. beyond `Limits.connections`, a connection that is idle is closed for the newest one, the longest idle first;
#   3. beyond `Limits.requests`, a further request is refused, and its connection stays idle;
#   4. a connection with a request under way is never closed for another one.

import resource
from collections.abc import Callable, Hashable, Sized
from dataclasses import dataclass
from typing import Generic, TypeVar

from claude_proxy.server.options import MANY_FILES

# Files for everything but clients and the upstream connections of their requests: logs, the state file, Redis, a database,
# and idle upstream connections. Where there are few files it is half of them; a proxy that has just started has 20 open.
OWN_FILES = 256
# Connections beside those with a request under way: where a new client waits until its head is whole, and is refused in words.
MIN_IDLE = 16

# How often the log has a line about a limit that is reached.
LOG_SECONDS = 60.0

Connection = TypeVar("Connection", bound=Hashable)


@dataclass(frozen=True)
class Limits:
    """The most connections of clients that a process keeps, and the most of them that have a request under way."""

    connections: int
    requests: int

    @classmethod
    def of_process(cls) -> "Limits":
        """Return what this process's limit of open files allows, or the number that the proxy asks for if that is less."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls.of_files(MANY_FILES if soft == resource.RLIM_INFINITY else min(soft, MANY_FILES))

    @classmethod
    def of_files(cls, files: int) -> "Limits":
        """Return the limits under which so many files are enough. A request takes two, its client's and its upstream's."""
        free = files - min(OWN_FILES, files // 2)
        idle = max(MIN_IDLE, free // 10)
        requests = max(1, (free - idle) // 2)
        return cls(requests + idle, requests)


class ClientConnections(Generic[Connection]):
    """One for a process, used from its event loop alone. ``open_now`` is the server's own set of open connections."""

    def __init__(self, limits: Limits, open_now: Sized) -> None:
        self.limits = limits
        self._open = open_now
        # The longest idle first. A mapping, because a set has no order.
        self._idle: dict[Connection, None] = {}
        self._logged: dict[str, float] = {}

    def is_idle(self, connection: Connection) -> None:
        """Note that a connection is open and has no request under way, from now on."""
        self._idle.pop(connection, None)
        self._idle[connection] = None

    def is_gone(self, connection: Connection) -> None:
        """Forget a connection that is closed or belongs to another protocol."""
        self._idle.pop(connection, None)

    def admits_request(self, connection: Connection) -> bool:
        """Return whether a connection's request may be served; from then on it is not idle."""
        if connection in self._idle and len(self._open) - len(self._idle) >= self.limits.requests:
            return False
        self._idle.pop(connection, None)
        return True

    def to_close(self, newest: Connection, is_sent: Callable[[Connection], bool]) -> Connection | None:
        """Return the connection to close for the newest one and forget it, or None while there is room.

        A connection whose last response is still on its way to the client is the last choice.
        """
        if len(self._open) <= self.limits.connections:
            return None
        others = [one for one in self._idle if one is not newest]
        found = next(filter(is_sent, others), others[0] if others else newest)
        self._idle.pop(found, None)
        return found

    def should_log(self, what: str, now: float) -> bool:
        """Return whether the log has had no line about this for a minute, and take it as written."""
        if what in self._logged and now - self._logged[what] < LOG_SECONDS:
            return False
        self._logged[what] = now
        return True
