"""The type of a Claude credential, and the parser of credential lists. No I/O, no policy."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from claude_proxy.secret import Secret


class Kind(Enum):
    """How Anthropic bills a credential, and therefore which header carries it."""

    OAUTH = "oauth"
    API_KEY = "api_key"


# Prefixes of Anthropic's credentials. All of them start with CLAUDE_PREFIX.
CLAUDE_PREFIX = "sk-ant-"
OAUTH_PREFIX = "sk-ant-oat"
API_KEY_PREFIX = "sk-ant-api"


def is_claude_credential(value: str) -> bool:
    """Return whether a header value (without ``Bearer``) is a credential that only Anthropic may receive."""
    return value.strip().startswith(CLAUDE_PREFIX)


@dataclass(frozen=True)
class Terms:
    """The operator's settings for a credential: when it is used, for which users, and how much of it."""

    # Higher numbers are used first; a lower number is used only when no credential with a higher one is available.
    priority: int = 0
    # The size of the account relative to others: weight 2 takes twice the load of weight 1.
    weight: float = 1.0
    # The fraction of each window (0 to 1) that is reserved for ``owner``.
    reserve: float = 0.0
    # The user who may use the reserve; empty for no user.
    owner: str = ""
    # The maximum number of concurrent requests; None for no maximum.
    max_concurrency: int | None = None
    # The groups of this credential. A user limited to a group gets only credentials of that group.
    groups: frozenset[str] = frozenset()
    # Whether paid extra usage is used: ``never``, ``last`` (when every plan is full), or empty for the pool's default.
    extra_usage: str = ""
    # Whether the operator has paused it, and since when (Unix seconds), if that is known.
    paused: bool = False
    paused_since: float | None = None


NO_TERMS = Terms()


@dataclass(frozen=True)
class Credential:
    """A Claude credential of the pool, of a deployment or of a client. Only ``secret`` is confidential."""

    label: str
    kind: Kind
    secret: Secret
    # The day on which a setup token was created, if the list contains it.
    made: date | None = None
    terms: Terms = NO_TERMS
    # Where it is configured: the name of a variable, ``credentials.yaml`` or the path of a file. May be empty.
    source: str = ""
    # Whether ``source`` is a file of Claude Code, which renews the secret.
    renewed: bool = False
    # When the login in ``source`` expires, in Unix seconds.
    expires: float | None = None

    @property
    def identity(self) -> str:
        """A key that survives a new label and, for a Claude Code login, a renewal. May contain the secret: never show it."""
        return f"claude_home:{self.source}" if self.renewed else self.secret.reveal()

    def is_disabled(self, now: float) -> bool:
        """Return whether it must not be used: it is paused, or its login has expired."""
        return self.terms.paused or (self.expires is not None and self.expires <= now)

    def header(self) -> tuple[str, str]:
        """Return the header that carries this credential to Anthropic."""
        if self.kind is Kind.OAUTH:
            return "authorization", f"Bearer {self.secret.reveal()}"
        return "x-api-key", self.secret.reveal()

    @classmethod
    def of(cls, label: str, value: str) -> "Credential":
        """Make a credential of a deployment's key. The kind follows from the prefix: OAuth token, otherwise API key."""
        kind = Kind.OAUTH if value.startswith(OAUTH_PREFIX) else Kind.API_KEY
        return cls(label, kind, Secret(value))


class MalformedCredentials(ValueError):
    """A list of credentials that cannot be parsed; the message names the entry and the reason, never the value."""


LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_LABELLED = re.compile(rf"(?P<label>{LABEL.pattern})=(?P<value>.*)")
_COLON = re.compile(rf"{LABEL.pattern}:{CLAUDE_PREFIX}")
_TWO = re.compile(rf"(?:{LABEL.pattern}=)?{CLAUDE_PREFIX}.*{CLAUDE_PREFIX}.*")
# `anna@2026-03-01`: the label, and the day on which the token was created.
_DATED = re.compile(r"(?P<label>.+)@(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})")
_WRONG_PREFIX = {Kind.OAUTH: API_KEY_PREFIX, Kind.API_KEY: OAUTH_PREFIX}
_MEANT = {
    Kind.OAUTH: "an API key; move it to CLAUDE_API_KEYS",
    Kind.API_KEY: "an OAuth token; move it to CLAUDE_OAUTH_TOKENS",
}


def parse_credentials(text: str, kind: Kind) -> tuple[Credential, ...]:
    """Parse ``[label[@date]=]value`` entries, separated by commas or white space. The date is the day a token was created.

    Empty entries and repeated values are skipped; an entry without a label is named after its kind and position.
    Raises ``MalformedCredentials`` for a value of the other kind, a value that no HTTP header can carry, a repeated label, a
    label without a value, an invalid date or a date of an API key, and an entry that is not one value (invalid characters in
    the label, quotes, another separator).
    """
    entries = [entry for entry in re.split(r"[,\s]+", re.sub(r"\s*=\s*", "=", text)) if entry]
    found: list[Credential] = []
    _check_form(text, entries)
    for place, entry in enumerate(entries, start=1):
        match = None if entry.startswith(CLAUDE_PREFIX) else _LABELLED.fullmatch(entry)
        value = match["value"] if match else entry
        label = match["label"] if match else f"{kind.value.replace('_', '-')}-{place}"
        label, made = _dated(label, kind, place)
        if value.startswith(_WRONG_PREFIX[kind]):
            raise MalformedCredentials(f"entry {place} is {_MEANT[kind]}")
        if not value:
            raise MalformedCredentials(f"entry {place} is a label without a value")
        if value.rfind(CLAUDE_PREFIX) > 0 or CLAUDE_PREFIX in label:
            raise MalformedCredentials(f"entry {place} is not one value with at most one label (letters, digits and _ . @ -)")
        if not value.isascii() or not value.isprintable():
            raise MalformedCredentials(f"entry {place} holds a character that no HTTP header can carry")
        secret = Secret(value)
        if any(secret.matches(other.secret) for other in found):
            continue
        if any(label == other.label for other in found):
            raise MalformedCredentials(f"entry {place} has the label {label!r}, which an earlier entry already has")
        found.append(Credential(label, kind, secret, made))
    return tuple(found)


def _check_form(text: str, entries: list[str]) -> None:
    """Raise ``MalformedCredentials`` for a list of another form: JSON, colons behind the labels, entries without a comma."""
    if text.lstrip()[:1] in ("[", "{"):
        raise MalformedCredentials("is JSON")
    for place, entry in enumerate(entries, start=1):
        if _TWO.fullmatch(entry):
            raise MalformedCredentials(f"entry {place} holds two credentials without a comma between them")
        if _COLON.match(entry):
            raise MalformedCredentials(f"entry {place} has a colon behind its label")


def _dated(label: str, kind: Kind, place: int) -> tuple[str, date | None]:
    """Split a label from its date."""
    match = _DATED.fullmatch(label)
    if match is None:
        return label, None
    if kind is not Kind.OAUTH:
        raise MalformedCredentials(f"entry {place} has a date, but API keys do not expire after a year; remove the date")
    try:
        return match["label"], date.fromisoformat(match["day"])
    except ValueError:
        raise MalformedCredentials(f"entry {place} has the date {match['day']}, which does not exist") from None


def same_label(credentials: Iterable[Credential]) -> str | None:
    """Return a label that several of the credentials have, or None."""
    seen: set[str] = set()
    for credential in credentials:
        if credential.label in seen:
            return credential.label
        seen.add(credential.label)
    return None
