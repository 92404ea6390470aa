"""access/failed_logins.py: what is logged about refused requests, and how long a wrong token waits for its refusal."""

import asyncio
import itertools

import pytest

from claude_proxy.access import failed_logins
from claude_proxy.access.failed_logins import (
    FIRST_DELAY,
    FORGET_SECONDS,
    FREE_ATTEMPTS,
    LOG_SECONDS,
    MAX_DELAY,
    MAX_SOURCES,
    MAX_WAITING,
    OTHERS,
    UNKNOWN,
    AttemptLimit,
    FailedLogins,
    LoginDelays,
    RefusalLog,
    source_of,
)
from claude_proxy.anthropic.errors import Refusal

REQUEST = "POST '/v1/messages'"
REFUSED = Refusal(401, [], b"{}")


class Clock:
    """A clock that a test turns."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (("10.0.0.7", 4711), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 4711), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::9", 4712), "2001:db8:1:2::/64"),
        (("::ffff:10.0.0.7", 4711), "10.0.0.7"),
        (("fe80::1%eth0", 4711), "fe80::/64"),
        (("x\nforged line", 0), UNKNOWN),
        (("a" * 60_000, 0), UNKNOWN),
        (None, UNKNOWN),
        ([], UNKNOWN),
    ],
)
def test_whose_refusals_are_counted_together(client, source):
    """An IPv4 address, or the network of an IPv6 one; what is no address is one source, and its text is nowhere kept."""
    assert source_of(client) == source


# --- The log -----------------------------------------------------------------------------------------------------------------


def test_a_flood_is_one_line_a_minute(clock):
    """The first refusal is logged at once, a minute's others as one line with their count, however long it goes on."""
    log, lines = RefusalLog(clock), []
    for _ in range(600):
        lines += log.refused("10.0.0.7", REQUEST, 401)
        clock.now += 1
    assert lines[0] == f"refused {REQUEST} from 10.0.0.7: HTTP 401"
    assert lines[1] == f"refused 59 more requests from 10.0.0.7 within a minute, the last {REQUEST}: HTTP 401"
    assert len(lines) <= 1 + 600 / LOG_SECONDS


def test_the_count_comes_without_another_refusal(clock):
    """A minute's count is due when it is over; an address that has been silent for a minute is logged at once again."""
    log = RefusalLog(clock)
    log.refused("10.0.0.7", REQUEST, 401)
    log.refused("10.0.0.7", "GET '/x'", 403)
    assert log.seconds_to_next() == LOG_SECONDS
    clock.now += LOG_SECONDS
    assert log.due() == ["refused 1 more requests from 10.0.0.7 within a minute, the last GET '/x': HTTP 403"]
    clock.now += LOG_SECONDS
    assert (log.due(), log.seconds_to_next()) == ([], None)
    assert log.refused("10.0.0.7", REQUEST, 401) == [f"refused {REQUEST} from 10.0.0.7: HTTP 401"]


def test_each_address_has_its_own_first_line(clock):
    """A flood from one address hides no other one."""
    log = RefusalLog(clock)
    for _ in range(1000):
        log.refused("10.0.0.7", REQUEST, 401)
    assert log.refused("10.0.0.8", REQUEST, 401) == [f"refused {REQUEST} from 10.0.0.8: HTTP 401"]


def test_many_addresses_share_a_row(clock):
    """Beyond a number of addresses, others are logged together: neither the log nor what is kept grows with them."""
    log = RefusalLog(clock)
    sizes, lines = [], []
    for count in (2 * MAX_SOURCES, 4 * MAX_SOURCES):
        for number in range(count):
            lines += log.refused(f"address {number}", REQUEST, 401)
        sizes.append(len(log._rows))
    assert sizes[0] == sizes[1] == MAX_SOURCES + 1
    assert len(lines) == MAX_SOURCES + 1
    clock.now += LOG_SECONDS
    assert [line for line in log.due() if OTHERS in line]


# --- The delay ---------------------------------------------------------------------------------------------------------------


def test_the_delay_grows(clock):
    """The first wrong tokens are refused at once, then the delay doubles up to a few seconds, and grows no further."""
    delays = LoginDelays(clock)
    found = [delays.failed("10.0.0.7") for _ in range(FREE_ATTEMPTS + 2000)]
    assert found[:FREE_ATTEMPTS] == [0.0] * FREE_ATTEMPTS
    growing = found[FREE_ATTEMPTS:]
    assert growing[0] == FIRST_DELAY
    assert all(after == min(MAX_DELAY, 2 * before) for before, after in itertools.pairwise(growing))
    assert growing[-1] == MAX_DELAY


def test_an_address_is_forgotten(clock):
    """Who sends no wrong token for some minutes starts anew; who goes on does not."""
    delays = LoginDelays(clock)
    for _ in range(FREE_ATTEMPTS):
        delays.failed("10.0.0.7")
    clock.now += FORGET_SECONDS - 1
    assert delays.failed("10.0.0.7") == FIRST_DELAY
    clock.now += FORGET_SECONDS
    assert delays.failed("10.0.0.7") == 0.0


def test_addresses_are_counted_apart(clock):
    """One address's wrong tokens delay no other address's, until there are more of them than are kept apart."""
    delays = LoginDelays(clock)
    for _ in range(100):
        delays.failed("10.0.0.7")
    assert delays.failed("10.0.0.8") == 0.0
    for number in range(4 * MAX_SOURCES):
        delays.failed(f"address {number}")
    assert len(delays._attempts) <= MAX_SOURCES + 1
    assert delays.failed("one more") == MAX_DELAY


