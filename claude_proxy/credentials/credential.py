"""What a credential is: a secret that hides itself, under a label that may be shown. No I/O, no policy."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from claude_proxy.secret import Secret


class Kind(Enum):
    """How Anthropic bills a credential, and so which header carries it."""

    OAUTH = "oauth"
    API_KEY = "api_key"


# Prefixes that Anthropic gives its credentials. Every one of them starts with CLAUDE_PREFIX.
CLAUDE_PREFIX = "sk-ant-"
OAUTH_PREFIX = "sk-ant-oat"
API_KEY_PREFIX = "sk-ant-api"


def is_claude_credential(value: str) -> bool:
    """Whether a header's value (without its ``Bearer``) is something that only Anthropic may see."""
    return value.strip().startswith(CLAUDE_PREFIX)


@dataclass(frozen=True)
class Terms:
    """What the operator says of a credential: when the pool asks it, for whom, and how much of it."""

    # Those with the higher number are asked first; the next number's turn comes when none of them is usable.
    priority: int = 0
    # How large the account is beside others: one of weight 2 is given twice the load of one of weight 1.
    weight: float = 1.0
    # The fraction of each window (0 to 1) that is kept free for ``owner``.
    reserve: float = 0.0
    # The name of the user for whom the reserve is kept; empty for nobody.
    owner: str = ""
    # How many requests may be under way at once; None for any number.
    max_concurrency: int | None = None
    # The groups it belongs to; who may use one group only gets none but its credentials.
    groups: frozenset[str] = frozenset()
    # Whether paid extra usage is used: ``never``, ``last`` (after every plan is full), or empty for the pool's default.
    extra_usage: str = ""
    # Whether it is not to be asked at all, until that is taken back.
    paused: bool = False


NO_TERMS = Terms()


@dataclass(frozen=True)
class Credential:
    """A Claude credential of the pool, of a deployment or of a client. ``secret`` alone is not to be shown."""

    label: str
    kind: Kind
    secret: Secret
    # The day on which a setup token was made, where the list says so.
    made: date | None = None
    terms: Terms = NO_TERMS
    # Where it is written down: a variable's name, ``credentials.yaml``, or the path of a file; empty where nobody asks.
    source: str = ""
    # Whether ``source`` is a file of Claude Code's, which renews the secret.
    renewed: bool = False
    # When the login that ``source`` holds expires, in Unix seconds.
    expires: float | None = None

    @property
    def identity(self) -> str:
        """What stays the same when it gets another label, or its client renews it. A secret, mostly: not to be shown."""
        return f"claude_home:{self.source}" if self.renewed else self.secret.reveal()

    def closed(self, now: float) -> bool:
        """Whether it is not to be asked at all: it is paused, or its login has expired."""
        return self.terms.paused or (self.expires is not None and self.expires <= now)

    def header(self) -> tuple[str, str]:
        """Return the one header that carries this credential to Anthropic."""
        if self.kind is Kind.OAUTH:
            return "authorization", f"Bearer {self.secret.reveal()}"
        return "x-api-key", self.secret.reveal()

    @classmethod
    def of(cls, label: str, value: str) -> "Credential":
        """Tell the kind of a deployment's key by its prefix; what is not an OAuth token counts as an API key."""
        kind = Kind.OAUTH if value.startswith(OAUTH_PREFIX) else Kind.API_KEY
        return cls(label, kind, Secret(value))


class MalformedCredentials(ValueError):
    """A list of credentials that cannot be used; the message says which entry and why, never its value."""


LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_LABELLED = re.compile(rf"(?P<label>{LABEL.pattern})=(?P<value>.*)")
# `anna@2026-03-01`: the label, and the day on which its token was made.
_DATED = re.compile(r"(?P<label>.+)@(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})")
_WRONG_PREFIX = {Kind.OAUTH: API_KEY_PREFIX, Kind.API_KEY: OAUTH_PREFIX}
_MEANT = {
    Kind.OAUTH: "an API key: it belongs into CLAUDE_API_KEYS",
    Kind.API_KEY: "an OAuth token: it belongs into CLAUDE_OAUTH_TOKENS",
}


def parse_credentials(text: str, kind: Kind) -> tuple[Credential, ...]:
    """Read ``[label[@date]=]value`` entries, separated by commas or white space. The date is the day a setup token was made.

    Empty entries and repeated values are passed over; an entry without a label is named after its kind and place.
    Raises ``MalformedCredentials`` for a value of the other kind, a value no HTTP header can carry, a label used twice or
    without a value, a date that is none or stands at an API key, and for what is not one value: a label of other
    characters, quotes, another separator.
    """
    entries = [entry for entry in re.split(r"[,\s]+", re.sub(r"\s*=\s*", "=", text)) if entry]
    found: list[Credential] = []
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
            raise MalformedCredentials(f"entry {place} has the label {label!r}, which an earlier entry has already")
        found.append(Credential(label, kind, secret, made))
    return tuple(found)


def _dated(label: str, kind: Kind, place: int) -> tuple[str, date | None]:
    """Part a label from the date behind it."""
    match = _DATED.fullmatch(label)
    if match is None:
        return label, None
    if kind is not Kind.OAUTH:
        raise MalformedCredentials(f"entry {place} has a date, which only setup tokens need: API keys do not end after a year")
    try:
        return match["label"], date.fromisoformat(match["day"])
    except ValueError:
        raise MalformedCredentials(f"entry {place} has the date {match['day']}, which is no day") from None


def same_label(credentials: Iterable[Credential]) -> str | None:
    """Return a label that more than one of the credentials has, if there is one."""
    seen: set[str] = set()
    for credential in credentials:
        if credential.label in seen:
            return credential.label
        seen.add(credential.label)
    return None
