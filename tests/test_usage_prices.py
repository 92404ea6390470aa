"""usage/prices.py: what a response costs."""

import logging

import pytest

from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import ChatEndpoint
from claude_proxy.config.models import ActiveConfig
from claude_proxy.usage.prices import Prices

MILLION = 1_000_000
CLAUDE = {
    "litellm_provider": "anthropic",
    "input_cost_per_token": 5e-06,
    "output_cost_per_token": 2.5e-05,
    "cache_read_input_token_cost": 5e-07,
    "cache_creation_input_token_cost": 6.25e-06,
    "cache_creation_input_token_cost_above_1hr": 1e-05,
    "search_context_cost_per_query": {"search_context_size_medium": 0.01},
    "provider_specific_entry": {"us": 1.1, "fast": 2.0},
}
LONG = {
    "litellm_provider": "gemini",
    "input_cost_per_token": 1e-06,
    "output_cost_per_token": 1e-05,
    "input_cost_per_token_above_200k_tokens": 2e-06,
    "output_cost_per_token_above_200k_tokens": 1.5e-05,
    "input_cost_per_token_priority": 3e-06,
    "output_cost_per_token_priority": 3e-05,
    "input_cost_per_token_batches": 5e-07,
    "output_cost_per_token_batches": 5e-06,
}
LISTED = {
    "claude-opus-4-8": CLAUDE,
    "claude-haiku-4-5": {"litellm_provider": "anthropic", "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06},
    "gemini/long": LONG,
    "zai/glm-5.3": {"litellm_provider": "zai", "input_cost_per_token": 7e-07, "output_cost_per_token": 2e-06},
    "gpt": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05},
    "azure/gpt": {"litellm_provider": "azure", "input_cost_per_token": 3e-06, "output_cost_per_token": 1e-05},
    "us.anthropic.claude-x": {"litellm_provider": "bedrock", "input_cost_per_token": 4e-06, "output_cost_per_token": 1e-05},
    "vertex_ai/image": {"litellm_provider": "vertex_ai", "output_cost_per_image": 0.1},
}
ZAI, ROUTER = "https://api.z.ai/api/anthropic", "https://openrouter.ai/api"
MODELS = {
    "claude-*": {"model": "anthropic/claude-*"},
    "glm": {"model": "anthropic/glm-5.3", "api_base": ZAI},
    "relay": {"model": "anthropic/claude-opus-4-8", "api_base": "https://relay.example"},
    "demo": {"model": "anthropic/demo", "api_base": "http://demo.invalid"},
    "gpt": {"model": "openai/gpt"},
    "own": {"model": "openai/gpt", "api_base": "http://127.0.0.1:8000/v1"},
    "router": {"model": "anthropic/qwen/x", "api_base": ROUTER},
    "long": {"model": "gemini/long"},
    "bedrock": {"model": "bedrock/us.anthropic.claude-x"},
    "image": {"model": "vertex_ai/image"},
    "paid": {"model": "openai/paid", "api_base": "http://127.0.0.1:8000/v1", "input_cost_per_token": "0.000001"},
    "azure": {"model": "azure/mine", "api_base": "https://made.openai.azure.com"},
}
INFO = {"azure": {"base_model": "azure/gpt"}, "paid": {"output_cost_per_token": 2e-06}}
SERVED = {"claude-opus-4-8": "anthropic/claude-opus-4-8", "claude-nobody": "anthropic/claude-nobody"}


def endpoint(params):
    return ChatEndpoint(str(params.get("api_base") or "https://api.openai.com/v1")) if "openai/" in params["model"] else None


def config(**block):
    def lookup(name):
        if name.startswith("claude-"):
            return [{"model": f"anthropic/{name}"}]
        return [MODELS[name]] if name in MODELS else []

    models = [{"model_name": name, "litellm_params": params, "model_info": INFO.get(name)} for name, params in MODELS.items()]
    loaded = {"model_list": models, "claude_proxy": block}
    return ActiveConfig(loaded, {}, lookup=lookup, endpoint_lookup=endpoint)


def cost(model, usage, served=None, **block):
    served = served or SERVED.get(model) or MODELS[model]["model"]
    return Prices(config(**block), LISTED.get).cost(model, served, usage)


