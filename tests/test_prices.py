"""litellm/prices.py: the price of a lane's response."""

import litellm
import pytest

from claude_proxy.litellm import prices

NOVA, GPT = {"input_cost_per_token": 1.0}, {"input_cost_per_token": 2.0, "mode": "responses"}


@pytest.fixture(autouse=True)
def _list(monkeypatch):
    monkeypatch.setattr(litellm, "model_cost", {"us.amazon.nova": NOVA, "azure/gpt": GPT})
    prices._list_price.cache_clear()


@pytest.mark.parametrize(
    ("models", "price"),
    [
        (("", "bedrock/converse/us.amazon.nova"), 1.0),
        (("azure/gpt", "azure/my-deployment"), 2.0),
        (("", "openai/unknown"), None),
    ],
)
def test_a_price_is_found(models, price):
    """The price is that of the base model, or of the model with fewer leading parts; an unknown model has none."""
    assert prices.priced_as("anthropic/made-up", *models) == "anthropic/made-up"
    found = litellm.model_cost.get("anthropic/made-up")
    assert (found and found["input_cost_per_token"]) == price
    assert found is None or (found["litellm_provider"], found["mode"]) == ("anthropic", "chat")


def test_a_price_that_is_there_stays():
    """Anthropic's own models keep their prices."""
    litellm.model_cost["anthropic/made-up"] = NOVA
    prices.priced_as("anthropic/made-up", "azure/gpt")
    assert litellm.model_cost["anthropic/made-up"] is NOVA
