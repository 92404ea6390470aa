"""credentials/rate_limits.py: what follows from a credential's rests and windows, and how many are kept."""

import pytest
from pools import START, A

from claude_proxy.credentials.order import SOFT_LIMIT_REACHED
from claude_proxy.credentials.rate_limits import (
    ALL_MODELS,
    MAX_PLACES,
    NEVER,
    Cooldown,
    CredentialState,
    Window,
)
from claude_proxy.credentials.scope import EVERYTHING, Scope


@pytest.fixture
def state():
    return CredentialState(A, soft_limit=0.9)


def test_a_family_is_usable_when_all_models_and_itself_are(state):
    """The later of two rests counts for a family, and the one of all models for every other family."""
    state.put_cooldown(EVERYTHING, Cooldown(START + 60, "limit"), START)
    state.put_cooldown(Scope("opus"), Cooldown(START + 90, "limit"), START)
    state.put_cooldown(Scope("sonnet"), Cooldown(START + 30, "limit"), START)
    state.derive(START)
    assert [state.usable_at(Scope(family)) for family in ("opus", "sonnet", "haiku")] == [START + 90, START + 60, START + 60]


def test_the_fullest_window_counts_until_one_opens(state):
    """The load is that of the fullest window that is not over, for all models and for a family that has its own."""
    state.put_window((ALL_MODELS, "5h"), Window(0.4, START + 10, START), START)
    state.put_window((ALL_MODELS, "7d"), Window(0.3, START + 20, START), START)
    state.put_window(("opus", "7d_opus"), Window(0.6, START + 30, START), START)
    state.derive(START)
    assert (state.load, state.family_load, state.load_until) == (0.4, {"opus": 0.6}, START + 10)
    state.derive(START + 10)
    assert (state.load, state.family_load, state.load_until) == (0.3, {"opus": 0.6}, START + 20)
    state.derive(START + 30)
    assert (state.load, state.family_load, state.load_until) == (0.0, {}, NEVER)


def test_what_is_committed(state):
    """Each session takes a share of the room, in hundredths, and the soft limit puts a credential behind all others."""
    state.put_window((ALL_MODELS, "5h"), Window(0.57, START + 10, START), START)
    state.derive(START)
    assert state.committed == 57
    state.count(2)
    assert state.committed == 77
    state.count(-2)
    state.put_window((ALL_MODELS, "5h"), Window(0.9, START + 10, START), START)
    state.derive(START)
    assert state.committed == 90 + SOFT_LIMIT_REACHED


def test_rests_and_windows_are_bounded(state):
    """No more than ``MAX_PLACES`` rests and windows are kept; those that are over make room, and one that is there changes."""
    for number in range(MAX_PLACES):
        assert state.put_cooldown(Scope(f"family-{number}"), Cooldown(START + 1 + number, "limit"), START)
        assert state.put_window(("", f"window-{number}"), Window(0.5, START + 1 + number, START), START)
    assert not state.put_cooldown("more", Cooldown(START + 60, "limit"), START)
    assert not state.put_window(("", "more"), Window(0.5, START + 60, START), START)
    assert state.put_cooldown(Scope("family-0"), Cooldown(START + 5, "longer"), START)
    assert state.put_cooldown("more", Cooldown(START + 60, "limit"), START + 5)
    assert state.put_window(("", "more"), Window(0.5, START + 60, START), START + 5)
    assert len(state.cooldowns) == len(state.windows) == MAX_PLACES + 1 - 5
