"""upstream/headers.py: a client's headers, and which of them LiteLLM and Claude get."""

import json

import pytest

from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.secret import Secret
from claude_proxy.upstream.headers import (
    FOR_LITELLM,
    OAUTH_BETA,
    for_claude,
    for_litellm,
    has_two_lengths,
    may_be_added,
    meant_headers,
    read,
    session_of,
)

TOKEN = "sk-made-up-token"
OAUTH, KEY = "sk-ant-oat01-made-up-a", "sk-ant-api03-made-up-k"
POOLED = Credential("anna", Kind.OAUTH, Secret("sk-ant-oat01-made-up-pool"))
POOLED_KEY = Credential("team", Kind.API_KEY, Secret("sk-ant-api03-made-up-pool"))

# What Claude Code sends by itself.
GENUINE = [
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "claude-cli/2.1.197 (external, sdk-cli)"),
    ("X-Claude-Code-Session-Id", "made-up-session"),
    ("X-Stainless-Retry-Count", "0"),
    ("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("anthropic-version", "2023-06-01"),
    ("x-app", "cli"),
    ("x-header-of-tomorrow", "Ünknown; but = kept"),
]


def said(*headers):
    """Return the parsed headers, with the secrets shown."""
    client = read(headers)
    credential = client.credential and (client.credential.kind, client.credential.secret.reveal())
    return [token.reveal() for token in client.tokens], credential, client.mode, client.session


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ([], None, None, None)),
        # The proxy's token, in every header that a client may have for it.
        ([("x-litellm-api-key", TOKEN)], ([TOKEN], None, None, None)),
        ([("X-LiteLLM-API-Key", f" Bearer {TOKEN} ")], ([TOKEN], None, None, None)),
        ([("x-litellm-api-key", f"bearer   {TOKEN}")], ([TOKEN], None, None, None)),
        ([("Authorization", f"Bearer {TOKEN}")], ([TOKEN], None, None, None)),
        ([("x-api-key", TOKEN)], ([TOKEN], None, None, None)),
        ([("Authorization", f"Bearer {TOKEN}"), ("x-api-key", "other")], ([TOKEN, "other"], None, None, None)),
        ([("x-litellm-api-key", "")], ([], None, None, None)),
        ([("Authorization", "Bearer ")], ([], None, None, None)),
        # The client's own credential is never a token for the proxy.
        ([("Authorization", f"Bearer {OAUTH}")], ([], (Kind.OAUTH, OAUTH), None, None)),
        ([("Authorization", f"bearer {OAUTH}")], ([], (Kind.OAUTH, OAUTH), None, None)),
        ([("x-api-key", KEY)], ([], (Kind.API_KEY, KEY), None, None)),
        ([("x-litellm-api-key", TOKEN), ("Authorization", f"Bearer {OAUTH}")], ([TOKEN], (Kind.OAUTH, OAUTH), None, None)),
        ([("x-api-key", KEY), ("Authorization", f"Bearer {OAUTH}")], ([], (Kind.OAUTH, OAUTH), None, None)),
        ([("x-litellm-api-key", OAUTH)], ([], None, None, None)),
        ([("x-goog-api-key", KEY)], ([], None, None, None)),
        # Wishes.
        ([("X-Claude-Token-Mode", " Passthrough ")], ([], None, "passthrough", None)),
        ([("x-claude-token-mode", "")], ([], None, None, None)),
        ([("x-claude-token-mode", "nonsense")], ([], None, "nonsense", None)),
        ([("X-Claude-Code-Session-Id", "s-1")], ([], None, None, "s-1")),
        # Several headers in one value, with commas, as many guides have it.
        ([("x-litellm-api-key", f"{TOKEN}, x-claude-token-mode: passthrough")], ([TOKEN], None, "passthrough", None)),
        ([("x-litellm-api-key", f"Bearer {TOKEN},X-Claude-Token-Mode:rotate")], ([TOKEN], None, "rotate", None)),
        ([("x-claude-token-mode", f"rotate, x-litellm-api-key: {TOKEN}")], ([TOKEN], None, "rotate", None)),
        (
            [("x-litellm-api-key", f"{TOKEN} , x-claude-token-mode : passthrough , x-team: red")],
            ([TOKEN], None, "passthrough", None),
        ),
        (
            [("x-litellm-api-key", f"{TOKEN}, x-claude-token-mode: passthrough"), ("x-claude-token-mode", "rotate")],
            ([TOKEN], None, "rotate", None),
        ),
        ([("x-litellm-api-key", f"{TOKEN}, and more")], ([f"{TOKEN}, and more"], None, None, None)),
        ([("x-other", f"a, x-litellm-api-key: {TOKEN}")], ([], None, None, None)),
        # A header that comes twice.
        ([("x-litellm-api-key", TOKEN), ("x-litellm-api-key", "other")], ([TOKEN], None, None, None)),
    ],
    ids=[
        "nothing", "token", "token-with-bearer", "token-with-bearer-in-lower-case", "token-as-authorization",
        "token-as-api-key",
        "two-tokens", "empty-token", "empty-bearer", "oauth", "oauth-in-lower-case", "api-key", "token-and-oauth",
        "both-credentials", "credential-as-token", "credential-in-another-header", "mode", "empty-mode", "wrong-mode",
        "session",
        "comma", "comma-without-spaces", "comma-the-other-way-round", "comma-three-headers", "header-of-its-own-wins",
        "comma-without-header", "comma-in-another-header", "twice",
    ],
)  # fmt: skip
def test_read(headers, expected):
    """Tokens for the proxy, the client's own credential, mode and session are distinguished in any header."""
    assert said(*headers) == expected


