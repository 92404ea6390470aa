"""Which alerts fire, since when, and who has been notified of them. Plain and synchronous; times are Unix seconds.

Five rules:
  1. A target is notified of an alert once it has fired for ``HOLD_SECONDS``, again when its level rises, and once when it has
     been over for ``OVER_SECONDS``. An alert that comes back before that has never been over.
  2. A target that was not notified of an alert is not notified of its end.
  3. What was sent is recorded in the store, so a restart, another worker or another replica does not send it again.
  4. An end that cannot be sent for ``GIVE_UP_SECONDS`` is forgotten.
  5. Only the holder of the lease writes; the others read.
"""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from claude_proxy.alerts.lease import MAX_STAMP
from claude_proxy.alerts.rules import MAX_TEXT, Alert
from claude_proxy.config.alerts import MAX_NAME, SEVERITIES, Target
from claude_proxy.state.rows import Row
from claude_proxy.text import clean

logger = logging.getLogger(__name__)

KEY = "alerts:state"
HOLD_SECONDS = 30.0
OVER_SECONDS = 120.0
GIVE_UP_SECONDS = 6 * 3600.0
# The maximum number of alerts that are recorded, of targets of each, and of characters in a key.
MAX_ALERTS = 500
MAX_TOLD = 50
MAX_KEY = 300


class Notice(NamedTuple):
    """What a target is notified of: an alert that fires, or its end."""

    alert: Alert
    since: float
    is_over: bool = False


@dataclass
class _Entry:
    """``over`` is since when the alert no longer fires; ``told`` the level that each target has been notified of."""

    severity: str
    text: str
    action: str
    level: int
    since: float
    over: float | None = None
    told: dict[str, int] = field(default_factory=dict)


