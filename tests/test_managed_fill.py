"""config/managed_fill.py: what the proxy fills into a user's managed settings, by config.yaml and by the user's models."""

import pytest

from claude_proxy.config.client_models import ClientModels
from claude_proxy.config.managed_fill import FAMILIES, filled, policy_of
from claude_proxy.config.managed_settings import ManagedSettings
from claude_proxy.config.settings import Settings
from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS

KEY = {"api_key": "os.environ/ZAI_API_KEY"}
ZAI = {"ZAI_API_KEY": "made-up"}


def model(name, target=None, window=None, **params):
    target = target or f"openai/{name}"
    base = {} if "claude" in target else {"api_base": "https://models.example", **KEY}
    info = {"model_info": {"max_input_tokens": window}} if window else {}
    return {"model_name": name, "litellm_params": {"model": target, **base, **params}, **info}


CLAUDE, GLM, SMALL = model("claude-*", "anthropic/claude-*"), model("glm", window=200_000), model("small", window=32_000)
OURS = model("opus-of-ours", "anthropic/claude-opus-4-8")


def fill(*models, allowed=None, environ=ZAI, has_login=True, **more):
    users = {"anna": {"models": allowed}} if allowed else {}
    loaded = {"model_list": list(models), "claude_proxy": {"users": users}}
    found = ClientModels(loaded, Settings.parse({}), lambda _: None)
    return filled(found, environ, "anna", has_login=has_login, **more)


