"""signin/identity.py: who may be signed in."""

import pytest

from claude_proxy.signin.identity import MAX_GROUPS_BYTES, Confirmation, Identity, MalformedIdentity

DIGEST = "0f" * 32


@pytest.mark.parametrize(
    "identity",
    [
        Identity("anna"),
        Identity("Anna.B+test@example.org", ("team-a", "größe"), "anna@example.org"),
        Identity("9", token_digest=DIGEST),
        Identity("anna", confirmation=Confirmation("https://login.example", "proxy", "1", 7.5, "sealed")),
    ],
)
def test_an_identity_comes_back_from_json(identity):
    """What the store keeps of an identity is the whole identity."""
    assert Identity.of_json(identity.as_json()) == identity


@pytest.mark.parametrize(
    "parts",
    [
        {"name": ""},
        {"name": "x" * 129},
        {"name": "line\nbreak"},
        {"name": "<b>"},
        {"name": "-anna"},
        # Names of callers without a name of their own, in any case.
        {"name": "admin"},
        {"name": "Static"},
        {"name": "anna", "email": "a" * 255},
        {"name": "anna", "email": "a@b\r\nX: y"},
        {"name": "anna", "groups": ("",)},
        {"name": "anna", "groups": ("a\0",)},
        {"name": "anna", "groups": ("a" * 201,)},
        {"name": "anna", "groups": tuple(f"group {number:04}" for number in range(MAX_GROUPS_BYTES // 10))},
        {"name": "anna", "token_digest": "0F"},
    ],
)
def test_what_cannot_be_an_identity(parts):
    """A name, a group or an address that would break a log line, a header or the ledger is refused, and not repeated."""
    with pytest.raises(MalformedIdentity) as error:
        Identity(**parts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"name": "anna"},
        {"name": "anna", "groups": None, "email": "", "token": ""},
        {"name": "anna", "groups": [], "email": "", "token": "", "confirmation": {}},
        {"name": "anna", "groups": [], "email": "", "token": "", "confirmation": 7},
    ],
)
def test_other_json_is_no_identity(found):
    """A row of another version is an error that the caller expects."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        Identity.of_json(found)
