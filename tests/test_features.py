"""Who reads what LiteLLM writes down."""

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


def test_nothing_reads_them_as_shipped(silent):
    """The configuration that everybody starts with has no reader."""
    assert not features.are_kept(silent)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("litellm_settings", "callbacks"), ["request_transformer.proxy_handler_instance", "prometheus"]),
        (("litellm_settings", "success_callback"), ["langfuse"]),
        (("litellm_settings", "cache"), True),
        (("router_settings", "disable_cooldowns"), False),
        (("router_settings", "routing_strategy"), "usage-based-routing-v2"),
        (("router_settings", "provider_budget_config"), {}),
        (("router_settings", "enable_pre_call_checks"), True),
        (("general_settings", "store_prompts_in_spend_logs"), True),
        (("guardrails",), []),
        (("model_list", 0, "litellm_params", "rpm"), 10),
        (("model_list", 0, "litellm_params", "max_parallel_requests"), 1),
        (("a_section_of_tomorrow",), {}),
        (("litellm_settings",), "not a mapping"),
    ],
)
def test_whatever_may_read_them_gets_them(silent, path, value):
    """A callback, a cache, a limit, and every key that this version does not know: LiteLLM gets each answer to the end."""
    assert features.are_kept(with_value(silent, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("litellm_settings", "callbacks"), "request_transformer.proxy_handler_instance"),
        (("router_settings", "timeout"), 60),
        (("claude_proxy", "users"), {"anna": {"models": ["glm"]}}),
        (("model_list", 0, "litellm_params", "timeout"), 60),
        (("litellm_settings", "drop_params"), False),
    ],
)
def test_what_reads_nothing_changes_nothing(silent, path, value):
    """Settings about the way to a provider are no readers."""
    assert not features.are_kept(with_value(silent, path, value))
