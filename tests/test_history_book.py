"""history/book.py: under which names requests are counted, by one process."""

import csv
import io
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from recorded import Recorded
from test_history_queries import DAY, NOW, Clock

from claude_proxy.anthropic.usage import Usage
from claude_proxy.history.book import MAX_HOURS, HistoryBook, joined
from claude_proxy.history.page import MAX_ENTRIES, MAX_GROUPS, MAX_NAMES, OWN_NAMES
from claude_proxy.text import clean
from claude_proxy.usage.numbers import (
    BUCKETS,
    NOT_ALLOWED,
    OTHER,
    TOTAL,
    TOTAL_MS,
    UNKNOWN,
    Names,
    Totals,
    percentiles,
)
from claude_proxy.usage.record import Record, is_error

HOUR = "2026-11-18T14"
RECORD = Record(
    at=NOW, user="anna", requested="claude-opus-4-8", served="anthropic/claude-opus-4-8", credential="first", status=200,
    first_byte_seconds=0.3, seconds=4.0, usage=Usage(10, 20, 30, 40), cost=0, groups=("team",), project="website",
)  # fmt: skip
NAMES = Names("anna", "team", "claude-opus-4-8", "anthropic/claude-opus-4-8", "first", "website")


def recorded(clock=None, **more):
    return Recorded(clock=clock or Clock(), **more)


def test_a_request_is_counted_with_its_tokens():
    """A request adds one to its names' requests, and its tokens."""
    one = recorded()
    one.record(RECORD)
    one.record(RECORD)
    assert one.totals() == {NAMES: Totals(2, 0, 0, 20, 40, 60, 80)}


@pytest.mark.parametrize(
    ("status", "error", "counted"),
    [(200, "", False), (200, "interrupted", True), (429, "rate_limit_error", True), (500, "", True), (499, "", False)],
)
def test_what_an_error_is(status, error, counted):
    """A failed status or a broken response is an error; a client that leaves is none."""
    assert is_error(replace(RECORD, status=status, error=error)) is counted


def test_a_count_of_tokens_is_no_request():
    """What only asks how many tokens a request has is not counted: no provider bills it."""
    one = recorded()
    one.record(replace(RECORD, counts_tokens=True, status=429, failovers=("first: limit",)))
    assert (one.totals(), one.events.failovers(), one.events.errors()) == ({}, [], {})


def test_a_model_that_nobody_serves_has_no_name():
    """A client's made-up model is counted as ``other``, so that clients cannot fill the book with names."""
    one = recorded(listed=lambda model: model == "known")
    for number in range(5):
        one.record(replace(RECORD, requested=f"made-up-{number}", served="", credential=""))
    assert one.totals() == {NAMES._replace(model=OTHER, served="", credential=""): Totals(5, 0, 0, 50, 100, 150, 200)}
    assert set(one.counted().times) == {OTHER}


def test_a_full_page_counts_what_comes_as_other():
    """With the names of a page used up every further one is counted under ``other``, and no number is lost."""
    one = recorded()
    for number in range(2 * MAX_NAMES):
        changes = {"requested": f"model-{number}", "user": f"user-{number}", "served": f"served-{number}"}
        one.record(replace(RECORD, project=f"project-{number}", groups=(f"group-{number}",), **changes))
    totals = one.totals()
    assert len(totals) <= MAX_NAMES + 1
    assert sum(found.requests for found in totals.values()) == 2 * MAX_NAMES
    assert Names(OTHER, OTHER, OTHER, OTHER, "first", OTHER) in totals
    assert len(one.counted().times) == MAX_NAMES + 1


def test_an_endless_variety_stays_bounded():
    """However the names are combined, a page has at most so many entries."""
    one = recorded()
    for number in range(6000):
        one.record(replace(RECORD, requested=f"m{number % 97}", user=f"u{number % 89}", project=f"p{number % 7}"))
    assert len(one.totals()) <= MAX_ENTRIES
    assert sum(found.requests for found in one.totals().values()) == 6000


