"""The hooks, called directly with no network."""

import asyncio

import pytest
from litellm.proxy import proxy_server
from litellm.types.utils import CallTypes

from claude_proxy import callback as module
from claude_proxy.callback import ClaudeProxy, as_chat_completions
from claude_proxy.clients import AttemptRefused, ClaudeClient
from claude_proxy.exchange import Exchange, current
from claude_proxy.headers import read
from claude_proxy.settings import Settings
from claude_proxy.targets import Provider

POOL = "sk-ant-oat01-made-up-pool"
OWN = "sk-ant-oat01-made-up-own"
DEPLOYMENT = "sk-ant-api03-made-up-deployment"


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch):
    """No config.yaml and no router, as before LiteLLM has started."""
    monkeypatch.setattr(proxy_server, "user_config_file_path", None)
    monkeypatch.setattr(proxy_server, "llm_router", None)
    for cached in (module.unset_variables, module.referring_parameters):
        cached.cache_clear()


def exchange_of(body=None, **headers):
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    whole = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]} | (body or {})
    return Exchange(read(sent), sent, b"{}", whole)


def deploy(kwargs, exchange, call_type=CallTypes.anthropic_messages, **variables):
    proxy = ClaudeProxy(Settings.parse(variables), clock=lambda: 0.0)

    async def run():
        token = current.set(exchange)
        try:
            return await proxy.async_pre_call_deployment_hook(kwargs, call_type)
        finally:
            current.reset(token)

    return asyncio.run(run())


CLAUDE = {"model": "anthropic/claude-x", "custom_llm_provider": "anthropic", "messages": []}
OTHER = {
    "model": "anthropic/glm",
    "custom_llm_provider": "anthropic",
    "api_base": "https://api.z.ai/api/anthropic",
    "messages": [],
}


def credential_of(prepared):
    return prepared["client"]._rotation._source.choose(frozenset())


@pytest.mark.parametrize(
    ("headers", "kwargs", "variables", "value"),
    [
        ({}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
        ({"authorization": f"Bearer {OWN}"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
        ({"authorization": f"Bearer {OWN}"}, {}, {}, OWN),
        ({"authorization": f"Bearer {OWN}"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL, "CLAUDE_TOKEN_MODE": "passthrough"}, OWN),
        ({"authorization": f"Bearer {OWN}", "x_claude_token_mode": "passthrough"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, OWN),
        (
            {"authorization": f"Bearer {OWN}", "x_claude_token_mode": "rotate"},
            {},
            {"CLAUDE_OAUTH_TOKENS": POOL, "CLAUDE_TOKEN_MODE": "passthrough"},
            POOL,
        ),
        ({}, {"api_key": DEPLOYMENT}, {}, DEPLOYMENT),
        ({}, {"api_key": DEPLOYMENT}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
    ],
    ids=[
        "pool",
        "pool-before-own",
        "empty-pool",
        "passthrough",
        "header-passthrough",
        "header-rotate",
        "key",
        "pool-before-key",
    ],
)
def test_whose_credential_goes_to_claude(headers, kwargs, variables, value):
    """The mode, the pool, the client's credential and the deployment's key decide, in this order."""
    prepared = deploy(CLAUDE | kwargs, exchange_of(**headers), **variables)
    assert credential_of(prepared).secret.reveal() == value
    assert prepared["api_key"] == module.PLACEHOLDER_KEY
    assert isinstance(prepared["client"], ClaudeClient)


def test_no_credential_is_a_401_that_no_fallback_replaces():
    """With no credential anywhere the attempt is refused, the client's answer stands, and no other attempt is made."""
    exchange = exchange_of()
    with pytest.raises(AttemptRefused):
        deploy(CLAUDE, exchange)
    assert exchange.refusal.status == 401
    with pytest.raises(AttemptRefused):
        deploy(OTHER, exchange)


@pytest.mark.parametrize(
    ("exchange", "call_type"), [(None, CallTypes.anthropic_messages), (exchange_of(), CallTypes.acompletion)]
)
def test_claude_is_asked_only_for_a_client(exchange, call_type):
    """No health check and no other route of LiteLLM's sends a request to Claude."""
    with pytest.raises(AttemptRefused):
        deploy(CLAUDE, exchange, call_type, CLAUDE_OAUTH_TOKENS=POOL)


def test_nothing_is_changed_in_place():
    """LiteLLM hands the same messages to the next attempt, so the hook builds new values."""
    history = [{"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text"}]}]
    kwargs = OTHER | {"messages": history, "thinking": {"type": "adaptive"}}
    prepared = deploy(kwargs, exchange_of())
    assert prepared["messages"] == [{"role": "assistant", "content": [{"type": "text"}]}]
    assert "thinking" not in prepared
    assert kwargs["thinking"] == {"type": "adaptive"}
    assert len(history[0]["content"]) == 2


def test_a_provider_of_another_name_gets_no_claude_client():
    """Z.AI under the prefix anthropic/ keeps its own key, whatever the pool and the client hold."""
    exchange = exchange_of(authorization=f"Bearer {OWN}")
    prepared = deploy(OTHER | {"api_key": "made-up-zai"}, exchange, CLAUDE_OAUTH_TOKENS=POOL)
    assert exchange.provider is Provider.ANTHROPIC_FORMAT
    assert prepared["api_key"] == "made-up-zai"
    assert not isinstance(prepared["client"], ClaudeClient)


@pytest.mark.parametrize(
    ("kwargs", "changed"),
    [
        ({"model": "openai/gpt", "api_base": None}, {"thinking": None}),
        ({"model": "openai/gpt", "api_base": "https://api.openai.com/v1", "reasoning_effort": "low"}, {"thinking": None}),
        (
            {"model": "openai/m", "api_base": "http://127.0.0.1:8000/v1"},
            {"thinking": None, "model": "custom_openai/m", "custom_llm_provider": "custom_openai"},
        ),
        (
            {"model": "openai/m", "api_base": "http://127.0.0.1:8000/v1", "reasoning_effort": "low", "extra_body": {"a": 1}},
            {"reasoning_effort": None, "extra_body": {"a": 1, "reasoning_effort": "low"}},
        ),
    ],
    ids=["openai", "openai-by-url", "compatible", "compatible-effort"],
)
def test_the_chat_completions_path(kwargs, changed):
    """OpenAI's own models stay with LiteLLM's knowledge of them, a compatible endpoint always gets chat completions."""
    result = as_chat_completions(kwargs)
    assert {name: result[name] for name in changed} == changed
    assert ("custom_llm_provider" in result) == (kwargs["api_base"] is not None and "openai.com" not in kwargs["api_base"])
