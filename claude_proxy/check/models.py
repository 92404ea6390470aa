"""Checks of the models in ``config.yaml``: keys, providers, endpoints, fallbacks, and the names that Claude Code asks for."""

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.check import names
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.config import models, web_search
from claude_proxy.config.deployments import CHAT_SERVER, likely_endpoint
from claude_proxy.config.settings import OWN_SECRETS, VARIABLES
from claude_proxy.config.ways import ways
from claude_proxy.credentials.redaction import NO_KEY, SECRET_PARAMETER
from claude_proxy.providers.compatibility import SERVERS
from claude_proxy.providers.endpoints import BLOCK, Hosts, Origin, Provider, matches

# What Claude Code's own names stand for (2.1.332), and the variable that puts another model in its place.
CLAUDE_CODE_NAMES = {
    "opus": ("claude-opus-5-5", "ANTHROPIC_DEFAULT_OPUS_MODEL"),
    "sonnet": ("claude-sonnet-5-5", "ANTHROPIC_DEFAULT_SONNET_MODEL"),
    "haiku": ("claude-haiku-5-5", "ANTHROPIC_DEFAULT_HAIKU_MODEL"),
    "fable": ("claude-fable-5-2", "ANTHROPIC_DEFAULT_FABLE_MODEL"),
}
MODEL_VARIABLES = (
    "ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL",
    *(variable for _, variable in CLAUDE_CODE_NAMES.values()),
)  # fmt: skip
# Names of Claude Code's that are no model's: it makes one of the above of them, or what is set already.
OTHER_ALIASES = frozenset({"default", "opusplan", "best", "inherit"})
FALLBACK_SETTINGS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
REFERENCE = re.compile(r"os\.environ/\w+")
ALMOST_REFERENCE = re.compile(r"\$\{?\w+\}?|os\.env(iron)?[\[./(].*|env[:/].*|\{\{.*\}\}|%\w+%")


def unset_variables(facts: Facts) -> Iterator[Finding]:
    """A model whose key is not set is not ready; nothing else stops on that."""
    for name, unset in models.unset_variables({"model_list": [entry for _, entry in facts.models]}, facts.environ).items():
        place = next(place for place, entry in facts.models if entry["model_name"] == name)
        yield warning(facts.at("model_list", place), f"model {name} is not ready", f"set {' and '.join(unset)} in .env")


def providers(facts: Facts) -> Iterator[Finding]:
    """A model without a provider that LiteLLM knows is left out at the start, with a line in LiteLLM's own log."""
    for place, entry in facts.models:
        params, at = entry["litellm_params"], facts.at("model_list", place, "litellm_params", "model")
        model = str(params["model"]) if "model" in params else ""
        prefix = str(params.get("custom_llm_provider") or model.split("/", 1)[0])
        if ("/" not in model and "custom_llm_provider" not in params) or prefix in names.known("providers"):
            continue
        meant = names.meant(prefix, names.known("providers"))
        yield error(
            at, f"{prefix} is no provider of LiteLLM's", f"did you mean {meant}?" if meant else "see its list of providers"
        )


def endpoints(facts: Facts) -> Iterator[Finding]:
    """The path of an api_base: each format adds its own, and the wrong one ends in a 404."""
    hosts = claude_hosts(facts)
    for place, entry in facts.models:
        params = entry["litellm_params"]
        base = resolved(params.get("api_base"), facts.environ)
        if not base:
            continue
        at, name = facts.at("model_list", place, "litellm_params", "api_base"), entry["model_name"]
        origin = Origin.of(base)
        if origin is None:
            yield error(at, f"the api_base of {name} is not a URL", "it should be one such as https://host/path")
            continue
        provider, path = provider_of(params, hosts, facts.environ), urlsplit(base).path.rstrip("/")
        yield from _path(at, str(name), provider, path)
        key = resolved(params.get("api_key"), facts.environ)
        if origin.scheme == "http" and key and not NO_KEY.fullmatch(key) and not is_private(origin.host):
            yield warning(at, f"the key of {name} goes to {origin.host} unencrypted", "use https://")


def _path(at: str, name: str, provider: Provider, path: str) -> Iterator[Finding]:
    if "/v1/v1" in path:
        yield error(at, f"the api_base of {name} has /v1 twice", "take one away")
    elif provider in (Provider.CLAUDE, Provider.ANTHROPIC_FORMAT) and path.endswith("/v1"):
        yield error(at, f"the api_base of {name} ends in /v1, which the Anthropic format adds by itself", "take /v1 away")
    elif provider is Provider.OPENAI and path.endswith("/chat/completions"):
        yield error(at, f"the api_base of {name} ends in /chat/completions, which LiteLLM adds by itself", "take it away")
    elif provider is Provider.OPENAI and not path:
        yield warning(at, f"the api_base of {name} has no path", "most OpenAI-compatible endpoints want /v1 at its end")


