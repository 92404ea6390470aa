"""What somebody wants to see of the history: a range, a step, a dimension and filters, read from a route's parameters."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo

from claude_proxy.config.users import folded
from claude_proxy.history import periods
from claude_proxy.history.schema import DIMENSIONS

HOUR, DAY, MONTH = "hour", "day", "month"
STEPS = (HOUR, DAY, MONTH)
NONE = "none"
# Ranges up to this are shown by hour, those up to the next by day.
MAX_HOURS_BY_HOUR = 7 * 24
MAX_DAYS_BY_DAY = periods.DAY_DAYS
DEFAULT_RANGE = "24h"
# The maximum number of names in a filter.
MAX_FILTER = 50
_RANGE = re.compile(r"([1-9][0-9]{0,3})([hd])")
_KEYS = frozenset({"range", "from", "to", "step", "by", *DIMENSIONS})


class InvalidView(ValueError):
    """The parameters cannot be read; the text says which, and what is valid."""


@dataclass(frozen=True)
class View:
    """``periods`` are all periods of the range, in order, each of the length that ``step`` names.

    ``filters`` has the names that are wanted in a dimension. ``only_user``: the only user whose usage may be seen; None for
    all. ``hidden``: credentials that are shown as ``other``.
    """

    periods: tuple[str, ...]
    step: str
    zone: tzinfo
    by: str = NONE
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_user: str | None = None
    hidden: frozenset[str] = frozenset()

    @property
    def is_whole(self) -> bool:
        """Whether everybody's usage is seen, without a filter."""
        return not self.filters and self.only_user is None

    def period_of(self, found: str) -> str:
        """Return the period of this view to which a stored one belongs; it may be outside of the range."""
        if self.step == HOUR:
            return found
        day = periods.day_of(found, self.zone)
        return day if self.step == DAY else day[: periods.MONTH_LENGTH]


def read_view(parameters: Iterable[tuple[str, str]], now: float, zone: tzinfo) -> View:
    """Read a route's parameters; raise ``InvalidView``."""
    found: dict[str, list[str]] = {}
    for key, value in parameters:
        if key not in _KEYS:
            raise InvalidView(f"unknown parameter {key[:40]!r}; there are {', '.join(sorted(_KEYS))}")
        found.setdefault(key, []).append(value)
    for key in ("range", "from", "to", "step", "by"):
        if len(found.get(key, ())) > 1:
            raise InvalidView(f"{key}: is given more than once")
    step = found.get("step", [""])[0]
    if step and step not in STEPS:
        raise InvalidView(f"step: is one of {', '.join(STEPS)}")
    by = found.get("by", [NONE])[0]
    if by not in (NONE, *DIMENSIONS):
        raise InvalidView(f"by: is one of {', '.join((NONE, *DIMENSIONS))}")
    filters = {name: tuple(dict.fromkeys(found[name])) for name in DIMENSIONS if name in found}
    if any(len(names) > MAX_FILTER for names in filters.values()):
        raise InvalidView(f"a filter has at most {MAX_FILTER} names")
    filters |= {name: tuple(map(folded, filters[name])) for name in ("user", "group") if name in filters}
    step, shown = _periods(found, step, now, zone)
    return View(tuple(shown), step, zone, by, filters)


def _periods(found: Mapping[str, list[str]], step: str, now: float, zone: tzinfo) -> tuple[str, list[str]]:
    """Return the step and all periods of the range."""
    today = periods.today_at(now, zone)
    if "from" in found or "to" in found:
        if "range" in found:
            raise InvalidView("range: is given besides from and to")
        last = _date("to", found["to"][0]) if "to" in found else today
        first = _date("from", found["from"][0]) if "from" in found else last
        if not first <= last or (today - first).days > periods.MAX_AGE_DAYS or last - today > periods.MAX_AHEAD:
            raise InvalidView("from, to: are days of the last ten years, from before to")
        usual = _usual((last - first).days + 1)
        if usual == HOUR and (today - first).days > periods.HOUR_DAYS:
            usual = DAY
        return _of_days(step or usual, first, last, now, zone)
    text = found.get("range", [DEFAULT_RANGE])[0]
    match = _RANGE.fullmatch(text)
    if not match:
        raise InvalidView("range: is a number of hours or days, such as 24h or 90d")
    hours = int(match[1]) * (1 if match[2] == "h" else 24)
    days = -(-hours // 24)
    if days > periods.MAX_AGE_DAYS:
        raise InvalidView("range: is at most ten years")
    step = step or _usual(days)
    if step == HOUR:
        _check_hours(days)
        return step, periods.last_hours(now, hours)
    return _of_days(step, today - timedelta(days - 1), today, now, zone)


def _usual(days: int) -> str:
    """Return the step for a number of days."""
    if days * 24 <= MAX_HOURS_BY_HOUR:
        return HOUR
    return DAY if days <= MAX_DAYS_BY_DAY else MONTH


def _of_days(step: str, first: date, last: date, now: float, zone: tzinfo) -> tuple[str, list[str]]:
    if step == DAY:
        if (last - first).days >= MAX_DAYS_BY_DAY:
            raise InvalidView(f"step: by day there are at most {MAX_DAYS_BY_DAY} days; take month for a longer range")
        return step, periods.days_between(first, last)
    if step == MONTH:
        return step, periods.months_between(first, last)
    _check_hours((periods.today_at(now, zone) - first).days)
    wanted = set(periods.days_between(first, last))
    hours = periods.last_hours(now, 24 * (periods.HOUR_DAYS + 1))
    return step, [hour for hour in hours if periods.day_of(hour, zone) in wanted]


def _check_hours(days: int) -> None:
    if days > periods.HOUR_DAYS:
        raise InvalidView(f"step: hours are kept for {periods.HOUR_DAYS} days; take day for an earlier or longer range")


def _date(key: str, text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidView(f"{key}: is a day such as 2026-11-30") from None
    return found