@pytest.mark.parametrize(
    ("model", "usage", "micro"),
    [
        ("claude-opus-4-8", Usage(1000, 100, 10_000, 2000, 500), 5000 + 2500 + 5000 + 1500 * 25 // 4 + 5000),
        ("claude-opus-4-8", Usage(MILLION, speed="fast"), 10_000_000),
        ("claude-opus-4-8", Usage(MILLION, speed="standard", region="not_available"), 5_000_000),
        ("claude-opus-4-8", Usage(MILLION, region="us"), 5_500_000),
        ("claude-opus-4-8", Usage(MILLION, service_tier="batch"), 2_500_000),
        ("claude-opus-4-8", Usage(MILLION, service_tier="priority"), 5_000_000),
        ("claude-opus-4-8", Usage(web_searches=3), 30_000),
        ("claude-opus-4-8", Usage(further=(("claude-haiku-4-5", Usage(MILLION)), ("", Usage(MILLION)))), 6_000_000),
        ("claude-opus-4-8", Usage(further=(("claude-nobody", Usage(MILLION)),)), 5_000_000),
        ("claude-opus-4-8", Usage(cost=17, output=1), 25),
        ("claude-opus-4-8", Usage(10**18), 10**9 * 5),
        ("long", Usage(100_000, 0, 100_000), 200_000),
        ("long", Usage(100_000, 0, 100_001), 400_002),
        ("long", Usage(1000, 1000, service_tier="priority"), 33_000),
        ("long", Usage(1000, 1000, service_tier="batch"), 5500),
        ("glm", Usage(MILLION, MILLION), 2_700_000),
        ("gpt", Usage(MILLION), 2_000_000),
        ("bedrock", Usage(MILLION), 4_000_000),
        ("azure", Usage(MILLION), 3_000_000),
        ("paid", Usage(MILLION, MILLION), 3_000_000),
        ("demo", Usage(MILLION, MILLION), 0),
        ("router", Usage(MILLION, cost=17), 17),
        ("router", Usage(MILLION), None),
        ("relay", Usage(MILLION), None),
        ("own", Usage(MILLION), None),
        ("image", Usage(MILLION), None),
        ("claude-nobody", Usage(MILLION), None),
    ],
)
def test_a_cost(model, usage, micro):
    """Tokens are billed by kind, length of the context, tier, speed and region; an unknown model or endpoint has no price."""
    assert cost(model, usage) == micro


def test_a_dated_name():
    """A Claude model with a date in its name costs what the model without it costs."""
    usage = Usage(MILLION)
    assert cost("claude-haiku-4-5-20990101", usage, "anthropic/claude-haiku-4-5-20990101") == MILLION


@pytest.mark.parametrize(
    ("model", "usage", "micro"),
    [
        ("own", Usage(MILLION, MILLION, MILLION, 2 * MILLION, MILLION), 600_000 + 2_200_000 + 110_000 + 700_000 + 700_000),
        ("glm", Usage(100, 0, 100_000, 100_000), 0),
        ("router", Usage(200_000, MILLION, cost=17), 200_000 + 2_000_000),
        ("router", Usage(200_001, MILLION, cost=17), 400_002 + 3_000_000),
        ("claude-opus-4-8", Usage(MILLION, 0, MILLION, MILLION), 4_000_000 + 400_000 + 5_000_000),
        ("claude-opus-4-8", Usage(MILLION, speed="fast"), 8_000_000),
        ("claude-opus-4-8", Usage(MILLION, service_tier="batch", web_searches=1), 2_010_000),
    ],
)
def test_a_price_of_the_configuration(model, usage, micro):
    """A price in config.yaml applies before all others; what it lacks follows its own input, tiers and speed the list."""
    prices = {
        "own": {"input": 0.6, "output": 2.2, "cache_read": "0.11", "cache_write": 0.7},
        "g*": {"input": 0, "output": 0},
        "router": {"input": 1, "output": 2, "long_context": {"above": 200_000, "input": 2, "output": 3}},
        "claude-*": {"input": 4, "output": 20},
        "*": {"input": 99, "output": 99},
    }
    assert cost(model, usage, prices=prices) == micro


def test_an_unknown_price_is_logged_once(caplog):
    """With a budget, the first response without a known price is a warning that says what to write."""
    caplog.set_level(logging.WARNING)
    prices = Prices(config(budget={"day": 1}), LISTED.get)
    assert [prices.cost("own", "openai/gpt", Usage(1)) for _ in range(3)] == [None] * 3
    (line,) = caplog.messages
    assert "no price is known for the model own (openai/gpt)" in line
    assert "claude_proxy: prices: own: {input: USD, output: USD}" in line


def test_without_a_budget_nobody_needs_a_price(caplog):
    """Without budgets and prices, a model without a price is not logged."""
    assert cost("own", Usage(1)) is None
    assert caplog.messages == []


def test_a_changed_configuration_changes_prices():
    """A new price applies with the configuration that has it."""
    active = config()
    prices = Prices(active, LISTED.get)
    before = prices.cost("own", "openai/gpt", Usage(MILLION))
    active.replace({**active.loaded, "claude_proxy": {"prices": {"own": {"input": 1, "output": 1}}}})
    assert (before, prices.cost("own", "openai/gpt", Usage(MILLION))) == (None, MILLION)


def test_the_deployments_without_a_price():
    """A model's deployments without a price are named; OpenRouter's report their own."""
    prices = Prices(config(), LISTED.get)
    assert [prices.unpriced(name) for name in ("own", "glm", "router")] == [("openai/gpt",), (), ()]
