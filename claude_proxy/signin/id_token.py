"""Checks an ID token of an OpenID Connect provider, and says which user its claims are. No I/O.

Rules for the name:
  1. Without ``name_claim``, the name is the verified email; without an email, ``preferred_username`` if it has no ``@``.
  2. A name is a user's name of the proxy: the same characters, the same reserved names, upper and lower case are one.
  3. A verified email, or a claim that the operator names, identifies the user: the user with a personal token of this name is
     the same user. A ``preferred_username`` that the operator did not name may be chosen by the user, so it must not be the
     name of a user with a personal token.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jwt

from claude_proxy.config.oidc import Oidc
from claude_proxy.config.users import MalformedUser, check_name, folded
from claude_proxy.signin.identity import MAX_GROUP, Identity, MalformedIdentity

# Signatures with a public key. Neither `none` nor a shared secret (HS256), which an attacker could make from a public key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
# By how many seconds the provider's clock may differ.
LEEWAY_SECONDS = 60
MAX_TOKEN_CHARACTERS = 64 * 1024
MAX_KEYS = 100
MAX_CLAIM_CHARACTERS = 320
EMAIL, USERNAME = "email", "preferred_username"


class InvalidToken(Exception):
    """The ID token is not acceptable. The text says why, for the log, and contains no part of the token."""


class UnknownKey(InvalidToken):
    """No key of the provider has the token's key id: the provider may have changed its keys."""


class NotAllowed(Exception):
    """The provider identified a user who may not sign in. The text is for the user."""


def claims_of(token: object, keys: Sequence[Mapping[str, Any]], provider: Oidc, nonce: str | None) -> dict[str, Any]:
    """Return the claims of a valid ID token for this client and this sign-in; raise ``InvalidToken``.

    ``nonce`` is None for the token of a refresh, which came from the provider itself and may have none.
    """
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        raise InvalidToken("it is missing or too long")
    algorithm, candidates = _candidates(token, keys)
    claims, reason = None, "no key fits"
    for key in candidates:
        try:
            claims = jwt.decode(
                token,
                jwt.PyJWK(dict(key), algorithm),
                algorithms=[algorithm],
                audience=provider.client_id,
                issuer=provider.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
            break
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # The class alone: the text may contain claims.
            reason = type(error).__name__
    if claims is None:
        raise InvalidToken(reason)
    _check_claims(claims, provider, nonce)
    return claims


def _candidates(token: str, keys: Sequence[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]]]:
    """Return the token's algorithm, and the keys that may have signed it."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidToken("it is no signed token") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise InvalidToken("its algorithm is not allowed")
    kind = KEY_TYPES[algorithm[:2]]
    fitting = [
        key
        for key in keys[:MAX_KEYS]
        if key.get("kty") == kind and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm
    ]
    if key_id is not None:
        fitting = [key for key in fitting if key.get("kid") == key_id]
    if not fitting:
        raise UnknownKey("no key of the provider has its key id")
    return algorithm, fitting


def _check_claims(claims: Mapping[str, Any], provider: Oidc, nonce: str | None) -> None:
    """Check what the library does not: the nonce, the subject, and the party of a token for several audiences."""
    sent = claims.get("nonce")
    same = isinstance(sent, str) and hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), (nonce or "").encode())
    if nonce is not None and not same:
        raise InvalidToken("its nonce is not that of this sign-in")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise InvalidToken("it names no subject")
    party = claims.get("azp")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if party != provider.client_id and (several or party is not None):
        raise InvalidToken("it is for another client")


def needed_claims(provider: Oidc) -> tuple[str, ...]:
    """Return the claims that decide who a user is, which a provider may send in its userinfo only."""
    named = (provider.name_claim or EMAIL, provider.groups_claim, EMAIL if provider.allowed_domains else "")
    return tuple(dict.fromkeys(name for name in named if name))


def names_user(claims: Mapping[str, Any], provider: Oidc) -> bool:
    """Whether claims say who the user is. The ID token of a refresh need not."""
    return any(claims.get(name) is not None for name in ([provider.name_claim] if provider.name_claim else [EMAIL, USERNAME]))


def identity_of(claims: Mapping[str, Any], provider: Oidc, has_token: Callable[[str], bool]) -> Identity:
    """Return the user of the claims; raise ``NotAllowed``. ``has_token``: whether a user with a personal token has a name."""
    email = _text(claims.get(EMAIL))
    verified = email if provider.trust_email or claims.get("email_verified") in (True, "true") else ""
    name, is_vouched = _name(claims, provider, email, verified)
    _check_domain(provider, verified or (name if provider.name_claim not in ("", EMAIL) else ""))
    try:
        name = folded(check_name(name))
    except MalformedUser as error:
        raise NotAllowed(f"Your name at {provider.host} cannot be used here: {error}.") from None
    if not is_vouched and has_token(name):
        raise NotAllowed(
            f"A user with your name at {provider.host} already has a personal token here, and the provider does not confirm "
            "that you are the same user. Sign in with the personal token, or ask the operator to set name_claim."
        )
    try:
        return Identity(name, groups_of(claims.get(provider.groups_claim) if provider.groups_claim else None), verified)
    except MalformedIdentity as error:
        raise NotAllowed(f"What {provider.host} sent about you cannot be used here: {error} Ask the operator.") from None


def _name(claims: Mapping[str, Any], provider: Oidc, email: str, verified: str) -> tuple[str, bool]:
    """Return the name, and whether it identifies the user (rule 3)."""
    if provider.name_claim not in ("", EMAIL):
        if name := _text(claims.get(provider.name_claim)):
            return name, True
        raise NotAllowed(f"{provider.host} did not send the claim that names you. Ask the operator to check name_claim.")
    if verified:
        return verified, True
    if email:
        raise NotAllowed(f"{provider.host} has not verified your email address. Verify it there, then sign in again.")
    name = "" if provider.name_claim else _text(claims.get(USERNAME))
    if not name:
        raise NotAllowed(f"{provider.host} did not send your email address. Ask the operator to check scopes and name_claim.")
    if "@" in name:
        raise NotAllowed(f"{provider.host} sent a user name that looks like an email. Ask the operator to set name_claim.")
    return name, False


def _check_domain(provider: Oidc, address: str) -> None:
    user, at, domain = address.rpartition("@")
    if provider.allowed_domains and not (user and at and domain.lower() in provider.allowed_domains):
        raise NotAllowed("Your account is not in a domain that may sign in here. Use your work account, or ask the operator.")


def groups_of(value: object) -> tuple[str, ...]:
    """Return the groups of a claim, a list of texts or one text: case-folded, sorted, without those that are no name."""
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    names = (group.strip() for group in found if isinstance(group, str) and group.isprintable())
    valid = {folded(name) for name in names if 0 < len(name) <= MAX_GROUP}
    return tuple(sorted(valid))


def _text(value: object) -> str:
    """Return a claim that is one short text; empty for any other."""
    return value if isinstance(value, str) and len(value) <= MAX_CLAIM_CHARACTERS and value.isprintable() else ""
