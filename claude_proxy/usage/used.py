"""What was used lately, and in total, as the status and the metrics need it. Plain values, which the history makes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from claude_proxy.usage.numbers import Totals

Counts = list[int]


class Range(Enum):
    """Days in the configured time zone: today, the last seven with today, and those of the calendar week and month."""

    TODAY = "today"
    LAST_WEEK = "week"
    CALENDAR_WEEK = "calendar week"
    CALENDAR_MONTH = "calendar month"


@dataclass(frozen=True)
class RangeUsage:
    """The counts of a range, in the order of ``Totals``: by user and model, and by credential."""

    by_user_and_model: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    by_credential: Mapping[str, Counts] = field(default_factory=dict)
    # The number of responses without a known cost, by the requested model and by provider and model that responded.
    unpriced: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def by_user(self, user: str | None = None) -> dict[str, Counts]:
        """Return the counts of each user, or of one."""
        return _summed((name, counts) for (name, _), counts in self._of(user))

    def by_model(self, user: str | None = None) -> dict[str, Counts]:
        """Return the counts of each model, of all users or of one."""
        return _summed((model, counts) for (_, model), counts in self._of(user))

    def total(self, user: str | None = None) -> Totals:
        """Return the sums, of all users or of one."""
        return Totals(*_summed(("", counts) for _, counts in self._of(user)).get("", []))

    def _of(self, user: str | None) -> Iterable[tuple[tuple[str, str], Counts]]:
        found = self.by_user_and_model.items()
        return found if user is None else (one for one in found if one[0][0] == user)


@dataclass(frozen=True)
class Used:
    """What was used lately. ``since`` is the first period with data; None without any."""

    ranges: Mapping[Range, RangeUsage] = field(default_factory=dict)
    since: str | None = None

    def of(self, one: Range) -> RangeUsage:
        """Return the usage of a range."""
        return self.ranges.get(one, _NOTHING)


@dataclass(frozen=True)
class Counted:
    """What was used in total.

    ``totals`` has the counts by user, model, serving model and credential; ``times`` all numbers of ``usage/numbers.py`` by
    model; ``left`` the number of failovers by what was left.
    """

    totals: Mapping[tuple[str, str, str, str], Counts] = field(default_factory=dict)
    times: Mapping[str, Counts] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


_NOTHING = RangeUsage()


def _summed(pairs: Iterable[tuple[str, Counts]]) -> dict[str, Counts]:
    rows: dict[str, list[Counts]] = {}
    for name, counts in pairs:
        rows.setdefault(name, []).append(counts)
    # Column by column, because this is most of a report of ``/pool``.
    return {name: [*map(sum, zip(*found, strict=True))] for name, found in rows.items()}