def test_what_is_read_hides_its_secrets():
    """The printed form of parsed headers shows neither token nor credential."""
    assert "made-up" not in repr(read([("x-litellm-api-key", TOKEN), ("authorization", f"Bearer {OAUTH}")]))


def test_meant_headers_keeps_commas_that_are_none_of_ours():
    """Only the proxy's own two headers are split; every other value keeps its commas."""
    assert meant_headers([("anthropic-beta", "a, x-b: c")]) == {"anthropic-beta": "a, x-b: c"}


SECRETS = [
    ("Authorization", f"Bearer {OAUTH}"),
    ("x-api-key", KEY),
    ("api-key", KEY),
    ("x-goog-api-key", KEY),
    ("Ocp-Apim-Subscription-Key", KEY),
    ("Proxy-Authorization", f"Bearer {OAUTH}"),
    ("Cookie", f"session={OAUTH}"),
    ("x-litellm-api-key", f"{TOKEN}, x-claude-token-mode: passthrough"),
    ("x-claude-token-mode", "passthrough"),
]
SWITCHES = [
    ("x-litellm-tags", "a"),
    ("x-litellm-timeout", "1"),
    ("X-LiteLLM-Enable-Message-Redaction", "true"),
    ("x-litellm-spend-logs-metadata", "{}"),
    ("x-litellm-customer-id", "a"),
    ("litellm-metadata", "{}"),
    ("x-pass-authorization", f"Bearer {OAUTH}"),
    ("x-mcp-auth", OAUTH),
    ("langfuse_trace_id", "a"),
]


def test_the_checksum_of_managed_settings_stays_here():
    """The checksum of a client's managed settings, by which values in them can be guessed, goes to no upstream."""
    sent = [("X-Claude-Code-Managed-Settings-Checksum", "sha256:0123"), ("x-app", "cli")]
    assert "0123" not in str(for_claude(sent, Credential("a", Kind.OAUTH, Secret(OAUTH))))
    assert for_litellm(sent, None) == []


def test_for_litellm_is_an_allow_list():
    """LiteLLM gets a few headers and one token, but no credential, no switch of its own and no unknown header."""
    assert for_litellm([*GENUINE, *SECRETS, *SWITCHES], Secret(TOKEN)) == [
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "claude-cli/2.1.197 (external, sdk-cli)"),
        ("x-claude-code-session-id", "made-up-session"),
        ("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14"),
        ("anthropic-version", "2023-06-01"),
        ("x-litellm-api-key", TOKEN),
    ]


