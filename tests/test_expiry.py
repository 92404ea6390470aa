"""credentials/expiry.py: the year of a setup token."""

import logging
from dataclasses import replace
from datetime import date

import pytest

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.expiry import DAY, YEAR, ExpiryWarnings, Login, login_of, token_expiry_of
from claude_proxy.credentials.rate_limits import Snapshot
from claude_proxy.secret import Secret

NOW = 1_795_000_000.0
SNAPSHOT = Snapshot(Credential("anna", Kind.OAUTH, Secret("sk-ant-oat01-made-up")), NOW, {}, {}, 0)


def test_the_year_is_counted_from_the_given_date_else_from_the_first_day():
    """A date beside the label counts, else the day on which the token was first seen; API keys have no year."""
    assert token_expiry_of(SNAPSHOT) == (NOW, NOW + YEAR, False)
    dated = replace(SNAPSHOT, credential=replace(SNAPSHOT.credential, made=date(2026, 1, 1)))
    assert token_expiry_of(dated) == (1_767_225_600.0, 1_767_225_600.0 + YEAR, True)
    assert token_expiry_of(replace(SNAPSHOT, since=None)) is None
    assert token_expiry_of(replace(SNAPSHOT, credential=Credential("k", Kind.API_KEY, Secret("sk-ant-api03-made-up")))) is None


@pytest.mark.parametrize(
    ("left", "warning"), [(31, None), (30.1, None), (30, 30), (8, 30), (7, 7), (1.5, 7), (1, 1), (0, 1), (-5, 1)]
)
def test_the_warning_is_the_smallest_threshold_that_is_passed(left, warning):
    """Somebody is warned 30, 7 and 1 days before the end, and after it."""
    assert token_expiry_of(SNAPSHOT).warning(NOW + YEAR - left * DAY) == warning


def test_a_login_has_an_expiry_and_no_year():
    """The login of a home says when it expires, and what to do once it has."""
    login = replace(SNAPSHOT, credential=replace(SNAPSHOT.credential, renewed=True, expires=NOW))
    assert token_expiry_of(login) is None
    assert login_of(SNAPSHOT) is None
    assert login_of(login).words(NOW - 1) == "its login expires at 2026-11-18 11:06 UTC, unless Claude Code renews it"
    assert login_of(login).words(NOW) == "its login has expired: start Claude Code in that home"
    assert Login(None).words(NOW) == "its login has no expiry date"


def test_the_words_say_when_and_what_to_do():
    """The words name the day, admit that the token may be older than its first day here, and say what to do at the end."""
    age = token_expiry_of(SNAPSHOT)
    assert age.words(NOW) == "setup token expires on 2027-11-18 at the latest, in 365 days"
    assert "claude setup-token" in age.words(NOW + YEAR)


def test_each_warning_is_said_once(caplog):
    """A process says each threshold once for each token, however often it looks, and never a token's value."""
    caplog.set_level(logging.WARNING)
    warnings = ExpiryWarnings()
    for left in (40, 30, 29, 20, 7, 6, 1, 0.5):
        warnings.log_due([SNAPSHOT], NOW + YEAR - left * DAY)
    assert len(caplog.messages) == 3
    assert all(message.startswith("credential anna: ") for message in caplog.messages)
    assert "sk-ant" not in caplog.text


def test_it_is_looked_at_once_an_hour():
    """Requests do not pay for it."""
    warnings = ExpiryWarnings()
    assert [warnings.due(NOW + seconds) for seconds in (0, 1, 3599, 3600, 3601)] == [True, False, False, True, False]
