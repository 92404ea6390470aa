"""A page of the history: the numbers of one period under names, bounded whatever clients request and whatever a store contains.

Three rules:
  1. A page has at most ``room`` entries, and ``MAX_NAMES`` names in each position. The numbers of further entries are added to
     ``OTHER``, so sums stay correct.
  2. Made-up model names (``listed`` distinguishes them from the proxy's own) have a separate limit: ``OWN_NAMES`` for a user
     and half a page in total. So they never displace a listed name or another user.
  3. Equal entries give equal pages, in whatever order they come (``bounded``).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from claude_proxy.usage.numbers import GENERAL_NAMES, OTHER, WIDTH, Listed, Names, Numbers, add

# The maximum numbers of names in one position, of entries of an hour and of a closed day, and of made-up models of one user.
MAX_NAMES = 200
MAX_ENTRIES = 2000
MAX_CLOSED = 4000
OWN_NAMES = 20
# The maximum length of a user's groups, joined.
MAX_GROUPS = 400
_MODEL = Names._fields.index("model")

Entries = dict[Names, list[int]]


class Page:
    """Entries with their numbers, how often each credential or model was left, and the time of the last change."""

    def __init__(self, room: int = MAX_ENTRIES) -> None:
        self.stamp = 0.0
        self.entries: Entries = {}
        self.left: dict[str, int] = {}
        self._room = room
        # The names in each position, made-up models separately, and the number of entries with a made-up model.
        self._seen: dict[tuple[bool, int], set[str]] = {}
        self._made_up = 0

    def add(self, names: Names, numbers: Numbers, *, made_up: bool = False) -> Names:
        """Add numbers to an entry, or to its substitute if there is no room, and return which.

        ``made_up``: the name of the model is.
        """
        names, there = self.entry(names, made_up=made_up)
        add(there, numbers)
        return names

    def entry(self, names: Names, *, made_up: bool = False) -> tuple[Names, list[int]]:
        """Return an entry, or its substitute, with its numbers, to which more can be added."""
        there = self.entries.get(names)
        if there is None:
            names = self._fitting(names, made_up=made_up)
            there = self.entries.setdefault(names, [0] * WIDTH)
        return names, there

    def add_left(self, name: str, count: int = 1) -> str:
        """Count that a credential or model was left, and return the name under which it is counted."""
        if name not in self.left and len(self.left) >= MAX_NAMES:
            name = OTHER
        self.left[name] = self.left.get(name, 0) + count
        return name

    def requests(self) -> int:
        """Return the number of requests on the page."""
        return sum(numbers[0] for numbers in self.entries.values())

    def _fitting(self, names: Names, *, made_up: bool) -> Names:
        """Return the names for which the page has room."""
        if names in self.entries:
            return names
        if len(self.entries) >= self._room - MAX_NAMES or (made_up and self._made_up >= self._room // 2):
            return self._fitting(without_model(names), made_up=False) if made_up else self._rest(names)
        found = list(names)
        for place, name in enumerate(names):
            seen = self._seen.setdefault((made_up, place), set())
            if name in GENERAL_NAMES or name in seen:
                continue
            if len(seen) < MAX_NAMES:
                seen.add(name)
            elif made_up and place == _MODEL:
                return self._fitting(without_model(names), made_up=False)
            else:
                found[place] = OTHER
        names = Names(*found)
        self._made_up += made_up and names not in self.entries
        return names

    def _rest(self, names: Names) -> Names:
        """Return the substitute for an entry on a full page: only the user is kept, while there is room for that."""
        rest = Names(names.user, "", OTHER, "", "", "")
        return rest if rest in self.entries or len(self.entries) < self._room - 1 else Names(*[OTHER] * len(names))


def without_model(names: Names) -> Names:
    """Return names with ``OTHER`` as their model, and without the serving model."""
    return names._replace(model=OTHER, served="")


def total_of(pages: Iterable[Iterable[tuple[Names, Numbers]]]) -> Entries:
    """Return the sums of several pages' entries."""
    sums: Entries = {}
    for page in pages:
        for names, numbers in page:
            add(sums.setdefault(names, [0] * WIDTH), numbers)
    return sums


def bounded(entries: Mapping[Names, Numbers], listed: Listed, room: int = MAX_ENTRIES) -> Page:
    """Return entries within the bounds of a page. The most used names are kept; equal entries give equal results."""
    made_up = {name: not listed(name) for name in {names.model for names in entries} if name not in GENERAL_NAMES}
    kept = _kept_models(entries, made_up)
    by_anybody = frozenset(name for models in kept.values() for name in models)
    page = Page(room)
    for names, numbers in sorted(entries.items(), key=lambda item: (-item[1][0], item[0])):
        is_made_up = made_up.get(names.model, False)
        # Times of version 0.1.0 belong to no user.
        if is_made_up and names.model not in (kept.get(names.user, ()) if names.user else by_anybody):
            page.add(without_model(names), numbers)
        else:
            page.add(names, numbers, made_up=is_made_up)
    return page


def _kept_models(entries: Mapping[Names, Numbers], made_up: Mapping[str, bool]) -> dict[str, frozenset[str]]:
    """Return the made-up names that are kept for each user: names with a success, the most used ones first."""
    requests: dict[str, Counter[str]] = {}
    successes: set[tuple[str, str]] = set()
    for names, numbers in entries.items():
        if made_up.get(names.model, False):
            requests.setdefault(names.user, Counter())[names.model] += numbers[0]
            if numbers[0] > numbers[1]:
                successes.add((names.user, names.model))
    return {
        user: frozenset(
            sorted((name for name in found if (user, name) in successes), key=lambda name: (-found[name], name))[:OWN_NAMES]
        )
        for user, found in requests.items()
    }
