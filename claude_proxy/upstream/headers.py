"""The header policy: what a client's headers mean, and which of them LiteLLM and Claude get. Lists in, lists out.

1. A client's own Claude credential is removed before LiteLLM gets the request, on every route, so that LiteLLM cannot send it
   to another provider. Only ``proxy/rotation.py`` adds it again, after its host check.
2. LiteLLM gets an allow-list of headers, without its own ``x-litellm-*`` switches.
3. Claude gets every end-to-end header unchanged, except the headers that are meant for the proxy.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from claude_proxy.asgi import Headers
from claude_proxy.credentials.credential import CLAUDE_PREFIX, Credential, Kind, is_claude_credential
from claude_proxy.secret import Secret

PROXY_TOKEN = "x-litellm-api-key"  # noqa: S105 - a header's name
TOKEN_MODE = "x-claude-token-mode"  # noqa: S105 - a header's name
# With this value in it, a request gets a response of the model that it names, or an error, and of no fallback.
FALLBACKS, NO_FALLBACKS = "x-claude-proxy-fallbacks", "none"
SESSION = "x-claude-code-session-id"
# The checksum of the client's managed settings is for the gateway that sent them: it lets short values in them be guessed.
MANAGED_CHECKSUM = "x-claude-code-managed-settings-checksum"
# Headers that may contain a credential, in the order in which the proxy token is searched.
TOKEN_HEADERS = (PROXY_TOKEN, "authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key")
# A client's own credential is sent in the header in which it was received.
CLIENT_CREDENTIAL_KINDS = {"authorization": Kind.OAUTH, "x-api-key": Kind.API_KEY}
# Headers that are read before the token is checked. A provider's token has about a hundred characters.
READ_HEADERS = frozenset((*TOKEN_HEADERS, TOKEN_MODE, SESSION))
BOUNDED_HEADERS = frozenset(name.encode() for name in READ_HEADERS)
MAX_TOKEN_HEADER_BYTES = 4096
_HEADER_NAME = re.compile(r"x-[a-z0-9-]+", re.IGNORECASE)
# The form of ``metadata.user_id`` before Claude Code wrote JSON; without a login the account is empty.
_OLDER_USER_ID = re.compile(r"user_[0-9a-f]+_account_[0-9a-f-]*_session_([0-9a-f-]+)", re.IGNORECASE)
OAUTH_BETA = "oauth-2025-04-20"

FOR_LITELLM = frozenset(
    {
        "host",
        "user-agent",
        "accept",
        "content-type",
        "anthropic-version",
        "anthropic-beta",
        SESSION,
        PROXY_TOKEN,
        # For the page /pool, whose data the same app serves.
        "if-none-match",
    }
)
# RFC 9110 section 7.6.1, and headers that describe the client's own connection to the proxy.
HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "expect", "host", "content-length", "accept-encoding", "cookie", "forwarded", "via",
        "x-real-ip",
    }
)  # fmt: skip
NOT_FOR_CLAUDE = HOP_BY_HOP | frozenset({*TOKEN_HEADERS, TOKEN_MODE, FALLBACKS, MANAGED_CHECKSUM})
NOT_FOR_CLAUDE_PREFIXES = ("x-litellm-", "x-forwarded-")


class Client(NamedTuple):
    """The content of a request's headers: tokens for the proxy, the client's own Claude credential, mode and session."""

    tokens: tuple[Secret, ...]
    credential: Credential | None
    mode: str | None
    session: str | None


def read(headers: Iterable[tuple[str, str]]) -> Client:
    """Read a request's headers. Names are case-insensitive; of a repeated header the first value applies."""
    meant = meant_headers([pair for pair in headers if pair[0].lower() in READ_HEADERS])
    tokens: list[Secret] = []
    credential: Credential | None = None
    for name in TOKEN_HEADERS:
        if not (raw := meant.get(name)) or not (value := _without_bearer(raw)):
            continue
        if not is_claude_credential(value):
            tokens.append(Secret(value))
        elif credential is None and name in CLIENT_CREDENTIAL_KINDS:
            credential = Credential("client", CLIENT_CREDENTIAL_KINDS[name], Secret(value))
    mode = meant.get(TOKEN_MODE, "").strip().lower()
    return Client(tuple(tokens), credential, mode or None, meant.get(SESSION, "").strip() or None)


