"""Checks of fallbacks and aliases: each goes from a model that is served to another one that is served."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from claude_proxy.check import listing
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.models import claude_hosts, is_served, nearest, overlap, provider_of, served_names, unready
from claude_proxy.config import models
from claude_proxy.config.routing import VALIDATED_FALLBACKS, Routing, without_usable
from claude_proxy.providers.endpoints import Hosts, Provider, fallback_models, matches
from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS

# The prefix of LiteLLM's names for Anthropic's models.
PREFIX = "anthropic/"
FALLBACK_SETTINGS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def fallbacks(facts: Facts) -> Iterator[Finding]:
    """A fallback to a model that is not served fails when it is needed; one for a model that does not exist never applies."""
    served = served_names(facts)
    for section in ("router_settings", "litellm_settings"):
        settings = facts.section(section)
        for setting in FALLBACK_SETTINGS:
            yield from _shape(facts, section, setting)
            for place, entry in enumerate(facts.listed(section, setting)):
                yield from _entry(facts, (section, setting, place), entry, served)
        yield from _default_shape(facts, section)
        for target in facts.listed(section, "default_fallbacks"):
            yield from _targets(facts, facts.at(section, "default_fallbacks"), "default_fallbacks", [target], served)
        aliases = settings.get("model_group_alias")
        for alias, target in aliases.items() if isinstance(aliases, dict) else ():
            model = target.get("model") if isinstance(target, dict) else target
            at = facts.at(section, "model_group_alias", alias)
            yield from _targets(facts, at, f"the alias {alias}", [model], served)
            if alias in facts.names:
                yield warning(at, f"the alias {alias} is also a model_name, so the alias never applies", "remove one of them")


def _default_shape(facts: Facts, section: str) -> Iterator[Finding]:
    if not isinstance(facts.section(section).get("default_fallbacks", []), list):
        at = facts.at(section, "default_fallbacks")
        yield error(at, "default_fallbacks is not a list, so it does not apply", "write default_fallbacks: [MODEL]")


def _entry(facts: Facts, path: tuple[str, str, int], entry: object, served: list[str]) -> Iterator[Finding]:
    """Yield the errors of one entry, unless it keeps the proxy from starting, which is reported."""
    section, setting, place = path
    if any(f"{section}: {setting}: entry {place + 1} " in mistake for mistake in facts.mistakes):
        return
    at = facts.at(*path)
    if not isinstance(entry, dict) or not all(isinstance(to, list) for to in entry.values()):
        yield error(at, f"an entry of {setting} is not a model with a list of fallbacks", "write `- MODEL: [FALLBACK]`")
        return
    for source, targets in entry.items():
        yield from _fallback(facts, at, str(source), targets, served)


def names_of_claude(facts: Facts) -> Iterator[Finding]:
    """A fallback of ``anthropic/*`` does not apply to Claude Code's requests, whose names have no prefix."""
    found = listing.fallbacks_of(facts)
    served = served_names(facts)
    missing = [name for name in CLAUDE_CODE_MODELS if is_served(name, served) and fallback_models(name, found) is None]
    for place, entry in enumerate(facts.listed("router_settings", "fallbacks")):
        for source, targets in entry.items() if isinstance(entry, dict) else ():
            lacking = [name for name in missing if matches(str(source), f"{PREFIX}{name}")]
            if lacking and isinstance(targets, list):
                at = facts.at("router_settings", "fallbacks", place)
                problem = (
                    f"the fallback of {source} does not apply to the names that Claude Code requests ({', '.join(lacking)})"
                )
                plain = str(source).removeprefix(PREFIX)
                listed = ", ".join(map(str, targets))
                yield warning(at, problem, f"also write `- {'claude-*' if plain == '*' else plain}: [{listed}]`")


class NoFallback(NamedTuple):
    """Lines of the fallbacks from which no model can respond, because each lacks a variable."""

    patterns: tuple[str, ...]
    targets: tuple[str, ...]
    unset: tuple[str, ...]
    # A less specific line that has a usable fallback, and does not apply to the models of these lines; empty without one.
    other: str

    @property
    def problem(self) -> str:
        other = f"; the less specific line {self.other} does not apply instead" if self.other else ""
        lacks = f"{', '.join(self.targets)} {'is' if len(self.targets) == 1 else 'are'} not ready{other}"
        return f"{', '.join(self.patterns)} {'has' if len(self.patterns) == 1 else 'have'} no usable fallback: {lacks}"

    @property
    def remedy(self) -> str:
        where = "this line" if len(self.patterns) == 1 else "these lines"
        return f"set {' and '.join(self.unset)} in .env, or write another model on {where} of fallbacks"


def no_fallback(config: Mapping[str, Any], environ: Mapping[str, str], hosts: Hosts, *, no_pool: bool) -> NoFallback | None:
    """Return the lines without a usable fallback whose models are ready themselves; None if there are none.

    ``no_pool`` is whether requests need a credential of the pool, and the pool has none. The demo needs no fallback.
    """
    lacking = models.not_ready(config, environ, hosts, no_pool=no_pool)
    entries = ((one["model_name"], one["litellm_params"]) for one in config.get("model_list") or ())
    ready = [
        name for name, params in entries if name not in lacking and provider_of(params, hosts, environ) is not Provider.DEMO
    ]
    every = Routing.of(config).fallbacks
    found = {
        pattern: targets
        for pattern, targets in without_usable(every, lambda name: bool(lacking.get(name))).items()
        if any(overlap(pattern, name) for name in ready)
    }
    if not found:
        return None
    targets = tuple(dict.fromkeys(name for names in found.values() for name in names))
    unset = tuple(dict.fromkeys(variable for name in targets for variable in lacking[name]))
    usable = (pattern for entry in every for pattern, names in entry.items() if any(not lacking.get(one) for one in names))
    other = next((one for one in usable if any(one != pattern and matches(one, pattern) for pattern in found)), "")
    return NoFallback(tuple(found), targets, unset, other)


def unready_fallbacks(facts: Facts) -> Iterator[Finding]:
    """A fallback without its key is skipped, and the client gets the error that it was meant to prevent."""
    lacking, skipped = unready(facts), set[str]()
    for section in ("router_settings", "litellm_settings"):
        for setting in FALLBACK_SETTINGS:
            for entry in facts.listed(section, setting):
                if isinstance(entry, dict):
                    lists = [targets for targets in entry.values() if isinstance(targets, list)]
                    skipped |= {target for targets in lists for target in targets if isinstance(target, str)} & lacking
    # An entry without a model is reported by itself.
    entries = [entry for _, entry in facts.models if isinstance(entry["litellm_params"].get("model"), str)]
    config = {**facts.config, "model_list": entries}
    nothing = no_fallback(config, facts.environ, claude_hosts(facts), no_pool=listing.pool_is_empty(facts))
    if nothing:
        skipped -= {*nothing.targets}
        yield warning(facts.at("router_settings", "fallbacks"), nothing.problem, nothing.remedy)
    if skipped:
        names = ", ".join(sorted(skipped))
        verb = "is not ready, so this fallback is" if len(skipped) == 1 else "are not ready, so these fallbacks are"
        place = facts.at("router_settings", "fallbacks")
        yield warning(place, f"{names} {verb} skipped", "set the key of each, or name other models")


def empty_pool(facts: Facts) -> Iterator[Finding]:
    """What happens to a request for Claude while the pool has no credential."""
    rows = listing.rows(facts)
    ready = [row.name for row in rows if row.ready]
    outcomes: dict[str, list[str]] = {}
    for row in rows:
        if row.no_credential:
            responds = next((name for name in row.fallbacks if is_served(name, ready)), "")
            outcomes.setdefault(f"goes to the fallback {responds}" if responds else "gets an error", []).append(row.name)
    for outcome, names in outcomes.items():
        listed = ", ".join(dict.fromkeys(names))
        problem = f"the pool has no credential: a request for {listed} without the user's own Claude login {outcome}"
        yield info("", problem, "`claude-proxy pool add LABEL` adds a credential")


def _shape(facts: Facts, section: str, setting: str) -> Iterator[Finding]:
    """Yield an error for a value that is not a list, where it does not keep the proxy from starting."""
    value = facts.section(section).get(setting)
    if value is not None and not isinstance(value, list) and setting not in VALIDATED_FALLBACKS:
        kind = "a mapping" if isinstance(value, dict) else "not a list"
        yield error(facts.at(section, setting), f"{setting} is {kind}, so none of it applies", "write `- MODEL: [FALLBACK]`")


def _fallback(facts: Facts, at: str, source: str, targets: Iterable[Any], served: list[str]) -> Iterator[Finding]:
    if not any(overlap(source, name) for name in served):
        yield warning(at, f"the fallback of {source} never applies: no model has that name", nearest(source, served))
    for target in targets:
        if target == source:
            problem = f"the fallback of {source} is {source} itself, which is not tried again"
            yield error(at, problem, "name another model, or remove the entry")
    yield from _targets(facts, at, f"the fallback of {source}", targets, served)


def _targets(facts: Facts, at: str, what: str, targets: Iterable[Any], served: list[str]) -> Iterator[Finding]:
    for target in targets:
        name = str(target.get("model") if isinstance(target, dict) else target)
        if not is_served(name, served):
            # Users often write LiteLLM's name of the model.
            called = next((one["model_name"] for _, one in facts.models if one["litellm_params"].get("model") == name), None)
            remedy = f"did you mean {called}, its model_name?" if called else nearest(name, served)
            yield error(at, f"{what} is {name}, which is not served", remedy)
