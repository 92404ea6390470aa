"""LiteLLM's price list, and the price of a lane's response in it where LiteLLM sees the provider as Anthropic."""

import functools
from collections.abc import Mapping
from typing import Any

import litellm

# The limit for cached names; a pattern in config.yaml may match many.
MAX_NAMES = 1000


def listed_price(name: str) -> Mapping[str, Any] | None:
    """Return the entry of a name in LiteLLM's price list."""
    found = litellm.model_cost.get(name)
    return found if isinstance(found, dict) else None


def priced_as(named: str, *models: str) -> str:
    """Return ``named``, after LiteLLM has its price: that of the first of the models that is in LiteLLM's price list."""
    _list_price(named, models)
    return named


@functools.lru_cache(MAX_NAMES)
def _list_price(named: str, models: tuple[str, ...]) -> None:
    prices = next((found for model in models for name in _names(model) if (found := litellm.model_cost.get(name))), None)
    if prices is not None and named not in litellm.model_cost:
        litellm.register_model({named: dict(prices) | {"litellm_provider": "anthropic", "mode": "chat"}})


def _names(model: str) -> list[str]:
    """Return a model's name, then the name with one more of its leading parts removed each time."""
    parts = model.split("/")
    return ["/".join(parts[place:]) for place in range(len(parts)) if model]
