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
  4. Before a token of a provider's user is replaced, the provider is asked (``confirmations.py``), by one process at a time:
     the row names who asks (``lease``) and until when, and is replaced by rule 1. Others wait for the outcome. So the
     provider's refresh token, which it may accept only once, is never sent twice, unless a process stops while it asks.
  5. A sign-in that has ended is the row ``signout:{...}``, which nothing removes while a token of it could exist.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.users import UserBook, folded
from claude_proxy.secret import Secret
from claude_proxy.signin.confirmations import Confirmations, SignInEnded
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.key_source import KeySource
from claude_proxy.signin.keys import LEEWAY_SECONDS, Key, KeyRing
from claude_proxy.signin.oidc_client import REFRESH_SECONDS
from claude_proxy.signin.session import Session
from claude_proxy.signin.shared import SIGN_INS, SIGN_OUTS, SUSPECTS, SharedSignIns
from claude_proxy.signin.tokens import AccessTokens
from claude_proxy.state.rows import Row
from claude_proxy.state.store import Store, StoreUnavailable

logger = logging.getLogger(__name__)

NAME_BYTES, SECRET_BYTES = 16, 32
# A client may wait this long for a lost response before it repeats the request.
REPEAT_SECONDS = 30.0
# How long a suspect sign-in ends when its user signs in again.
SUSPECT_SECONDS = 3600.0
# How long one process may ask the provider: what that takes at most, the store's time and the difference of two clocks. And how
# long and how often another one looks for the outcome.
LEASE_SECONDS = REFRESH_SECONDS + LEEWAY_SECONDS + 15.0
LOOKS, LOOK_SECONDS = 80, 0.25
# The least time between two replacements: stamps grow, also where the clock does not.
TICK = 0.001


class InvalidGrant(Exception):
    """The code or the token is not valid, or no longer."""


class KeysUnavailable(Exception):
    """There are no keys to sign a token with."""


class Unconfirmed(Exception):
    """The identity provider has not confirmed the user for too long, and cannot be asked now."""


class Tokens(NamedTuple):
    """What a client gets; ``expires_in`` is the lifetime of the access token in seconds."""

    access_token: Secret
    expires_in: int
    refresh_token: Secret
    identity: Identity


class Sessions:
    """One per process. The methods raise ``StoreUnavailable`` if the store does not respond."""

    def __init__(
        self,
        store: Store,
        *,
        shared: SharedSignIns,
        keys: KeySource,
        tokens: AccessTokens,
        confirmations: Confirmations,
        users: UserBook,
        config: Callable[[], SignInConfig],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._shared = shared
        self._keys = keys
        self._tokens = tokens
        self._confirmations = confirmations
        self._asking: set[asyncio.Task[Session]] = set()
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
        """Replace a refresh token; raise ``InvalidGrant`` for an invalid one, also for one that was used before.

        Raises ``Unconfirmed`` if that depends on a provider that cannot be asked now.
        """
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
            there = await self._renewed(there, name, token)
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

    async def _renewed(self, there: Session, name: bytes, token: Secret) -> Session:
        """Replace the current token, if the user still exists; return the sign-in as it is then, whoever has replaced it."""
        confirmation = there.identity.confirmation
        if confirmation is not None and confirmation.sealed:
            # A client that leaves does not end this: the provider may have replaced its token by then.
            asking = asyncio.ensure_future(self._renewed_by_one(there, name, token))
            self._asking.add(asking)
            asking.add_done_callback(self._asked)
            return await asyncio.shield(asking)
        if not there.identity.token_digest:
            try:
                await self._confirmations.ask(there.identity, there.since)
            except SignInEnded as error:
                await self._end_unconfirmed(there, error)
                raise InvalidGrant from None
        await self._store.push([self._replaced(there, name, token)])
        return await self._existing(there.identifier)

    def _asked(self, asking: asyncio.Task[Session]) -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # the client may have left, and nobody else wants to know

    async def _renewed_by_one(self, there: Session, name: bytes, token: Secret) -> Session:
        """Do so after one process has asked the provider (rule 4)."""
        for _ in range(LOOKS):
            if not hmac.compare_digest(there.current, _hash(token)):
                return there
            now = self._clock()
            if there.lease and 0 < there.lease_until - now <= LEASE_SECONDS:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                held = self._after(there, lease=secrets.token_hex(16), lease_until=now + LEASE_SECONDS)
                await self._store.push([held.row(there.at)])
                if (await self._existing(there.identifier)).lease == held.lease:
                    await self._ask(held, name, token)
            there = await self._existing(there.identifier)
        raise Unconfirmed

    async def _ask(self, held: Session, name: bytes, token: Secret) -> None:
        """Ask the provider, and replace the token as its response says. The lease is this process's."""
        try:
            asked = await self._confirmations.ask(held.identity, held.since)
        except SignInEnded as error:
            # If the lease has ended, another process has asked with the same token, and its outcome applies.
            if (await self._existing(held.identifier)).lease == held.lease:
                await self._end_unconfirmed(held, error)
            return
        after = replace(held, identity=asked.identity)
        released = self._after(after, lease="").row(held.at)
        try:
            await self._store.push([self._replaced(after, name, token) if asked.goes_on else released])
        except (StoreUnavailable, KeysUnavailable):
            # Kept until the store is back: the provider may no longer accept the token that the store has.
            self._shared.push_later(released)
            raise
        if not asked.goes_on:
            logger.info("the sign-in of user %s is not renewed until the provider confirms the user", held.identity.name)
            raise Unconfirmed

    async def _end_unconfirmed(self, there: Session, reason: SignInEnded) -> None:
        await self.end(there.identifier)
        logger.info("the sign-in of user %s ended: %s", there.identity.name, reason)

    async def _existing(self, identifier: str) -> Session:
        """Return a sign-in; raise ``InvalidGrant`` if it has ended."""
        there = await self._there(identifier)
        if there is None:
            raise InvalidGrant
        return there

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
        current, previous = _hash(_successor(name, token, key)), _hash(token)
        after = self._after(there, used=now, turn=there.turn + 1, current=current, previous=previous, kid=key.kid, lease="")
        return after.row(there.at)

    def _after(self, there: Session, **changed: Any) -> Session:
        """Return a sign-in that replaces another, whose time is the stamp of its row."""
        return replace(there, at=max(self._clock(), there.at + TICK), **changed)

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
