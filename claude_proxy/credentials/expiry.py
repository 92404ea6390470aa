"""How old a setup token is, which lives for a year, and when a login expires. Plain values, and an object that warns once."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.rate_limits import Snapshot

logger = logging.getLogger(__name__)

DAY = 86400.0
YEAR = 365 * DAY
# So many days before a token's year is over somebody is warned.
THRESHOLDS = (30, 7, 1)
EXPIRED = "its login has expired: start Claude Code in that home"


class Age(NamedTuple):
    """When a token was made, or first seen if ``known`` is not set, and when its year is over, in Unix seconds."""

    since: float
    ends: float
    known: bool

    def warning(self, now: float) -> int | None:
        """Return the smallest threshold that is passed, in days; None while the end is far."""
        left = (self.ends - now) / DAY
        return next((days for days in sorted(THRESHOLDS) if left <= days), None)

    def words(self, now: float) -> str:
        """Return the age in words for the operator."""
        left = self.ends - now
        by = f"{datetime.fromtimestamp(self.ends, UTC):%Y-%m-%d}"
        if left <= 0:
            return f"its year was over on {by}; make a new one with `claude setup-token`"
        return f"its year ends on {by}{'' if self.known else ' at the latest'}, in {int(left // DAY)} days"


class Login(NamedTuple):
    """When the login that Claude Code keeps in a home expires, in Unix seconds; None where its file does not say."""

    expires: float | None

    def words(self, now: float) -> str:
        """Return in words when it expires, or what to do now that it has."""
        if self.expires is None:
            return "its login has no expiry"
        if self.expires <= now:
            return EXPIRED
        return (
            f"its login expires at {datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d %H:%M} UTC, unless Claude Code renews it"
        )


def login_of(snapshot: Snapshot) -> Login | None:
    """Return the login of a home; None for every other credential."""
    return Login(snapshot.credential.expires) if snapshot.credential.renewed else None


def age_of(snapshot: Snapshot) -> Age | None:
    """Return the age of a setup token; None for API keys and logins, which have no year, and for what nobody has seen yet."""
    credential = snapshot.credential
    if credential.kind is not Kind.OAUTH or credential.renewed:
        return None
    if credential.made is not None:
        made = datetime(credential.made.year, credential.made.month, credential.made.day, tzinfo=UTC).timestamp()
        return Age(made, made + YEAR, known=True)
    return None if snapshot.since is None else Age(snapshot.since, snapshot.since + YEAR, known=False)


class AgeWarnings:
    """Writes a warning into the log for each token and threshold, once per process."""

    def __init__(self) -> None:
        self._said: set[tuple[str, int]] = set()
        self._look_at = 0.0

    def look(self, snapshots: Iterable[Snapshot], now: float) -> None:
        """Warn about the tokens whose end is near, and about none for which that was said."""
        for snapshot in snapshots:
            age = age_of(snapshot)
            days = age.warning(now) if age else None
            said = snapshot.credential.label, days or 0
            if age and days is not None and said not in self._said:
                self._said.add(said)
                logger.warning("credential %s: %s", snapshot.credential.label, age.words(now))

    def due(self, now: float) -> bool:
        """Whether it is time to look: once an hour."""
        if now < self._look_at:
            return False
        self._look_at = now + 3600.0
        return True
