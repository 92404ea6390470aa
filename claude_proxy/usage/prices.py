"""What a response costs: its tokens at the prices of config.yaml, of its provider, or of LiteLLM's list. Plain and synchronous.

The first of these that is known applies:
  1. a price in ``claude_proxy: prices:``;
  2. the price that OpenRouter reports with the response;
  3. ``input_cost_per_token`` and its like in the deployment's ``litellm_params`` or ``model_info``; for what these lack,
     LiteLLM's list, by the ``base_model`` or by the provider's model.
A self-hosted model, and one at an endpoint whose provider is not known, has no price in the list, whatever its name is.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from claude_proxy.anthropic.usage import Usage
from claude_proxy.config.deployments import Deployment, served_as
from claude_proxy.config.models import MAX_NAMES, ActiveConfig, model_names
from claude_proxy.config.prices import FREE, Price, listed_price
from claude_proxy.providers.compatibility import STRICT
from claude_proxy.providers.endpoints import Provider, matches

logger = logging.getLogger(__name__)

# Returns the entry of a name in LiteLLM's price list.
Lookup = Callable[[str], Mapping[str, Any] | None]
# LiteLLM's names of the providers with Anthropic's format.
LISTED_PROVIDERS = {
    "zai": "zai", "kimi": "moonshot", "deepseek": "deepseek", "minimax": "minimax", "openrouter": "openrouter",
}  # fmt: skip
# Rows of servers of one's own, and of endpoints whose provider is not known.
SELF_HOSTED = frozenset({"openai-compatible", "vllm", "sglang", "llama-cpp", "llamafile", "lm-studio", "ollama"})
ANTHROPIC = "anthropic"
_DATE = re.compile(r"[0-9]{8}")
REPORTS_COST = ("openrouter", "openrouter-chat")
# Keys of an entry of model_list, in litellm_params or model_info, with a price.
COST = "cost"
# A count above this is an error of the provider, and no cost.
MAX_TOKENS = 10**9
MICRO = 10**6
THOUSAND = 1000


@dataclass(frozen=True)
class _Resolved:
    """The price of a model of config.yaml at one deployment, and whether the response's own price applies instead."""

    price: Price | None
    reported: bool = False


