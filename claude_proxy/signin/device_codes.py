"""The device flow (RFC 8628): codes that a client requests, and that its user approves in a browser.

All facts are rows in the store, so that any process may serve any step:
  1. ``device:{hash of the device code}`` and ``device:user:{hash of the user code}`` hold the login and are never changed;
  2. ``device:user:{hash of the user code}:decision`` is the decision. The first one wins, because all have the same stamp;
  3. a code is valid for ``LIFETIME_SECONDS``, whatever the store still has.
The store has hashes of device codes only: who reads it cannot redeem one.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from claude_proxy.config.users import folded
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store
from claude_proxy.text import clean

LIFETIME_SECONDS = 600
INTERVAL_SECONDS = 5
PREFIX, DECISION = "device:", ":decision"
# Consonants: the letters spell no words, and a code has 34 bits (RFC 8628, section 6.1).
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
CODE_LENGTH = 8
MAX_TYPED = 40
# A device code has 32 random bytes.
DEVICE_CODE_BYTES = 32
MAX_DEVICE_CODE = 100


class Started(NamedTuple):
    """What a client gets. ``expires_in`` and ``interval`` are in seconds."""

    device_code: Secret
    user_code: str
    expires_in: int
    interval: int


class Pending(NamedTuple):
    """A login that waits for a decision, for the page. ``origin`` is the address from which ``client`` started it."""

    user_code: str
    expires_in: float
    origin: str
    client: str = ""


class State(Enum):
    """What became of a device code. EXPIRED is also a code that never existed."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


class Decided(NamedTuple):
    """The state of a device code; ``identity`` if it is approved. ``started`` is the time of its start in Unix seconds."""

    state: State
    identity: Identity | None = None
    started: float = 0.0


@dataclass(frozen=True)
class _Login:
    """A login as the store has it: the hashed user code, and the time of the start, which is the stamp of its rows."""

    user_key: str
    started: float
    user_code: str
    origin: str
    client: str


class DeviceCodes:
    """One per process. Every method raises ``StoreUnavailable`` if the store does not respond.

    ``clock`` returns Unix seconds, like the stamps.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    async def start(self, origin: str = "", client: str = "") -> Started:
        """Start a login; ``origin`` and ``client`` are shown on the page."""
        while True:
            device_code, user_code = Secret(secrets.token_urlsafe(DEVICE_CODE_BYTES)), new_user_code()
            device, user, now = _device_key(device_code), _user_key(user_code), self._clock()
            login = {"user": user, "device": device, "code": user_code, "started": now}
            login |= {"origin": clean(origin), "client": clean(client)}
            rows = [Row(key, now, json.dumps(login)) for key in (device, user)]
            await self._store.push(rows)
            # Another login may have the same user code; then that one keeps it.
            if await self._store.read([device, user]) == rows:
                return Started(device_code, user_code, LIFETIME_SECONDS, INTERVAL_SECONDS)

    async def find(self, user_code: str) -> Pending | None:
        """Return the login with a user code, as a user types it; None if it does not exist, has expired or is decided."""
        login = await self._undecided(user_code)
        if login is None:
            return None
        expires_in = login.started + LIFETIME_SECONDS - self._clock()
        return Pending(login.user_code, expires_in, login.origin, login.client)

    async def approve(self, user_code: str, identity: Identity) -> bool:
        """Approve a login; return whether this decision is the first one."""
        return await self._decide(user_code, {"approved": True, "identity": identity.as_json()})

    async def deny(self, user_code: str) -> bool:
        """Deny a login; return whether this decision is the first one."""
        return await self._decide(user_code, {"approved": False})

    async def withdraw(self, name: str) -> None:
        """Deny the logins that a user has approved and that the client has not redeemed yet."""
        rows, _ = await self._store.pull(0)
        for row in rows:
            decision = _parsed(row) if row.key.startswith(PREFIX) and row.key.endswith(DECISION) else {}
            identity = decision.get("identity")
            if isinstance(identity, dict) and folded(str(identity.get("name"))) == folded(name):
                await self._store.push([Row(row.key, row.stamp + 1, json.dumps({"approved": False}))])

    async def poll(self, device_code: Secret) -> Decided:
        """Return what became of a device code."""
        if len(device_code.reveal()) > MAX_DEVICE_CODE:
            return Decided(State.EXPIRED)
        login = await self._login(_device_key(device_code))
        if login is None:
            return Decided(State.EXPIRED)
        rows = await self._store.read([_decision_key(login)])
        if not rows:
            return Decided(State.PENDING, started=login.started)
        decision = _parsed(rows[0])
        if not decision.get("approved"):
            return Decided(State.DENIED, started=login.started)
        try:
            return Decided(State.APPROVED, Identity.of_json(decision["identity"]), login.started)
        except (KeyError, TypeError, ValueError):  # a row of another version
            return Decided(State.DENIED, started=login.started)

    async def _decide(self, user_code: str, decision: dict[str, Any]) -> bool:
        login = await self._undecided(user_code)
        if login is None:
            return False
        row = Row(_decision_key(login), login.started, json.dumps({"nonce": secrets.token_hex(16)} | decision))
        await self._store.push([row])
        return await self._store.read([row.key]) == [row]

    async def _undecided(self, user_code: str) -> _Login | None:
        code = normalized(user_code)
        login = await self._login(_user_key(code)) if code else None
        if login is None or await self._store.read([_decision_key(login)]):
            return None
        return login

    async def _login(self, key: str) -> _Login | None:
        """Return the login of a row; None if there is none that is still valid."""
        rows = await self._store.read([key])
        found = _parsed(rows[0]) if rows else {}
        try:
            texts = [str(found[name]) for name in ("code", "origin", "client")]
            login = _Login(str(found["user"]), float(found["started"]), *texts)
        except (KeyError, TypeError, ValueError):
            return None
        # A clock that was set back makes no code valid for longer than its lifetime from the start.
        return login if abs(self._clock() - login.started) < LIFETIME_SECONDS else None


def new_user_code() -> str:
    """Return a random user code, as it is shown: XXXX-XXXX."""
    code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
    return _shown(code)


def normalized(typed: str) -> str:
    """Return a user code in the form in which it is shown, from what a user typed; empty if it cannot be one."""
    if len(typed) > MAX_TYPED:
        return ""
    letters = "".join(typed.split()).replace("-", "").upper()
    return _shown(letters) if len(letters) == CODE_LENGTH and set(letters) <= set(LETTERS) else ""


def _shown(letters: str) -> str:
    return f"{letters[: CODE_LENGTH // 2]}-{letters[CODE_LENGTH // 2 :]}"


def _device_key(device_code: Secret) -> str:
    return PREFIX + hashlib.sha256(device_code.reveal().encode("utf-8", "surrogatepass")).hexdigest()


def _user_key(user_code: str) -> str:
    # Not the hash of a text that could be sent as a device code: a user code, which is short and shown, must redeem nothing.
    return f"{PREFIX}user:{hashlib.sha256(user_code.encode()).hexdigest()}"


def _decision_key(login: _Login) -> str:
    return f"{login.user_key}{DECISION}"


def _parsed(row: Row) -> dict[str, Any]:
    try:
        found = json.loads(row.value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
