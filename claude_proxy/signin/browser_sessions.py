"""What the proxy keeps of a browser between two steps of a sign-in: rows in the store, so that any process may serve any step.

1. A session gets a new random id whenever something is added to it, so that nobody who planted or read an earlier id has it.
2. The store has only the id's hash. A session ends after ``LIFETIME_SECONDS``, or when it is used.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from claude_proxy.secret import Secret
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store

LIFETIME_SECONDS = 600.0
PREFIX = "browser:"
_ID = re.compile(r"[A-Za-z0-9_-]{43}")


def new_id() -> Secret:
    """Return a random id of 256 bits."""
    return Secret(secrets.token_urlsafe(32))


def read_id(text: str | None) -> Secret | None:
    """Return the id in a cookie; None if the text cannot be one."""
    return Secret(text) if text and _ID.fullmatch(text) else None


def form_token(session: Secret) -> str:
    """Return the value that every form of a browser's page contains; only who knows the id can make it."""
    return hmac.new(session.reveal().encode(), b"form", hashlib.sha256).hexdigest()


class BrowserSessions:
    """One per process. Every method raises ``StoreUnavailable`` if the store does not respond. ``clock``: Unix seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def start(self, facts: Mapping[str, Any]) -> Secret:
        """Keep facts, which are JSON, under a new id; return the id."""
        session = new_id()
        await self._store.push([Row(_key(session), self._clock(), json.dumps(facts))])
        return session

    async def find(self, session: Secret | None) -> dict[str, Any]:
        """Return the facts of a session; empty if there is none, or if it has ended."""
        rows = await self._store.read([_key(session)]) if session else []
        # A clock that was set back makes no session last longer than its lifetime from the start.
        if not rows or abs(self._clock() - rows[0].stamp) >= LIFETIME_SECONDS:
            return {}
        try:
            found = json.loads(rows[0].value)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    async def end(self, session: Secret | None) -> None:
        """End a session, if it exists."""
        rows = await self._store.read([_key(session)]) if session else []
        if rows:
            await self._store.push([Row(rows[0].key, rows[0].stamp + 1.0, json.dumps({}))])


def _key(session: Secret) -> str:
    return PREFIX + hashlib.sha256(session.reveal().encode()).hexdigest()
