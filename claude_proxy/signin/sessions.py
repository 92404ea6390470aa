"""Sign-ins and their refresh tokens: opaque, used once, and replaced at each use.

A refresh token is the name of its sign-in (16 bytes) and a secret (32 bytes), both random to others. The store has hashes of
both. A sign-in is one row, ``signin:{hash of the name}``, with the hashes of its current and its previous token.

Rules:
  1. Each use replaces the token. The row that replaces another has that row's time as its stamp, so of several processes that
     replace one token at the same moment the store accepts one.
  2. Which token replaces another depends on the two and on a signing key only. So a client that repeats a request within
     ``REPEAT_SECONDS``, because the response was lost, gets the same token again, and there is never a second line of tokens.
  3. A token that was used before, and is not such a repetition, is refused, and its sign-in is suspect: either another Claude
     Code of the same user has refreshed (2.1.332 refreshes with the token in its memory, and after a refusal takes the newer
     one from its file), or somebody else has stolen the token and used it first. In the second case its user has to sign in
     again, and that ends every sign-in of theirs that has become suspect in the last ``SUSPECT_SECONDS``.
     A token whose replacement was already used is never a repetition.
  4. A sign-in that has ended is the row ``signout:{...}``, which nothing removes while a token of it could exist.
"""

import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.users import UserBook, folded
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.key_source import KeySource
from claude_proxy.signin.keys import Key, KeyRing
from claude_proxy.signin.shared import SIGN_INS, SIGN_OUTS, SUSPECTS, SharedSignIns
from claude_proxy.signin.tokens import AccessTokens
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store

logger = logging.getLogger(__name__)

NAME_BYTES, SECRET_BYTES = 16, 32
# A client may wait this long for a lost response before it repeats the request.
REPEAT_SECONDS = 30.0
# How long a suspect sign-in ends when its user signs in again.
SUSPECT_SECONDS = 3600.0
# The least time between two replacements: stamps grow, also where the clock does not.
TICK = 0.001


class InvalidGrant(Exception):
    """The code or the token is not valid, or no longer."""


class KeysUnavailable(Exception):
    """There are no keys to sign a token with."""


class Tokens(NamedTuple):
    """What a client gets; ``expires_in`` is the lifetime of the access token in seconds."""

    access_token: Secret
    expires_in: int
    refresh_token: Secret
    identity: Identity


