"""The OpenID Connect provider with which users sign in: ``claude_proxy: sign_in: oidc:`` in config.yaml.

Plain values, no I/O.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.config.spelling import unknown
from claude_proxy.config.web_search import REFERENCE, resolved
from claude_proxy.providers.endpoints import BLOCK, Origin, in_block
from claude_proxy.secret import Secret

SECTION, KEY = "sign_in", "oidc"
KEYS = (
    "issuer", "client_id", "client_secret", "groups_claim", "allowed_domains", "name_claim", "scopes", "trust_email",
    "offline_access", "authorization_parameters", "max_age_hours",
)  # fmt: skip
OPENID = "openid"
DEFAULT_SCOPES = (OPENID, "email", "profile")
MAX_TEXT = 500
MOST_HOURS = 90 * 24
MAX_PARAMETERS = 20
# The parameters of the authorization request that the proxy itself sends, and those that would replace or hide them.
OWN_PARAMETERS = frozenset(
    {
        "response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method", "request", "request_uri", "client_secret",
    }
)  # fmt: skip
_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}")
# Providers at which anyone can make an account: without a list of domains everyone could sign in.
PUBLIC_ISSUERS = frozenset({"accounts.google.com", "gitlab.com", "appleid.apple.com", "account.apple.com", "slack.com"})
# Microsoft's issuers for every organization, and for private accounts. The issuer of an organization contains its id.
_ANY_TENANT = re.compile(
    r"https://login\.microsoftonline\.com/(common|organizations|consumers|9188040d-6c67-4c5b[0-9a-f-]*)/.*"
)


@dataclass(frozen=True)
class Oidc:
    """The provider, the proxy's client there, and which claims name a user."""

    issuer: str
    client_id: str
    # None for a public client: PKCE alone protects the code then.
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    # The claim with the user's name. Empty: the verified email, or preferred_username of a user without an email.
    name_claim: str = ""
    groups_claim: str = ""
    # The domains of the emails that may sign in, in lower case; empty: every user of the provider.
    allowed_domains: frozenset[str] = frozenset()
    # Whether the email is verified although the provider does not send email_verified.
    trust_email: bool = False
    # Whether the scope offline_access is requested of a provider that lists it.
    offline_access: bool = True
    # What else the authorization request contains, such as ``prompt``.
    authorization_parameters: tuple[tuple[str, str], ...] = ()
    # How long a sign-in goes on after the provider's last confirmation of its user.
    max_age_seconds: float = 24 * 3600.0

    @classmethod
    def of(cls, config: Mapping[str, Any], environ: Mapping[str, str]) -> "Oidc | None":
        """Return the provider of a configuration in which ``mistakes`` found no error; None if there is no ready one."""
        found = section(config)
        if found is None or problem(found, environ):
            return None
        secret = resolved(found.get("client_secret"), environ)
        scopes = tuple(found.get("scopes") or DEFAULT_SCOPES)
        return cls(
            issuer=found["issuer"].strip(),
            client_id=found["client_id"].strip(),
            client_secret=Secret(secret) if secret else None,
            scopes=scopes if OPENID in scopes else (OPENID, *scopes),
            name_claim=(found.get("name_claim") or "").strip(),
            groups_claim=(found.get("groups_claim") or "").strip(),
            allowed_domains=frozenset(domain.strip().lower() for domain in found.get("allowed_domains") or ()),
            trust_email=found.get("trust_email") is True,
            offline_access=found.get("offline_access") is not False,
            authorization_parameters=tuple((found.get("authorization_parameters") or {}).items()),
            max_age_seconds=float(found.get("max_age_hours") or cls.max_age_seconds / 3600) * 3600,
        )

    @property
    def host(self) -> str:
        """The provider's host, as its name on the page and in the log."""
        return host_of(self.issuer)


def host_of(issuer: str) -> str:
    """Return the host of an issuer."""
    origin = Origin.of(issuer)
    return origin.host if origin else ""


