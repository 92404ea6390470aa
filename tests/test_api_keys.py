"""proxy/api_keys.py: which credential serves batches and files, and what a client is told without one."""

from dataclasses import replace

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind, fingerprint
from claude_proxy.credentials.order import ANONYMOUS, Requester
from claude_proxy.credentials.pool import Affinity, Pool
from claude_proxy.credentials.response_rules import judge
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.proxy.api_keys import NOT_SUPPORTED, OBJECTS, ApiKeys
from claude_proxy.upstream.headers import read

NOW = 1_800_000_000.0
OAUTH, ONE, TWO = "sk-ant-oat01-made-up-plan", "sk-ant-api03-made-up-one", "sk-ant-api03-made-up-two"
OWN = "sk-ant-api03-made-up-own"
KEYED = "sk-ant-api03-made-up-keyed"
MODELS = {"claude-keyed": {"model": "anthropic/claude-keyed", "api_key": KEYED}}


def keys(models=(), **variables):
    settings = Settings.parse(variables)
    pool = Pool(settings.credentials, affinity=Affinity.SESSION, quarantine=900, clock=lambda: NOW)
    loaded = {"model_list": [{"model_name": name, "litellm_params": MODELS[name]} for name in models]}
    config = ActiveConfig(loaded, {}, lookup=lambda name: [MODELS[name]] if name in models else [])
    return ApiKeys(settings, config, pool, lambda: NOW), pool


def client(own=None, mode=None):
    headers = [("x-litellm-api-key", "made-up"), *([("x-api-key", own)] if own else [])]
    return read([*headers, *([("x-claude-token-mode", mode)] if mode else [])])


def made(secret=ONE):
    return MadeObject(ObjectKind.FILE, "file_a", "anna", fingerprint(Credential.of("x", secret)), NOW)


def test_a_plan_is_never_used():
    """With subscriptions alone a new object is a 501; with an API key beside them, it is that key's."""
    subscriptions, _ = keys(CLAUDE_OAUTH_TOKENS=OAUTH)
    with pytest.raises(Refused, match="API key") as refused:
        subscriptions.choose(client(), ANONYMOUS)
    assert (refused.value.status, refused.value.kind) == (501, NOT_SUPPORTED)
    both, _ = keys(CLAUDE_OAUTH_TOKENS=OAUTH, CLAUDE_API_KEYS=ONE)
    assert both.choose(client(), ANONYMOUS).secret.reveal() == ONE


def test_keys_are_used_in_turn_and_not_kept():
    """Two keys take turns, and neither stays occupied."""
    both, pool = keys(CLAUDE_API_KEYS=f"{ONE},{TWO}")
    assert {both.choose(client(), ANONYMOUS).secret.reveal() for _ in range(2)} == {ONE, TWO}
    assert [pool.state(one.credential.label).active for one in pool.snapshot()] == [0, 0]


def test_a_rate_limited_key():
    """A key that Anthropic has limited for batches is left out; if all are, the client is told when to come back."""
    found, pool = keys(CLAUDE_API_KEYS=ONE)
    credential = found.choose(client(), ANONYMOUS)
    response = UpstreamResponse(429, {"retry-after": "30"}, b"", OBJECTS, NOW, Kind.API_KEY, NOW, str)
    pool.record_response(credential, judge(response, 60.0), response)
    with pytest.raises(Refused, match="rate-limited") as refused:
        found.choose(client(), ANONYMOUS)
    assert (refused.value.status, refused.value.headers) == (429, [("retry-after", "30")])


def test_groups():
    """A key of a group serves its users alone: for others there is none."""
    found, _ = keys(CLAUDE_API_KEYS=ONE)
    with pytest.raises(Refused) as refused:
        found.choose(client(), Requester("anna", (frozenset({"team"}),)))
    assert refused.value.status == 501
    with pytest.raises(Refused, match="you may not use") as refused:
        found.of(made(), Requester("anna", (frozenset({"team"}),)))
    assert refused.value.status == 400
    assert found.of(made()).secret.reveal() == ONE


@pytest.mark.parametrize(
    ("variables", "mode", "uses_own"),
    [
        ({}, None, True),
        ({"CLAUDE_API_KEYS": ONE}, None, False),
        ({"CLAUDE_API_KEYS": ONE}, "passthrough", True),
        ({"CLAUDE_API_KEYS": ONE, "CLAUDE_TOKEN_MODE": "passthrough"}, None, True),
        ({"CLAUDE_API_KEYS": ONE, "CLAUDE_TOKEN_MODE": "passthrough"}, "rotate", False),
    ],
)
def test_a_credential_of_the_clients_own(variables, mode, uses_own):
    """The client's own credential is used where its messages use it, and not instead of the pool."""
    found, _ = keys(**variables)
    own = found.own(client(OWN, mode))
    assert (own is not None and own.secret.reveal() == OWN) is uses_own
    assert found.own(client(None, mode)) is None


def test_keys_of_the_configuration():
    """Without a pool, the API key of a Claude model in config.yaml serves; with one, only the pool's keys do."""
    found, _ = keys(["claude-keyed"])
    assert found.choose(client(), ANONYMOUS).secret.reveal() == KEYED
    assert found.knows(made(KEYED))
    assert found.of(made(KEYED)).secret.reveal() == KEYED
    pooled, _ = keys(["claude-keyed"], CLAUDE_OAUTH_TOKENS=OAUTH)
    with pytest.raises(Refused) as refused:
        pooled.choose(client(), ANONYMOUS)
    assert refused.value.status == 501


def test_no_credential_at_all():
    """In passthrough without a credential, the client is told to send one; with an empty pool, what the operator can do."""
    found, _ = keys()
    for mode, status in (("passthrough", 401), ("rotate", 501)):
        with pytest.raises(Refused) as refused:
            found.choose(client(mode=mode), ANONYMOUS)
        assert refused.value.status == status


def test_a_key_that_has_left():
    """An object of a key that is no longer there is a 404 in words; another key is not tried."""
    found, _ = keys(CLAUDE_API_KEYS=TWO)
    assert not found.knows(made())
    with pytest.raises(Refused, match=r"file_a was made with an API key that is no longer in this proxy's pool") as refused:
        found.of(made())
    assert refused.value.status == 404


def test_a_paused_key():
    """An object of a paused key is a 503 in words."""
    found, pool = keys(CLAUDE_API_KEYS=ONE)
    (one,) = pool.snapshot()
    pool.replace_credentials([replace(one.credential, terms=replace(one.credential.terms, paused=True))])
    assert not found.knows(made())
    with pytest.raises(Refused, match="paused") as refused:
        found.of(made())
    assert refused.value.status == 503
