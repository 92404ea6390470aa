"""usage/ledger.py: the book of usage, alone and shared by several processes."""

import csv
import io
import json
import math
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from claude_proxy.anthropic.usage import Usage
from claude_proxy.state.rows import Row
from claude_proxy.text import clean
from claude_proxy.usage.ledger import DETAIL_DAYS, SHARE_SECONDS, Ledger, is_error
from claude_proxy.usage.ledger_page import (
    BUCKETS,
    FAILOVERS,
    FIRST_BYTE,
    MAX_FAILOVERS,
    MAX_NAMES,
    NOT_ALLOWED,
    OTHER,
    OWN_NAMES,
    TOTAL,
    UNKNOWN,
    Names,
    Totals,
)
from claude_proxy.usage.record import Record

DAY = 86400.0
NOW = 1_795_000_000.0  # 2026-11-18
TODAY = "2026-11-18"
RECORD = Record(
    at=NOW,
    user="anna",
    requested="claude-opus-4-8",
    served="anthropic/claude-opus-4-8",
    credential="first",
    status=200,
    first_byte_seconds=0.3,
    seconds=4.0,
    usage=Usage(10, 20, 30, 40),
    cost=0,
)
NAMES = Names("anna", "claude-opus-4-8", "anthropic/claude-opus-4-8", "first")


class Clock:
    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


def ledger(writer="w", clock=None, **more):
    return Ledger(clock=clock or Clock(), writer=writer, **more)


# --- one process -----------------------------------------------------------------------------------------------------------


def test_a_request_is_counted_with_its_tokens():
    """A request adds one to its names' requests, and its tokens."""
    one = ledger()
    one.record(RECORD)
    one.record(RECORD)
    assert one.totals() == {NAMES: Totals(2, 0, 20, 40, 60, 80, 0)}


@pytest.mark.parametrize(
    ("status", "error", "counted"),
    [(200, "", False), (200, "interrupted", True), (429, "rate_limit_error", True), (500, "", True), (499, "", False)],
)
def test_what_an_error_is(status, error, counted):
    """A failed status or a broken answer is an error; a client that leaves is none."""
    assert is_error(replace(RECORD, status=status, error=error)) is counted


def test_a_count_of_tokens_is_no_request():
    """What only asks how many tokens a request has is not counted: no provider bills it."""
    empty, counted = ledger(), ledger()
    counted.record(replace(RECORD, counts_tokens=True))
    assert counted.csv() == empty.csv()


def test_days_are_utc_and_apart():
    """Each UTC day has numbers of its own, and the last seven of them are a week."""
    clock = Clock()
    one = ledger(clock=clock)
    for back in (8, 6, 0):
        clock.now = NOW - back * DAY
        one.record(RECORD)
    assert one.today() == TODAY
    assert one.totals({TODAY})[NAMES].requests == 1
    assert one.totals(one.last_days(7))[NAMES].requests == 2
    assert one.totals()[NAMES].requests == 3
    assert one.since() == "2026-11-10"


def test_a_model_that_nobody_serves_has_no_name():
    """A client's made-up model is counted as ``other``, so that clients cannot fill the book with names."""
    one = ledger(listed=lambda model: model == "known")
    for number in range(5):
        one.record(replace(RECORD, requested=f"made-up-{number}", served="", credential=""))
    assert one.totals() == {Names("anna", OTHER, "", ""): Totals(5, 0, 50, 100, 150, 200)}
    assert set(one.sums(TOTAL)) == {(OTHER,)}


def test_a_full_page_counts_what_comes_as_other():
    """With the names of a page used up every further one is counted under ``other``, and no number is lost."""
    one = ledger()
    for number in range(2 * MAX_NAMES):
        one.record(replace(RECORD, requested=f"model-{number}", user=f"user-{number}", served=f"served-{number}"))
    totals = one.totals()
    assert len(totals) <= MAX_NAMES + 1
    assert sum(found.requests for found in totals.values()) == 2 * MAX_NAMES
    assert Names(OTHER, OTHER, OTHER, "first") in totals
    assert len(one.sums(FIRST_BYTE)) == MAX_NAMES + 1


def test_an_endless_variety_stays_bounded():
    """However the names are combined, a page has at most so many entries."""
    one = ledger()
    for number in range(6000):
        one.record(replace(RECORD, requested=f"m{number % 97}", user=f"u{number % 89}"))
    (row,) = one.changed()
    assert len(json.loads(row.value)) <= 2000 + 4
    assert sum(found.requests for found in one.totals().values()) == 6000


