"""alerts/forecast.py: when the pool is empty at the pace of its windows."""

import hypothesis.strategies as st
import pytest
from hypothesis import given
from test_report import DAY, HOUR, NOW, closed, snapshot

from claude_proxy.alerts.forecast import HORIZON_SECONDS, empty_at
from claude_proxy.credentials.credential import Credential, Kind, Terms
from claude_proxy.credentials.rate_limits import Cooldown, Snapshot, Window
from claude_proxy.credentials.scope import EVERYTHING
from claude_proxy.secret import Secret


def week(used, opened_for, **cooldowns):
    """The window of a week that has been open for so long."""
    return {("", "7d"): Window(used, NOW - opened_for + 7 * DAY, NOW)}


def test_one_credential_is_empty_when_its_window_is_full():
    """Half of the week in two days: the other half takes two more."""
    assert empty_at([snapshot(windows=week(0.5, 2 * DAY))], NOW) == pytest.approx(NOW + 2 * DAY, abs=60)


def test_a_slow_pace_never_empties_the_pool():
    """A window that resets before it is full is no end."""
    assert empty_at([snapshot(windows=week(0.2, 3 * DAY))], NOW) is None


def test_what_one_cannot_serve_the_others_do():
    """When the fuller credential is full, the other one gets all requests, and is full sooner than at its own pace."""
    pool = [snapshot("a", windows=week(0.9, 2 * DAY)), snapshot("b", windows=week(0.1, 2 * DAY))]
    # Together half a week's window a day; one whole window is left of both.
    assert empty_at(pool, NOW) == pytest.approx(NOW + 2 * DAY, abs=60)


def test_a_reset_in_time_brings_room():
    """The pool is not empty while one credential's window has just reset."""
    fresh = {("", "7d"): Window(0.9, NOW + HOUR, NOW)}
    pool = [snapshot("a", windows=week(0.9, 4 * DAY)), snapshot("b", windows=fresh)]
    alone = empty_at(pool[:1], NOW)
    assert alone is not None
    found = empty_at(pool, NOW)
    assert found is None or found > alone + DAY


def test_a_credential_that_was_never_used_has_room():
    """A credential without windows starts empty and takes its share."""
    pool = [snapshot("a", windows=week(0.5, 2 * DAY)), snapshot("new")]
    # A quarter of a window a day, and one and a half windows are left.
    assert empty_at(pool, NOW) is None or empty_at(pool, NOW) > NOW + 4 * DAY


def test_the_weight_is_the_size_of_the_account():
    """An account of twice the size lasts twice as long."""
    small = empty_at([snapshot("a", windows=week(0.6, 2 * DAY))], NOW)
    big = Snapshot(Credential("big", Kind.OAUTH, Secret("sk-made-up"), terms=Terms(weight=2)), NOW, {}, {}, 0)
    with_big = empty_at([snapshot("a", windows=week(0.6, 2 * DAY)), big], NOW)
    assert small is not None
    assert with_big is None or with_big > small + 2 * DAY


def test_an_api_key_is_never_full():
    """A pool with an API key does not run out."""
    key = Snapshot(Credential("key", Kind.API_KEY, Secret("sk-made-up")), NOW, {}, {}, 0)
    assert empty_at([snapshot(windows=week(0.9, DAY)), key], NOW) is None


def test_an_empty_pool_is_empty_now():
    """Without a usable credential the pool is empty, whatever is paused."""
    limited = snapshot(cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 7d")}, windows=week(1.0, DAY))
    assert empty_at([limited], NOW) == NOW
    assert empty_at([limited, closed(paused=True)], NOW) == NOW


@pytest.mark.parametrize("pool", [[], [closed(paused=True)], [snapshot()]], ids=["none", "paused", "unused"])
def test_nothing_to_forecast(pool):
    """No forecast for a pool that is not used."""
    assert empty_at(pool, NOW) is None


def test_a_rejected_credential_does_not_come_back():
    """What Anthropic rejects has no room, although its window has."""
    rejected = snapshot("r", cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "rejected", rejected=True)}, windows=week(0.0, DAY))
    pool = [snapshot("a", windows=week(0.5, 2 * DAY))]
    assert empty_at([*pool, rejected], NOW) == pytest.approx(empty_at(pool, NOW), abs=1)


WINDOW = st.builds(
    lambda name, used, left: (("", name), Window(used, NOW + left, NOW)),
    st.sampled_from(["5h", "7d", "overage", "odd"]),
    st.floats(0, 1.5),
    st.floats(1, 7 * DAY),
)
POOL = st.lists(st.lists(WINDOW, max_size=3).map(dict), max_size=5)


@given(POOL)
def test_whatever_the_windows_are(found):
    """The forecast ends, and is a time within a week or none."""
    at = empty_at([snapshot(str(number), windows=windows) for number, windows in enumerate(found)], NOW)
    assert at is None or NOW <= at <= NOW + HORIZON_SECONDS
