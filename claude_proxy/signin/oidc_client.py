"""Signs a user in at an OpenID Connect provider: the authorization code flow with PKCE, state and nonce.

Later, a refresh token of the provider asks it again for the same user.

The discovery document and the keys are fetched when the first user needs them, and kept. An unknown key id fetches the keys
again, because providers change their keys. Only the issuer of ``config.yaml`` and the HTTPS addresses in its document are
requested; redirects are not followed.
"""

import asyncio
import base64
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from claude_proxy import __version__
from claude_proxy.anthropic.sse import json_object
from claude_proxy.asgi import Headers
from claude_proxy.config.oidc import Oidc, host_of, is_loopback, is_safe
from claude_proxy.providers.endpoints import Origin
from claude_proxy.secret import Secret
from claude_proxy.signin.id_token import (
    InvalidToken,
    UnknownKey,
    claims_of,
    identity_of,
    names_user,
    needed_claims,
)
from claude_proxy.signin.identity import Identity
from claude_proxy.text import clean
from claude_proxy.upstream.client import UpstreamClient, UpstreamError
from claude_proxy.upstream.response_bounds import CODINGS

logger = logging.getLogger(__name__)

# The time limit of one request to the provider, in seconds, and the maximum size of its decoded response.
REQUEST_SECONDS = 10.0
MAX_BYTES = 512 * 1024
# The time limits of a refresh, in seconds: for the discovery document before it, and for keys and userinfo after it.
BEFORE_SECONDS, AFTER_SECONDS = 15.0, 20.0
REFRESH_SECONDS = BEFORE_SECONDS + REQUEST_SECONDS + AFTER_SECONDS
# How long the discovery document and the keys are kept, in seconds.
KEEP_SECONDS = 3600.0
# For how long the failure of a discovery document is reported without another request, in seconds.
FAILED_SECONDS = 5.0
MAX_CODE = 4096
MAX_REFRESH_TOKEN = 8192
OFFLINE = "offline_access"
# The errors of a token endpoint that say that the user has to sign in there again (RFC 6749, section 5.2, and OpenID Connect).
ENDED = frozenset({"invalid_grant", "interaction_required", "login_required", "consent_required", "access_denied"})
WELL_KNOWN = "/.well-known/openid-configuration"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


class ProviderFailed(Exception):
    """The provider cannot be used now. The text says why, for the log."""


class Rejected(Exception):
    """The provider did not confirm this sign-in. The text says why, for the log."""


class Identified(NamedTuple):
    """A user whom the provider has identified; ``refresh_token`` is the provider's, None without one."""

    identity: Identity
    subject: str
    refresh_token: Secret | None = None


class Refreshed(NamedTuple):
    """What a refresh at the provider has brought.

    ``refresh_token`` replaces the one that was sent; None if that one stays. ``identity`` is the user as the provider describes
    them now; None if it described nobody, or failed: then ``problem`` says why, for the log.
    """

    refresh_token: Secret | None = None
    identity: Identity | None = None
    problem: str = ""


class Attempt(NamedTuple):
    """One sign-in at the provider, kept in the browser's session until the provider sends the browser back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        """Return an attempt with random values."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        """The PKCE code challenge, S256."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")


@dataclass
class _Known:
    """What is known of an issuer: its document, and its keys with the time at which they were fetched."""

    document: Mapping[str, Any]
    fetched: float
    keys: list[Mapping[str, Any]] = field(default_factory=list)
    keys_fetched: float = float("-inf")


