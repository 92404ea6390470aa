"""When setup tokens (valid for a year) and logins expire, and the warnings in the log before that."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.rate_limits import Snapshot

logger = logging.getLogger(__name__)

DAY = 86400.0
YEAR = 365 * DAY
# A warning is logged this many days before a token expires.
THRESHOLDS = (30, 7, 1)
EXPIRED = "its login has expired: start Claude Code in that home"


class TokenExpiry(NamedTuple):
    """When a token was created (first seen, if ``is_exact`` is false) and when it expires, both in Unix seconds."""

    created: float
    expires: float
    is_exact: bool

    def warning(self, now: float) -> int | None:
        """Return the smallest threshold that has been reached, in days; None before the first one."""
        left = (self.expires - now) / DAY
        return next((days for days in sorted(THRESHOLDS) if left <= days), None)

    def words(self, now: float) -> str:
        """Return the expiry in words for the operator."""
        left = self.expires - now
        by = f"{datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d}"
        if left <= 0:
            return f"setup token expired on {by}; create a new one with `claude setup-token`"
        return f"setup token expires on {by}{'' if self.is_exact else ' at the latest'}, in {int(left // DAY)} days"


class Login(NamedTuple):
    """When the login in a Claude Code home expires, in Unix seconds; None if its file does not contain that."""

    expires: float | None

    def words(self, now: float) -> str:
        """Return the expiry in words, or what to do after it."""
        if self.expires is None:
            return "its login has no expiry date"
        if self.expires <= now:
            return EXPIRED
        return (
            f"its login expires at {datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d %H:%M} UTC, unless Claude Code renews it"
        )


def login_of(snapshot: Snapshot) -> Login | None:
    """Return the login of a Claude Code home; None for every other credential."""
    return Login(snapshot.credential.expires) if snapshot.credential.renewed else None


def token_expiry_of(snapshot: Snapshot) -> TokenExpiry | None:
    """Return the expiry of a setup token; None for API keys, logins, and tokens that have not been seen yet."""
    credential = snapshot.credential
    if credential.kind is not Kind.OAUTH or credential.renewed:
        return None
    if credential.made is not None:
        made = datetime(credential.made.year, credential.made.month, credential.made.day, tzinfo=UTC).timestamp()
        return TokenExpiry(made, made + YEAR, is_exact=True)
    return None if snapshot.since is None else TokenExpiry(snapshot.since, snapshot.since + YEAR, is_exact=False)


class ExpiryWarnings:
    """Logs one warning for each token and threshold in each process."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, int]] = set()
        self._next_check = 0.0

    def log_due(self, snapshots: Iterable[Snapshot], now: float) -> None:
        """Log a warning for each token that is about to expire, unless it has been logged before."""
        for snapshot in snapshots:
            expiry = token_expiry_of(snapshot)
            days = expiry.warning(now) if expiry else None
            warned = snapshot.credential.label, days or 0
            if expiry and days is not None and warned not in self._logged:
                self._logged.add(warned)
                logger.warning("credential %s: %s", snapshot.credential.label, expiry.words(now))

    def due(self, now: float) -> bool:
        """Return whether the next check is due; one check an hour."""
        if now < self._next_check:
            return False
        self._next_check = now + 3600.0
        return True