def test_times_are_classed():
    """A time is in the first class whose end is not below it; the sum of times is kept beside them."""
    one = ledger()
    for seconds in (0.05, 0.1, 0.11, 700.0):
        one.record(replace(RECORD, seconds=seconds))
    *counts, total = one.sums(TOTAL)["claude-opus-4-8",]
    assert {bucket: count for bucket, count in zip(BUCKETS, counts, strict=True) if count} == {0.1: 2, 0.25: 1, math.inf: 1}
    assert total == pytest.approx(700.26)


def test_failovers_and_last_errors_are_kept_bounded():
    """The last failovers are kept, the newest first, with the last error of each credential and its time."""
    clock = Clock()
    one = ledger(clock=clock)
    for number in range(MAX_FAILOVERS + 5):
        clock.now = NOW + number
        one.record(replace(RECORD, failovers=(f"second: limit {number} (HTTP 429)",)))
    found = one.failovers()
    assert len(found) == MAX_FAILOVERS
    assert (found[0].text, found[0].at) == (f"second: limit {MAX_FAILOVERS + 4} (HTTP 429)", clock.now)
    assert one.errors() == {"second": (clock.now, f"limit {MAX_FAILOVERS + 4} (HTTP 429)")}
    assert one.sums(FAILOVERS) == {("second",): [MAX_FAILOVERS + 5]}
    one.record(replace(RECORD, status=401, error="authentication_error"))
    assert one.errors()["first"].text == "authentication_error (HTTP 401)"


def test_names_are_of_one_line():
    """Control characters, line ends and half surrogate pairs are escaped, and long names are cut."""
    assert clean("a\nb\x1b[31m\u202e\ud800") == "a\\nb\\x1b[31m\\u202e\\ud800"
    assert len(clean("x" * 1000)) == 100


def test_the_csv_holds_every_line_and_no_formula():
    """The CSV has a line for each period and names; a name that a spreadsheet would run is quoted."""
    one = ledger()
    one.record(replace(RECORD, user="=cmd|x"))
    one.record(RECORD)
    header, *lines = csv.reader(io.StringIO(one.csv()))
    assert header == ["period", *Names._fields, *Totals._fields[:-2], "usd", "unpriced"]
    assert [line[:2] for line in lines] == [[TODAY, "'=cmd|x"], [TODAY, "anna"]]
    assert lines[1][5:] == ["1", "0", "10", "20", "30", "40", "0", "0.00", "0"]


def test_costs_are_summed():
    """Known costs are summed to the micro-USD; responses without one are counted, and their cost is never shown as 0."""
    one, other = ledger("a"), ledger("b")
    for cost in (100_001, 200_002, None):
        one.record(replace(RECORD, cost=cost))
    one.record(replace(RECORD, user="ben", cost=None))
    one.record(replace(RECORD, user="carl", cost=None, served="", status=529))
    other.merge(one.changed())
    _, *lines = csv.reader(io.StringIO(other.csv()))
    assert [(line[1], *line[-2:]) for line in lines] == [("anna", "0.300003", "1"), ("ben", "", "1"), ("carl", "0.00", "0")]
    assert one.csv() == other.csv()
    assert [totals.micro_usd for totals in other.totals().values()] == [300_003, 0, 0]


def test_costs_do_not_change_the_form_of_a_page():
    """A version without costs reads every other number of a page, and this version reads a page without costs."""
    one, plain, again = ledger("a"), ledger("a"), ledger("b")
    one.record(replace(RECORD, cost=7))
    plain.record(RECORD)
    (row,), (bare,) = one.changed(), plain.changed()
    entries, bare_entries = json.loads(row.value), json.loads(bare.value)
    assert [entry for entry in entries if entry[0][0] != "spent"] == bare_entries
    assert [len(numbers) for (kind, *_), numbers in bare_entries if kind == "taken"] == [7]
    again.merge([bare])
    assert again.totals() == plain.totals()


@pytest.mark.parametrize("costs", [[[0]], [[0, 1]], [[0, 1, 2, 3]], [[0, -1, 0]], [[0, True, 0]], [[[0], 1, 0]], 1, None])
def test_a_page_with_costs_that_are_none(costs):
    """A page with invalid costs is skipped as a whole, like one with another invalid number."""
    one, other = ledger("a"), ledger("b")
    one.record(replace(RECORD, cost=7))
    (row,) = one.changed()
    entries = [entry for entry in json.loads(row.value) if entry[0][0] != "spent"]
    other.merge([replace(row, value=json.dumps([*entries, [["spent"], costs]]))])
    assert other.totals() == {}


# --- several processes -----------------------------------------------------------------------------------------------------


