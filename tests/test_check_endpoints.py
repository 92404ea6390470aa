"""check/endpoints.py: the host of each deployment, also where config.yaml does not name it."""

import litellm
import pytest
from test_check import entry, facts

from claude_proxy.check import hosts
from claude_proxy.check.endpoints import DEFAULT_HOSTS, host_of
from claude_proxy.providers.endpoints import Origin

# LiteLLM signs in to these, or its clients know their addresses; no table of its has them.
NOT_IN_A_TABLE = {"cohere_chat", "gemini", "github_copilot", "huggingface", "minimax", "openai", "openrouter"}


@pytest.mark.parametrize("provider", sorted(DEFAULT_HOSTS.keys() - NOT_IN_A_TABLE))
def test_a_default_host_is_litellms(provider):
    """A provider without an api_base is at the host at which LiteLLM requests it."""
    base = litellm.get_llm_provider(model=f"{provider}/m", api_key="made-up")[3]
    origin = Origin.of(base or "")
    assert origin is not None
    assert origin.host == DEFAULT_HOSTS[provider]


@pytest.mark.parametrize(
    ("params", "environ", "host"),
    [
        ({"model": "openai/x"}, {}, "api.openai.com"),
        ({"model": "x", "custom_llm_provider": "groq"}, {}, "api.groq.com"),
        ({"model": "anthropic/claude-x"}, {}, "api.anthropic.com"),
        ({"model": "openai/x", "api_base": "os.environ/BASE"}, {"BASE": "https://own.example.com/v1"}, "own.example.com"),
        ({"model": "openai/x", "api_base": "os.environ/BASE"}, {}, ""),
        ({"model": "bedrock/x", "aws_region_name": "eu-west-1"}, {}, "bedrock-runtime.eu-west-1.amazonaws.com"),
        ({"model": "bedrock/x"}, {"AWS_REGION": "us-east-1"}, "bedrock-runtime.us-east-1.amazonaws.com"),
        ({"model": "bedrock/x"}, {}, ""),
        ({"model": "vertex_ai/x", "vertex_location": "global"}, {}, "aiplatform.googleapis.com"),
        ({"model": "vertex_ai/x"}, {"VERTEX_LOCATION": "europe-west1"}, "europe-west1-aiplatform.googleapis.com"),
        ({"model": "whatever/x"}, {}, ""),
    ],
)
def test_the_host_of_a_deployment(params, environ, host):
    """It comes from the api_base, the provider, or the region; an unknown one is empty."""
    assert host_of(params, facts(**environ)) == host


def test_a_provider_without_an_api_base_is_among_the_hosts():
    """Its host is connected to as any other, and each host is there once, with every model that needs it."""
    config = {"model_list": [entry("a", "groq/x"), entry("b", "groq/y"), entry("c", "bedrock/z")]}
    (target,) = hosts.targets(facts(config))
    assert (target.origin.host, target.users) == ("api.groq.com", ("a", "b"))
    assert target.place == "config.yaml line 3"
