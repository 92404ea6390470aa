"""Access tokens: signed when a user signs in or refreshes, checked at each request without I/O.

They are JWTs with HS256. Only the processes of one proxy check them, and these share the keys anyway: a signature that others
could check would be of no use, and HMAC is a tenth of the work of Ed25519. The algorithm is fixed: a token's own ``alg`` only
has to be the same.
"""

import functools
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt

from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.users import SignedIn, UserBook
from claude_proxy.secret import Secret
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.keys import LEEWAY_SECONDS, KeyRing

ALGORITHM = "HS256"
# The issuer and the audience: a token of another program is none of this one's.
NAME = "claude-proxy"
CLAIMS = ("iss", "aud", "sub", "groups", "iat", "exp", "jti", "sid", "tok")
# Claude Code reads this claim, and then sends the name of its user's project as a tag of this name.
TAG = "billing_group_tag"
# The beginning of every JWT: `{"` in base64.
PREFIX = "eyJ"
# Checked tokens that are kept; a token is checked again after they were dropped.
MAX_CACHED = 4096
_OPTIONS: dict[str, Any] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": list(CLAIMS)}


class _Checked(NamedTuple):
    """A token with a valid signature."""

    signed_in: SignedIn
    issued: float
    expires: float


class AccessTokens:
    """One per process. ``keys`` returns the current keys, ``has_ended`` whether a sign-in has ended."""

    def __init__(
        self,
        keys: Callable[[], KeyRing | None],
        has_ended: Callable[[str], bool],
        users: UserBook,
        config: Callable[[], SignInConfig],
        clock: Callable[[], float] = time.time,
        *,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ready = ready
        self._keys = keys
        self._has_ended = has_ended
        self._users = users
        self._config = config
        self._clock = clock
        self._ring: KeyRing | None = None
        self._cached: dict[bytes, _Checked] = {}

    @property
    def ready(self) -> bool:
        """Whether the keys are known."""
        return self._ready()

    def issue(self, ring: KeyRing, identity: Identity, session: str) -> tuple[Secret, int]:
        """Return a token for a sign-in, and its lifetime in seconds."""
        config = self._config()
        now, lifetime = int(self._clock()), config.access_seconds
        claims = {
            "iss": NAME,
            "aud": NAME,
            "sub": identity.name,
            "groups": list(identity.groups),
            "iat": now,
            "exp": now + lifetime,
            "jti": secrets.token_hex(16),
            "sid": session,
            "tok": _short(identity.token_digest),
            **({TAG: config.project_tag} if config.project_tag else {}),
        }
        key = ring.signing(now)
        return Secret(jwt.encode(claims, key.secret, algorithm=ALGORITHM, headers={"kid": key.kid})), lifetime

    def find(self, token: Secret) -> SignedIn | None:
        """Return who has signed in with a token; None for any other text, and for a token that is no longer valid."""
        checked = self._checked(token)
        now = self._clock()
        if checked is None or now >= checked.expires + LEEWAY_SECONDS or now < checked.issued - LEEWAY_SECONDS:
            return None
        return checked.signed_in if self.stands(checked.signed_in) else None

    def stands(self, signed_in: SignedIn) -> bool:
        """Whether a sign-in is still valid, whatever the age of its token.

        It ends with its refresh tokens, and when the user's personal token or the identity provider is removed.
        """
        config = self._config()
        if not config.enabled or self._has_ended(signed_in.session):
            return False
        if not signed_in.token:
            return config.provider
        return any(_short(user.digest) == signed_in.token for user in self._users.all_users())

    def session_of(self, token: Secret) -> str | None:
        """Return the sign-in of a token with a valid signature, which may have expired."""
        checked = self._checked(token)
        return checked.signed_in.session if checked else None

    def _checked(self, token: Secret) -> _Checked | None:
        text = token.reveal()
        if not text.startswith(PREFIX) or text.count(".") != 2:
            return None
        ring = self._keys()
        if ring is not self._ring:  # a key may have been discarded
            self._ring = ring
            self._cached.clear()
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        checked = self._cached.get(digest)
        if checked is None and ring is not None:
            checked = _check(text, ring)
            if checked is not None:
                if len(self._cached) >= MAX_CACHED:
                    self._cached.clear()
                self._cached[digest] = checked
        return checked


def _check(text: str, ring: KeyRing) -> _Checked | None:
    """Check the signature; a text that is no token of this proxy is None, whatever it is."""
    try:
        key = ring.find(str(jwt.get_unverified_header(text).get("kid")))
        if key is None:
            return None
        claims = jwt.decode(text, key.secret, [ALGORITHM], options=_OPTIONS, audience=NAME, issuer=NAME)  # type: ignore[arg-type]
        signed_in = SignedIn(str(claims["sub"]), tuple(map(str, claims["groups"])), str(claims["sid"]), str(claims["tok"]))
        issued, expires = float(claims["iat"]), float(claims["exp"])
        return _Checked(signed_in, issued, expires) if key.may_have_signed(issued, expires) else None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError):
        return None


@functools.lru_cache(4096)
def _short(digest: str) -> str:
    """Return a name for a personal token that says nothing about it, not even its hash; empty without one."""
    return hashlib.sha256(f"personal token: {digest}".encode()).hexdigest()[:32] if digest else ""