def section(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section as written; None without one."""
    sign_in = in_block(config, SECTION)
    found = sign_in.get(KEY) if isinstance(sign_in, dict) else None
    return found if isinstance(found, dict) else None


def problem(found: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return why a valid section is not ready, as the rest of a sentence after its name; empty if it is ready."""
    reference = REFERENCE.fullmatch(str(found.get("client_secret") or "").strip())
    return f"lacks {reference[1]}" if reference and not environ.get(reference[1], "").strip() else ""


def is_safe(url: str) -> bool:
    """Whether a URL of a provider is HTTPS, or HTTP on this machine; it has a host and no user information."""
    origin = Origin.of(url)
    if origin is None or not url.isascii() or not url.isprintable() or " " in url:
        return False
    return origin.scheme == "https" or is_loopback(origin.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    sign_in = in_block(config, SECTION)
    found = sign_in.get(KEY) if isinstance(sign_in, dict) else None
    if found is None:
        return
    at = f"{BLOCK}: {SECTION}: {KEY}"
    if not isinstance(found, dict):
        yield f"{at}: should be a mapping with the keys issuer and client_id"
        return
    yield from (f"{at}: {unknown(name, KEYS)}" for name in found if name not in KEYS)
    errors = (*_issuer_mistakes(found), *_client_mistakes(found), *_claim_mistakes(found), *_renewal_mistakes(found))
    yield from (f"{at}: {words}" for words in errors)


def _issuer_mistakes(found: Mapping[str, Any]) -> Iterator[str]:
    issuer = found.get("issuer")
    if not isinstance(issuer, str) or not _is_issuer(issuer.strip()):
        yield "issuer should be the provider's URL with https://, such as https://login.example.com, without ? and #"
        return
    if _ANY_TENANT.match(issuer.strip()):
        yield "issuer should contain the id of your own tenant: https://login.microsoftonline.com/TENANT-ID/v2.0"
    elif host_of(issuer.strip()) in PUBLIC_ISSUERS and not found.get("allowed_domains"):
        yield "allowed_domains is needed: anyone can have an account at this provider; write allowed_domains: [example.com]"


def _client_mistakes(found: Mapping[str, Any]) -> Iterator[str]:
    if not _is_text(found.get("client_id")):
        yield "client_id should be the text that the provider shows for this client"
    secret = found.get("client_secret")
    if secret is not None and (not isinstance(secret, str) or not REFERENCE.fullmatch(secret.strip())):
        yield "client_secret should be os.environ/NAME, with the secret itself in .env"


def _claim_mistakes(found: Mapping[str, Any]) -> Iterator[str]:
    for name in ("name_claim", "groups_claim"):
        if found.get(name) is not None and not _is_text(found[name]):
            yield f"{name} should be the name of a claim"
    domains = found.get("allowed_domains")
    if domains is not None and not _are(domains, lambda domain: _DOMAIN.fullmatch(domain.strip().lower())):
        yield "allowed_domains should be a list of domains: [example.com]"
    scopes = found.get("scopes")
    if scopes is not None and not _are(scopes, _SCOPE.fullmatch):
        yield f"scopes should be a list of texts without spaces: [{', '.join(DEFAULT_SCOPES)}]"
    for name in ("trust_email", "offline_access"):
        if not isinstance(found.get(name, False), bool):
            yield f"{name} should be true or false"


def _renewal_mistakes(found: Mapping[str, Any]) -> Iterator[str]:
    parameters = found.get("authorization_parameters")
    if parameters is not None and not _are_parameters(parameters):
        yield "authorization_parameters should be a mapping of texts: {prompt: consent}"
    elif parameters and (own := sorted(OWN_PARAMETERS & parameters.keys())):
        yield f"authorization_parameters should not contain {', '.join(own)}, which the proxy sets itself"
    hours = found.get("max_age_hours")
    if hours is not None and (isinstance(hours, bool) or not isinstance(hours, int | float) or not 1 <= hours <= MOST_HOURS):
        yield f"max_age_hours should be a number from 1 to {MOST_HOURS}"


def _are_parameters(found: object) -> bool:
    return (
        isinstance(found, dict)
        and len(found) <= MAX_PARAMETERS
        and all(_is_text(name) and _is_text(value) for name, value in found.items())
    )


def _is_issuer(issuer: str) -> bool:
    return len(issuer) <= MAX_TEXT and is_safe(issuer) and not {"?", "#"} & set(issuer)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_TEXT and value.isprintable()


def _are(values: object, valid: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, str) and valid(value) for value in values)
