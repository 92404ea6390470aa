"""What the rules look at: the state of the whole proxy at one moment. Plain values, no I/O."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from claude_proxy.config.timezones import UTC
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.usage.report import StoreStatus
from claude_proxy.usage.standing import Standing


class ErrorShare(NamedTuple):
    """Requests of the last minutes, and how many of them failed because of the proxy or a provider."""

    requests: int = 0
    failed: int = 0
    minutes: int = 10

    @property
    def percent(self) -> int:
        """The share of failed requests, in whole per cent; 0 without requests."""
        return self.failed * 100 // self.requests if self.requests else 0


class Situation(NamedTuple):
    """Times are Unix seconds. ``zone`` is the time zone of times in texts.

    ``rejected_since`` is since when an alert about a rejected credential is active, by label. ``unpriced`` has the number of
    responses of the last seven days without a known cost, by the model that responded, while it has no price. ``empty_at`` is
    when the pool is empty, by ``alerts/forecast.py``.
    """

    now: float
    pool: Sequence[Snapshot] = ()
    budgets: Sequence[Standing] = ()
    errors: ErrorShare = ErrorShare()
    store: StoreStatus = StoreStatus(None, unavailable=False, process_started=0.0)
    problems: Sequence[str] = ()
    # Sentences about a release of LiteLLM, or a file of one, that steals credentials.
    bad_releases: Sequence[str] = ()
    is_open: bool = False
    # Models for which a credential is missing.
    without_credential: Sequence[str] = ()
    unpriced: Mapping[str, float] = {}
    rejected_since: Mapping[str, float] = {}
    zone: ZoneInfo = UTC
    empty_at: float | None = None
    # Whether a changed config.yaml does not apply, and whether the database of the history cannot be used.
    config_refused: bool = False
    history_away: bool = False
    # The keys of the alerts that fire already. Where a rule has too many, these are kept, so that none ends without a reason.
    firing: Collection[str] = frozenset()