@dataclass(frozen=True)
class Session:
    """A sign-in, as the store has it.

    ``used`` is the time of the last use of a refresh token, or of the start. ``at`` is the same, except that it always grows,
    also where the clock is set back.
    """

    identifier: str
    identity: Identity
    since: float
    used: float
    at: float
    turn: int
    current: str
    previous: str
    kid: str

    def row(self, stamp: float) -> Row:
        """Return the row."""
        value = {
            "identity": self.identity.as_json(), "since": self.since, "used": self.used, "at": self.at, "turn": self.turn,
            "current": self.current, "previous": self.previous, "kid": self.kid,
        }  # fmt: skip
        return Row(f"{SIGN_INS}{self.identifier}", stamp, json.dumps(value))

    @classmethod
    def of_row(cls, row: Row) -> "Session | None":
        """Read a row; None for one of another version."""
        try:
            found = json.loads(row.value)
            return cls(
                identifier=row.key.removeprefix(SIGN_INS),
                identity=Identity.of_json(found["identity"]),
                since=float(found["since"]),
                used=float(found["used"]),
                at=float(found["at"]),
                turn=int(found["turn"]),
                current=str(found["current"]),
                previous=str(found["previous"]),
                kid=str(found["kid"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


class Sessions:
    """One per process. The methods raise ``StoreUnavailable`` if the store does not respond."""

    def __init__(
        self,
        store: Store,
        *,
        shared: SharedSignIns,
        keys: KeySource,
        tokens: AccessTokens,
        users: UserBook,
        config: Callable[[], SignInConfig],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._shared = shared
        self._keys = keys
        self._tokens = tokens
        self._users = users
        self._config = config
        self._clock = clock

    async def begin(self, device_code: Secret, identity: Identity, started: float) -> Tokens:
        """Start a sign-in for an approved device code, which was started at ``started``, and return its first tokens.

        Raises ``InvalidGrant`` for a code that was used before, and ends its sign-in; repetitions are as for refresh tokens.
        """
        ring, now = self._ring(), self._clock()
        key = ring.signing(now)
        code = device_code.reveal().encode()
        name = hashlib.sha256(b"sign-in of a device code: " + code).digest()[:NAME_BYTES]
        identifier = _identifier(name)
        first = _token(name, key.derive("first refresh token", code))
        at = max(now, started + TICK)
        made = Session(identifier, identity, now, now, at, 0, _hash(first), _hash(device_code), key.kid)
        if not self._exists(identity):
            raise InvalidGrant
        await self._store.push([made.row(started)])
        there = await self._there(identifier)
        if there is None:
            raise InvalidGrant
        if there.turn or not self._repeats(there):
            await self._end_stolen(there)
            raise InvalidGrant
        logger.info("user %s signed in with /login", there.identity.name)
        await self._end_suspects(there)
        return self._issue(there, _token(name, self._key(there.kid).derive("first refresh token", code)))

    async def refresh(self, token: Secret) -> Tokens:
        """Replace a refresh token; raise ``InvalidGrant`` for an invalid one, also for one that was used before."""
        self._ring()
        name = _name(token)
        identifier = _identifier(name)
        there = await self._there(identifier)
        if there is None or self._clock() - there.used > self._config().refresh_seconds:
            raise InvalidGrant
        if not self._exists(there.identity):
            await self.end(identifier)
            logger.info("the sign-in of user %s ended: the user was removed", there.identity.name)
            raise InvalidGrant
        used = _hash(token)
        if hmac.compare_digest(there.current, used):
            await self._store.push([self._replaced(there, name, token)])
            there = await self._there(identifier)
            if there is None:
                raise InvalidGrant
        if not hmac.compare_digest(there.previous, used) or not self._repeats(there):
            logger.info("a refresh token of user %s was used before, and is refused", there.identity.name)
            await self._store.push([Row(f"{SUSPECTS}{identifier}", self._clock(), "{}")])
            raise InvalidGrant
        return self._issue(there, _successor(name, token, self._key(there.kid)))

    async def revoke(self, token: Secret) -> None:
        """End the sign-in of a refresh token or an access token; do nothing for any other text."""
        try:
            identifier = _identifier(_name(token))
        except InvalidGrant:
            found = self._tokens.session_of(token)
            if found is None:
                return
            identifier = found
        if await self._there(identifier) is not None:
            await self.end(identifier)

    async def revoke_user(self, name: str) -> int:
        """End all sign-ins of a user; return how many there were."""
        found = [one for one in await self.all() if folded(one.identity.name) == folded(name)]
        for one in found:
            await self.end(one.identifier)
        return len(found)

    async def all(self) -> list[Session]:
        """Return the sign-ins that could be refreshed, the oldest first."""
        rows, _ = await self._store.pull(0)
        ended = {row.key.removeprefix(SIGN_OUTS) for row in rows if row.key.startswith(SIGN_OUTS)}
        found = [one for row in rows if row.key.startswith(SIGN_INS) and (one := Session.of_row(row))]
        limit = self._clock() - self._config().refresh_seconds
        return sorted((one for one in found if one.identifier not in ended and one.used > limit), key=lambda one: one.since)

    async def end(self, identifier: str) -> None:
        """End a sign-in: its refresh tokens, and its access tokens in every process."""
        row = Row(f"{SIGN_OUTS}{identifier}", self._clock(), "{}")
        await self._store.push([row])
        self._shared.merge([row])
        await self._store.prune(f"{SIGN_INS}{identifier}", 0.0, 0)

    async def _end_suspects(self, new: Session) -> None:
        """End the other sign-ins of a user of which a token was used twice (rule 3)."""
        user = folded(new.identity.name)
        others = {one.identifier: one for one in await self.all() if folded(one.identity.name) == user}
        others.pop(new.identifier, None)
        for row in await self._store.read([f"{SUSPECTS}{identifier}" for identifier in others]):
            if self._clock() - row.stamp <= SUSPECT_SECONDS:
                await self._end_stolen(others[row.key.removeprefix(SUSPECTS)])

    async def _end_stolen(self, there: Session) -> None:
        await self.end(there.identifier)
        logger.warning(
            "the sign-in of user %s ended: one of its refresh tokens was used twice, so somebody else may have it",
            there.identity.name,
        )

    async def _there(self, identifier: str) -> Session | None:
        """Return a sign-in that has not ended."""
        keys = [f"{SIGN_INS}{identifier}", f"{SIGN_OUTS}{identifier}"]
        rows = await self._store.read(keys)
        if not rows and (known := self._shared.known(identifier)):
            # The store has lost its rows a moment ago, and nobody has pushed them again yet.
            await self._store.push([known])
            rows = await self._store.read(keys)
        self._shared.merge(rows)
        if len(rows) != 1 or not rows[0].key.startswith(SIGN_INS):
            return None
        return Session.of_row(rows[0])

    def _replaced(self, there: Session, name: bytes, token: Secret) -> Row:
        """Return the row in which a token is replaced by its successor (rule 1)."""
        now = self._clock()
        key = self._ring().signing(now)
        at, current = max(now, there.at + TICK), _hash(_successor(name, token, key))
        after = replace(there, used=now, at=at, turn=there.turn + 1, current=current, previous=_hash(token), kid=key.kid)
        return after.row(there.at)

    def _repeats(self, there: Session) -> bool:
        """Whether the last replacement is so recent that a client may repeat its request."""
        return abs(self._clock() - there.used) <= REPEAT_SECONDS

    def _exists(self, identity: Identity) -> bool:
        """Whether the user still exists: the personal token, or the identity provider."""
        if not identity.token_digest:
            return self._config().provider
        return any(hmac.compare_digest(user.digest, identity.token_digest) for user in self._users.all_users())

    def _issue(self, session: Session, token: Secret) -> Tokens:
        if not hmac.compare_digest(session.current, _hash(token)):
            raise InvalidGrant
        access, lifetime = self._tokens.issue(self._ring(), session.identity, session.identifier)
        return Tokens(access, lifetime, token, session.identity)

    def _ring(self) -> KeyRing:
        ring = self._keys.current()
        if ring is None:
            raise KeysUnavailable
        return ring

    def _key(self, kid: str) -> Key:
        """Return a key by name. A replica that has just made a new one may have used it before this process has it."""
        key = self._ring().find(kid)
        if key is None:
            raise KeysUnavailable
        return key


def _successor(name: bytes, token: Secret, key: Key) -> Secret:
    return _token(name, key.derive("next refresh token", token.reveal().encode()))


def _token(name: bytes, secret: bytes) -> Secret:
    return Secret(base64.urlsafe_b64encode(name + secret).decode())


def _name(token: Secret) -> bytes:
    """Return the name of the sign-in in a refresh token; raise ``InvalidGrant`` for another text."""
    text = token.reveal()
    try:
        decoded = base64.b64decode(text.encode("ascii"), b"-_", validate=True)
    except (UnicodeError, binascii.Error):
        raise InvalidGrant from None
    if len(decoded) != NAME_BYTES + SECRET_BYTES:
        raise InvalidGrant
    return decoded[:NAME_BYTES]


def _identifier(name: bytes) -> str:
    return hashlib.sha256(name).hexdigest()[:32]


def _hash(token: Secret) -> str:
    return hashlib.sha256(token.reveal().encode()).hexdigest()