def test_processes_add_up_and_survive_a_restart():
    """What several processes counted is summed, and a new process finds it all."""
    first, second, third = (ledger(name) for name in "abc")
    for one in (first, second):
        one.record(RECORD)
    rows = [*first.changed(), *second.changed()]
    third.record(RECORD)
    third.merge(rows)
    third.merge(rows)
    assert third.totals()[NAMES].requests == 3
    again = ledger("d")
    again.merge(third.everything())
    assert again.csv() == third.csv()
    assert again.changed() == [], "what came from others is no change"


def test_a_page_is_told_once_in_a_while_and_at_the_end():
    """A page that changes all the time is told once a second, and at once when the process is about to end."""
    clock = Clock()
    one = ledger(clock=clock)
    one.record(RECORD)
    assert len(one.changed()) == 1
    one.record(RECORD)
    assert one.changed() == []
    clock.now += SHARE_SECONDS
    assert len(one.changed()) == 1
    one.record(RECORD)
    one.flush_next()
    assert len(one.changed()) == 1
    assert one.changed() == []


def test_a_clock_that_goes_back_loses_nothing():
    """A page's stamp grows with each request, wherever the clock was set, so that the store takes the later version."""
    clock = Clock()
    one = ledger(clock=clock)
    stamps = []
    for step in (0, 0, -5, 1):
        clock.now += step
        one.record(RECORD)
        one.flush_next()
        stamps += [row.stamp for row in one.changed()]
    assert len(stamps) == 4
    assert all(before < after for before, after in pairwise(stamps))


@pytest.mark.parametrize(
    "row",
    [
        Row("usage:2026-11-18:x", 1.0, "no JSON"),
        Row("usage:2026-11-18:x", 1.0, '[[["taken", "a"], [1]]]'),
        Row("usage:2026-11-18:x", 1.0, '[[["taken", "a", "b", "c", "d"], [1, 0, 0, 0, 0, 0, -1]]]'),
        Row("usage:2026-11-18:x", 1.0, '[[["taken", "a", "b", "c", "d"], [1, 0, 0, 0, 0, 0, NaN]]]'),
        Row("usage:no-day:x", 1.0, "[]"),
        Row("usage:2026-11-18:x", math.nan, "[]"),
        Row("month:2026-99", 1.0, "[]"),
        Row("events:x", 1.0, '{"failovers": [[1]], "errors": {}}'),
        Row("credential:x:limit:", 1.0, "{}"),
        Row("salt", 0.0, '"x"'),
    ],
)
def test_rows_that_are_none_of_the_books_change_nothing(row):
    """A broken row, and one of another part, is passed over."""
    one = ledger()
    one.record(RECORD)
    before = one.everything()
    one.merge([row])
    assert one.everything() == before


def test_a_sort_of_entries_from_another_version_is_left_out():
    """A page with a sort of entries that this version does not know is read without it."""
    one, other = ledger("a"), ledger("b")
    one.record(RECORD)
    (row,) = one.changed()
    other.merge([replace(row, value=json.dumps([*json.loads(row.value), [["tomorrow", "x"], [1, 2]]]))])
    assert other.totals() == one.totals()


RECORDS = st.builds(
    Record,
    at=st.just(NOW),
    user=st.sampled_from(["anna", "ben", "=\n"]),
    requested=st.sampled_from(["m", "n"]),
    served=st.sampled_from(["p/m", ""]),
    credential=st.sampled_from(["x", "y", ""]),
    status=st.sampled_from([200, 429, 499]),
    first_byte_seconds=st.integers(0, 900),
    seconds=st.integers(0, 900),
    usage=st.builds(Usage, *[st.integers(-1, 1000)] * 4),
    failovers=st.lists(st.sampled_from(["x: limit", "nothing"]), max_size=2).map(tuple),
)
# Who counts, how many days later, and what.
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), RECORDS), max_size=25)


