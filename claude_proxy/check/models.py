"""Checks of the models in config.yaml: their keys, and the names that Claude Code requests. Other checks use its helpers."""

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from claude_proxy.check import names
from claude_proxy.check.client_clouds import is_client_of_cloud
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.config import models, web_search
from claude_proxy.config.deployments import likely_endpoint
from claude_proxy.config.settings import OWN_SECRETS, VARIABLES
from claude_proxy.config.ways import ways
from claude_proxy.credentials.redaction import NO_KEY, SECRET_PARAMETER
from claude_proxy.providers.endpoints import BLOCK, Hosts, Origin, Provider, matches

# The models of Claude Code's own names (2.1.332), and the variable that sets another one.
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
# Names in Claude Code that are not models: it replaces them by one of the above, or by the model that is set.
OTHER_ALIASES = frozenset({"default", "opusplan", "best", "inherit"})
# Behind a model's name in Claude Code: the context window of a million tokens.
LONG_MARK = "[1m]"
REFERENCE = re.compile(r"os\.environ/\w+")
ALMOST_REFERENCE = re.compile(
    r"\$\{?(\w+)(:-[^}]*)?\}?|os\.(?:get)?env(?:iron)?[\[./(].*|env[:/].*|\{\{.*\}\}|%\w+%", re.IGNORECASE
)
# A reference within a longer text, which nothing resolves.
_INNER_REFERENCE = re.compile(r"os\.environ/\w+|\$\{\w+(?::-[^}]*)?\}")
# What is certainly a variable's name and no secret.
_VARIABLE_NAME = re.compile(
    r"[A-Z][A-Z0-9_]*_(?:KEY|TOKEN|SECRET|PASSWORD|BASE|URL|ID|REGION|HOST|PORT|PROJECT|LOCATION|CREDENTIALS|NAME|VERSION)\b"
)


def unset_variables(facts: Facts) -> Iterator[Finding]:
    """A model whose key is not set is not ready; the other models work."""
    candidates = set_variables(facts.config, facts.environ, facts.dotenv.values)
    for name, unset in models.unset_variables({"model_list": [entry for _, entry in facts.models]}, facts.environ).items():
        place, params = next((place, one["litellm_params"]) for place, one in facts.models if one["model_name"] == name)
        at, problem, remedy = facts.at("model_list", place), f"model {name} is not ready", f"set {' and '.join(unset)} in .env"
        for variable, meant in set_instead(unset, candidates).items():
            key = next((key for key, value in params.items() if value == f"os.environ/{variable}"), "model")
            at = facts.at("model_list", place, "litellm_params", key)
            problem, remedy = f"{problem}: {variable} is not set", f"did you mean {meant}, which is set? If not, {remedy}"
            break
        yield warning(at, problem, remedy)


def set_instead(unset: Iterable[str], candidates: Iterable[str]) -> dict[str, str]:
    """Return, for each variable that is not set, the one that is set and has a name like it; without one, nothing."""
    found = ((variable, names.meant_variable(variable, candidates)) for variable in unset)
    return {variable: meant for variable, meant in found if meant}


def set_variables(config: Mapping[str, Any], environ: Mapping[str, str], dotenv: Mapping[str, str]) -> set[str]:
    """Return the variables that have a value and that config.yaml may be meant to name.

    A name in .env that nothing reads is left out: it is reported itself, with the name that config.yaml has.
    """
    read = {*models.variables(dict(config)), *names.OF_PROVIDERS}
    return {name for name, value in environ.items() if value and name not in VARIABLES and (name in read or name not in dotenv)}


