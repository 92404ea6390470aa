"""Checks of the prices: whether a budget can include every model."""

from collections.abc import Iterator, Mapping
from typing import Any

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.check.models import claude_hosts, resolved
from claude_proxy.check.price_list import entry as entry_of
from claude_proxy.config.budgets import Budgets
from claude_proxy.config.deployments import ChatEndpoint, likely_endpoint
from claude_proxy.config.models import ActiveConfig
from claude_proxy.providers.endpoints import OPENAI_HOST, is_openai_itself, matches
from claude_proxy.providers.model_names import listed_names
from claude_proxy.usage.prices import Prices


def prices(facts: Facts) -> Iterator[Finding]:
    """Without a price, the requests for a model do not count towards a budget, or are refused."""
    if facts.mistakes or not (budgets := Budgets.of(facts.config)):
        return
    effect = "users with a budget may not use it" if budgets.refuses_unpriced else "budgets do not include it"
    entries = [(place, str(entry["model_name"]), entry["litellm_params"]) for place, entry in facts.models]

    def lookup(name: str) -> list[dict[str, Any]]:
        exact = [params for _, pattern, params in entries if pattern == name]
        found = exact or [_filled(pattern, params, name) for _, pattern, params in entries if matches(pattern, name)]
        return [{**params, **_endpoint(params, facts)} for params in found]

    config = ActiveConfig(facts.config, facts.environ, hosts=claude_hosts(facts), lookup=lookup, endpoint_lookup=_chat)
    known = Prices(config, entry_of)
    # Of the models that match a pattern, only Claude Code's own names are known.
    for name in sorted(listed_names(name for _, name, _ in entries)):
        if known.unpriced(name):
            place = next(place for place, pattern, _ in entries if matches(pattern, name))
            yield warning(
                facts.at("model_list", place),
                f"no price is known for model {name}, so {effect}",
                f"write claude_proxy: prices: {name}: {{input: USD, output: USD}}, per million tokens; 0 for your own server",
            )


def _filled(pattern: str, params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a pattern's parameters for one name: the star in its model is what the star in the pattern matches."""
    head, _, tail = pattern.partition("*")
    return {**params, "model": str(params.get("model")).replace("*", name[len(head) : len(name) - len(tail)])}


def _chat(params: Mapping[str, Any]) -> ChatEndpoint | None:
    found = likely_endpoint(params)
    is_default = found is not None and is_openai_itself(params.get("api_base"))
    return ChatEndpoint(f"https://{OPENAI_HOST}/v1") if is_default else found


def _endpoint(params: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    base = resolved(params.get("api_base"), facts.environ)
    return {"api_base": base} if base else {}