def has_two_lengths(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request, with headers as in ASGI, defines its end in two ways.

    Two servers could then read different requests from the same bytes (request smuggling, RFC 9112, section 6.1).
    """
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


def oversized(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a token header longer than ``MAX_TOKEN_HEADER_BYTES``; None if there is none. Headers as in ASGI."""
    for name, value in headers:
        if len(value) > MAX_TOKEN_HEADER_BYTES and name in BOUNDED_HEADERS:
            return name.decode("latin-1")
    return None


def meant_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers that the client meant, by lower-case name: several headers joined in one value are separated."""
    meant: dict[str, str] = {}
    implied: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.lower()
        value, *more = _split(raw_value) if "," in raw_value and name in (PROXY_TOKEN, TOKEN_MODE) else (raw_value,)
        meant.setdefault(name, value.strip())
        for part in more:
            second, _, text = part.partition(":")
            implied.setdefault(second.strip().lower(), text.strip())
    return implied | meant if implied else meant


def _split(value: str) -> list[str]:
    """Split a value at each comma that is followed by ``x-name:``; other commas stay.

    Many guides join several headers in one value with commas; Claude Code splits at newlines only and sends them as one.
    """
    groups: list[list[str]] = []
    for text in value.split(","):
        name, colon, _ = text.partition(":")
        if not groups or (colon and _HEADER_NAME.fullmatch(name.strip())):
            groups.append([])
        groups[-1].append(text)
    return [",".join(texts) for texts in groups]


def for_litellm(headers: Headers, token: Secret | None) -> list[tuple[str, str]]:
    """Return the headers that LiteLLM may see: the allow-list without the OAuth beta, and the one proxy token.

    A header whose value contains a Claude credential is always removed.
    """
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if CLAUDE_PREFIX in value:
            continue
        if lower == "anthropic-beta":
            betas = ",".join(beta for beta in _betas(value) if beta != OAUTH_BETA)
            if betas:
                kept.append((lower, betas))
        elif lower in FOR_LITELLM and lower != PROXY_TOKEN:
            kept.append((lower, value))
    if token:
        kept.append((PROXY_TOKEN, token.reveal()))
    return kept


def for_claude(headers: Headers, credential: Credential) -> list[tuple[str, str]]:
    """Return the headers for Claude: the client's end-to-end headers, unchanged, and the one credential.

    With an OAuth token, the required OAuth beta is appended to ``anthropic-beta`` if it is missing.
    """
    named = _named_by_connection(headers)
    dropped = NOT_FOR_CLAUDE | named if named else NOT_FOR_CLAUDE
    kept = [
        pair for pair in headers if (lower := pair[0].lower()) not in dropped and not lower.startswith(NOT_FOR_CLAUDE_PREFIXES)
    ]
    name, value = credential.header()
    kept.append((name, value))
    if name == "authorization":
        return _with_oauth_beta(kept)
    return kept


def may_be_added(name: str) -> bool:
    """Whether ``extra_headers`` of a deployment may contain this name: it is no credential and not hop-by-hop."""
    return name.lower() not in NOT_FOR_CLAUDE


def session_of(client: Client, user_id: str | None) -> str | None:
    """Return a digest of the session id in the request's header or in ``metadata.user_id``; None without one.

    ``metadata.user_id`` is a JSON object in a string (Claude Code 2.1.197) or, before, parts between underscores; any other
    value has no session.
    """
    if client.session:
        return _digest(client.session)
    if not user_id:
        return None
    return _session_in(user_id) if len(user_id) <= MAX_TOKEN_HEADER_BYTES else _session_in.__wrapped__(user_id)


# The requests of a session all have the same text.
@functools.lru_cache(maxsize=1000)
def _session_in(user_id: str) -> str | None:
    if older := _OLDER_USER_ID.fullmatch(user_id):
        return _digest(older[1])
    if user_id.lstrip()[:1] != "{":
        return None
    try:
        named = json.loads(user_id)
    except (ValueError, RecursionError):
        return None
    session = named.get("session_id") if isinstance(named, dict) else None
    return _digest(session) if isinstance(session, str) and session else None


@functools.lru_cache(maxsize=1000)
def _digest(session: str) -> str:
    """Return a short name for a session, from which the session id cannot be read."""
    return hashlib.blake2b(session.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _without_bearer(value: str) -> str:
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value.strip()


def _betas(value: str) -> list[str]:
    return [beta.strip() for beta in value.split(",") if beta.strip()]


def _with_oauth_beta(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    values = [value for name, value in headers if name.lower() == "anthropic-beta"]
    if any(OAUTH_BETA in _betas(value) for value in values):
        return headers
    if not values:
        return [*headers, ("anthropic-beta", OAUTH_BETA)]
    extended = list(headers)
    place = max(index for index, (name, _) in enumerate(headers) if name.lower() == "anthropic-beta")
    name, value = headers[place]
    extended[place] = (name, f"{value},{OAUTH_BETA}" if value.strip() else OAUTH_BETA)
    return extended


def _named_by_connection(headers: Headers) -> frozenset[str]:
    values = [value for name, value in headers if name.lower() == "connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(","))


def accepted(headers: Headers) -> str:
    """Return the ``accept`` header; empty without one."""
    return next((value for name, value in headers if name.lower() == "accept"), "")
