"""The keys that sign access tokens: made once, kept for all processes of a proxy, and replaced by a command.

Rules:
  1. The newest key signs, once every process has it. A replaced key verifies as long as a token may live that it has signed;
     then it is dropped.
  2. In a file, only its owner can read them, and of two processes that make the first one, one wins.
  3. In a store, they are sealed with AES-256-GCM; the key for that is derived from the master key with HKDF-SHA256.
  4. What cannot be read or opened signs and verifies nothing, and is never replaced except by the command.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from claude_proxy.config.sign_in import MOST_ACCESS_SECONDS
from claude_proxy.secret import Secret

KEY_BYTES = 32
# Clocks of several machines differ.
LEEWAY_SECONDS = 60
# A new key signs only after this time, so that every process has it by then. Without another key it signs immediately.
SETTLE_SECONDS = 5
KEPT_SECONDS = MOST_ACCESS_SECONDS + 2 * LEEWAY_SECONDS
MAX_KEYS = 50
VERSION = 1
NONCE_BYTES = 12
PURPOSE = b"claude-proxy: signing keys of access tokens, sealed in the store"


class UnusableKeys(Exception):
    """The keys cannot be read. The message is the rest of a sentence, without a secret."""


@dataclass(frozen=True, repr=False)
class Key:
    """One key; ``replaced`` is the time of its replacement in Unix seconds, None for the newest one."""

    kid: str
    secret: bytes
    created: float
    replaced: float | None = None

    def may_have_signed(self, issued: float, expires: float) -> bool:
        """Whether a token with these times may be this key's own: a replaced key that somebody has copied signs no new one."""
        lives = expires - issued <= MOST_ACCESS_SECONDS
        return lives and (self.replaced is None or issued <= self.replaced + SETTLE_SECONDS + LEEWAY_SECONDS)

    def derive(self, purpose: str, message: bytes) -> bytes:
        """Return 32 bytes that only the owner of this key can compute, different for each purpose."""
        derived = hmac.digest(self.secret, purpose.encode(), hashlib.sha256)
        return hmac.digest(derived, message, hashlib.sha256)

    def __repr__(self) -> str:
        return f"Key({self.kid})"


@dataclass(frozen=True)
class KeyRing:
    """The keys, the newest first; at least one."""

    keys: tuple[Key, ...]

    @classmethod
    def new(cls, now: float) -> "KeyRing":
        """Return a ring with one random key."""
        return cls((_new_key(now),))

    def signing(self, now: float) -> Key:
        """Return the key that signs."""
        return next((key for key in self.keys if key.created + SETTLE_SECONDS <= now), self.keys[-1])

    def find(self, kid: str) -> Key | None:
        """Return the key with this name."""
        return next((key for key in self.keys if key.kid == kid), None)

    def rotated(self, now: float, *, discard: bool = False) -> "KeyRing":
        """Return a ring with a new key. Replaced keys stay as long as their tokens may live, unless they are discarded."""
        if discard:
            return KeyRing.new(now)
        replaced = [
            Key(key.kid, key.secret, key.created, now if key.replaced is None else key.replaced)
            for key in self.keys
            if key.replaced is None or key.replaced + KEPT_SECONDS > now
        ]
        return KeyRing((_new_key(now), *replaced)[:MAX_KEYS])


def _new_key(now: float) -> Key:
    return Key(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES), now)


def written(ring: KeyRing) -> bytes:
    """Return a ring as JSON; it is secret."""
    keys = [
        {"kid": key.kid, "secret": base64.b64encode(key.secret).decode(), "created": key.created, "replaced": key.replaced}
        for key in ring.keys
    ]
    return json.dumps({"version": VERSION, "keys": keys}).encode() + b"\n"


def read(text: bytes) -> KeyRing:
    """Read what ``written`` returned; raise ``UnusableKeys``."""
    try:
        found = json.loads(text)
        keys = tuple(map(_key, found["keys"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        keys = ()
    if not keys or len(keys) > MAX_KEYS or len({key.kid for key in keys}) < len(keys):
        raise UnusableKeys("it holds no keys of this version")
    return KeyRing(keys)


def _key(found: Mapping[str, Any]) -> Key:
    try:
        secret = base64.b64decode(found["secret"], validate=True)
    except binascii.Error:
        raise ValueError from None
    kid, replaced = found["kid"], found["replaced"]
    if len(secret) != KEY_BYTES or not isinstance(kid, str) or not kid.isalnum():
        raise ValueError
    return Key(kid, secret, float(found["created"]), None if replaced is None else float(replaced))


def seal(ring: KeyRing, by: Secret) -> str:
    """Return a ring that only a process with the same secret can open, as text."""
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + _cipher(by).encrypt(nonce, written(ring), PURPOSE)).decode()


def unseal(text: str, by: Secret) -> KeyRing:
    """Open what ``seal`` returned; raise ``UnusableKeys``."""
    try:
        sealed = base64.b64decode(text, validate=True)
        content = _cipher(by).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], PURPOSE)
    except (InvalidTag, ValueError):
        raise UnusableKeys("it was sealed with another LITELLM_MASTER_KEY") from None
    return read(content)


def _cipher(by: Secret) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(by.reveal().encode()))
