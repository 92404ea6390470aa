"""Checks of the rules that choose a model: each can apply, and its model is ready."""

from collections.abc import Iterator

from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, warning
from claude_proxy.check.models import unready
from claude_proxy.config import request_rules
from claude_proxy.config.request_rules import KEY
from claude_proxy.providers.endpoints import BLOCK


def rules(facts: Facts) -> Iterator[Finding]:
    """A rule whose model is not ready is skipped, and so is every rule after one without conditions."""
    if [*request_rules.mistakes(facts.config)]:
        return
    lacking, last = unready(facts), ""
    for place, rule in enumerate(request_rules.rules(facts.config)):
        at = facts.at(BLOCK, KEY, place)
        if last:
            words = f"the rule {rule.name} never applies, because the rule {last} above it has no conditions"
            yield warning(at, words, f"move {last} to the end, or give it conditions")
            continue
        if rule.model in lacking:
            words = f"the rule {rule.name} never applies, because {rule.model} is not ready"
            yield warning(at, words, f"set the key of {rule.model}, or name another model")
        elif rule.is_unconditional:
            last = rule.name
