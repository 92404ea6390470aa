"""credentials/credential.py: secrets that hide themselves, and lists of them as people write them."""

import copy
import logging
import pickle
from datetime import date

import pytest

from claude_proxy.credentials.credential import (
    Credential,
    Kind,
    MalformedCredentials,
    is_claude_credential,
    parse_credentials,
    same_label,
)
from claude_proxy.secret import Secret

A, B = "sk-ant-oat01-made-up-a", "sk-ant-oat01-made-up-b"
KEY = "sk-ant-api03-made-up-k"


def parsed(text, kind=Kind.OAUTH):
    return [(credential.label, credential.secret.reveal()) for credential in parse_credentials(text, kind)]


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{!r}".format, "%s".__mod__, lambda secret: f"{[secret]} { ({'s': secret}) }"],
    ids=["str", "repr", "format", "format-repr", "percent", "inside-containers"],
)
@pytest.mark.parametrize(
    "wrap", [Secret, lambda value: Credential("anna", Kind.OAUTH, Secret(value))], ids=["secret", "credential"]
)
def test_no_way_of_printing_shows_the_value(show, wrap):
    """Whatever prints a secret or a credential prints no part of its value."""
    assert "made-up" not in show(wrap(A))


def test_logging_a_credential_shows_its_label_only(caplog):
    """A credential that is logged by mistake shows its label and not its value."""
    logging.getLogger("test").warning("%s", Credential("anna", Kind.OAUTH, Secret(A)))
    assert "anna" in caplog.text
    assert "made-up" not in caplog.text


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_a_secret_is_not_copied_out(take):
    """A secret refuses to be pickled or copied, which is how values end up in caches and other processes."""
    with pytest.raises(TypeError):
        take(Secret(A))


def test_a_secret_has_no_other_attribute():
    """A secret has no ``__dict__`` in which a walk over an object's attributes would find its value."""
    assert not hasattr(Secret(A), "__dict__")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(A, A, True), (A, B, False), (A, A[:-1], False), ("", "", True), ("ü", "ü", True), ("ü", "u", False)],
    ids=["equal", "other", "prefix", "empty", "non-ascii-equal", "non-ascii-other"],
)
def test_matches(one, other, same):
    """Two secrets match when their values are equal, whatever characters a client put in."""
    assert Secret(one).matches(Secret(other)) is same


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (A, True), (KEY, True), ("sk-ant-sid01-made-up", True), (f"  {A}", True), ("sk-ant-", True),
        ("", False), ("sk-proxy", False), ("sk-or-v1-made-up", False), ("x" + A, False), ("Bearer", False),
    ],
    ids=["oauth", "api-key", "session", "space-before", "bare-prefix", "empty", "proxy", "openrouter",
        "in-the-middle", "scheme"],
)  # fmt: skip
def test_is_claude_credential(value, is_one):
    """Everything with Anthropic's prefix counts as a Claude credential, known kind or not, and nothing else does."""
    assert is_claude_credential(value) is is_one


@pytest.mark.parametrize(
    ("kind", "header"),
    [(Kind.OAUTH, ("authorization", f"Bearer {A}")), (Kind.API_KEY, ("x-api-key", A))],
    ids=["oauth", "api-key"],
)
def test_each_kind_has_its_header(kind, header):
    """The kind of a credential, and not its value, says which header carries it."""
    assert Credential("anna", kind, Secret(A)).header() == header


