"""A page of usage: numbers under names. A page is bounded whatever clients ask for and whatever a store holds.

Four rules:
  1. a page has at most ``MAX_ENTRIES`` entries, and ``MAX_NAMES`` names in one place of a kind; the numbers of every further
     entry are added to ``OTHER``, so that sums stay right;
  2. names of models that a client made up (``listed`` tells them from the proxy's own) have places of their own: at most
     ``OWN_NAMES`` a user and half of a page in all, so that they never take the place of a listed name or of another user;
  3. what is read back from a row is checked and cleaned: numbers are finite and bounded, texts are printable and short;
  4. a user's name is the same in upper and lower case.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from claude_proxy.config.users import folded
from claude_proxy.state.rows import Row
from claude_proxy.text import MAX_NAME, clean
from claude_proxy.usage.request_log import MAX_TEXT

OTHER = "other"
# Different names of one sort on a page, entries in all, and names of models that one user made up.
MAX_NAMES = 200
MAX_ENTRIES = 2000
OWN_NAMES = 20
# Nothing that is counted comes near this; sums of such numbers are still finite and exact enough.
MAX_NUMBER = 1e15
MAX_FAILOVERS = 50
# How far the clocks of two machines may differ, in seconds, before a time is taken for wrong.
MAX_AHEAD = 2 * 86400.0
# The upper ends of the classes of times, in seconds; the last class has none.
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, math.inf)

# The sorts of entries: what a request took, by ``Names``; times, by model; moves away from a credential or model, by its name.
TAKEN, FIRST_BYTE, TOTAL, MOVED = "taken", "first_byte", "total", "moved"

# Whether a model has a name that the proxy lists, and not one that a client made up.
Listed = Callable[[str], bool]


class Names(NamedTuple):
    """What the numbers of usage are counted by; ``credential`` is empty for providers that are not Claude."""

    user: str
    model: str
    served: str
    credential: str


class Taken(NamedTuple):
    """The numbers of usage."""

    requests: float = 0
    errors: float = 0
    input: float = 0
    output: float = 0
    cache_read: float = 0
    cache_write: float = 0
    failovers: float = 0

    def __add__(self, other: tuple[Any, ...]) -> "Taken":
        return Taken(*(one + more for one, more in zip(self, other, strict=True)))


class Failover(NamedTuple):
    """A credential or model that was left for another one, and why."""

    at: float
    user: str
    model: str
    text: str


class LastError(NamedTuple):
    """The last thing that went wrong with a credential."""

    at: float
    text: str


Entry = tuple[str, ...]
Entries = dict[Entry, list[float]]
_WIDTHS = {TAKEN: (len(Names._fields), len(Taken._fields)), FIRST_BYTE: (1, len(BUCKETS) + 1), TOTAL: (1, len(BUCKETS) + 1)}
_WIDTHS |= {MOVED: (1, 1)}
# Where an entry of a kind names a model.
_MODEL = {TAKEN: 2, FIRST_BYTE: 1, TOTAL: 1}


@dataclass
class Page:
    """Entries and their numbers, and when they last changed."""

    stamp: float = 0.0
    entries: Entries = field(default_factory=dict)
    # The names in each place of each kind, those of made-up models apart, and how many entries have such a name.
    _seen: dict[tuple[str, bool, int], set[str]] = field(default_factory=dict)
    _made_up: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry, numbers: Sequence[float], *, made_up: bool = False) -> None:
        """Add numbers to those of an entry, or of what stands for it when there is no room; ``made_up`` is its model's name."""
        entry = self._fitting(entry, made_up=made_up)
        there = self.entries.setdefault(entry, [0] * len(numbers))
        for place, number in enumerate(numbers):
            there[place] += number

    def add_time(self, entry: Entry, seconds: float, *, made_up: bool = False) -> None:
        """Add a time to its class and to the sum, which is the last number of an entry."""
        there = self.entries.setdefault(self._fitting(entry, made_up=made_up), [0] * (len(BUCKETS) + 1))
        there[bisect_left(BUCKETS, seconds)] += 1
        there[-1] += max(0.0, seconds)

    def _fitting(self, entry: Entry, *, made_up: bool) -> Entry:
        """Return the entry under names for which the page has room."""
        if entry in self.entries:
            return entry
        kind, *names = entry
        if len(self.entries) >= MAX_ENTRIES - MAX_NAMES or (made_up and self._made_up[kind] >= MAX_ENTRIES // 2):
            return self._fitting(without_model(entry), made_up=False) if made_up else self._rest(entry)
        for place, name in enumerate(names, start=1):
            seen = self._seen.setdefault((kind, made_up, place), set())
            if name in ("", OTHER) or name in seen:
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
        """Return what stands for an entry on a page that is full: its user without the rest, as long as that has room."""
        kind, *names = entry
        rest = (kind, names[0], OTHER, "", "") if kind == TAKEN else (kind, OTHER)
        if rest in self.entries or (kind == TAKEN and len(self.entries) < MAX_ENTRIES):
            return rest
        return kind, *[OTHER] * len(names)

    def requests(self) -> float:
        """Return how many requests were counted."""
        return sum(numbers[0] for entry, numbers in self.entries.items() if entry[0] == TAKEN)


def without_model(entry: Entry) -> Entry:
    """Return an entry with ``OTHER`` for its model, and nobody who served it."""
    if entry[0] == TAKEN:
        return TAKEN, entry[1], OTHER, "", entry[4]
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
    """Return entries within the bounds of a page. What was used most keeps its name; equal entries give equal results."""
    made_up = {name: not listed(name) for name in {_model(entry) for entry in entries} if name not in ("", OTHER)}
    kept = _kept_names(entries, made_up)
    by_anybody = frozenset(name for names in kept.values() for name in names)
    page = Page()
    for entry, numbers in sorted(entries.items(), key=lambda item: (-_weight(*item), item[0])):
        model = _model(entry)
        is_made_up = made_up.get(model, False)
        if is_made_up and model not in (kept.get(entry[1], ()) if entry[0] == TAKEN else by_anybody):
            page.add(without_model(entry), numbers)
        else:
            page.add(entry, numbers, made_up=is_made_up)
    return page.entries


def _kept_names(entries: Mapping[Entry, Sequence[float]], made_up: Mapping[str, bool]) -> dict[str, frozenset[str]]:
    """Return, for each user, the made-up names that stay: those with a success, and of them the most used ones."""
    requests: dict[str, Counter[str]] = {}
    successes: set[tuple[str, str]] = set()
    for (kind, *names), numbers in entries.items():
        if kind == TAKEN and made_up.get(names[1], False):
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
    """Yield the users of a page's entries with the made-up names of models that they have a place for."""
    for kind, *names in entries:
        if kind == TAKEN and names[1] not in ("", OTHER) and not listed(names[1]):
            yield names[0], names[1]


def _model(entry: Entry) -> str:
    return entry[_MODEL[entry[0]]] if entry[0] in _MODEL else ""


def _weight(entry: Entry, numbers: Sequence[float]) -> float:
    return numbers[0] if entry[0] in (TAKEN, MOVED) else sum(numbers[:-1])


def page_row(key: str, page: Page) -> Row:
    """Return a page as the store keeps it."""
    return Row(key, page.stamp, json.dumps([[list(entry), numbers] for entry, numbers in page.entries.items()]))


def read_entries(value: Any, listed: Listed) -> Entries:
    """Understand a page; raise ValueError for one with an entry that is none. Sorts of another version are left out."""
    entries = []
    for (kind, *names), numbers in value:
        if kind in _WIDTHS:
            if (len(names), len(numbers)) != _WIDTHS[kind]:
                raise ValueError("no entry")
            cleaned = [_text(name) for name in names]
            if kind == TAKEN:
                cleaned[0] = clean(folded(names[0]))
            entries.append(((kind, *cleaned), [_number(number, MAX_NUMBER) for number in numbers]))
    return bounded(total_of([entries]), listed)


@dataclass
class Events:
    """The last failovers of one process, and the last error of each credential."""

    stamp: float = 0.0
    failovers: list[Failover] = field(default_factory=list)
    errors: dict[str, LastError] = field(default_factory=dict)


def events_row(key: str, events: Events) -> Row:
    """Return a process's last events as the store keeps them."""
    return Row(key, events.stamp, json.dumps({"failovers": events.failovers, "errors": events.errors}))


def read_events(stamp: float, value: Mapping[str, Any], latest: float) -> Events:
    """Understand a process's last events; raise ValueError for what is none, or lies after ``latest``."""
    failovers = [
        Failover(_number(at, latest), _text(folded(user)), _text(model), _text(text, MAX_TEXT))
        for at, user, model, text in value["failovers"][-MAX_FAILOVERS:]
    ]
    errors = {
        _text(label): LastError(_number(at, latest), _text(text, MAX_TEXT)) for label, (at, text) in value["errors"].items()
    }
    return Events(stamp, failovers, newest(errors))


def newest(errors: Mapping[str, LastError]) -> dict[str, LastError]:
    """Return the last errors of no more than ``MAX_NAMES`` credentials."""
    return dict(sorted(errors.items(), key=lambda pair: pair[1])[-MAX_NAMES:])


def _number(value: Any, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise ValueError("no number")
    return value


def _text(value: Any, longest: int = MAX_NAME) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return clean(value, longest)