def test_with_claude_and_another_model():
    """A user of Claude gets the newest model of each family, a row for each other model, and the window of unknown ones."""
    found = fill(CLAUDE, GLM, SMALL)
    assert {found["env"][f"ANTHROPIC_DEFAULT_{name.upper()}_MODEL"] for name in FAMILIES} == {*CLAUDE_CODE_MODELS}
    assert found["env"]["CLAUDE_CODE_AUTO_MODE_MODEL"] == FAMILIES["sonnet"]
    assert "CLAUDE_CODE_AUTO_MODE_SERVER" not in found["env"]
    assert found["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "32000"
    assert {row["model"]: row.get("behavesAs") for row in found["modelPicker"]["options"]} == {
        "glm": "claude-sonnet-4-6", "small": None,
    }  # fmt: skip
    assert found["availableModels"] == [*FAMILIES, "glm", "small"]
    assert found["env"]["CLAUDE_CODE_GATEWAY_HINT_HEADERS"] == "1"
    assert found["env"]["CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"] == "1"
    assert "enforceAvailableModels" not in found


def test_without_claude():
    """A user without Claude gets another model as every model of Claude Code's, which checks its calls by itself."""
    for found in (
        fill(GLM, SMALL),
        fill(CLAUDE, GLM, SMALL, has_login=False),
        fill(CLAUDE, GLM, SMALL, allowed=["glm", "small"]),
    ):
        variables = found["env"]
        assert {variables[name] for name in variables if name.endswith("_MODEL")} == {"glm"}
        assert "ANTHROPIC_MODEL" not in variables, "it would win over the model that the user has chosen"
        assert (variables["CLAUDE_CODE_AUTO_MODE_SERVER"], variables["ENABLE_TOOL_SEARCH"]) == ("0", "auto")
        assert variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "200000"
        assert found["modelPicker"]["replaceBuiltInOptions"] is True
        assert [row["model"] for row in found["modelPicker"]["options"]] == ["glm"], "small takes less than the variable says"
        assert found["availableModels"] == ["glm", "small"]


@pytest.mark.parametrize(
    ("models", "allowed", "expected"),
    [
        ([CLAUDE], None, [*FAMILIES]),
        ([CLAUDE], ["*"], [*FAMILIES]),
        ([CLAUDE], ["claude-*"], [*FAMILIES]),
        ([CLAUDE, GLM], ["claude-haiku-*", "glm"], ["haiku", "glm"]),
        ([CLAUDE, GLM], ["claude-opus-4-*"], ["claude-opus-4"]),
        ([CLAUDE, GLM], ["claude-opus-4-8"], ["claude-opus-4-8"]),
        ([model("claude-opus-*", "anthropic/claude-opus-*"), GLM], None, ["opus", "glm"]),
        ([model("claude-opus-5-5", "anthropic/claude-opus-5-5"), GLM], None, ["claude-opus-5-5", "glm"]),
        ([CLAUDE, OURS], ["opus-of-ours"], ["opus-of-ours"]),
        ([CLAUDE, model("claude-posing", "openai/x")], ["claude-posing"], ["claude-posing"]),
        ([CLAUDE, model("anthropic/*", "anthropic/claude-*")], None, [*FAMILIES]),
        ([CLAUDE, model("router/*", "openrouter/*")], None, None),
        ([CLAUDE, model("router/*", "openrouter/*")], ["claude-*"], [*FAMILIES]),
        ([CLAUDE, model("router/*", "openrouter/*")], ["router/qwen"], ["router/qwen"]),
        ([CLAUDE, model("*", "openrouter/*")], None, None),
    ],
)
def test_what_a_user_may_choose(models, allowed, expected):
    """``availableModels`` has what the user may use, and is left out where a pattern lets them use any name."""
    found = fill(*models, allowed=allowed)
    assert found.get("availableModels") == expected
    assert ("CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY" in found["env"]) is (expected is not None)


@pytest.mark.parametrize(("allowed", "enforced"), [(["claude-*"], False), (["claude-haiku-*", "glm"], True), (["glm"], False)])
def test_the_default_is_a_model_that_the_user_may_use(allowed, enforced):
    """Claude Code starts on its opus model by itself; for a user who may not use it, it starts on one that they may use."""
    found = fill(CLAUDE, GLM, allowed=allowed)
    assert found.get("enforceAvailableModels", False) is enforced
    assert found["env"].get("ANTHROPIC_DEFAULT_MODEL") == ("glm" if allowed == ["glm"] else None)


def test_a_model_without_its_key_is_left_out():
    """A model whose key is not set is neither a row nor available."""
    found = fill(CLAUDE, GLM, environ={})
    assert "modelPicker" not in found
    assert found["availableModels"] == [*FAMILIES]


def test_a_key_of_its_own_makes_claude_usable():
    """Claude with an API key in config.yaml needs no pool."""
    assert fill(model("claude-*", "anthropic/claude-*", **KEY), GLM, has_login=False)["availableModels"] == [*FAMILIES, "glm"]


def test_claude_under_another_name():
    """Without a pool, a Claude model under a name of the operator's is the default, and Claude Code keeps its own checks."""
    found = fill(OURS, has_login=False)
    assert found["env"]["ANTHROPIC_DEFAULT_MODEL"] == "opus-of-ours"
    assert found["modelPicker"] == {
        "options": [{"model": "opus-of-ours", "label": "opus-of-ours", "behavesAs": "claude-opus-4-8",
                     "description": "Through claude-proxy, 200,000 tokens"}],
    }  # fmt: skip
    assert "CLAUDE_CODE_AUTO_MODE_SERVER" not in found["env"]


def test_telemetry_has_its_place():
    """Variables for telemetry are passed in by whoever passes telemetry on."""
    assert fill(CLAUDE, telemetry={"CLAUDE_CODE_ENABLE_TELEMETRY": "1"})["env"]["CLAUDE_CODE_ENABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("fills", [True, False])
def test_what_the_operator_writes_wins(fills):
    """What the operator writes replaces what is filled in, key by key; ``fill: false`` leaves only what they write."""
    written = {"env": {"ANTHROPIC_DEFAULT_OPUS_MODEL": "claude-opus-4-8", "X": "y"}, "availableModels": ["opus"]}
    section = {"fill": fills, "all": written, "users": {"anna": {"modelPicker": {"replaceBuiltInOptions": True}}}}
    loaded = {"model_list": [CLAUDE, GLM], "claude_proxy": {"managed_settings": section}}
    models = ClientModels(loaded, Settings.parse({}), lambda _: None)
    found = policy_of(ManagedSettings.of(loaded), models, ZAI, "anna", (), has_login=True).settings
    assert found["env"]["ANTHROPIC_DEFAULT_OPUS_MODEL"] == "claude-opus-4-8"
    assert ("ANTHROPIC_DEFAULT_HAIKU_MODEL" in found["env"]) is fills
    assert found["availableModels"] == ["opus"]
    assert found["modelPicker"]["replaceBuiltInOptions"] is True
    assert ("options" in found["modelPicker"]) is fills
    assert fills or found == {**written, "modelPicker": {"replaceBuiltInOptions": True}}


def test_no_policy_is_filled_for_nobody():
    """A user to whom no entry applies gets nothing of what the proxy knows."""
    loaded = {"model_list": [CLAUDE], "claude_proxy": {"managed_settings": {"groups": {"team-a": {}}}}}
    models = ClientModels(loaded, Settings.parse({}), lambda _: None)
    managed = ManagedSettings.of(loaded)
    assert policy_of(managed, models, {}, "anna", (), has_login=True) is None
    assert policy_of(managed, models, {}, "anna", ("team-a",), has_login=True) is not None


def test_telemetry():
    """Where the proxy passes telemetry on, the client is told to send it; what the operator writes wins."""
    section = {"all": {"env": {"OTEL_LOGS_EXPORTER": "none"}}}
    loaded = {"model_list": [CLAUDE], "claude_proxy": {"managed_settings": section}}
    managed, models = ManagedSettings.of(loaded), ClientModels(loaded, Settings.parse({}), lambda _: None)
    for takes in (False, True):
        env = policy_of(managed, models, {}, "anna", (), has_login=True, takes_telemetry=takes).settings["env"]
        assert env.get("OTEL_METRICS_EXPORTER") == ("otlp" if takes else None)
        assert env["OTEL_LOGS_EXPORTER"] == "none"
