"""config/features.py: the settings that send requests through LiteLLM."""

import copy

import pytest
import yaml

from claude_proxy.config import features

SHIPPED = "config.yaml.example"


@pytest.fixture
def silent(request):
    """The configuration as it is shipped."""
    return yaml.safe_load((request.config.rootpath / SHIPPED).read_text(encoding="utf-8"))


def with_value(config, path, value):
    changed = copy.deepcopy(config)
    place = changed
    for name in path[:-1]:
        place = place[name] if isinstance(name, int) else place.setdefault(name, {})
    place[path[-1]] = value
    return changed


def test_nothing_needs_litellm_as_shipped(silent):
    """No setting of the shipped configuration sends requests through LiteLLM."""
    assert features.reasons(silent) == ()


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (
            ("litellm_settings", "callbacks"),
            ["request_transformer.proxy_handler_instance", "prometheus"],
            "litellm_settings: callbacks beside the proxy's own",
        ),
        (("litellm_settings", "success_callback"), ["langfuse"], "litellm_settings: success_callback"),
        (("litellm_settings", "cache"), True, "litellm_settings: cache"),
        (
            ("router_settings", "routing_strategy"),
            "usage-based-routing-v2",
            "router_settings: routing_strategy usage-based-routing-v2",
        ),
        (("router_settings", "provider_budget_config"), {}, "router_settings: provider_budget_config"),
        (("router_settings", "enable_pre_call_checks"), True, "router_settings: enable_pre_call_checks"),
        (("general_settings", "store_prompts_in_spend_logs"), True, "general_settings: store_prompts_in_spend_logs"),
        (("guardrails",), [], "guardrails"),
        (("a_section_of_tomorrow",), {}, "a_section_of_tomorrow"),
        (("litellm_settings",), "not a mapping", "litellm_settings"),
        (("router_settings",), ["not a mapping"], "router_settings"),
        # Values that LiteLLM alone reads.
        (("router_settings", "timeout"), "os.environ/SECONDS", "router_settings: timeout"),
        (("router_settings", "num_retries"), {}, "router_settings: num_retries"),
        (("litellm_settings", "request_timeout"), "soon", "litellm_settings: request_timeout"),
        (("router_settings", "fallbacks"), [{"claude-*": [{"model": "glm"}]}], "router_settings: fallbacks"),
        (("litellm_settings", "context_window_fallbacks"), ["glm"], "litellm_settings: context_window_fallbacks"),
    ],
)
def test_whatever_may_need_litellm_is_a_reason(silent, path, value, reason):
    """A callback, a cache, a limit, and every unknown key and value is a reason."""
    assert features.reasons(with_value(silent, path, value)) == (reason,)


def test_every_reason_is_told(silent):
    """Several settings are several reasons."""
    config = with_value(with_value(silent, ("guardrails",), []), ("litellm_settings", "cache"), {})
    assert features.reasons(config) == ("guardrails", "litellm_settings: cache")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("litellm_settings", "callbacks"), "request_transformer.proxy_handler_instance"),
        (("router_settings", "timeout"), 60),
        (("router_settings", "timeout"), "60"),
        (("router_settings", "timeout"), None),
        (("router_settings", "routing_strategy"), "simple-shuffle"),
        (("router_settings", "routing_strategy"), None),
        # Cooldowns belong to deployments that LiteLLM chooses.
        (("router_settings", "disable_cooldowns"), False),
        (("claude_proxy", "users"), {"anna": {"models": ["glm"]}}),
        (("litellm_settings", "drop_params"), False),
        (("router_settings", "default_fallbacks"), ["glm"]),
        (("general_settings",), None),
        # As guides for Claude Code have them.
        (("litellm_settings", "master_key"), "os.environ/LITELLM_MASTER_KEY"),
        (("litellm_settings", "database_url"), "os.environ/DATABASE_URL"),
        (("general_settings", "store_model_in_db"), True),
        # What a model's own parameters ask for is the deployment's matter.
        (("model_list", 0, "litellm_params", "timeout"), 60),
        (("model_list", 0, "litellm_params", "rpm"), 10),
    ],
)
def test_what_the_lanes_do_themselves_is_no_reason(silent, path, value):
    """Settings that the lanes handle, and those of one model, do not send all requests through LiteLLM."""
    assert features.reasons(with_value(silent, path, value)) == ()


def test_an_empty_configuration_has_no_reason():
    """An empty configuration does not need LiteLLM."""
    assert features.reasons({}) == ()
