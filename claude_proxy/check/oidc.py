"""Checks of the OpenID Connect provider of sign-in: whether it is ready, and who can sign in there."""

from collections.abc import Iterator

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.config import oidc as config
from claude_proxy.providers.endpoints import BLOCK


def oidc(facts: Facts) -> Iterator[Finding]:
    """The proxy starts with a provider that lacks its secret; nobody can sign in there then."""
    found = config.section(facts.config)
    if found is None or any(True for _ in config.mistakes(facts.config)):
        return
    at = facts.at(BLOCK, config.SECTION, config.KEY)
    if words := config.problem(found, facts.environ):
        remedy = f"set {words.removeprefix('lacks ')} in .env"
        yield warning(at, f"{config.KEY} {words}; nobody can sign in at {config.host_of(found['issuer'])}", remedy)
        return
    provider = config.Oidc.of(facts.config, facts.environ)
    if provider and provider.trust_email and not provider.allowed_domains:
        words = f"every user of {provider.host} can sign in with an email that it has not verified"
        yield warning(at, words, "name your domains: allowed_domains: [example.com]")