def test_times_are_classed():
    """A time is in the first bucket whose bound is not below it; the sum of times is kept beside them."""
    one = recorded()
    for seconds in (0.05, 0.1, 0.11, 700.0):
        one.record(replace(RECORD, seconds=seconds))
    numbers = one.counted().times["claude-opus-4-8"]
    counts = numbers[TOTAL]
    assert {bound: count for bound, count in zip(BUCKETS, counts, strict=True) if count} == {0.1: 2, 0.25: 1, BUCKETS[-1]: 1}
    assert numbers[TOTAL_MS] == 700_260


@pytest.mark.parametrize(
    ("times", "p50", "p95"),
    [
        ([], None, None), ([0.1], 0.05, 0.095), ([1.2] * 100, 1.2, 1.38), ([1.2] * 90 + [8.0] * 10, 1.222, 8.5),
        ([5000], 600, 600),
    ],
)  # fmt: skip
def test_percentiles_are_interpolated(times, p50, p95):
    """A percentile lies within the bucket of its request; a time beyond the last bound is that bound."""
    book = HistoryBook(clock=Clock())
    for seconds in times:
        book.record(replace(RECORD, seconds=seconds))
    buckets = book.pages[HOUR].entries[NAMES][TOTAL] if times else [0] * len(BUCKETS)
    assert percentiles(buckets, (0.5, 0.95)) == [p50, p95]


def test_names_are_of_one_line():
    """Control characters, line ends and half surrogate pairs are escaped, and long names are cut."""
    assert clean("a\nb\x1b[31m\u202e\ud800") == "a\\nb\\x1b[31m\\u202e\\ud800"
    assert len(clean("x" * 1000)) == 100
    one = recorded()
    strange = "a\n\ud800" * 100
    one.record(
        replace(RECORD, user=strange, project=strange, credential=strange, groups=(strange, "b,c"), failovers=(strange,))
    )
    ((names, _),) = one.totals().items()
    assert all(text.isprintable() and len(text) <= MAX_GROUPS for text in names)


def test_groups_are_one_name():
    """A user's groups are one name of bounded length, of which each can be found again."""
    assert joined(("a", "b,c", "d\n")) == "a,b c,d\\n"
    many = joined([f"group-{number}" for number in range(1000)])
    assert len(many) <= MAX_GROUPS
    assert many.split(",")[-1].startswith("group-")


def test_costs_are_summed():
    """Known costs are summed to the micro-USD; responses without one are counted, and their cost is never shown as 0."""
    one = recorded()
    for cost in (100_001, 200_002, None):
        one.record(replace(RECORD, cost=cost))
    one.record(replace(RECORD, user="ben", cost=None))
    one.record(replace(RECORD, user="carl", cost=None, served="", status=529))
    lines = [*csv.DictReader(io.StringIO(one.csv()))]
    assert [(line["user"], line["usd"], line["unpriced"]) for line in lines] == [
        ("anna", "0.300003", "1"), ("ben", "", "1"), ("carl", "0.00", "0"),
    ]  # fmt: skip


def test_a_clock_that_goes_back_loses_nothing():
    """A page's stamp grows with each request, wherever the clock was set, so that the later version of it wins."""
    clock = Clock()
    book = HistoryBook(clock=clock)
    stamps = []
    for step in (0, 0, -5, 1):
        clock.now += step
        book.record(RECORD)
        stamps.append(book.pages[HOUR].stamp)
    assert stamps == sorted(set(stamps))


def test_pages_are_bounded_while_nothing_can_be_written():
    """While the database is away a process keeps a bounded number of hours, the latest ones."""
    clock = Clock()
    book = HistoryBook(clock=clock)
    for _ in range(MAX_HOURS + 5):
        clock.now += 3600
        book.record(RECORD)
        assert book.take() is not None
        book.written(done=False)
    assert len(book.pages) == MAX_HOURS
    assert book.take() is not None
    book.written(done=True)
    assert len(book.pages) == 1


