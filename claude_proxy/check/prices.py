"""Checks of the prices: whether a budget can include every model."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.check.models import claude_hosts, resolved
from claude_proxy.check.price_list import entry
from claude_proxy.config.budgets import Budgets
from claude_proxy.config.deployments import ChatEndpoint, likely_endpoint
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers.endpoints import OPENAI_HOST, is_openai_itself
from claude_proxy.usage.prices import Prices


def prices(facts: Facts) -> Iterator[Finding]:
    """Without a price, the requests for a model do not count towards a budget."""
    if facts.mistakes or not Budgets.of(facts.config):
        return
    found: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for place, model in facts.models:
        found.setdefault(str(model["model_name"]), []).append((place, model["litellm_params"]))

    def lookup(name: str) -> list[dict[str, Any]]:
        return [dict(params) | _endpoint(params, facts) for _, params in found.get(name, ())]

    config = ActiveConfig(facts.config, facts.environ, hosts=claude_hosts(facts), lookup=lookup, endpoint_lookup=_chat)
    known = Prices(config, entry)
    for name, places in found.items():
        # Which models match a pattern is known only when a client requests one.
        if "*" not in name and known.unpriced(name):
            yield warning(
                facts.at("model_list", places[0][0]),
                f"no price is known for model {name}, so budgets do not include it",
                f"write claude_proxy: prices: {name}: {{input: USD, output: USD}}, per million tokens; 0 for your own server",
            )


def _chat(params: Mapping[str, Any]) -> ChatEndpoint | None:
    found = likely_endpoint(params)
    is_default = found is not None and is_openai_itself(params.get("api_base"))
    return ChatEndpoint(f"https://{OPENAI_HOST}/v1") if is_default else found


def _endpoint(params: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    base = resolved(params.get("api_base"), facts.environ)
    return {"api_base": base} if base else {}
