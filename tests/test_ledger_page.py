"""usage/ledger_page.py: what a page holds at most, whatever is counted on it or read from a row."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.usage.ledger_page import (
    BUCKETS,
    FAILOVERS,
    MAX_ENTRIES,
    MAX_NAMES,
    MAX_NUMBER,
    OTHER,
    OWN_NAMES,
    TOTAL,
    USAGE,
    Page,
    bounded,
    read_entries,
    total_of,
)
from fuzz.growth import measured


def listed(name):
    return name.startswith("listed")


def totals(user, model, requests=1, errors=0, served="p/x", credential="c"):
    return (USAGE, user, model, served, credential), [requests, errors, 0, 0, 0, 0, 0]


def requests(entries):
    return sum(numbers[0] for entry, numbers in entries.items() if entry[0] == USAGE)


def test_a_made_up_name_without_a_success_is_other():
    """Of names that clients made up, those under which no request succeeded are counted together, and no number is lost."""
    entries = dict(totals("anna", f"junk-{number}", 1, 1, served="") for number in range(50))
    assert bounded(entries, listed) == {(USAGE, "anna", OTHER, "", "c"): [50, 50, 0, 0, 0, 0, 0]}


def test_each_user_has_places_of_its_own():
    """A user keeps the most used made-up names, ``OWN_NAMES`` of them, whatever another user asked for."""
    entries = dict(totals("anna", f"junk-{number}", 1 + number) for number in range(500))
    entries |= dict([totals("ben", "mine"), totals("ben", "listed-1")])
    found = bounded(entries, listed)
    assert {entry[2] for entry in found if entry[1] == "ben"} == {"mine", "listed-1"}
    names = {f"junk-{number}" for number in range(500 - OWN_NAMES, 500)}
    assert {entry[2] for entry in found if entry[1] == "anna"} == names | {OTHER}
    assert requests(found) == requests(entries)


def test_made_up_names_take_no_place_of_listed_ones():
    """A page that is full of made-up names has room for every listed one, and a full page keeps each user apart."""
    page = Page()
    for number in range(MAX_ENTRIES):
        entry, numbers = totals(f"user-{number % 150}", f"junk-{number}", credential=f"c{number % 7}")
        page.add(entry, numbers, made_up=True)
    for number in range(100):
        page.add(*totals("ben", f"listed-{number}", served=f"p/{number}"))
    assert len({entry[2] for entry in page.entries if entry[1] == "ben"}) == 100
    for number in range(2 * MAX_ENTRIES):
        page.add(*totals(f"user-{number % 150}", f"listed-{number % 101}", credential=f"d{number % 103}"))
    page.add(*totals("carl", "listed-1", 7))
    assert (USAGE, "carl", OTHER, "", "") in page.entries
    assert len(page.entries) <= MAX_ENTRIES + 1
    assert requests(page.entries) == 3 * MAX_ENTRIES + 100 + 7


def test_other_kinds_keep_the_names_that_were_taken():
    """Times are kept under the names of models that stay, and moves under a bounded number of names."""
    times = [1.0] + [0.0] * len(BUCKETS)
    entries = dict([totals("anna", "mine"), totals("anna", "junk", 1, 1)])
    entries |= {(TOTAL, name): times for name in ("mine", "junk", "unknown", "listed-1")}
    entries |= {(FAILOVERS, f"left-{number}"): [1] for number in range(2 * MAX_NAMES)}
    found = bounded(entries, listed)
    assert {entry[1] for entry in found if entry[0] == TOTAL} == {"mine", "listed-1", OTHER}
    moved = [numbers[0] for entry, numbers in found.items() if entry[0] == FAILOVERS]
    assert (len(moved), sum(moved)) == (MAX_NAMES + 1, 2 * MAX_NAMES)


NAMES = st.sampled_from(["anna", "Anna", "ben", "", OTHER, "listed-1", "junk-1", "junk-2", "a\x1b[2J"])
ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.tuples(st.just(USAGE), NAMES, NAMES, NAMES, NAMES), st.lists(st.integers(0, 9), min_size=7, max_size=7)),
        st.tuples(st.tuples(st.just(FAILOVERS), NAMES), st.lists(st.integers(0, 9), min_size=1, max_size=1)),
    )
)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_bounds_depend_on_the_entries_alone(entries, random):
    """Bounding keeps every sum, changes nothing when it is done again, and does not depend on an order."""
    total = total_of([entries])
    found = bounded(total, listed)
    assert requests(found) == requests(total)
    assert bounded(found, listed) == found
    shuffled = [*total.items()]
    random.shuffle(shuffled)
    assert bounded(dict(shuffled), listed) == found


def test_what_is_read_is_clean():
    """Texts of a row are printable, short and of one case for users; two rows that become one are added."""
    value = [totals("An\x1b[2Jna", "listed\n"), totals("an\x1b[2jNA", "listed\n"), totals("b" * 1000, "listed")]
    found = read_entries(json.loads(json.dumps(value)), listed)
    assert found[USAGE, "an\\x1b[2jna", "listed\\n", "p/x", "c"][0] == 2
    assert all(text.isprintable() and len(text) <= 100 for entry in found for text in entry)


@pytest.mark.parametrize("number", ["1", True, None, [], {}, -1, float("nan"), float("inf"), 1e300, 10**400, MAX_NUMBER * 2])
def test_what_is_no_number_is_not_read(number):
    """A page with a number that no count can be is none."""
    with pytest.raises(ValueError, match="not a number"):
        read_entries([[[FAILOVERS, "x"], [number]]], listed)


def test_bounding_grows_with_the_entries():
    """Twice as many entries take about twice as long."""

    def entries(count):
        return dict(totals(f"user-{number % 100}", f"junk-{number}", 2, served=f"p/{number}") for number in range(count))

    assert measured(lambda found: bounded(found, listed), entries, 5000).is_linear
