"""A sign-in as a row of the store. Plain values, no I/O."""

import json
from dataclasses import dataclass

from claude_proxy.signin.identity import Identity
from claude_proxy.signin.shared import SIGN_INS
from claude_proxy.state.rows import Row


@dataclass(frozen=True)
class Session:
    """A sign-in, as the store has it.

    ``used`` is the time of the last use of a refresh token, or of the start. ``at`` is the same, except that it always grows,
    also where the clock is set back.
    """

    identifier: str
    identity: Identity
    since: float
    used: float
    at: float
    turn: int
    current: str
    previous: str
    kid: str
    # Who asks the provider, and until when; empty if nobody does.
    lease: str = ""
    lease_until: float = 0.0

    def row(self, stamp: float) -> Row:
        """Return the row."""
        value = {
            "identity": self.identity.as_json(), "since": self.since, "used": self.used, "at": self.at, "turn": self.turn,
            "current": self.current, "previous": self.previous, "kid": self.kid,
        }  # fmt: skip
        value |= {"lease": self.lease, "lease_until": self.lease_until} if self.lease else {}
        return Row(f"{SIGN_INS}{self.identifier}", stamp, json.dumps(value))

    @classmethod
    def of_row(cls, row: Row) -> "Session | None":
        """Read a row; None for one of another version."""
        try:
            found = json.loads(row.value)
            return cls(
                identifier=row.key.removeprefix(SIGN_INS),
                identity=Identity.of_json(found["identity"]),
                since=float(found["since"]),
                used=float(found["used"]),
                at=float(found["at"]),
                turn=int(found["turn"]),
                current=str(found["current"]),
                previous=str(found["previous"]),
                kid=str(found["kid"]),
                lease=str(found.get("lease", "")),
                lease_until=float(found.get("lease_until", 0.0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
