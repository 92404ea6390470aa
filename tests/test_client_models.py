"""config/client_models.py: which models are Claude, the window of each, and the models that a user can use."""

import pytest

from claude_proxy.config.client_models import ClientModels, CurrentModels, Row
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.litellm.windows import listed_window


def model(name, target, **params):
    return {"model_name": name, "litellm_params": {"model": target, **params}}


DEMO = model("demo", "anthropic/demo", api_base="http://demo.invalid")
CLAUDE = model("claude-*", "anthropic/claude-*")
GLM = model("glm", "anthropic/glm", api_base="https://z.example", api_key="os.environ/ZAI_API_KEY")
POSING = model("claude-posing", "anthropic/claude-x", api_base="https://z.example")
LOADED = {"model_list": [DEMO, CLAUDE, GLM, POSING]}
ZAI = {"ZAI_API_KEY": "made-up"}


def limited(*models):
    return LOADED | {"claude_proxy": {"users": {"anna": {"models": list(models)}}}}


def models_of(loaded):
    return ClientModels(loaded, Settings.parse({}), listed_window)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("claude-opus-4-8", True), ("glm", False), ("demo", False), ("claude-posing", False), ("nobody", False)],
)
def test_what_is_claude(name, expected):
    """A model is Claude when Anthropic's host serves it, whatever its name says."""
    assert models_of(LOADED).is_claude(name) is expected


@pytest.mark.parametrize(
    ("loaded", "environ", "pool", "expected"),
    [
        (LOADED, {}, True, None),
        (LOADED, {}, False, "claude-posing"),
        (LOADED, ZAI, False, "glm"),
        ({"model_list": [DEMO, CLAUDE]}, {}, False, "demo"),
        ({"model_list": [CLAUDE]}, {}, False, None),
        (limited("glm"), ZAI, True, "glm"),
        (limited("claude-*"), ZAI, True, None),
        (limited("claude-opus-*"), ZAI, True, None),
        (limited("demo"), ZAI, True, "demo"),
    ],
)
def test_the_model_that_is_named_by_itself(loaded, environ, pool, expected):
    """With a pool Claude Code chooses; without one, or for a person who may not use Claude, it is the first that is ready."""
    assert models_of(loaded).default(environ, "anna", has_login=pool) == expected


def test_ready_models():
    """Patterns, models without their key and those that a person may not use are left out; a demo counts for want of others."""
    assert models_of(LOADED).ready(ZAI) == ["glm", "claude-posing"]
    assert models_of(limited("glm")).ready(ZAI, "anna") == ["glm"]
    assert models_of({"model_list": [DEMO, CLAUDE, GLM]}).ready({}) == ["demo"]


def test_the_demo_is_listed_last():
    """The list for /model has the demo once, also beside models that are ready, if the user may use it."""
    assert models_of(LOADED).picker_models(ZAI) == ["glm", "claude-posing", "demo"]
    assert models_of({"model_list": [DEMO, CLAUDE, GLM]}).picker_models({}) == ["demo"]
    assert models_of(limited("glm")).picker_models(ZAI, "anna") == ["glm"]
    assert models_of({"model_list": [GLM]}).picker_models(ZAI) == ["glm"]


def test_a_model_of_its_own_comes_first():
    """The rows of a user with a model of their own start with it, and hold each other model once."""
    rows, context = models_of(LOADED).rows(["glm", "claude-posing"], "claude-posing", is_claude=False, context=200_000)
    assert [row.model for row in rows] == ["claude-posing", "glm"]
    assert context == 200_000
    assert rows[1] == Row("glm", 200_000, "claude-sonnet-4-6")
    assert "200,000 tokens" in rows[1].fields()["description"]


def test_litellm_s_list_says_how_much_a_model_takes():
    """Where config.yaml says nothing, the size is that of LiteLLM's list, and config.yaml wins."""
    entry = model("deepseek", "anthropic/deepseek-chat", api_base="https://z.example")
    assert models_of({"model_list": [entry]}).context_of("deepseek") == 131_072
    assert models_of({"model_list": [entry | {"model_info": {"max_input_tokens": 64_000}}]}).context_of("deepseek") == 64_000


def test_what_is_shown_beside_a_discovered_model():
    """A model is described by its window; Claude's own is known to Claude Code."""
    assert models_of(LOADED).describe("glm") == "Through claude-proxy, 200,000 tokens"
    assert models_of(LOADED).describe("claude-opus-5-5") == "Through claude-proxy"


def test_the_models_of_the_current_configuration():
    """The models are read once for a configuration, and again after it was replaced."""
    config = ActiveConfig(LOADED, {})
    current = CurrentModels(config, Settings.parse({}), listed_window)
    assert current() is current()
    config.replace({"model_list": [GLM]})
    assert current().names == ["glm"]
