"""signin/session.py: a sign-in as a row of the store."""

import pytest

from claude_proxy.signin.identity import Confirmation, Identity
from claude_proxy.signin.session import Session
from claude_proxy.state.rows import Row

CONFIRMATION = Confirmation("https://login.example", "proxy", "1", 7.5, "made-up.sealed")
IDENTITY = Identity("anna@example.org", ("team-a",), "anna@example.org", confirmation=CONFIRMATION)
PLAIN = Session("x", IDENTITY, since=1.0, used=2.0, at=3.0, turn=4, current="c", previous="p", kid="k")


@pytest.mark.parametrize("session", [PLAIN, Session(**(vars(PLAIN) | {"lease": "made-up", "lease_until": 9.0}))])
def test_a_sign_in_comes_back(session):
    """What the store keeps is the whole sign-in, with the provider's confirmation and who asks the provider."""
    row = session.row(5.0)
    assert (row.key, row.stamp) == ("signin:x", 5.0)
    assert Session.of_row(row) == session
    assert ("lease" in row.value) == bool(session.lease)


@pytest.mark.parametrize("value", ["", "[]", "{}", "7", '{"identity": {"name": "anna"}}'])
def test_a_row_of_another_version(value):
    """A row that cannot be read is none."""
    assert Session.of_row(Row("signin:x", 1.0, value)) is None
