"""Ends requests in progress of users who were removed."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from claude_proxy.access.routes import STATIC_NAME, Caller, Role
from claude_proxy.config.users import SignedIn, User, digest_of

logger = logging.getLogger(__name__)

# How often the users of running requests are checked, in seconds: the streams of a removed user end within a minute.
LOOK_SECONDS = 15.0
# For callers who cannot be removed. It has no state.
NOT_WATCHED = nullcontext()


class Revocation:
    """The requests in progress of users with a token of their own, or who have signed in.

    ``users`` returns all current users, and ``stands`` whether a sign-in is still valid. While there are such requests, their
    users are checked every ``LOOK_SECONDS``. A request is ended when its user, its token or its sign-in no longer exists.
    Without such requests nothing runs.
    """

    def __init__(self, users: Callable[[], Iterable[User]], stands: Callable[[SignedIn], bool] = lambda _: True) -> None:
        self._users = users
        self._stands = stands
        self._numbers = itertools.count()
        self._running: dict[int, tuple[Caller, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watched(self, caller: Caller, end: Callable[[], None]) -> AbstractContextManager[None]:
        """Return a context within which ``end`` is called, at most once, if the caller is removed."""
        if caller.role is not Role.USER or caller.name == STATIC_NAME or caller.token is None:
            return NOT_WATCHED
        return self._watched(caller, end)

    @contextmanager
    def _watched(self, caller: Caller, end: Callable[[], None]) -> Iterator[None]:
        number = next(self._numbers)
        self._running[number] = caller, end
        self._schedule()
        try:
            yield
        finally:
            self._running.pop(number, None)
            if not self._running and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def look(self) -> None:
        """End the requests of users who no longer exist."""
        there = {(user.name, user.digest) for user in self._users()}
        gone = [number for number, (caller, _) in self._running.items() if not self._is_there(caller, there)]
        for number in gone:
            caller, end = self._running.pop(number)
            what = "the user, or the token, was removed" if caller.signed_in is None else "the user was removed or signed out"
            logger.info("a request of user %s ended: %s", caller.name, what)
            end()

    def _is_there(self, caller: Caller, there: Collection[tuple[str, str]]) -> bool:
        if caller.signed_in is not None:
            return self._stands(caller.signed_in)
        return caller.token is not None and (caller.name, digest_of(caller.token)) in there

    def _schedule(self) -> None:
        if self._timer is None and self._running:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._due)

    def _due(self) -> None:
        self._timer = None
        try:
            self.look()
        finally:
            self._schedule()