class OidcClient:
    """One per process. ``provider`` returns the provider of the current ``config.yaml``; None without one."""

    def __init__(
        self,
        client: UpstreamClient,
        provider: Callable[[], Oidc | None],
        has_token: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._provider = provider
        self._has_token = has_token
        self._clock = clock
        self._known: dict[str, _Known] = {}
        # Requests for documents and keys are made one after the other, so that many users cause one request.
        self._fetching = asyncio.Lock()
        self._failed: tuple[str, float, str] = ("", 0.0, "")

    @property
    def provider(self) -> Oidc | None:
        """The provider; None without one."""
        return self._provider()

    async def address(self, provider: Oidc, attempt: Attempt, own_address: str) -> str:
        """Return where to send the browser; raise ``ProviderFailed``. ``own_address`` is the proxy's redirect URI."""
        known = await self._document(provider)
        endpoint = str(known.document["authorization_endpoint"])
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": own_address,
            "scope": " ".join(_scopes(provider, known.document)),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **dict(provider.authorization_parameters),
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query, quote_via=quote)}"

    async def identify(self, provider: Oidc, attempt: Attempt, own_address: str, returned: Mapping[str, str]) -> Identified:
        """Return the user; ``returned`` is the query with which the provider sent the browser back, its state already checked.

        Raises ``ProviderFailed``, ``Rejected`` and ``NotAllowed``.
        """
        known = await self._document(provider)
        if "error" in returned:
            raise Rejected(f"it sent the error {clean(returned['error'])}")
        sender = returned.get("iss")
        if sender != provider.issuer and (sender is not None or known.document.get(_NAMES_ISSUER) is True):
            raise Rejected("the response names another issuer")  # RFC 9207
        code = returned.get("code", "")
        if not 0 < len(code) <= MAX_CODE:
            raise Rejected("there is no code")
        tokens = await self._redeem(provider, known.document, attempt, own_address, code)
        try:
            claims = await self._claims(provider, known, tokens.get("id_token"), attempt.nonce)
        except InvalidToken as error:
            raise Rejected(f"its ID token is not valid: {error}") from None
        claims = await self._complete(provider, known.document, tokens.get("access_token"), claims)
        identity = identity_of(claims, provider, self._has_token)
        return Identified(identity, str(claims["sub"]), _refresh_token(tokens))

    async def refresh(self, provider: Oidc, token: Secret, subject: str) -> Refreshed:
        """Ask the provider again for a user it has identified as ``subject``, with one request for tokens.

        Takes at most ``REFRESH_SECONDS``. Raises ``ProviderFailed`` if the provider did not accept the request, for a reason
        that says nothing about the user; ``Rejected`` if the user has to sign in there again, and ``NotAllowed``.
        """
        try:
            async with asyncio.timeout(BEFORE_SECONDS):
                known = await self._document(provider)
        except TimeoutError:
            raise ProviderFailed(f"no discovery document within {BEFORE_SECONDS:.0f} s") from None
        form = {"grant_type": "refresh_token", "refresh_token": token.reveal()}
        status, found = await self._post_form(provider, known.document, form)
        if status != 200 or found is None:
            words, error = _error_of(status, found)
            if 400 <= status < 500 and error in ENDED:
                raise Rejected(f"it refused the refresh: {words}")
            raise ProviderFailed(f"its token endpoint responded with {words}")
        # From here on the old token may be worth nothing, so whatever fails, the new one must reach the caller.
        replaced = _refresh_token(found)
        try:
            async with asyncio.timeout(AFTER_SECONDS):
                return Refreshed(replaced, await self._described(provider, known, found, subject))
        except TimeoutError:
            return Refreshed(replaced, problem=f"no keys or userinfo within {AFTER_SECONDS:.0f} s")
        except InvalidToken as error:
            return Refreshed(replaced, problem=f"its ID token is not valid: {error}")
        except ProviderFailed as error:
            return Refreshed(replaced, problem=str(error))

    async def _described(self, provider: Oidc, known: _Known, tokens: Mapping[str, Any], subject: str) -> Identity | None:
        """Return the user of a refresh; None if neither its ID token, which is optional, nor the userinfo names one."""
        claims: dict[str, Any] = {"sub": subject}
        if tokens.get("id_token") is not None:
            claims = await self._claims(provider, known, tokens["id_token"], None)
            if claims["sub"] != subject:
                raise Rejected("its ID token is that of another user")
        claims = await self._complete(provider, known.document, tokens.get("access_token"), claims)
        return identity_of(claims, provider, self._has_token) if names_user(claims, provider) else None

    async def _redeem(
        self, provider: Oidc, document: Mapping[str, Any], attempt: Attempt, own_address: str, code: str
    ) -> Mapping[str, Any]:
        """Exchange the code for tokens."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": own_address,
            "code_verifier": attempt.verifier,
        }
        status, found = await self._post_form(provider, document, form)
        if status == 200 and found is not None:
            return found
        words, _ = _error_of(status, found)
        # 400 is about this code; 401 about the client in config.yaml, which the operator must fix.
        if status == 400:
            raise Rejected(f"it did not accept the code: {words}")
        raise ProviderFailed(f"its token endpoint responded with {words}")

    async def _post_form(
        self, provider: Oidc, document: Mapping[str, Any], form: dict[str, str]
    ) -> tuple[int, dict[str, Any] | None]:
        """Send a form to the token endpoint, as the client of config.yaml; return as ``_request`` does."""
        headers = [("content-type", FORM)]
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if provider.client_secret is None:
            form["client_id"] = provider.client_id
        elif "client_secret_basic" in methods or "client_secret_post" not in methods:
            pair = f"{quote(provider.client_id, safe='')}:{quote(provider.client_secret.reveal(), safe='')}"
            headers.append(("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
        else:
            form |= {"client_id": provider.client_id, "client_secret": provider.client_secret.reveal()}
        return await self._request(str(document["token_endpoint"]), "POST", headers, urlencode(form).encode())

    async def _claims(self, provider: Oidc, known: _Known, token: object, nonce: str | None) -> dict[str, Any]:
        """Return the claims of an ID token; fetch the keys again if its key is unknown.

        The token came from the provider itself, so nobody else can cause these requests.
        """
        keys = await self._keys(known)
        try:
            return claims_of(token, keys, provider, nonce)
        except UnknownKey:
            return claims_of(token, await self._keys(known, unlike=keys), provider, nonce)

    async def _complete(
        self, provider: Oidc, document: Mapping[str, Any], access_token: object, claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the claims, without those that are null, and with those of the userinfo if one that decides is missing."""
        found = {name: value for name, value in claims.items() if value is not None}
        if all(name in found for name in needed_claims(provider)):
            return found
        return await self._more_claims(document, access_token, found)

    async def _more_claims(self, document: Mapping[str, Any], token: object, claims: dict[str, Any]) -> dict[str, Any]:
        """Return the claims and those of the userinfo endpoint, if there is one; the ID token's own claims win."""
        endpoint = document.get("userinfo_endpoint")
        if not isinstance(endpoint, str) or not isinstance(token, str) or not token.isascii() or not token.isprintable():
            return claims
        status, found = await self._request(endpoint, "GET", [("authorization", f"Bearer {token}")])
        if status != 200 or found is None:
            raise ProviderFailed(f"its userinfo endpoint responded with HTTP {status}")
        if found.get("sub") != claims["sub"]:
            raise Rejected("its userinfo is that of another user")
        return found | claims

    async def _document(self, provider: Oidc) -> _Known:
        """Return what is known of the issuer, with a document that is not too old."""
        async with self._fetching:
            known = self._known.get(provider.issuer)
            if known is not None and self._clock() < known.fetched + KEEP_SECONDS:
                return known
            issuer, until, words = self._failed
            if issuer == provider.issuer and self._clock() < until:
                raise ProviderFailed(words)
            try:
                document = await self._fetch_document(provider.issuer)
            except ProviderFailed as error:
                self._failed = provider.issuer, self._clock() + FAILED_SECONDS, str(error)
                raise
            # A changed config.yaml may name another issuer; what was known of the last one is no longer needed.
            self._known = {provider.issuer: _Known(document, self._clock())}
            return self._known[provider.issuer]

    async def _fetch_document(self, issuer: str) -> Mapping[str, Any]:
        status, found = await self._request(issuer.rstrip("/") + WELL_KNOWN, "GET")
        if status != 200 or found is None:
            raise ProviderFailed(f"its discovery document is missing: HTTP {status}")
        check_document(found, issuer)
        return found

    async def _keys(self, known: _Known, unlike: list[Mapping[str, Any]] | None = None) -> list[Mapping[str, Any]]:
        """Return the keys; fetch them if they are too old, or still those that lacked one: ``unlike``."""
        async with self._fetching:
            if known.keys is unlike or self._clock() >= known.keys_fetched + KEEP_SECONDS:
                status, found = await self._request(str(known.document["jwks_uri"]), "GET")
                keys = (found or {}).get("keys")
                if status != 200 or not isinstance(keys, list):
                    raise ProviderFailed(f"its keys are missing: HTTP {status}")
                known.keys = [key for key in keys if isinstance(key, dict)]
                known.keys_fetched = self._clock()
            return known.keys

    async def _request(
        self, url: str, method: str, headers: Headers = (), body: bytes = b""
    ) -> tuple[int, dict[str, Any] | None]:
        """Send a request; return the status, and the JSON object of the response or None. Raises ``ProviderFailed``."""
        named = [*headers, ("accept", JSON), ("user-agent", f"claude-proxy/{__version__}"), ("accept-encoding", CODINGS)]
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                response = await self._client.send(url, named, body, read_seconds=REQUEST_SECONDS, method=method)
                try:
                    content = await response.read(cut_at=MAX_BYTES + 1)
                finally:
                    response.close()
        except TimeoutError:
            raise ProviderFailed(f"no response within {REQUEST_SECONDS:.0f} s") from None
        except UpstreamError as error:
            raise ProviderFailed(f"no response: {error}") from None
        if len(content) > MAX_BYTES:
            raise ProviderFailed(f"its response has more than {MAX_BYTES >> 10} KB")
        return response.status, json_object(content)