class Prices:
    """One per process. ``lookup`` returns entries of LiteLLM's price list."""

    def __init__(self, config: ActiveConfig, lookup: Lookup = lambda _: None) -> None:
        self._config = config
        self._lookup = lookup
        self._known: dict[tuple[str, str], _Resolved] = {}
        self._known_for: object = None
        self._logged: set[tuple[str, str]] = set()

    def cost(self, model: str, served: str, usage: Usage) -> int | None:
        """Return the cost of a response in whole micro-USD; None if no price is known, which is logged once.

        ``model`` is the name in config.yaml of the model that responded, ``served`` LiteLLM's name of provider and model.
        """
        resolved = self._resolved(model, served)
        if resolved.reported and usage.cost is not None:
            return usage.cost
        if resolved.price is None:
            self._log_unknown(model, served)
            return None
        total = pico_usd(resolved.price, usage)
        for name, further in usage.further:
            price = self._resolved(name, f"anthropic/{name}").price if name else None
            total += pico_usd(price or resolved.price, further)
        return (total + MICRO // 2) // MICRO

    def price(self, model: str, served: str) -> Price | None:
        """Return the price of a model at one deployment; None if none is known."""
        return self._resolved(model, served).price

    def unpriced(self, model: str) -> tuple[str, ...]:
        """Return the deployments of a model, by LiteLLM's names, without a price."""
        found = [one.served for one in self._config.deployments(model)]
        return tuple(served for served in found if (one := self._resolved(model, served)).price is None and not one.reported)

    def missing(self, requested: str, served: str) -> str:
        """Return the name of the model that responded, if no price is known for it now; empty if one is known.

        ``requested`` is the model that the client requested, for which a fallback may have responded.
        """
        for name in (requested, *model_names(self._config.loaded)):
            if any(one.served == served for one in self._config.deployments(name)):
                return "" if self.price(name, served) else name
        return "" if self.price(served, served) else served.partition("/")[2] or served

    def _resolved(self, model: str, served: str) -> _Resolved:
        config = self._config
        if self._known_for is not config.loaded or len(self._known) >= MAX_NAMES:
            self._known.clear()
            self._known_for = config.loaded
        key = model, served
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._resolve(model, served)
        return found

    def _resolve(self, model: str, served: str) -> _Resolved:
        one = next((one for one in self._config.deployments(model) if one.served == served), None)
        if one is not None and one.provider is Provider.DEMO:
            return _Resolved(FREE)
        sent = one.model if one is not None else served.partition("/")[2]
        is_claude = "claude" in sent
        listed = listed_price(self._entry(model, served, one), is_claude=is_claude)
        own = self._config.prices.price((model, sent), listed, is_claude=is_claude) if self._config.prices else None
        return _Resolved(own or listed, own is None and one is not None and one.row.name in REPORTS_COST)

    def _entry(self, model: str, served: str, one: Deployment | None) -> dict[str, Any]:
        """Return the entry of the price list, with the costs that config.yaml has beside the deployment."""
        beside, base_model = _beside(self._config.loaded, model, served)
        names = [(name, "") for name in (base_model, *_shortened(base_model)) if base_model]
        for name, provider in [*names, *_listed_names(served, one)]:
            entry = self._lookup(name)
            if entry and str(entry.get("litellm_provider", "")).startswith(provider):
                return {**entry, **beside}
        return beside

    def _log_unknown(self, model: str, served: str) -> None:
        if not (self._config.budgets or self._config.prices) or (model, served) in self._logged:
            return
        if len(self._logged) < MAX_NAMES:
            self._logged.add((model, served))
            logger.warning(
                "no price is known for the model %s (%s), so budgets do not include it; "
                "write claude_proxy: prices: %s: {input: USD, output: USD}, per million tokens, into config.yaml",
                model,
                served,
                model,
            )


def pico_usd(price: Price, usage: Usage) -> int:
    """Return the cost of tokens and web searches in pico-USD."""
    counted = (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.web_searches)
    taken, made, read, written, hourly, searches = (min(count, MAX_TOKENS) for count in counted)
    hourly = min(hourly, written)
    rates = price.rates(usage.service_tier, taken + read + written)
    total = taken * rates.input + made * rates.output + read * rates.cache_read
    total += (written - hourly) * rates.cache_write + hourly * rates.cache_write_1h
    if usage.speed == "fast":
        total = total * price.fast // THOUSAND
    if usage.region and price.regions:
        total = total * price.regions.get(usage.region, THOUSAND) // THOUSAND
    return total + searches * price.search


def _listed_names(served: str, one: Deployment | None) -> Iterator[tuple[str, str]]:
    """Yield the names under which LiteLLM's list may have a deployment's model, each with the provider of that entry."""
    prefix, _, model = served.partition("/")
    row = one.row.name if one is not None else ""
    if prefix == ANTHROPIC and (one is None or one.provider is Provider.CLAUDE):
        model = (one.model if one is not None else model).partition("[")[0]
        head, _, date = model.rpartition("-")
        yield from ((name, ANTHROPIC) for name in (model, *([head] if _DATE.fullmatch(date) else [])))
    elif row not in SELF_HOSTED and not (row == STRICT.name and prefix == ANTHROPIC):
        provider = LISTED_PROVIDERS.get(row) or (one.row.prefix if one is not None else "") or prefix
        names = [f"{provider}/{model}", *_shortened(served)]
        yield from ((name, provider) for name in dict.fromkeys(names))


def _shortened(name: str) -> Iterator[str]:
    """Yield a name with one more of its leading parts removed each time."""
    parts = name.split("/")
    yield from ("/".join(parts[place:]) for place in range(1, len(parts)))


def _beside(config: Mapping[str, Any], model: str, served: str) -> tuple[dict[str, Any], str]:
    """Return the costs that an entry of model_list sets for a deployment, and its ``base_model``."""
    for entry in config.get("model_list") or ():
        params = entry["litellm_params"]
        named = served_as(str(params.get("model")), params.get("custom_llm_provider"))
        if matches(str(entry["model_name"]), model) and matches(named, served):
            info = entry.get("model_info")
            info = info if isinstance(info, dict) else {}
            costs = {
                name: value for part in (params, info) for name, value in part.items() if COST in name and value is not None
            }
            base_model = info.get("base_model")
            return costs, base_model if isinstance(base_model, str) else ""
    return {}, ""