class FiringAlerts:
    """The alerts of the whole proxy. ``clock`` returns Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        # Since when this process has seen an alert that is not recorded yet.
        self._seen: dict[str, float] = {}
        self._stamp = -math.inf
        self._is_changed = False

    def observe(self, alerts: Iterable[Alert]) -> None:
        """Note which alerts fire now, in this process."""
        now = self._clock()
        self._seen = {one.key: self._seen.get(one.key, now) for one in alerts}

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the recorded alerts that fire."""
        return frozenset(key for key, entry in self._entries.items() if entry.over is None)

    def since(self, key: str) -> float:
        """Return since when an alert fires; now for one that nobody has noted yet."""
        entry, seen = self._entries.get(key), self._seen.get(key, self._clock())
        return min(entry.since, seen) if entry and entry.over is None else seen

    def of_prefix(self, prefix: str) -> list[Alert]:
        """Return the recorded alerts that fire and whose key starts so."""
        firing = ((key, entry) for key, entry in self._entries.items() if entry.over is None and key.startswith(prefix))
        return [_alert(key, entry) for key, entry in firing]

    def since_of(self, prefix: str) -> dict[str, float]:
        """Return since when recorded alerts fire, by the rest of their key."""
        firing = ((key, entry) for key, entry in self._entries.items() if entry.over is None and key.startswith(prefix))
        return {key.removeprefix(prefix): entry.since for key, entry in firing}

    def update(self, alerts: Sequence[Alert]) -> None:
        """Record which alerts fire now; for the holder of the lease."""
        now = self._clock()
        self._forget_future(now)
        self.observe(alerts)
        found = {one.key: one for one in alerts}
        for key, one in found.items():
            entry = self._entries.get(key)
            if entry is None and len(self._entries) < MAX_ALERTS and len(key) <= MAX_KEY:
                self._entries[key] = _Entry(one.severity, one.text, one.action, one.level, self.since(key))
                self._is_changed = True
            elif entry is not None:
                self._renew(entry, one)
        for key, entry in [*self._entries.items()]:
            if key not in found and entry.over is None:
                entry.over = now
                self._is_changed = True
            if entry.over is not None and self._is_done(entry, now):
                del self._entries[key]
                self._is_changed = True

    def _forget_future(self, now: float) -> None:
        """Correct the times of a clock that was ahead for a while."""
        self._seen = {key: min(seen, now) for key, seen in self._seen.items()}
        for entry in self._entries.values():
            entry.since = min(entry.since, now)
            entry.over = None if entry.over is None else min(entry.over, now)

    def _renew(self, entry: _Entry, one: Alert) -> None:
        if entry.over is not None or (entry.level, entry.severity) != (one.level, one.severity):
            self._is_changed = True
        entry.severity, entry.text, entry.action, entry.level, entry.over = one.severity, one.text, one.action, one.level, None
        # A level that has fallen is reported again when it rises.
        entry.told = {name: min(level, one.level) for name, level in entry.told.items()}

    def _is_done(self, entry: _Entry, now: float) -> bool:
        over = entry.over or 0.0
        return (not entry.told and now >= over + OVER_SECONDS) or now >= over + GIVE_UP_SECONDS

    def due(self, target: Target) -> list[Notice]:
        """Return what a target has not been notified of yet."""
        now, found = self._clock(), []
        for key, entry in self._entries.items():
            told = entry.told.get(target.name)
            if entry.over is None:
                is_new = (told is None or told < entry.level) and now >= entry.since + HOLD_SECONDS
                if is_new and target.wants(entry.severity):
                    found.append(Notice(_alert(key, entry), entry.since))
            elif told is not None and now >= entry.over + OVER_SECONDS:
                found.append(Notice(_alert(key, entry), entry.since, is_over=True))
        return sorted(found, key=lambda notice: (notice.is_over, -SEVERITIES.index(notice.alert.severity)))

    def record_sent(self, name: str, notices: Iterable[Notice]) -> None:
        """Record that a target was notified."""
        for notice in notices:
            entry = self._entries.get(notice.alert.key)
            if entry is None:
                continue
            self._is_changed = True
            if notice.is_over and entry.over is not None:
                entry.told.pop(name, None)
            elif not notice.is_over and (name in entry.told or len(entry.told) < MAX_TOLD):
                entry.told[name] = notice.alert.level

    def forget_targets(self, names: Iterable[str]) -> None:
        """Forget the targets that are no longer configured; ``names`` are those that are."""
        kept = frozenset(names)
        for entry in self._entries.values():
            if not kept.issuperset(entry.told):
                entry.told = {name: level for name, level in entry.told.items() if name in kept}
                self._is_changed = True

    # --- Sharing -------------------------------------------------------------------------------------------------------------

    def changed(self) -> list[Row]:
        """Return the state if this process has changed it."""
        if not self._is_changed:
            return []
        self._is_changed = False
        self._stamp = max(self._clock(), math.nextafter(self._stamp, math.inf))
        return self.everything()

    def everything(self) -> list[Row]:
        """Return the state."""
        if not math.isfinite(self._stamp):
            return []
        return [Row(KEY, self._stamp, json.dumps({key: asdict(entry) for key, entry in self._entries.items()}))]

    def merge(self, rows: Sequence[Row]) -> None:
        """Apply the state that another process has written, if it is later."""
        for row in rows:
            if row.key != KEY or not self._stamp < row.stamp < MAX_STAMP:
                continue
            try:
                self._entries = _read(json.loads(row.value))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                logger.debug("skipped a store row that this version cannot read: %.200r", row.key)
                continue
            self._stamp, self._is_changed = row.stamp, False


def _alert(key: str, entry: _Entry) -> Alert:
    return Alert(key, entry.severity, entry.text, entry.action, entry.level)


def _read(found: Mapping[str, Mapping[str, Any]]) -> dict[str, _Entry]:
    entries = {}
    for key, one in [*found.items()][:MAX_ALERTS]:
        severity, level, told = one["severity"], one["level"], one["told"]
        if severity not in SEVERITIES or not isinstance(level, int) or len(key) > MAX_KEY:
            raise ValueError("not an alert")
        over = None if one["over"] is None else _time(one["over"])
        texts = clean(str(one["text"]), MAX_TEXT), clean(str(one["action"]), MAX_TEXT)
        levels = {clean(str(name), MAX_NAME + 10): int(value) for name, value in [*told.items()][:MAX_TOLD]}
        entries[key] = _Entry(severity, *texts, level, _time(one["since"]), over, levels)
    return entries


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a time")
    return float(value)
