"""Checks of the endpoint for web searches: whether it is ready, and that its key is sent encrypted."""

from collections.abc import Iterator

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.check.models import is_private
from claude_proxy.config import web_search as config
from claude_proxy.providers.endpoints import BLOCK, Origin


def web_search(facts: Facts) -> Iterator[Finding]:
    """The proxy starts with a web search that lacks its key; no model can search then."""
    found = config.section(facts.config)
    if found is None or any(True for _ in config.mistakes(facts.config)):
        return
    at = facts.at(BLOCK, config.KEY)
    if words := config.problem(found, facts.environ):
        remedy = f"set {words.removeprefix('lacks ')} in .env" if words.startswith("lacks ") else ""
        yield warning(at, f"{config.KEY} {words}; no model can search the web", remedy)
        return
    endpoint = config.web_search(facts.config, facts.environ)
    origin = Origin.of(endpoint.url) if endpoint else None
    if endpoint and endpoint.api_key and origin and origin.scheme == "http" and not is_private(origin.host):
        yield warning(at, f"the key of {config.KEY} is sent to {origin.host} unencrypted", "write https://")