def test_for_litellm_without_a_token():
    """An open proxy forwards no token, not even one that the client sent."""
    assert for_litellm([("x-litellm-api-key", TOKEN), ("accept", "*/*")], None) == [("accept", "*/*")]


@pytest.mark.parametrize(
    ("value", "seen"),
    [(f"a, {OAUTH_BETA},b", [("anthropic-beta", "a,b")]), (OAUTH_BETA, []), ("", [])],
    ids=["among-others", "alone", "empty"],
)
def test_for_litellm_hides_the_oauth_beta(value, seen):
    """LiteLLM does not get the OAuth beta, which would enable its own handling of OAuth tokens."""
    assert for_litellm([("Anthropic-Beta", value)], None) == seen


def test_for_claude_is_what_the_client_sent():
    """Claude gets every header of the genuine client unchanged and in order, followed by the one credential."""
    assert for_claude([*GENUINE, *SECRETS], POOLED_KEY) == [*GENUINE, ("x-api-key", "sk-ant-api03-made-up-pool")]


@pytest.mark.parametrize("credential", [POOLED, POOLED_KEY], ids=["oauth", "api-key"])
def test_for_claude_carries_one_credential(credential):
    """Exactly one credential is sent, whatever the client sent, and never the proxy's token."""
    sent = for_claude([*GENUINE, *SECRETS], credential)
    assert [value for _, value in sent if "made-up-" in value and value != "made-up-session"] == [credential.header()[1]]
    assert not [name for name, _ in sent if name.lower() in {"x-litellm-api-key", "x-claude-token-mode", "cookie"}]


# Written out, so that a name that leaves the policy's own table is missed here.
STAYS_HERE = [
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade",
    "transfer-encoding", "expect", "host", "content-length", "accept-encoding", "cookie", "forwarded", "via", "x-real-ip",
    "x-litellm-api-key", "authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key",
    "x-claude-token-mode", "x-claude-proxy-fallbacks", "x-litellm-tags", "x-forwarded-for", "x-forwarded-proto",
]  # fmt: skip


@pytest.mark.parametrize("name", STAYS_HERE)
@pytest.mark.parametrize("spell", [str.lower, str.title, str.upper], ids=["lower", "title", "upper"])
def test_not_for_claude(name, spell):
    """Headers of the client's connection and of the proxy are not forwarded, however they are written."""
    assert for_claude([(spell(name), "x")], POOLED_KEY) == [POOLED_KEY.header()]


def test_headers_that_connection_names_are_hop_by_hop():
    """A header that ``Connection`` names is not forwarded (RFC 9110 section 7.6.1)."""
    sent = [("Connection", "close, X-Hop"), ("x-hop", "1"), ("x-app", "cli")]
    assert for_claude(sent, POOLED_KEY) == [("x-app", "cli"), POOLED_KEY.header()]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([], [("anthropic-beta", OAUTH_BETA)]),
        ([("Anthropic-Beta", "a,b")], [("Anthropic-Beta", f"a,b,{OAUTH_BETA}")]),
        ([("anthropic-beta", f"a, {OAUTH_BETA} ,b")], [("anthropic-beta", f"a, {OAUTH_BETA} ,b")]),
        ([("anthropic-beta", OAUTH_BETA), ("anthropic-beta", "b")], [("anthropic-beta", OAUTH_BETA), ("anthropic-beta", "b")]),
        ([("anthropic-beta", "a"), ("anthropic-beta", "b")], [("anthropic-beta", "a"), ("anthropic-beta", f"b,{OAUTH_BETA}")]),
        ([("anthropic-beta", f"x{OAUTH_BETA}")], [("anthropic-beta", f"x{OAUTH_BETA},{OAUTH_BETA}")]),
        ([("anthropic-beta", "")], [("anthropic-beta", OAUTH_BETA)]),
    ],
    ids=["none", "added-at-the-end", "there-already", "there-in-the-first", "two-headers", "another-word", "empty"],
)
def test_the_oauth_capability_is_added_once(sent, expected):
    """``anthropic-beta`` is unchanged, except that an OAuth token's beta is appended if it is missing."""
    assert [pair for pair in for_claude(sent, POOLED) if pair[0].lower() == "anthropic-beta"] == expected


