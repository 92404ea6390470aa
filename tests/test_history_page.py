"""history/page.py: what a page holds at most, whatever is counted on it or read from a row."""

import hypothesis.strategies as st
from hypothesis import given

from claude_proxy.history.page import MAX_CLOSED, MAX_ENTRIES, MAX_NAMES, OWN_NAMES, Page, bounded, total_of
from claude_proxy.usage.numbers import MAX_NUMBER, OTHER, Names, Totals, numbers_of_totals
from fuzz.growth import measured


def listed(name):
    return name.startswith("listed")


def entry(user, model, requests=1, errors=0, served="p/x", credential="c", project=""):
    return Names(user, "", model, served, credential, project), numbers_of_totals(Totals(requests, errors))


def requests(entries):
    return sum(numbers[0] for numbers in entries.values())


def test_a_made_up_name_without_a_success_is_other():
    """Of names that clients made up, those under which no request succeeded are counted together, and no number is lost."""
    entries = dict(entry("anna", f"junk-{number}", 1, 1, served="") for number in range(50))
    assert bounded(entries, listed).entries == dict([entry("anna", OTHER, 50, 50, served="")])


def test_each_user_has_places_of_its_own():
    """A user keeps the most used made-up names, ``OWN_NAMES`` of them, whatever another user asked for."""
    entries = dict(entry("anna", f"junk-{number}", 1 + number) for number in range(500))
    entries |= dict([entry("ben", "mine"), entry("ben", "listed-1")])
    found = bounded(entries, listed).entries
    assert {names.model for names in found if names.user == "ben"} == {"mine", "listed-1"}
    kept = {f"junk-{number}" for number in range(500 - OWN_NAMES, 500)}
    assert {names.model for names in found if names.user == "anna"} == kept | {OTHER}
    assert requests(found) == requests(entries)


def test_made_up_names_take_no_place_of_listed_ones():
    """A page that is full of made-up names has room for every listed one, and a full page keeps each user apart."""
    page = Page()
    for number in range(MAX_ENTRIES):
        page.add(*entry(f"user-{number % 150}", f"junk-{number}", credential=f"c{number % 7}"), made_up=True)
    for number in range(100):
        page.add(*entry("ben", f"listed-{number}", served=f"p/{number}"))
    assert len({names.model for names in page.entries if names.user == "ben"}) == 100
    for number in range(2 * MAX_ENTRIES):
        page.add(*entry(f"user-{number % 150}", f"listed-{number % 101}", credential=f"d{number % 103}"))
    page.add(*entry("carl", "listed-1", 7))
    assert Names("carl", "", OTHER, "", "", "") in page.entries
    assert len(page.entries) <= MAX_ENTRIES
    assert requests(page.entries) == 3 * MAX_ENTRIES + 100 + 7


def test_projects_that_clients_name_are_bounded():
    """However many projects clients name, a page has at most ``MAX_NAMES`` of them, and a full page keeps every user."""
    entries = dict(entry(f"user-{number % 50}", "listed-1", project=f"p{number}") for number in range(20_000))
    for room in (MAX_ENTRIES, MAX_CLOSED):
        found = bounded(entries, listed, room).entries
        assert len({names.project for names in found}) <= MAX_NAMES + 2
        assert len({names.user for names in found}) == 50
        assert (len(found) <= room, requests(found)) == (True, 20_000)


def test_what_was_left_is_bounded():
    """What was left is counted under a bounded number of names."""
    page = Page()
    for number in range(2 * MAX_NAMES):
        page.add_left(f"left-{number}")
    assert (len(page.left), sum(page.left.values())) == (MAX_NAMES + 1, 2 * MAX_NAMES)


def test_no_sum_grows_beyond_what_the_database_can_add():
    """A number stays at most ``MAX_NUMBER``, so the sum of a million entries fits into the database's integers."""
    page = Page()
    for _ in range(3):
        page.add(*entry("anna", "listed-1", MAX_NUMBER))
    assert requests(page.entries) == MAX_NUMBER
    assert MAX_NUMBER * 1_000_000 < 2**63


NAMES = st.sampled_from(["anna", "ben", "", OTHER, "listed-1", "junk-1", "junk-2"])
ENTRIES = st.lists(
    st.tuples(
        st.builds(Names, *[NAMES] * 6), st.builds(Totals, st.integers(0, 9), st.integers(0, 9)).map(numbers_of_totals)
    )
)  # fmt: skip


@given(ENTRIES, st.randoms(use_true_random=False))
def test_bounds_depend_on_the_entries_alone(entries, random):
    """Bounding keeps every sum, changes nothing when it is done again, and does not depend on an order."""
    total = total_of([entries])
    found = bounded(total, listed).entries
    assert requests(found) == requests(total)
    assert bounded(found, listed).entries == found
    shuffled = [*total.items()]
    random.shuffle(shuffled)
    assert bounded(dict(shuffled), listed).entries == found


def test_bounding_grows_with_the_entries():
    """Twice as many entries take about twice as long."""

    def entries(count):
        return dict(entry(f"user-{number % 100}", f"junk-{number}", 2, served=f"p/{number}") for number in range(count))

    assert measured(lambda found: bounded(found, listed), entries, 5000).is_linear
