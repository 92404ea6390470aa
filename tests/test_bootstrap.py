"""litellm/bootstrap.py: where the parts come together. That they do in LiteLLM's process the tests of a real proxy show."""

import asyncio
import functools
import json
from types import SimpleNamespace

import pytest
from lanes import Received
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth

from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm import bootstrap
from claude_proxy.litellm.bootstrap import redactor_of
from claude_proxy.litellm.lane_client import AttemptRefused
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.server.application import App

GLM = {"model": "anthropic/glm", "api_base": "https://api.z.ai/api/anthropic", "api_key": "made-up"}


def test_every_secret_is_known_to_the_redactor(monkeypatch):
    """Those of the pool, of the proxy and its users, of the environment, and those that stand in config.yaml."""
    secrets = {
        "CLAUDE_OAUTH_TOKENS": "sk-ant-oat01-made-up-pool", "PROXY_STATIC_TOKEN": "sk-made-up-static",
        "PROXY_USER_TOKENS": "anna=sk-made-up-anna-0123456789", "ZAI_API_KEY": "made-up-zai-key-0123",
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    loaded = {
        "model_list": [
            {"model_name": "glm", "litellm_params": {"model": "x", "api_key": "made-up-in-the-file"}},
            {"model_name": "kimi", "litellm_params": {"model": "x", "api_key": "os.environ/ZAI_API_KEY"}},
        ]
    }
    redactor = redactor_of(Settings.parse(secrets), ActiveConfig(loaded, {}))
    shown = redactor.text("; ".join([*secrets.values(), "made-up-in-the-file", "harmless"]))
    assert "made-up" not in shown
    assert "harmless" in shown


# --- routes of our own -------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Return an application that has started with such models."""

    def started(loaded=None, models=None):
        config = ActiveConfig(loaded or {}, {}, lookup=lambda name: (models or {}).get(name, ()))
        app = App(Settings.parse({}), config, Redactor([]), count=lambda text: len(text.split()))
        callback = functools.cache(lambda: SimpleNamespace(app=app))
        callback()
        monkeypatch.setattr(bootstrap, "start", callback)
        return app

    return started


def asked(route, client, caller=None):
    """Call a route as LiteLLM does, for a client's request or for none; return its response and what the hooks have left."""
    entrance = client and Entrance(client.request, client.outlet, client.journal)

    async def run():
        token = current.set(entrance)
        try:
            return await route(caller)
        finally:
            current.reset(token)

    return asyncio.run(run()), entrance


def counting(model, user=""):
    raw = json.dumps({"model": model, "messages": [{"role": "user", "content": "one two three"}]}).encode()
    return Received(raw, counts_tokens=True, user=user)


def test_tokens_are_counted_for_the_client(started):
    """The lane answers; LiteLLM gets a response that says nothing."""
    started(models={"glm": [GLM]})
    client = counting("claude-proxy/glm")
    response, entrance = asked(bootstrap.count_tokens, client)
    assert (response.status_code, response.body, entrance.refusal) == (200, b"", None)
    assert client.begun[0] == 200
    assert json.loads(client.body)["input_tokens"] > 0
    assert client.ended


@pytest.mark.parametrize(("model", "user", "status"), [("nobody", "anna", 404), ("glm", "ben", 400)])
def test_tokens_that_are_not_counted(started, model, user, status):
    """What is not served, or not to this user, is refused in the gateway's words."""
    started({"claude_proxy": {"users": {"ben": {"models": ["kimi"]}}}}, {"glm": [GLM]})
    client = counting(model, user)
    response, entrance = asked(bootstrap.count_tokens, client)
    assert (response.status_code, entrance.refusal.status, client.begun) == (status, status, None)


def test_without_a_credential_a_count_is_an_estimate(started):
    """A count for an empty pool is an estimate, as for one whose credentials are rate-limited."""
    started(models={"claude-x": [{"model": "anthropic/claude-x"}]})
    client = counting("claude-x")
    response, entrance = asked(bootstrap.count_tokens, client)
    assert (response.status_code, entrance.refusal, client.begun[0]) == (200, None, 200)


def test_without_the_gateway_nothing_is_counted(started):
    """Who comes to LiteLLM's app on another way gets no further."""
    started()
    with pytest.raises(AttemptRefused):
        asked(bootstrap.count_tokens, None)


def test_the_list_of_models(started, monkeypatch):
    """It holds what the user may use and what the key may."""
    monkeypatch.setattr(proxy_server, "llm_router", None)
    entries = [{"model_name": name, "litellm_params": {"model": "x"}} for name in ("glm", "kimi", "claude-fable-5")]
    started({"model_list": entries, "claude_proxy": {"users": {"ben": {"models": ["glm", "claude-*"]}}}})
    caller = UserAPIKeyAuth(api_key="made-up")
    for user, names in (
        ("anna", ["claude-proxy/glm", "claude-proxy/kimi", "claude-fable-5"]),
        ("ben", ["claude-proxy/glm", "claude-fable-5"]),
    ):
        response, _ = asked(bootstrap.models, Received(user=user), caller)
        assert [one["id"] for one in json.loads(response.body)["data"]] == names


def test_what_has_not_started_has_no_end(monkeypatch):
    """LiteLLM's app may run without the callback: there is nothing to watch and nothing to close."""
    monkeypatch.setattr(bootstrap, "start", functools.cache(bootstrap.start.__wrapped__))
    bootstrap.watch_config()
    asyncio.run(bootstrap.close())
    assert not bootstrap.start.cache_info().currsize


def test_the_end_closes_the_parts(started):
    """The last counts are pushed and the connections closed."""
    app = started()
    app.watching = SimpleNamespace(cancel=lambda: ended.append(True))
    ended = []
    asyncio.run(bootstrap.close())
    assert ended == [True]