def chat_servers(facts: Facts) -> Iterator[Finding]:
    """Which server of chat completions is at an address: a name that is none says nothing."""
    for place, entry in facts.models:
        info = entry.get("model_info")
        server = info.get(CHAT_SERVER) if isinstance(info, dict) else None
        if server is not None and server not in (*SERVERS,):
            known = ", ".join(sorted(SERVERS))
            at = facts.at("model_list", place, "model_info", CHAT_SERVER)
            yield error(
                at, f"{CHAT_SERVER} of {entry['model_name']} is no server that is known", f"it should be one of {known}"
            )


def clear_text_keys(facts: Facts) -> Iterator[Finding]:
    """A key in config.yaml is in every copy and backup of it; a reference that is not quite one is sent as the key."""
    places: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [
        (("model_list", place, "litellm_params"), entry["litellm_params"]) for place, entry in facts.models
    ]
    places += [(("general_settings",), facts.section("general_settings"))]
    places += [((BLOCK, web_search.KEY), dict(web_search.section(facts.config) or {}))]
    for path, values in places:
        for key, value in values.items():
            if not isinstance(value, str) or REFERENCE.fullmatch(value):
                continue
            if ALMOST_REFERENCE.fullmatch(value.strip()) or value != value.strip():
                yield error(facts.at(*path, key), f"{key} is meant to name a variable", "write it as os.environ/NAME")
            elif SECRET_PARAMETER.search(str(key)) and len(value) >= 8 and not NO_KEY.fullmatch(value):
                yield warning(
                    facts.at(*path, key), f"{key} stands there in clear text", "put it into .env, and os.environ/NAME here"
                )


def own_secrets(facts: Facts) -> Iterator[Finding]:
    """LiteLLM does not see the proxy's own secrets, so a reference to one of them is empty."""
    for path, name in _references(facts.config, ()):
        if name in OWN_SECRETS:
            yield error(
                facts.at(*path), f"{name} is the proxy's own and not there for LiteLLM", "give it a variable of another name"
            )