@given(STEPS, st.randoms(use_true_random=False))
def test_sums_are_right_in_any_order(steps, random):
    """Whatever versions of pages arrive, in whatever order and however often, the sums are those of all records."""
    clock, alone = Clock(), ledger("alone", Clock())
    books = [ledger(str(number), clock) for number in range(3)]
    rows = []
    for number, _, record in steps:
        clock.now += 1
        books[number].record(record)
        alone.record(record)
        books[number].flush_next()
        rows += books[number].changed()
    random.shuffle(rows)
    reader, twice = ledger("reader", clock), ledger("twice", clock)
    reader.merge(rows)
    for row in reversed(rows):
        twice.merge([row, row])
    twice.merge(rows[: len(rows) // 2])
    assert reader.csv() == twice.csv() == alone.csv()
    assert reader.sums(TOTAL) == twice.sums(TOTAL) == alone.sums(TOTAL)
    assert reader.failovers() == twice.failovers()
    assert reader.errors() == twice.errors()
    books[0].merge(rows)
    assert books[0].csv() == alone.csv()


@given(STEPS)
def test_months_take_the_place_of_days_and_keep_the_sums(steps):
    """When days become a month no number changes, every process comes to the same page, and the days are let go."""
    clock = Clock()
    books = [ledger(str(number), clock) for number in range(3)]
    for number, days, record in steps:
        clock.now += days * DAY
        books[number].record(record)
        books[number].flush_next()
        rows = books[number].changed()
        for one in books:  # as a store does: no process is without the others for two months
            one.merge(rows)
    before = [row for one in books for row in one.everything()]
    readers = [ledger("r", clock), ledger("q", clock)]
    readers[0].merge(before)
    readers[1].merge(before[::-1])
    total = readers[0].totals()
    for _ in range(4):
        clock.now += 30 * DAY
        readers[0].record(RECORD)
    readers[0].flush_next()
    after = [*readers[0].changed(), *before]
    expected = total | {NAMES: total.get(NAMES, Totals()) + Totals(4, 0, 40, 80, 120, 160)}
    assert readers[0].totals() == expected
    readers[1].merge(after)
    assert readers[1].totals() == expected
    oldest = clock.now - (DETAIL_DAYS + 31) * DAY
    days = [row.key.split(":")[1] for row in readers[1].everything() if row.key.startswith("usage:")]
    assert all(day >= Ledger(clock=Clock(oldest)).today() for day in days)


def test_the_fuller_of_two_months_wins():
    """Of two pages of one month, made by processes of which one knew less, the one with more requests stays."""
    clock = Clock()
    first, second = ledger("a", clock), ledger("b", clock)
    for one in (first, second):
        one.record(RECORD)
    second.merge(first.everything())
    clock.now += 100 * DAY
    for one in (first, second):
        one.record(RECORD)
    rows = [row for one in (first, second) for row in one.everything() if row.key.startswith("month:")]
    assert len(rows) == 2
    for order in (rows, rows[::-1]):
        reader = ledger("c", clock)
        reader.merge(order)
        assert reader.totals()[NAMES].requests == 2


# --- names that clients make up ---------------------------------------------------------------------------------------------


def made_up(number, **more):
    return replace(RECORD, requested=f"claude-junk-{number}", served=f"anthropic/claude-junk-{number}", **more)


def listed(name):
    return name.startswith("claude-opus")


def refused(number, **more):
    return replace(made_up(number), status=404, error="not_found_error", usage=Usage(), **more)


@pytest.mark.parametrize("record", [made_up, refused], ids=["answered", "refused"])
def test_a_user_cannot_take_the_names_of_others(record):
    """However many names one user makes up, another user's models are counted under their own names."""
    one = ledger(listed=listed)
    for number in range(5000):
        one.record(record(number))
    for name in ("claude-opus-4-8", "claude-of-ben"):
        one.record(replace(RECORD, user="ben", requested=name))
    totals = one.totals()
    assert {names.model for names in totals if names.user == "ben"} == {"claude-opus-4-8", "claude-of-ben"}
    assert len([names for names in totals if names.user == "anna"]) == (OWN_NAMES + 1 if record is made_up else 1)
    assert sum(found.requests for found in totals.values()) == 5002


def test_a_made_up_name_counts_once_it_was_answered():
    """A name that a pattern lets through is ``other`` until an upstream answered it; then its errors are its own, too."""
    one = ledger(listed=listed)
    for record in (refused(1), made_up(1, status=499), made_up(1), refused(1)):
        one.record(record)
    found = {names.model: numbers for names, numbers in one.totals().items()}
    assert {name: (numbers.requests, numbers.errors) for name, numbers in found.items()} == {
        OTHER: (2, 1), "claude-junk-1": (2, 1)
    }  # fmt: skip


@pytest.mark.parametrize(("error", "name"), [("unknown_model", UNKNOWN), ("model_not_allowed", NOT_ALLOWED)])
def test_a_refused_name_is_counted_by_its_reason(error, name):
    """Requests for models that the proxy refuses have a line for each reason, which takes no place of a made-up name."""
    one = ledger(listed=listed)
    for number in range(30):
        one.record(replace(refused(number), error=error, served=""))
    one.record(refused(1))
    counted = {names.model: (names.served, numbers.requests, numbers.errors) for names, numbers in one.totals().items()}
    assert counted == {name: ("", 30, 30), OTHER: ("", 1, 1)}
    again = ledger("b", listed=listed)
    again.merge(one.everything())
    assert again.totals() == one.totals()


def test_a_listed_name_counts_without_an_answer():
    """A model that the proxy lists is counted under its name when every request for it fails."""
    one = ledger(listed=listed)
    one.record(replace(RECORD, status=429, error="rate_limit_error"))
    assert {names.model for names in one.totals()} == {"claude-opus-4-8"}


def test_days_and_processes_share_a_users_places():
    """The places for made-up names hold for all days of detail and for all processes, and are free when the days are gone."""
    clock = Clock()
    first, second = ledger("a", clock, listed=listed), ledger("b", clock, listed=listed)
    for number in range(OWN_NAMES):
        first.record(made_up(number))
    second.merge(first.everything())
    for one in (first, second):
        clock.now += DAY
        one.record(made_up(100))
        assert one.totals({one.today()}) == {Names("anna", OTHER, "", "first"): Totals(1, 0, 10, 20, 30, 40)}
    clock.now += 120 * DAY
    for number in (100, 101):
        first.record(made_up(number))
        first.flush_next()
        first.changed()
    assert "claude-junk-101" in {names.model for names in first.totals({first.today()})}


def test_a_model_that_was_left_is_counted_under_a_name_that_counts():
    """Moves away from made-up models are counted together and are no credential's error; a credential's keep its label."""
    one = ledger(listed=listed)
    for number in range(300):
        left = (f"anthropic/claude-junk-{number}: failed over to anthropic/glm-5", f"anthropic/claude-junk-{number}: retried")
        one.record(refused(number, failovers=(*left, "second: five_hour limit (HTTP 429)")))
    assert one.sums(FAILOVERS) == {(OTHER,): [600], ("second",): [300]}
    assert set(one.errors()) == {"second", "first"}


def test_users_that_differ_in_case_are_one():
    """A user is counted under one name, however the name was written on the day."""
    one = ledger()
    for user in ("anna", "Anna", "ANNA"):
        one.record(replace(RECORD, user=user))
    assert {names.user: found.requests for names, found in one.totals().items()} == {"anna": 3}


def poisoned(days, names, clock):
    """Pages as earlier versions wrote them: made-up names, each with one request that failed or succeeded."""
    for back in range(days):
        day = Ledger(clock=lambda back=back: clock.now - back * DAY).today()
        entries = [
            [["taken", "anna", f"junk-{back}-{number}", f"p/junk-{back}-{number}", "c"], [1, number % 2, 0, 0, 0, 0, 0]]
            for number in range(names)
        ]
        moved = [[["moved", f"p/junk-{back}-{number}"], [1]] for number in range(names)]
        yield Row(f"usage:{day}:old", clock.now, json.dumps(entries + moved))


def test_poisoned_pages_are_read_bounded():
    """Pages that are full of made-up names already are shown within the bounds, and their requests stay counted."""
    clock = Clock()
    one = ledger(clock=clock, listed=listed)
    one.merge(poisoned(60, 1000, clock))
    assert len(one.totals()) <= OWN_NAMES + 1
    assert len(one.sums(FAILOVERS)) <= MAX_NAMES + 1
    assert len(one.csv().splitlines()) <= 60 * (OWN_NAMES + 1) + 1
    assert sum(found.requests for found in one.totals().values()) == 60_000


def test_a_spreadsheet_gets_no_formula():
    """Whatever a name begins with, a spreadsheet does not take it for a formula."""
    one = ledger()
    for start in ("=", "+", "-", "@", "\t", "\r", "\uff1d"):
        one.record(replace(RECORD, user=f"{start}1"))
    cells = [line[1] for line in csv.reader(io.StringIO(one.csv()))][1:]
    assert all(cell.startswith(("'", "\\")) for cell in cells)


@pytest.mark.parametrize("tokens", [10**400, 10**300])
def test_numbers_stay_finite(tokens):
    """A count of tokens that no answer can have does not break the sums."""
    one = ledger()
    one.record(replace(RECORD, usage=Usage(tokens, 0, 0, 0)))
    assert math.isfinite(one.totals()[NAMES].input)
    assert one.csv()


@pytest.mark.parametrize("day", ["99999-01-01", "2026-11-28", "20261118", "0001-01-01", "2026-W47-3"])
def test_a_page_of_no_day_is_passed_over(day):
    """A page for a day that is not of the calendar, far ahead or long past, is not taken in."""
    one = ledger()
    page = json.dumps([[["moved", "x"], [1]]])
    one.merge([Row(f"usage:{day}:w", 1.0, page), Row(f"month:{day[:-3]}-", 1.0, page)])
    assert one.everything() == []
