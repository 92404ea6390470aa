"""What a response of a lane costs, in LiteLLM's price list: LiteLLM takes its provider for Anthropic (1.106.2)."""

import functools

import litellm

# Names whose price is there; a pattern in config.yaml may have many.
MAX_NAMES = 1000


def priced_as(named: str, *models: str) -> str:
    """Return the name under which LiteLLM finds the price of the first of the models that its list has, or none."""
    _list_price(named, models)
    return named


@functools.lru_cache(MAX_NAMES)
def _list_price(named: str, models: tuple[str, ...]) -> None:
    prices = next((found for model in models for name in _names(model) if (found := litellm.model_cost.get(name))), None)
    if prices is not None and named not in litellm.model_cost:
        litellm.register_model({named: dict(prices) | {"litellm_provider": "anthropic", "mode": "chat"}})


def _names(model: str) -> list[str]:
    """Return a model's name with all of the parts in front of it, and with ever fewer."""
    parts = model.split("/")
    return ["/".join(parts[place:]) for place in range(len(parts)) if model]
