"""check/prices.py: whether a budget can include every model."""

import pytest

from claude_proxy.check import prices as module
from claude_proxy.check.facts import Facts
from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS

CLAUDE = {"litellm_provider": "anthropic", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}
LISTED = {
    **dict.fromkeys(CLAUDE_CODE_MODELS[1:], CLAUDE),
    "gpt": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
}
FREE = {"input": 0, "output": 0}
MODELS = [
    {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}},
    {"model_name": "gpt", "litellm_params": {"model": "openai/gpt"}},
    {"model_name": "own", "litellm_params": {"model": "openai/gpt", "api_base": "os.environ/OWN"}},
    {"model_name": "own", "litellm_params": {"model": "openai/other", "api_base": "os.environ/OWN"}},
]


@pytest.fixture(autouse=True)
def _list(monkeypatch):
    monkeypatch.setattr(module, "entry_of", LISTED.get)


def found(block, **more):
    config = {"model_list": MODELS, "claude_proxy": block}
    return [str(one) for one in module.prices(Facts({"OWN": "http://127.0.0.1:8000/v1"}, config=config, **more))]


def test_a_model_without_a_price():
    """With a budget, a model without a price is reported once, with what to write; of a pattern, Claude Code's models."""
    claude, own = found({"default_budget": {"day": 1}})
    assert f"no price is known for model {CLAUDE_CODE_MODELS[0]}, so budgets do not include it" in claude
    assert "no price is known for model own, so budgets do not include it; write claude_proxy: prices: own: {input: USD" in own


def test_a_model_without_a_price_that_is_refused():
    """Where such models are refused, the warning says so."""
    _, own = found({"default_budget": {"day": 1}, "unpriced_models": "refuse"})
    assert "no price is known for model own, so users with a budget may not use it; write claude_proxy: prices: own: " in own


@pytest.mark.parametrize("block", [None, {"prices": {"x": {"input": 1, "output": 1}}}])
def test_without_a_budget(block):
    """Without a budget, no model needs a price."""
    assert found(block) == []


def test_a_price_in_the_configuration():
    """A price in config.yaml is enough, and a configuration with other errors is not checked."""
    assert found({"budget": {"day": 1}, "prices": {"own": FREE, "claude-*": FREE}}) == []
    assert found({"budget": {"day": 1}}, mistakes=("something",)) == []