@pytest.mark.parametrize("tokens", [10**400, 10**300, -5])
def test_numbers_stay_finite(tokens):
    """A count of tokens that no response can have does not break the sums."""
    one = recorded()
    for _ in range(3):
        one.record(replace(RECORD, usage=Usage(tokens, 0, 0, 0), cost=10**30, seconds=1e30, first_byte_seconds=-1.0))
    assert one.totals()[NAMES].input <= 10**12
    assert one.csv()


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
    one = recorded(listed=listed)
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
    one = recorded(listed=listed)
    for record in (refused(1), made_up(1, status=499), made_up(1), refused(1)):
        one.record(record)
    found = {names.model: numbers for names, numbers in one.totals().items()}
    assert {name: (numbers.requests, numbers.errors) for name, numbers in found.items()} == {
        OTHER: (2, 1), "claude-junk-1": (2, 1)
    }  # fmt: skip


@pytest.mark.parametrize(("error", "name"), [("unknown_model", UNKNOWN), ("model_not_allowed", NOT_ALLOWED)])
def test_a_refused_name_is_counted_by_its_reason(error, name):
    """Requests for models that the proxy refuses have a line for each reason, which takes no place of a made-up name."""
    one = recorded(listed=listed)
    for number in range(30):
        one.record(replace(refused(number), error=error, served=""))
    one.record(refused(1))
    counted = {names.model: (names.served, numbers.requests, numbers.errors) for names, numbers in one.totals().items()}
    assert counted == {name: ("", 30, 30), OTHER: ("", 1, 1)}


def test_a_listed_name_counts_without_an_answer():
    """A model that the proxy lists is counted under its name when every request for it fails."""
    one = recorded(listed=listed)
    one.record(replace(RECORD, status=429, error="rate_limit_error"))
    assert {names.model for names in one.totals()} == {"claude-opus-4-8"}


def test_days_and_processes_share_a_users_places(tmp_path):
    """The places for made-up names hold for two months and for all processes, and are free when those are over."""
    clock = Clock()
    first, second = (recorded(clock, listed=listed, path=tmp_path / "history.sqlite") for _ in range(2))
    second.flush()
    for number in range(OWN_NAMES):
        first.record(made_up(number))
    first.flush()
    for one in (first, second):
        clock.now += DAY
        one.flush()
        one.record(made_up(100))
        one.flush()
        today = datetime.fromtimestamp(clock.now, UTC).date().isoformat()
        lines = [line for line in csv.DictReader(io.StringIO(one.csv())) if line["period"] == today]
        assert {line["model"] for line in lines} == {OTHER}
    clock.now += 120 * DAY
    first.flush()
    for number in (100, 101):
        first.record(made_up(number))
    assert "claude-junk-101" in {names.model for names in first.totals()}


def test_a_model_that_was_left_is_counted_under_a_name_that_counts():
    """Moves away from made-up models are counted together and are no credential's error; a credential's keep its label."""
    one = recorded(listed=listed)
    for number in range(300):
        left = (f"anthropic/claude-junk-{number}: failed over to anthropic/glm-5", f"anthropic/claude-junk-{number}: retried")
        one.record(refused(number, failovers=(*left, "second: five_hour limit (HTTP 429)")))
    assert one.counted().left == {OTHER: 600, "second": 300}
    assert set(one.events.errors()) == {"second", "first"}


def test_users_that_differ_in_case_are_one():
    """A user is counted under one name, however the name was written on the day."""
    one = recorded()
    for user in ("anna", "Anna", "ANNA"):
        one.record(replace(RECORD, user=user))
    assert {names.user: found.requests for names, found in one.totals().items()} == {"anna": 3}


def test_a_spreadsheet_gets_no_formula():
    """Whatever a name begins with, a spreadsheet does not take it for a formula."""
    one = recorded()
    for start in ("=", "+", "-", "@", "\t", "\r", "\uff1d"):
        one.record(replace(RECORD, user=f"{start}1", project=f"{start}2", groups=(f"{start}3",)))
    lines = [*csv.DictReader(io.StringIO(one.csv()))]
    assert len(lines) == 7
    assert all(line[name].startswith(("'", "\\")) for line in lines for name in ("user", "project", "groups"))