def clear_text_keys(facts: Facts) -> Iterator[Finding]:
    """A key in config.yaml is in every copy and backup of it; a reference of a wrong form is sent as the key."""
    places: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [
        (("model_list", place, "litellm_params"), entry["litellm_params"]) for place, entry in facts.models
    ]
    places += [(("general_settings",), facts.section("general_settings"))]
    places += [((BLOCK, web_search.KEY), dict(web_search.section(facts.config) or {}))]
    for path, values in places:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from _inner_references(facts, (*path, key), value)
            if not isinstance(value, str) or REFERENCE.fullmatch(value):
                continue
            at = facts.at(*path, key)
            if ALMOST_REFERENCE.fullmatch(value.strip()) or value != value.strip() or _INNER_REFERENCE.search(value):
                yield error(at, f"{key} does not name a variable in the form that is read", _reference(value))
            elif SECRET_PARAMETER.search(str(key)) and _VARIABLE_NAME.fullmatch(value):
                yield error(at, f"{key} is the name of a variable and is sent as the key", f"write os.environ/{value}")
            elif SECRET_PARAMETER.search(str(key)) and len(value) >= 8 and not NO_KEY.fullmatch(value):
                yield warning(at, f"{key} is in config.yaml in clear text", "put it into .env, and write os.environ/NAME here")


def _reference(value: str) -> str:
    """Return how to write a reference; the name is shown where it is one of a variable."""
    found = _VARIABLE_NAME.search(value)
    whole = "alone, as the whole value: " if found and len(found[0]) + len("os.environ/") + 2 < len(value.strip()) else ""
    return f"write {whole}os.environ/{found[0] if found else 'NAME'}"


def _inner_references(facts: Facts, path: tuple[str | int, ...], values: Mapping[Any, Any]) -> Iterator[Finding]:
    """A reference below a key of litellm_params, such as in extra_headers, is sent as it is written."""
    for key, value in values.items():
        if isinstance(value, str) and (_INNER_REFERENCE.search(value) or ALMOST_REFERENCE.fullmatch(value.strip())):
            problem = f"{path[-1]}: {key} names a variable, and only keys directly below litellm_params are read from variables"
            yield error(facts.at(*path, key), problem, "use api_key for the key, or write the value itself")


def own_secrets(facts: Facts) -> Iterator[Finding]:
    """LiteLLM does not see the proxy's own secrets, so a reference to one of them is empty."""
    for path, name in _references(facts.config, ()):
        if name in OWN_SECRETS:
            problem = f"{name} is the proxy's own secret, so the value is empty for LiteLLM"
            yield error(facts.at(*path), problem, "set the value in a variable of another name")


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
    """Which requests go through LiteLLM, and which setting causes that: each of them takes ten times as long."""
    settings = facts.settings
    hosts = Hosts(settings.claude_base) if settings else Hosts()
    for sentence in ways(
        facts.config, hosts, endpoint_lookup=likely_endpoint, database=bool(settings and settings.database_url)
    ):
        yield info("", sentence)


def claude_code_names(facts: Facts) -> Iterator[Finding]:
    """The models that Claude Code requests by itself, and those that its variables name."""
    served, clients = served_names(facts), {**facts.dotenv.values, **facts.client_values}
    if facts.client and is_client_of_cloud(facts.client):
        # Such a client may also name the cloud's id of a model.
        served = [*served, *(str(entry["litellm_params"]["model"]).partition("/")[2] for _, entry in facts.models)]
    missing = [
        f"{model} ({alias})"
        for alias, (model, variable) in CLAUDE_CODE_NAMES.items()
        if not clients.get(variable) and not is_served(model, served)
    ]
    if missing:
        remedy = "add claude-* to config.yaml, or set ANTHROPIC_MODEL and ANTHROPIC_DEFAULT_..._MODEL in Claude Code"
        problem = f"Claude Code requests models by itself that are not served: {', '.join(missing)}"
        yield warning(facts.config_path.name, problem, remedy)
    for variable in MODEL_VARIABLES:
        value, place = clients.get(variable, "").strip(), _client_place(facts, variable)
        if value.endswith(LONG_MARK) and not _is_claude(value.removesuffix(LONG_MARK), facts):
            problem = "has [1m], which is for Claude models, behind the name of another model"
            yield warning(place, problem, "remove [1m], and set model_info: {max_input_tokens: ...} in config.yaml")
        yield from _requested(place, value.removesuffix(LONG_MARK), served)
    if facts.client and facts.client.model:
        yield from _requested(facts.client.place("model"), facts.client.model.removesuffix(LONG_MARK), served)