@pytest.mark.parametrize(
    ("value", "kind"),
    [(A, Kind.OAUTH), (KEY, Kind.API_KEY), ("made-up-of-another-shape", Kind.API_KEY)],
    ids=["oauth", "api-key", "neither"],
)
def test_kind_of_a_deployments_key(value, kind):
    """A deployment's key is an OAuth token when it says so by its prefix, and an API key otherwise."""
    credential = Credential.of("deployment", value)
    assert (credential.label, credential.kind, credential.secret.reveal()) == ("deployment", kind, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ,\n, ", []),
        (A, [("oauth-1", A)]),
        (f"{A},{B}", [("oauth-1", A), ("oauth-2", B)]),
        (f" {A} , {B} , ", [("oauth-1", A), ("oauth-2", B)]),
        (f"{A}\n{B}\n", [("oauth-1", A), ("oauth-2", B)]),
        (f"{A}\r\n{B}", [("oauth-1", A), ("oauth-2", B)]),
        (f"{A} {B}", [("oauth-1", A), ("oauth-2", B)]),
        (f"{A},{A},{B}", [("oauth-1", A), ("oauth-3", B)]),
        (f"anna={A},bob.b@team-1={B}", [("anna", A), ("bob.b@team-1", B)]),
        (f"anna = {A}, {B}", [("anna", A), ("oauth-2", B)]),
        (f"anna={A},bob={A}", [("anna", A)]),
        (f"{A}=", [("oauth-1", f"{A}=")]),
    ],
    ids=[
        "empty", "separators-only", "one", "two", "spaces-and-trailing-comma", "lines", "crlf", "space-between", "duplicate",
        "labels", "spaces-around-equals", "duplicate-under-two-labels", "equals-sign-at-the-end-of-a-value",
    ],
)  # fmt: skip
def test_lists_as_people_write_them(text, expected):
    """Commas, spaces, line ends, labels and repeated values are all understood, and the order is kept."""
    assert parsed(text) == expected


def test_api_keys_are_named_after_their_kind():
    """An API key without a label gets one that says what it is."""
    assert parsed(KEY, Kind.API_KEY) == [("api-key-1", KEY)]


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (f"{A},{KEY}", Kind.OAUTH, "entry 2 is an API key; move it to CLAUDE_API_KEYS"),
        (f"anna={A}", Kind.API_KEY, "entry 1 is an OAuth token; move it to CLAUDE_OAUTH_TOKENS"),
        (f"anna={A},anna={B}", Kind.OAUTH, "'anna'"),
        (f"oauth-2={A},{B}", Kind.OAUTH, "'oauth-2'"),
        (f"{A}é", Kind.OAUTH, "entry 1 holds a character"),
        (f"{A}\x7f", Kind.OAUTH, "entry 1 holds a character"),
        (f"anna=,bob={B}", Kind.OAUTH, "entry 1"),
        (f"{B},an!na={A}", Kind.OAUTH, "entry 2"),
        (f"team=anna={A}", Kind.OAUTH, "entry 1"),
        (f"{A};{B}", Kind.OAUTH, "entry 1"),
        (f'"{A}"', Kind.OAUTH, "entry 1"),
        (f"anna@{A}={B}", Kind.OAUTH, "entry 1 is not one value"),
    ],
    ids=[
        "api-key-among-tokens", "token-among-api-keys", "label-twice", "label-of-a-later-place", "non-ascii", "control",
        "label-without-value", "label-that-is-none", "two-labels", "semicolon", "quotes", "a-credential-as-label",
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_used(text, kind, says):
    """A mistake in a list names the entry and what is wrong with it, and never the value."""
    with pytest.raises(MalformedCredentials) as caught:
        parse_credentials(text, kind)
    assert says in str(caught.value)
    assert "made-up" not in str(caught.value)


def test_same_label():
    """A label that two credentials share is found, whichever list they come from."""
    one, other, third = (Credential(label, Kind.OAUTH, Secret(A)) for label in ("anna", "bob", "anna"))
    assert same_label([one, other]) is None
    assert same_label([one, other, third]) == "anna"


def test_a_date_behind_the_label_is_the_day_a_token_was_made():
    """``label@date`` names the credential by the label alone; another ``@`` belongs to the label."""
    dated, plain, mail = parse_credentials(f"anna@2026-03-01={A},ben={B},carla@example.com@2026-12-31={A}x", Kind.OAUTH)
    assert (dated.label, dated.made) == ("anna", date(2026, 3, 1))
    assert (plain.label, plain.made) == ("ben", None)
    assert (mail.label, mail.made) == ("carla@example.com", date(2026, 12, 31))


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (f"anna@2026-02-30={A}", Kind.OAUTH, "2026-02-30, which does not exist"),
        (f"anna@2026-03-01={KEY}", Kind.API_KEY, "entry 1 has a date"),
        (f"anna@2026-03-01={A},anna={B}", Kind.OAUTH, "label 'anna'"),
    ],
)
def test_a_date_that_cannot_be_used(text, kind, says):
    """A day that there is not, a date at an API key, and a label that differs by its date only are mistakes."""
    with pytest.raises(MalformedCredentials, match=says):
        parse_credentials(text, kind)
