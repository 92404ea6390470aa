"""Who has signed in. Plain values, no I/O."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_proxy.config.users import ANY_NAME, RESERVED, folded

_HASH = re.compile(r"(?:[0-9a-f]{64})?")
MAX_EMAIL = 254
MAX_GROUP = 200
# The access token carries the groups in a header, which has at most 4096 bytes.
MAX_GROUPS_BYTES = 1600


class MalformedIdentity(ValueError):
    """The identity cannot be used. The message is a sentence without the value."""


@dataclass(frozen=True)
class Confirmation:
    """What an identity provider has confirmed: who, to which client, and when (Unix seconds).

    ``sealed`` is the provider's refresh token, sealed (``sealed_token.py``); empty if the provider gave none.
    """

    issuer: str
    client_id: str
    subject: str
    at: float
    sealed: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the confirmation as values of JSON."""
        return {"iss": self.issuer, "client": self.client_id, "sub": self.subject, "at": self.at, "sealed": self.sealed}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Confirmation":
        """Read what ``as_json`` returned; raise ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        texts = [str(found[name]) for name in ("iss", "client", "sub")]
        return cls(texts[0], texts[1], texts[2], float(found["at"]), str(found["sealed"]))


@dataclass(frozen=True)
class Identity:
    """A user who has proven their identity. Raises ``MalformedIdentity``.

    ``token_digest`` is the SHA-256 (``User.digest``) of the personal token with which the user signed in: the sign-in ends
    when that token no longer exists. It is empty for a user of an identity provider, who has a ``confirmation``.
    """

    name: str
    groups: tuple[str, ...] = ()
    email: str = ""
    token_digest: str = ""
    confirmation: Confirmation | None = None

    def __post_init__(self) -> None:
        if not ANY_NAME.fullmatch(self.name):
            raise MalformedIdentity("The name must have 1 to 128 letters, digits or . - _ @ +.")
        if folded(self.name) in RESERVED:
            raise MalformedIdentity("The name is reserved.")
        if len(self.email) > MAX_EMAIL or not self.email.isprintable():
            raise MalformedIdentity("The mail address is too long, or it is not a mail address.")
        if not all(0 < len(group) <= MAX_GROUP and group.isprintable() for group in self.groups):
            raise MalformedIdentity(f"Each group must have 1 to {MAX_GROUP} printable characters.")
        if len(json.dumps(self.groups)) > MAX_GROUPS_BYTES:
            raise MalformedIdentity("The user has too many groups.")
        if not _HASH.fullmatch(self.token_digest):
            raise MalformedIdentity("The digest is not a SHA-256.")

    def as_json(self) -> dict[str, Any]:
        """Return the identity as values of JSON."""
        confirmed = {"confirmation": self.confirmation.as_json()} if self.confirmation else {}
        own = {"name": self.name, "groups": list(self.groups), "email": self.email, "token": self.token_digest}
        return own | confirmed

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "Identity":
        """Read what ``as_json`` returned; raise ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        confirmed = found.get("confirmation")
        confirmation = None if confirmed is None else Confirmation.of_json(confirmed)
        groups = tuple(map(str, found["groups"]))
        return cls(str(found["name"]), groups, str(found["email"]), str(found["token"]), confirmation)
