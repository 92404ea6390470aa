"""A page of the usage ledger: numbers under names, bounded whatever clients request and whatever a store contains.

Four rules:
  1. A page has at most ``MAX_ENTRIES`` entries, and ``MAX_NAMES`` names in each position of a kind. The numbers of further
     entries are added to ``OTHER``, so sums stay correct.
  2. Made-up model names (``listed`` distinguishes them from the proxy's own) have a separate limit: ``OWN_NAMES`` for a user
     and half a page in total. So they never displace a listed name or another user.
  3. Data from a row is checked and cleaned: numbers are finite and bounded, texts are printable and short.
  4. Upper and lower case of a user's name are the same.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from claude_proxy.config.money import shown
from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row
from claude_proxy.text import MAX_NAME, clean
from claude_proxy.usage.request_log import MAX_TEXT

# Names that stand for many models: the rest, models that the proxy does not serve, and models that a user may not use.
OTHER, UNKNOWN, NOT_ALLOWED = "other", "unknown model", "model not allowed"
GENERAL_NAMES = frozenset({"", OTHER, UNKNOWN, NOT_ALLOWED})
# The maximum numbers of names in one position, of entries, and of made-up model names of one user.
MAX_NAMES = 200
MAX_ENTRIES = 2000
OWN_NAMES = 20
# Larger than any real count; sums of such numbers are still finite and precise enough.
MAX_NUMBER = 1e15
MAX_FAILOVERS = 50
# The maximum difference between the clocks of two machines, in seconds; a later time is invalid.
MAX_AHEAD = 2 * 86400.0
# The upper bounds of the histogram buckets, in seconds; the last one has none.
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, math.inf)

# The kinds of entries: usage, by ``Names``; times, by model; failovers, by the name of the credential or model that was left.
USAGE, FIRST_BYTE, TOTAL, FAILOVERS = "taken", "first_byte", "total", "moved"
# In a row, one entry of another kind has the costs of all usage, because versions without costs skip an unknown kind. It holds
# for each entry with costs its place in the row, and the last ``COST_WIDTH`` numbers.
COST, COST_WIDTH = "spent", 2

# Returns whether the proxy lists a model, in contrast to a name that a client made up.
Listed = Callable[[str], bool]


class Names(NamedTuple):
    """The dimensions of usage; ``credential`` is empty for providers other than Claude."""

    user: str
    model: str
    served: str
    credential: str


class Totals(NamedTuple):
    """The numbers of usage."""

    requests: float = 0
    errors: float = 0
    input: float = 0
    output: float = 0
    cache_read: float = 0
    cache_write: float = 0
    failovers: float = 0
    # The known costs, and the number of responses without a known one.
    micro_usd: float = 0
    unpriced: float = 0

    @property
    def usd(self) -> str:
        """The cost in USD; empty if none is known."""
        return "" if self.unpriced and not self.micro_usd else shown(int(self.micro_usd))

    def __add__(self, other: tuple[Any, ...]) -> "Totals":
        return Totals(*(one + more for one, more in zip(self, other, strict=True)))


class Failover(NamedTuple):
    """A failover from a credential or model to another one, and its reason."""

    at: float
    user: str
    model: str
    text: str


class LastError(NamedTuple):
    """The last error of a credential."""

    at: float
    text: str


Entry = tuple[str, ...]
Entries = dict[Entry, list[float]]
_USAGE_WIDTH = len(Totals._fields) - COST_WIDTH
_WIDTHS = {USAGE: (len(Names._fields), _USAGE_WIDTH), FIRST_BYTE: (1, len(BUCKETS) + 1), TOTAL: (1, len(BUCKETS) + 1)}
_WIDTHS |= {FAILOVERS: (1, 1)}
# The position of the model in an entry.
_MODEL = {USAGE: 2, FIRST_BYTE: 1, TOTAL: 1}


@dataclass
class Page:
    """Entries with their numbers, and the time of the last change."""

    stamp: float = 0.0
    entries: Entries = field(default_factory=dict)
    # The names in each position of each kind, made-up ones separately, and the number of entries with a made-up name.
    _seen: dict[tuple[str, bool, int], set[str]] = field(default_factory=dict)
    _made_up: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry, numbers: Sequence[float], *, made_up: bool = False) -> None:
        """Add numbers to an entry, or to its substitute if there is no room; ``made_up``: its model's name is made up."""
        entry = self._fitting(entry, made_up=made_up)
        there = self.entries.setdefault(entry, [0] * len(numbers))
        for place, number in enumerate(numbers):
            there[place] += number

    def add_time(self, entry: Entry, seconds: float, *, made_up: bool = False) -> None:
        """Add a time to its bucket and to the sum, which is the last number of an entry."""
        there = self.entries.setdefault(self._fitting(entry, made_up=made_up), [0] * (len(BUCKETS) + 1))
        there[bisect_left(BUCKETS, seconds)] += 1
        there[-1] += max(0.0, seconds)

    def _fitting(self, entry: Entry, *, made_up: bool) -> Entry:
        """Return the entry with names for which the page has room."""
        if entry in self.entries:
            return entry
        kind, *names = entry
        if len(self.entries) >= MAX_ENTRIES - MAX_NAMES or (made_up and self._made_up[kind] >= MAX_ENTRIES // 2):
            return self._fitting(without_model(entry), made_up=False) if made_up else self._rest(entry)
        for place, name in enumerate(names, start=1):
            seen = self._seen.setdefault((kind, made_up, place), set())
            if name in GENERAL_NAMES or name in seen:
                continue
            if len(seen) < MAX_NAMES:
                seen.add(name)
            elif made_up and place == _MODEL[kind]:
                return self._fitting(without_model(entry), made_up=False)
            else:
                names[place - 1] = OTHER
        entry = kind, *names
        self._made_up[kind] += made_up and entry not in self.entries
        return entry

    def _rest(self, entry: Entry) -> Entry:
        """Return the substitute for an entry on a full page: only the user is kept, while there is room for that."""
        kind, *names = entry
        rest = (kind, names[0], OTHER, "", "") if kind == USAGE else (kind, OTHER)
        if rest in self.entries or (kind == USAGE and len(self.entries) < MAX_ENTRIES):
            return rest
        return kind, *[OTHER] * len(names)

    def requests(self) -> float:
        """Return the number of requests on the page."""
        return sum(numbers[0] for entry, numbers in self.entries.items() if entry[0] == USAGE)


def without_model(entry: Entry) -> Entry:
    """Return an entry with ``OTHER`` as its model, and without the serving model."""
    if entry[0] == USAGE:
        return USAGE, entry[1], OTHER, "", entry[4]
    return entry[0], OTHER


def total_of(pages: Iterable[Iterable[tuple[Entry, Sequence[float]]]]) -> Entries:
    """Return the sums of several pages' entries."""
    sums: Entries = {}
    for page in pages:
        for entry, numbers in page:
            there = sums.setdefault(entry, [0] * len(numbers))
            for place, number in enumerate(numbers):
                there[place] += number
    return sums


def bounded(entries: Mapping[Entry, Sequence[float]], listed: Listed) -> Entries:
    """Return entries within the bounds of a page. The most used names are kept; equal entries give equal results."""
    made_up = {name: not listed(name) for name in {_model(entry) for entry in entries} if name not in GENERAL_NAMES}
    kept = _kept_names(entries, made_up)
    by_anybody = frozenset(name for names in kept.values() for name in names)
    page = Page()
    for entry, numbers in sorted(entries.items(), key=lambda item: (-_weight(*item), item[0])):
        model = _model(entry)
        is_made_up = made_up.get(model, False)
        if is_made_up and model not in (kept.get(entry[1], ()) if entry[0] == USAGE else by_anybody):
            page.add(without_model(entry), numbers)
        else:
            page.add(entry, numbers, made_up=is_made_up)
    return page.entries


def _kept_names(entries: Mapping[Entry, Sequence[float]], made_up: Mapping[str, bool]) -> dict[str, frozenset[str]]:
    """Return the made-up names that are kept for each user: names with a success, the most used ones first."""
    requests: dict[str, Counter[str]] = {}
    successes: set[tuple[str, str]] = set()
    for (kind, *names), numbers in entries.items():
        if kind == USAGE and made_up.get(names[1], False):
            requests.setdefault(names[0], Counter())[names[1]] += numbers[0]  # type: ignore[assignment]  # counts are floats
            if numbers[0] > numbers[1]:
                successes.add((names[0], names[1]))
    return {
        user: frozenset(
            sorted((name for name in found if (user, name) in successes), key=lambda name: (-found[name], name))[:OWN_NAMES]
        )
        for user, found in requests.items()
    }


def own_names(entries: Collection[Entry], listed: Listed) -> Iterable[tuple[str, str]]:
    """Yield user and model of a page's entries with a made-up model name."""
    for kind, *names in entries:
        if kind == USAGE and names[1] not in GENERAL_NAMES and not listed(names[1]):
            yield names[0], names[1]


def _model(entry: Entry) -> str:
    return entry[_MODEL[entry[0]]] if entry[0] in _MODEL else ""


def _weight(entry: Entry, numbers: Sequence[float]) -> float:
    return numbers[0] if entry[0] in (USAGE, FAILOVERS) else sum(numbers[:-1])


def page_row(key: str, page: Page) -> Row:
    """Return a page as a row."""
    written: list[Any] = []
    costs: list[list[float]] = []
    for place, (entry, numbers) in enumerate(page.entries.items()):
        counted = numbers[:_USAGE_WIDTH] if entry[0] == USAGE else numbers
        written.append([list(entry), counted])
        if entry[0] == USAGE and any(numbers[_USAGE_WIDTH:]):
            costs.append([place, *numbers[_USAGE_WIDTH:]])
    return Row(key, page.stamp, json.dumps([*written, [[COST], costs]] if costs else written))


def read_entries(value: Any, listed: Listed) -> Entries:
    """Parse a page; raise ValueError for an invalid entry. Kinds of another version are skipped."""
    found: dict[int, tuple[Entry, list[float]]] = {}
    costs: dict[int, list[float]] = {}
    for place, ((kind, *names), numbers) in enumerate(value):
        if kind == COST:
            costs |= {of: [_number(number, MAX_NUMBER) for number in cost] for of, *cost in numbers}
        elif kind in _WIDTHS:
            if (len(names), len(numbers)) != _WIDTHS[kind]:
                raise ValueError("not an entry")
            cleaned = [_text(name) for name in names]
            if kind == USAGE:
                cleaned[0] = clean(folded(names[0]))
            found[place] = (kind, *cleaned), [_number(number, MAX_NUMBER) for number in numbers]
    for place, (entry, counted) in found.items():
        if entry[0] == USAGE:
            cost = costs.get(place, [0] * COST_WIDTH)
            if len(cost) != COST_WIDTH:
                raise ValueError("not a cost")
            counted.extend(cost)
    return bounded(total_of([found.values()]), listed)


@dataclass
class Events:
    """The last failovers of one process, and the last error of each credential."""

    stamp: float = 0.0
    failovers: list[Failover] = field(default_factory=list)
    errors: dict[str, LastError] = field(default_factory=dict)


def events_row(key: str, events: Events) -> Row:
    """Return a process's last events as a row."""
    return Row(key, events.stamp, json.dumps({"failovers": events.failovers, "errors": events.errors}))


def read_events(stamp: float, value: Mapping[str, Any], latest: float) -> Events:
    """Parse a process's last events; raise ValueError for invalid data or a time after ``latest``."""
    failovers = [
        Failover(_number(at, latest), _text(folded(user)), _text(model), _text(text, MAX_TEXT))
        for at, user, model, text in value["failovers"][-MAX_FAILOVERS:]
    ]
    errors = {
        _text(label): LastError(_number(at, latest), _text(text, MAX_TEXT)) for label, (at, text) in value["errors"].items()
    }
    return Events(stamp, failovers, newest(errors))


def newest(errors: Mapping[str, LastError]) -> dict[str, LastError]:
    """Return the latest errors, for at most ``MAX_NAMES`` credentials."""
    return dict(sorted(errors.items(), key=lambda pair: pair[1])[-MAX_NAMES:])


def _number(value: Any, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("not a number in the range")
    return value


def _text(value: Any, longest: int = MAX_NAME) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return clean(value, longest)
