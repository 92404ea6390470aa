"""credentials/fullness.py: the mean utilization of the pool's windows."""

import pytest

from claude_proxy.credentials.credential import Credential, Kind, Terms
from claude_proxy.credentials.fullness import fullness
from claude_proxy.credentials.rate_limits import Cooldown, Snapshot, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.secret import Secret

COOLING = {EVERYTHING: Cooldown(100.0, "five_hour limit")}


def one(*windows, kind=Kind.OAUTH, cooldowns=None, disabled=False, **terms):
    credential = Credential("a", kind, Secret("made-up"), source="test", terms=Terms(**terms))
    found = {place: Window(utilization, 100.0, 0.0) for place, utilization in windows}
    return Snapshot(credential, None, cooldowns or {}, found, 0, disabled=disabled)


WEEK, SHORT, OPUS = ("", "7d"), ("", "5h"), ("opus", "7d")


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ([], None),
        ([one((WEEK, 0.5), kind=Kind.API_KEY)], None),
        ([one((WEEK, 0.5), paused=True)], None),
        ([one((WEEK, 0.5), disabled=True)], None),
        ([one((WEEK, 0.5), (SHORT, 0.9))], 0.5),
        ([one((SHORT, 0.9))], 0.0),
        ([one((WEEK, 0.2)), one((WEEK, 0.6))], 0.4),
        ([one((WEEK, 0.2), weight=3), one((WEEK, 1.0))], 0.4),
        ([one((WEEK, 1.7))], 1.0),  # extra usage
        ([one((WEEK, 0.2), (OPUS, 0.8))], 0.8),
        ([one((WEEK, 0.2), cooldowns=COOLING), one((WEEK, 0.2))], 0.6),
        ([one((WEEK, 0.2), cooldowns={Scope(family="opus"): COOLING[EVERYTHING]})], 0.2),
    ],
)
def test_the_mean_of_the_accounts(pool, expected):
    """Weighted by account; one in a cooldown counts as full, a paused one not at all, and API keys have no window."""
    found = fullness(pool, "7d")
    assert found == (None if expected is None else pytest.approx(expected))
