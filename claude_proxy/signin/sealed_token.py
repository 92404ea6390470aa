"""Seals an identity provider's refresh token for the store, with AES-256-GCM and a key derived from a signing key.

A sealed token is bound to the issuer, the client and the user it was given for: moved to another of them, it does not open.
"""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from claude_proxy.secret import Secret
from claude_proxy.signin.keys import NONCE_BYTES, Key, KeyRing

PURPOSE = "refresh token of an identity provider, sealed in the store"


def seal(token: Secret, key: Key, *bound_to: str) -> str:
    """Return a token that only a process with the same signing key can open, as text that names the key."""
    nonce = os.urandom(NONCE_BYTES)
    content = _cipher(key).encrypt(nonce, token.reveal().encode(), _context(bound_to))
    return f"{key.kid}.{base64.b64encode(nonce + content).decode()}"


def unseal(text: str, ring: KeyRing, *bound_to: str) -> Secret | None:
    """Open what ``seal`` returned; None for any other text, and if the key was discarded."""
    kid, _, sealed = text.partition(".")
    key = ring.find(kid)
    if key is None:
        return None
    try:
        content = base64.b64decode(sealed, validate=True)
        return Secret(_cipher(key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], _context(bound_to)).decode())
    except (InvalidTag, ValueError):
        return None


def _cipher(key: Key) -> AESGCM:
    return AESGCM(key.derive(PURPOSE, b""))


def _context(bound_to: tuple[str, ...]) -> bytes:
    return "\0".join((PURPOSE, *bound_to)).encode("utf-8", "surrogatepass")