def _references(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place and the name of each variable that config.yaml refers to."""
    if isinstance(value, str) and REFERENCE.fullmatch(value):
        yield path, value.removeprefix("os.environ/")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _references(inner, (*path, str(key)))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _references(inner, (*path, place))


def ways_of_requests(facts: Facts) -> Iterator[Finding]:
    """Which requests go through LiteLLM, and which setting asks for that: each of them takes ten times as long."""
    settings = facts.settings
    hosts = Hosts(settings.claude_base) if settings else Hosts()
    for sentence in ways(
        facts.config, hosts, endpoint_lookup=likely_endpoint, database=bool(settings and settings.database_url)
    ):
        yield info("", sentence)


def fallbacks(facts: Facts) -> Iterator[Finding]:
    """A fallback to a model that nobody serves fails when it is needed; one for a model that does not exist never helps."""
    served = served_names(facts)
    for section in ("router_settings", "litellm_settings"):
        settings = facts.section(section)
        for setting in FALLBACK_SETTINGS:
            for place, entry in enumerate(facts.listed(section, setting)):
                at = facts.at(section, setting, place)
                if not isinstance(entry, dict) or not all(isinstance(to, list) for to in entry.values()):
                    yield error(at, f"an entry of {setting} is not `model: [fallback]`")
                    continue
                for source, targets in entry.items():
                    yield from _fallback(at, str(source), targets, served)
        for target in facts.listed(section, "default_fallbacks"):
            yield from _targets(facts.at(section, "default_fallbacks"), "default_fallbacks", [target], served)
        aliases = settings.get("model_group_alias")
        for alias, target in aliases.items() if isinstance(aliases, dict) else ():
            model = target.get("model") if isinstance(target, dict) else target
            yield from _targets(facts.at(section, "model_group_alias", alias), f"the alias {alias}", [model], served)


def _fallback(at: str, source: str, targets: Iterable[Any], served: list[str]) -> Iterator[Finding]:
    if not any(overlap(source, name) for name in served):
        yield warning(at, f"the fallback of {source} never helps: no model has that name", _nearest(source, served))
    yield from _targets(at, f"the fallback of {source}", targets, served)


def _targets(at: str, what: str, targets: Iterable[Any], served: list[str]) -> Iterator[Finding]:
    for target in targets:
        name = str(target.get("model") if isinstance(target, dict) else target)
        if not is_served(name, served):
            yield error(at, f"{what} is {name}, which nobody serves", _nearest(name, served))


def claude_code_names(facts: Facts) -> Iterator[Finding]:
    """The names that Claude Code asks for by itself, and those that its variables name."""
    served, clients = served_names(facts), {**facts.dotenv.values, **facts.client_settings}
    missing = [
        f"{model} ({alias})"
        for alias, (model, variable) in CLAUDE_CODE_NAMES.items()
        if not clients.get(variable) and not is_served(model, served)
    ]
    if missing:
        remedy = "add claude-* to config.yaml, or set ANTHROPIC_MODEL and ANTHROPIC_DEFAULT_..._MODEL in Claude Code"
        yield warning(
            facts.config_path.name, f"nobody serves what Claude Code asks for by itself: {', '.join(missing)}", remedy
        )
    for variable in MODEL_VARIABLES:
        asked = clients.get(variable, "").strip().removesuffix("[1m]")
        if not asked or asked in OTHER_ALIASES or asked in CLAUDE_CODE_NAMES or is_served(asked, served):
            continue
        place = "settings.json" if variable in facts.client_settings else facts.dotenv.place(variable)
        place = f"{place}: {variable}" if variable in facts.client_settings else place
        yield error(place, f"is {asked}, which nobody serves", _nearest(asked, served))


def claude_names_elsewhere(facts: Facts) -> Iterator[Finding]:
    """A model that is called Claude and is none is allowed: who sees a credential is decided by the host."""
    hosts = claude_hosts(facts)
    for place, entry in facts.models:
        name, params = str(entry["model_name"]), entry["litellm_params"]
        provider = provider_of(params, hosts, facts.environ)
        if name.startswith("claude") and provider is Provider.ANTHROPIC_FORMAT:
            host = Origin.of(resolved(params.get("api_base"), facts.environ))
            where = host.host if host else "another host"
            yield info(facts.at("model_list", place), f"{name} goes to {where}, not to Claude; no Claude credential goes there")


def unready(facts: Facts) -> frozenset[str]:
    """Return the models that lack a variable."""
    return frozenset(models.unset_variables({"model_list": [entry for _, entry in facts.models]}, facts.environ))


def is_served(name: str, served: Iterable[str]) -> bool:
    """Whether an entry of config.yaml answers to the name."""
    return any(matches(pattern, name) for pattern in served)


def overlap(pattern: str, other: str) -> bool:
    """Whether two names, each perhaps with ``*`` in it, can stand for one model."""
    if "*" not in other:
        return matches(pattern, other)
    if "*" not in pattern:
        return matches(other, pattern)
    one, two = pattern.split("*", 1)[0], other.split("*", 1)[0]
    return one.startswith(two) or two.startswith(one)


def served_names(facts: Facts) -> list[str]:
    """Return the names that the proxy answers to, aliases among them."""
    aliases = facts.section("router_settings").get("model_group_alias")
    return [*facts.names, *(str(alias) for alias in (aliases if isinstance(aliases, dict) else ()))]


def claude_hosts(facts: Facts) -> Hosts:
    """Return what counts as Anthropic's by the settings, or by default where they are wrong."""
    return Hosts(facts.settings.claude_base if facts.settings else VARIABLES["ANTHROPIC_API_BASE"].default)


def provider_of(params: Mapping[str, Any], hosts: Hosts, environ: Mapping[str, str] = os.environ) -> Provider:
    """Tell what a deployment is, its api_base resolved."""
    provider = params.get("custom_llm_provider")
    return hosts.provider(str(params.get("model")), provider, resolved(params.get("api_base"), environ) or None)


def resolved(value: object, environ: Mapping[str, str]) -> str:
    """Return a parameter's value, from the environment where it refers to a variable; empty when there is none."""
    if not isinstance(value, str):
        return ""
    name = value.removeprefix("os.environ/")
    return (environ.get(name, "") if name != value else value).strip()


def is_private(host: str) -> bool:
    """Whether a host is in one's own network, by its address or by the form of its name."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa", ".localhost", ".invalid"))


def _nearest(name: str, served: list[str]) -> str:
    meant = names.meant(name, served, names.ALIKE_MODELS)
    return f"did you mean {meant}?" if meant else f"served are {', '.join(served)}"
