"""The reports that the page ``/pool`` polls: one that a browser has already is not sent again. Plain values, no I/O.

1. A request without ``If-None-Match`` gets a new report.
2. A request with it, as the page sends, may get the report that the same viewer got within ``FRESH_SECONDS``.
3. The tag of a report does not depend on the time in it.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

# A full report of 50 users costs 10 ms. Half of the interval of the page: ten open pages make one in this time, not twenty.
FRESH_SECONDS = 2.5
# The key of the time at which a report was made.
NOW = "now"


class Report(NamedTuple):
    """A report as it is sent: its body, its tag, and when it was made."""

    body: bytes
    tag: str
    made: float

    def is_known(self, tags: str | None) -> bool:
        """Return whether ``tags``, a value of ``If-None-Match``, names this report."""
        return self.tag in [tag.strip() for tag in (tags or "").split(",")]


class ReportCache:
    """The latest reports by viewer. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reports: dict[Hashable, Report] = {}

    def recent(self, viewer: Hashable) -> Report | None:
        """Return the report that a viewer got within ``FRESH_SECONDS``."""
        found = self._reports.get(viewer)
        return found if found is not None and self._is_fresh(found) else None

    def keep(self, viewer: Hashable, found: Mapping[str, Any]) -> Report:
        """Keep and return a report; older ones of all viewers are forgotten."""
        rest = {name: value for name, value in found.items() if name != NOW}
        text = json.dumps(rest, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        tag = f'W/"{hashlib.sha256(text).hexdigest()[:24]}"'
        body = b'{"now":' + json.dumps(found[NOW]).encode() + (b"," if rest else b"") + text[1:]
        report = Report(body, tag, self._clock())
        self._reports = {name: one for name, one in self._reports.items() if self._is_fresh(one)} | {viewer: report}
        return report

    def _is_fresh(self, report: Report) -> bool:
        return 0 <= self._clock() - report.made < FRESH_SECONDS
