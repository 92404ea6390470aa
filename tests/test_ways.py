"""config/ways.py: which way requests go, in words."""

import pytest
import yaml

from claude_proxy.check.lines import lines_of
from claude_proxy.config.deployments import ChatEndpoint, likely_endpoint
from claude_proxy.config.ways import ways
from claude_proxy.providers.endpoints import Hosts

CLAUDE = {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}}
COUNTED = {"model_name": "counted", "litellm_params": {"model": "anthropic/claude-x", "rpm": 5}}
GPT = {"model_name": "gpt", "litellm_params": {"model": "openai/gpt-x"}}


def said(**config):
    return [*ways(config, Hosts())]


def test_a_plain_configuration_has_nothing_to_say():
    """Claude's requests go the direct way, and nobody has to know."""
    assert said(model_list=[CLAUDE]) == []


def test_a_setting_that_needs_litellm_is_named():
    """One sentence names every setting that sends all requests through LiteLLM."""
    config = {"model_list": [CLAUDE, GPT], "litellm_settings": {"cache": True}, "router_settings": {"routing_strategy": "x"}}
    assert said(**config) == [
        "All requests go through LiteLLM because of litellm_settings.cache, router_settings.routing_strategy x"
    ]
    assert [*ways({"model_list": [CLAUDE]}, Hosts(), database=True)] == [
        "All requests go through LiteLLM because of DATABASE_URL"
    ]


def test_a_model_that_needs_litellm_is_named():
    """A parameter that no lane knows concerns its model alone; a provider that LiteLLM translates for is said apart."""
    assert said(model_list=[CLAUDE, COUNTED, GPT]) == [
        "Requests for counted go through LiteLLM because of litellm_params.rpm",
        "LiteLLM translates the requests for gpt",
        "All other requests go directly to the provider, without LiteLLM",
    ]


def test_other_clients_are_named():
    """Requests on OpenAI's routes enter LiteLLM where these are open."""
    assert said(model_list=[CLAUDE], claude_proxy={"openai_routes": True}) == [
        "Requests of other clients go through LiteLLM because of claude_proxy.openai_routes",
        "All other requests go directly to the provider, without LiteLLM",
    ]


def test_a_provider_of_chat_completions_has_nothing_to_say():
    """Its requests go the direct way; a parameter that no lane knows is named, and others are LiteLLM's as before."""

    def endpoint_lookup(params):
        return ChatEndpoint("https://gpt.invalid/v1") if params["model"].startswith("openai/") else None

    counted = {"model_name": "counted-gpt", "litellm_params": {"model": "openai/gpt-x", "rpm": 5}}
    bedrock = {"model_name": "bedrock", "litellm_params": {"model": "bedrock/x"}}
    assert [*ways({"model_list": [CLAUDE, GPT]}, Hosts(), endpoint_lookup=endpoint_lookup)] == []
    assert [*ways({"model_list": [GPT, counted, bedrock]}, Hosts(), endpoint_lookup=endpoint_lookup)] == [
        "Requests for counted-gpt go through LiteLLM because of litellm_params.rpm",
        "LiteLLM translates the requests for bedrock",
        "All other requests go directly to the provider, without LiteLLM",
    ]


def test_check_tells_a_provider_of_chat_completions_by_its_name():
    """Without LiteLLM's tables its name is enough to know that it is asked directly."""
    direct = [{"model_name": name, "litellm_params": {"model": f"{name}/x"}} for name in ("openai", "azure", "hosted_vllm")]
    gemini = {"model_name": "gemini", "litellm_params": {"model": "gemini/x"}}
    assert [*ways({"model_list": [*direct, gemini]}, Hosts(), endpoint_lookup=likely_endpoint)] == [
        "LiteLLM translates the requests for gemini",
        "All other requests go directly to the provider, without LiteLLM",
    ]


def test_the_line_of_a_setting_is_named():
    """Where the file's lines are known, each setting is named with the file and its line."""
    text = "model_list:\n- {model_name: a, litellm_params: {model: anthropic/claude-x, rpm: 5}}\n"
    found = [*ways(yaml.safe_load(text), Hosts(), lines=lines_of(text).at)]
    assert found[0] == "Requests for a go through LiteLLM because of litellm_params.rpm (config.yaml line 2)"
    text += "litellm_settings:\n  drop_params: true\n  cache: true\nguardrails: []\n"
    assert [*ways(yaml.safe_load(text), Hosts(), lines=lines_of(text).at, file="other.yaml")] == [
        "All requests go through LiteLLM because of guardrails (other.yaml line 6), litellm_settings.cache (other.yaml line 5)"
    ]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"model_name": "x"},
        {"model_name": "x", "litellm_params": {"model": None}},
        {"model_name": "x", "litellm_params": {"model": "anthropic/x", "api_base": [None]}},
    ],
)
def test_an_entry_that_says_nothing_is_passed_over(entry):
    """What is no entry is a mistake that is told elsewhere."""
    assert said(model_list=[entry]) == []
