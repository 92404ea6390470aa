"""config/sections.py: a setting of a shape with which LiteLLM does not start is named before LiteLLM is imported."""

import asyncio

import pytest
import yaml
from litellm.proxy.proxy_server import ProxyConfig

from claude_proxy.config.sections import mistakes

WRONG = {
    "environment_variables": ["A=b"],
    "include": "models.yaml",
    "credential_list": ["x"],
    "guardrails": [{"guardrail_name": "x"}],
    "mcp_servers": ["x"],
    "prompts": {"a": 1},
    "search_tools": {"a": 1},
    "vector_store_registry": {"a": 1},
}
RIGHT = {
    "environment_variables": {"A": "b"},
    "guardrails": [],
    "mcp_servers": {},
    "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    "litellm_settings": {"cache_params": {"type": "local"}},
    "router_settings": {"routing_strategy_args": {"ttl": 10}},
}


def of_section(section, name, value):
    return {section: {name: value}}


WRONG_SETTINGS = [
    of_section("general_settings", "master_key", 1234),
    of_section("litellm_settings", "cache_params", "redis"),
    of_section("litellm_settings", "default_team_settings", "x"),
    of_section("litellm_settings", "upperbound_key_generate_params", "x"),
    of_section("router_settings", "provider_budget_config", {"openai": 5}),
    of_section("router_settings", "routing_strategy_args", "x"),
]


@pytest.mark.parametrize("name", WRONG)
def test_a_section_of_another_shape(tmp_path, name):
    """LiteLLM fails to load it, and there is one sentence that starts with its name."""
    config = {"model_list": [{"model_name": "a", "litellm_params": {"model": "openai/a", "api_key": "x"}}], name: WRONG[name]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(Exception, match=r".*"):  # whatever LiteLLM raises
        asyncio.run(ProxyConfig().load_config(router=None, config_file_path=str(tmp_path / "config.yaml")))
    (sentence,) = mistakes(config)
    assert sentence.startswith(f"{name}: ")
    assert " should " in sentence


@pytest.mark.parametrize("config", WRONG_SETTINGS, ids=lambda config: str(config)[:40])
def test_a_setting_of_another_shape(config):
    """The sentence names the section and the setting."""
    ((section, settings),) = config.items()
    (sentence,) = mistakes(config)
    assert sentence.startswith(f"{section}: {next(iter(settings))}: should be ")


@pytest.mark.parametrize("config", [{}, RIGHT, dict.fromkeys(WRONG), {"litellm_settings": ["x"]}])
def test_sections_that_are_right(config):
    """There is no sentence about a section that is right, missing or empty, or that is reported elsewhere."""
    assert [*mistakes(config)] == []