def test_an_api_key_needs_no_capability():
    """With an API key ``anthropic-beta`` is unchanged."""
    assert for_claude([("anthropic-beta", "a")], POOLED_KEY) == [("anthropic-beta", "a"), POOLED_KEY.header()]


def test_inputs_are_not_modified():
    """The client's headers are not modified, so that the next attempt starts with them."""
    sent = [("anthropic-beta", "a")]
    for_claude(sent, POOLED)
    assert sent == [("anthropic-beta", "a")]


USER_ID = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s-body"})


@pytest.mark.parametrize(
    ("headers", "user_id", "session"),
    [
        ([("X-Claude-Code-Session-Id", "s-header")], USER_ID, "s-header"),
        ([], USER_ID, "s-body"),
        ([("X-Claude-Code-Session-Id", " ")], USER_ID, "s-body"),
        ([], None, None),
        ([], "", None),
        ([], f"user_{'4f' * 32}_account_5b1d-0a_session_9a7b-6c", "9a7b-6c"),
        ([], f"user_{'4f' * 32}_account__session_9a7b-6c", "9a7b-6c"),
        ([("X-Claude-Code-Session-Id", "s-header")], "user_4f_account__session_9a7b-6c", "s-header"),
        ([], "user_made-up_session_s", None),
        ([], "user_4f_account_a_session_", None),
        ([], "user_4f_account__session_9a7b-6c and more", None),
        ([], "user_" + "4f" * 100_000, None),
        ([], '["session_id"]', None),
        ([], '{"session_id": 1}', None),
        ([], '{"session_id": ""}', None),
        ([], "[" * 100_000, None),
    ],
    ids=[
        "header-first", "body", "blank-header", "none", "empty-text", "older", "older-without-a-login", "header-before-older",
        "not-json", "older-without-a-session", "more-than-older", "long", "array", "number", "empty", "nested-too-deep",
    ],
)  # fmt: skip
def test_session_of(headers, user_id, session):
    """A session is named by the header, else by ``metadata.user_id``; an invalid value has no session."""
    named = session_of(read([("x-claude-code-session-id", session)]), None) if session else None
    assert session_of(read(headers), user_id) == named


@pytest.mark.parametrize("name", ["s", "a:b", "x" * 100_000, "sk-ant-oat01-made-up-in-the-wrong-place", "\ud83d"])
def test_a_session_is_remembered_by_a_digest(name):
    """A session's digest is short, reveals nothing, and is the same from both places."""
    in_body = json.dumps({"session_id": name})
    by_header, by_body = session_of(read([("x-claude-code-session-id", name)]), None), session_of(read([]), in_body)
    assert by_header == by_body
    assert len(by_header) == 32
    assert by_header.isalnum()
    assert by_header != session_of(read([("x-claude-code-session-id", f"{name}2")]), None)


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("x-team", True), ("Anthropic-Beta", True), ("Authorization", False), ("x-api-key", False), ("Host", False),
        ("content-length", False), ("Transfer-Encoding", False), ("connection", False),
    ],
)  # fmt: skip
def test_headers_that_a_deployment_may_add(name, may):
    """A deployment's own headers are neither a credential nor hop-by-hop, however they are written."""
    assert may_be_added(name) is may


@pytest.mark.parametrize(
    ("names", "has"),
    [
        ([], False),
        ([b"content-length"], False),
        ([b"transfer-encoding", b"host"], False),
        ([b"transfer-encoding", b"content-length"], True),
    ],
)
def test_has_two_lengths(names, has):
    """A request defines its end in only one way."""
    assert has_two_lengths([(name, b"1") for name in names]) == has


@pytest.mark.parametrize("name", sorted(FOR_LITELLM))
def test_a_credential_in_the_wrong_header_stays_here(name):
    """An allowed header that contains a Claude credential is not sent to LiteLLM, which may forward it."""
    assert for_litellm([(name, f"x {OAUTH}")], None) == []