def _requested(place: str, model: str, served: list[str]) -> Iterator[Finding]:
    """Yield an error for a model that Claude Code requests and that is not served."""
    if model and model not in OTHER_ALIASES and model not in CLAUDE_CODE_NAMES and not is_served(model, served):
        yield error(place, f"is {model}, which is not served", nearest(model, served))


def _client_place(facts: Facts, variable: str) -> str:
    if facts.client and variable in facts.client.values:
        return facts.client.place(variable)
    return facts.dotenv.place(variable)


def _is_claude(name: str, facts: Facts) -> bool:
    """Whether a name in Claude Code stands for a Claude model, by itself or by its entry in config.yaml."""
    entries = [entry["litellm_params"] for _, entry in facts.models if entry["model_name"] == name]
    called = (name, *(str(params.get("model")) for params in entries))
    return name in CLAUDE_CODE_NAMES or name in OTHER_ALIASES or any("claude" in one.lower() for one in called)


def claude_names_elsewhere(facts: Facts) -> Iterator[Finding]:
    """A model named claude-... at another provider is allowed: the host decides whether it gets a Claude credential."""
    hosts = claude_hosts(facts)
    for place, entry in facts.models:
        name, params = str(entry["model_name"]), entry["litellm_params"]
        provider = provider_of(params, hosts, facts.environ)
        if name.startswith("claude") and provider is Provider.ANTHROPIC_FORMAT:
            host = Origin.of(resolved(params.get("api_base"), facts.environ))
            where = host.host if host else "another host"
            yield info(
                facts.at("model_list", place), f"{name} is served by {where} and not by Claude; it gets no Claude credential"
            )


def unready(facts: Facts) -> frozenset[str]:
    """Return the models that lack a variable."""
    return frozenset(models.unset_variables({"model_list": [entry for _, entry in facts.models]}, facts.environ))


def is_served(name: str, served: Iterable[str]) -> bool:
    """Whether an entry of config.yaml has the name."""
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
    """Return the names of the models that the proxy serves, aliases included."""
    aliases = facts.section("router_settings").get("model_group_alias")
    return [*facts.names, *(str(alias) for alias in (aliases if isinstance(aliases, dict) else ()))]


def claude_hosts(facts: Facts) -> Hosts:
    """Return the hosts that are Anthropic's by the settings, or by default where they cannot be read."""
    return Hosts(facts.settings.claude_base if facts.settings else VARIABLES["ANTHROPIC_API_BASE"].default)


def provider_of(params: Mapping[str, Any], hosts: Hosts, environ: Mapping[str, str] = os.environ) -> Provider:
    """Return which provider a deployment is, its api_base resolved."""
    provider = params.get("custom_llm_provider")
    return hosts.provider(str(params.get("model")), provider, resolved(params.get("api_base"), environ) or None)


def resolved(value: object, environ: Mapping[str, str]) -> str:
    """Return a parameter's value, from the environment where it refers to a variable; empty when there is none."""
    if not isinstance(value, str):
        return ""
    name = value.removeprefix("os.environ/")
    return (environ.get(name, "") if name != value else value).strip()


def is_private(host: str) -> bool:
    """Whether a host is in a private network, by its address or by the form of its name."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa", ".localhost", ".invalid"))


def nearest(name: str, served: list[str]) -> str:
    """Return a remedy for a model that is not served: the name that is most like it, or all names."""
    meant = names.meant(name, served, names.ALIKE_MODELS)
    return f"did you mean {meant}?" if meant else f"the models are {', '.join(dict.fromkeys(served))}"
