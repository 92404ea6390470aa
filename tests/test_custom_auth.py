"""LiteLLM's custom_auth over the access rules."""

import asyncio

import pytest
from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, ProxyException

from claude_proxy.config.settings import Settings
from claude_proxy.litellm.custom_auth import ROUTES, authenticate, is_session
from claude_proxy.secret import Secret

STATIC, MASTER = "sk-made-up-static", "sk-made-up-master"
CLOSED = Settings.parse({"PROXY_STATIC_TOKEN": STATIC, "LITELLM_MASTER_KEY": MASTER})
PERSON = "sk-made-up-token-of-anna"
PEOPLE = Settings.parse({"PROXY_USER_TOKENS": f"anna={PERSON}", "LITELLM_MASTER_KEY": MASTER})
OPEN = Settings.parse({"LITELLM_MASTER_KEY": MASTER})


def request(**headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b"", "headers": named})


@pytest.mark.parametrize(
    ("settings", "headers", "user", "role", "routes"),
    [
        (CLOSED, {"x_litellm_api_key": STATIC}, "static", None, ROUTES),
        (CLOSED, {"authorization": f"Bearer {STATIC}"}, "static", None, ROUTES),
        (PEOPLE, {"x_api_key": PERSON}, "anna", None, ROUTES),
        (CLOSED, {"x_api_key": MASTER}, "admin", LitellmUserRoles.PROXY_ADMIN, []),
        (OPEN, {}, "anyone", None, ROUTES),
        (OPEN, {"x_api_key": MASTER}, "admin", LitellmUserRoles.PROXY_ADMIN, []),
    ],
    ids=["static", "static-bearer", "person", "master", "open", "open-master"],
)
def test_who_the_caller_is_for_litellm(settings, headers, user, role, routes):
    """A token's holder is limited to the model routes, the master key's is not; LiteLLM learns a name and no token."""
    caller = asyncio.run(authenticate(request(**headers), settings))
    assert (caller.user_id, caller.user_role, caller.allowed_routes or []) == (user, role, routes)
    assert STATIC not in repr(caller)
    assert MASTER not in repr(caller)
    assert PERSON not in repr(caller)


@pytest.mark.parametrize("headers", [{}, {"x_litellm_api_key": "wrong"}, {"authorization": "Bearer sk-ant-oat01-made-up-own"}])
def test_a_refused_caller(headers):
    """Without the right token LiteLLM gets a 401 that Claude Code does not repeat."""
    with pytest.raises(ProxyException) as refusal:
        asyncio.run(authenticate(request(**headers), CLOSED))
    assert (refusal.value.code, refusal.value.headers) == ("401", {"x-should-retry": "false"})


@pytest.mark.parametrize("key", [MASTER, "sk-made-up-virtual"], ids=["master", "virtual"])
def test_with_a_database_litellm_checks_keys_itself(key):
    """LiteLLM gets a virtual key and the master key as they are, and makes of them whom they stand for."""
    settings = Settings.parse({"LITELLM_MASTER_KEY": MASTER, "DATABASE_URL": "postgresql://made-up"})
    assert asyncio.run(authenticate(request(x_litellm_api_key=key), settings)) == key


def test_nobody_has_signed_in_where_no_database_answers():
    """What cannot be looked up opens no administration."""
    assert asyncio.run(is_session(Secret("sk-made-up-virtual"))) is False