# --- Both, with the event loop -----------------------------------------------------------------------------------------------


async def stays():
    """The client of a request without a body, which waits for its response."""
    await asyncio.Event().wait()


async def gone():
    """A client that has left."""
    return {"type": "http.disconnect"}


async def refuse(logins, receive=stays, count=1, *, wrong_token=True):
    """Send so many wrong tokens at the same time, and return the statuses of the responses; None where the client has left."""
    asked = [logins.response_to(REFUSED, "10.0.0.7", REQUEST, receive, wrong_token=wrong_token) for _ in range(count)]
    return [response and response.status for response in await asyncio.gather(*asked)]


@pytest.mark.anyio
async def test_so_many_wait_and_no_more(clock, monkeypatch, caplog):
    """Beyond a number of requests that wait, a wrong token is a 429 at once that says when to come back."""
    monkeypatch.setattr(failed_logins, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(failed_logins, "MAX_DELAY", 0.001)
    logins = FailedLogins(clock)
    found = await refuse(logins, count=FREE_ATTEMPTS + MAX_WAITING + 30)
    assert found == [401] * (FREE_ATTEMPTS + MAX_WAITING) + [429] * 30
    assert await refuse(logins, count=MAX_WAITING) == [401] * MAX_WAITING
    assert len(caplog.records) == 1


def test_a_429_is_not_repeated():
    """The refusal of a wrong token says when to come back, and to a client that would repeat it that this is of no use."""
    refusal = failed_logins.too_many(0.25)
    assert {("retry-after", "1"), ("x-should-retry", "false")} <= set(refusal.headers)


@pytest.mark.anyio
async def test_a_wait_ends_when_the_client_leaves(clock, monkeypatch):
    """Who leaves while waiting gets no response and takes no place from others, however long the delay is."""
    monkeypatch.setattr(failed_logins, "FIRST_DELAY", 3600.0)
    monkeypatch.setattr(failed_logins, "MAX_DELAY", 3600.0)
    logins = FailedLogins(clock)
    assert await refuse(logins, gone, FREE_ATTEMPTS) == [401] * FREE_ATTEMPTS
    for _ in range(3):
        assert await refuse(logins, gone, MAX_WAITING) == [None] * MAX_WAITING


@pytest.mark.anyio
async def test_a_missing_token_does_not_wait(clock, monkeypatch):
    """Only wrong tokens are delayed: a request without one, or a closed route, is refused at once."""
    monkeypatch.setattr(failed_logins, "FIRST_DELAY", 3600.0)
    logins = FailedLogins(clock)
    assert await refuse(logins, count=FREE_ATTEMPTS + 100, wrong_token=False) == [401] * (FREE_ATTEMPTS + 100)


@pytest.mark.anyio
async def test_the_last_count_is_logged_by_a_timer(clock, monkeypatch, caplog):
    """What was counted is logged when its minute is over, with no further request."""
    timers = []

    def call_later(delay, then):
        timers.append((delay, then))
        return timers[-1]

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    logins = FailedLogins(clock)
    await refuse(logins, count=3)
    assert [delay for delay, _ in timers] == [LOG_SECONDS]
    clock.now += LOG_SECONDS
    timers.pop()[1]()
    assert "refused 2 more requests from 10.0.0.7" in caplog.records[-1].getMessage()
    clock.now += LOG_SECONDS
    timers.pop()[1]()
    assert timers == []


@pytest.mark.anyio
async def test_another_protocol_has_its_own_words(clock, monkeypatch):
    """Where too many wait, the response is that of the caller, where it has one."""
    monkeypatch.setattr(failed_logins, "MAX_WAITING", 0)
    logins, busy = FailedLogins(clock), failed_logins.Refusal(429, [], b"in other words")
    assert await refuse(logins, count=FREE_ATTEMPTS) == [401] * FREE_ATTEMPTS
    assert await logins.response_to(REFUSED, "10.0.0.7", REQUEST, stays, wrong_token=True, busy=busy) is busy


def test_a_limit_of_attempts():
    """After the last wrong attempt a source waits until its time is over; other sources do not."""
    clock = Clock()
    limit = AttemptLimit(3, 60.0, clock)
    assert [limit.failed("a"), limit.failed("a")] == [False, False]
    assert limit.wait("a") == 0
    clock.now += 10.5
    assert limit.failed("a")
    assert (limit.wait("a"), limit.wait("b")) == (50, 0)
    assert limit.failed("a")
    clock.now += 49.5
    assert limit.wait("a") == 0
    assert not limit.failed("a")


def test_a_limit_for_many_sources():
    """Beyond ``MAX_SOURCES`` further sources share one row, and a row is removed when its time is over."""
    clock = Clock()
    limit = AttemptLimit(2, 60.0, clock)
    for number in range(MAX_SOURCES):
        limit.failed(str(number))
    limit.failed("new")
    assert limit.failed("newer")
    assert (limit.wait("newest"), limit.wait("0")) == (60, 0)
    assert len(limit._rows) == MAX_SOURCES + 1
    clock.now += 60
    assert limit.wait("newest") == 0
    assert limit._rows == {}