def _scopes(provider: Oidc, document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the scopes of config.yaml, and that for a refresh token if the provider lists it and config.yaml allows it."""
    listed = document.get("scopes_supported")
    is_listed = provider.offline_access and isinstance(listed, list) and OFFLINE in listed
    return (*provider.scopes, OFFLINE) if is_listed and OFFLINE not in provider.scopes else provider.scopes


def _refresh_token(tokens: Mapping[str, Any]) -> Secret | None:
    """Return the refresh token of a token response; None without one that can be sent again."""
    found = tokens.get("refresh_token")
    usable = isinstance(found, str) and 0 < len(found) <= MAX_REFRESH_TOKEN and found.isascii() and found.isprintable()
    return Secret(found) if usable and isinstance(found, str) else None


def _error_of(status: int, found: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return what a token endpoint has responded, for the log, and its error code.

    A text that is no code is left out: it may repeat a part of the request.
    """
    error = str((found or {}).get("error", ""))
    return f"HTTP {status} {error if _CODE.fullmatch(error) else ''}".strip(), error


_CODE = re.compile(r"[A-Za-z_.]{1,60}")
_NAMES_ISSUER = "authorization_response_iss_parameter_supported"
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


def check_document(document: Mapping[str, Any], issuer: str) -> None:
    """Raise ``ProviderFailed`` for a discovery document of another issuer, or with an address that is not safe.

    An address on this machine is safe only if the issuer is on this machine, too.
    """
    if document.get("issuer") != issuer:
        raise ProviderFailed(f"its discovery document names another issuer: {clean(str(document.get('issuer')))}")
    for name in (*_ENDPOINTS, "userinfo_endpoint"):
        url = document.get(name)
        if url is None and name not in _ENDPOINTS:
            continue
        origin = Origin.of(url) if isinstance(url, str) and is_safe(url) and "#" not in url else None
        if origin is None or (is_loopback(origin.host) and not is_loopback(host_of(issuer))):
            raise ProviderFailed(f"its discovery document has no usable {name}")
