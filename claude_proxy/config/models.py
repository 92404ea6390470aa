"""The parts of ``config.yaml`` that the proxy itself reads. LiteLLM reads the file separately."""

import copy
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from claude_proxy.config import (
    alerts,
    budgets,
    features,
    groups,
    managed_settings,
    model_access,
    oidc,
    openai_routes,
    pool_groups,
    prices,
    project_tag,
    request_rules,
    routing,
    sections,
    sign_in,
    telemetry,
    user_limits,
    web_search,
)
from claude_proxy.config.deployments import Deployment, EndpointLookup, deployment, no_endpoint
from claude_proxy.config.routing import Routing
from claude_proxy.providers import fetching
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.providers.model_names import listed_names

_VARIABLE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
# The values that config.yaml must contain so that the project's rules apply.
CALLBACK = "request_transformer.proxy_handler_instance"
CUSTOM_AUTH = "custom_auth.user_api_key_auth"
# The keys of an entry of model_list.
OF_ENTRY = ("model_name", "litellm_params", "model_info")
# What users write for model_list, in small letters.
_OTHER_NAMES = frozenset({"models", "model", "modellist", "modelslist", "modellists", "modelists", "modelist", "llms"})


class ConfigError(ValueError):
    """A ``config.yaml`` with errors, with which the proxy does not start. ``mistakes`` has one message per error."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(path: Path) -> dict[str, Any]:
    """Read and check the file. Raises ``ConfigError`` with the line of invalid YAML, or with one message per error."""
    try:
        config = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read ({error.strerror})",)) from error
    except yaml.MarkedYAMLError as error:
        # Without the error's own text, which contains the line and possibly a key.
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError((f"{path}: is not YAML: {line}{error.problem}",)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path}: is not YAML: {' '.join(str(error).split())}",)) from error
    except (ValueError, RecursionError):
        # Without the error's own text, as above. The library does not catch these two: a 31 February, unclosed brackets.
        raise ConfigError(
            (f"{path}: is not YAML: a date or number that is none, or too many brackets inside each other",)
        ) from None
    mistakes = tuple(f"{path}: {mistake}" for mistake in _mistakes(config))
    if mistakes:
        raise ConfigError(mistakes)
    return config  # type: ignore[no-any-return]  # a mapping, or there was a mistake


def parsed(text: str) -> Any:
    """Return what a YAML text holds; the caller may change it. A start reads the same text several times."""
    return copy.deepcopy(_parsed(text))


@functools.lru_cache(maxsize=2)
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def _mistakes(config: object) -> Iterator[str]:
    if not isinstance(config, dict):
        yield "should hold a mapping with the key model_list"
        return
    yield from _model_mistakes(config)
    litellm_settings, general = config.get("litellm_settings") or {}, config.get("general_settings") or {}
    callbacks = litellm_settings.get("callbacks") if isinstance(litellm_settings, dict) else CALLBACK
    if CALLBACK not in (callbacks if isinstance(callbacks, list) else [callbacks]):
        yield f"litellm_settings: callbacks should name {CALLBACK}; without it no credential rotates and no rule applies"
    if isinstance(general, dict) and general.get("custom_auth") != CUSTOM_AUTH:
        yield f"general_settings: custom_auth should be {CUSTOM_AUTH}; without it the static token is not checked"
    yield from sections.mistakes(config)
    yield from sections.misplaced(config)
    yield from routing.mistakes(config)
    yield from model_access.mistakes(config)
    yield from pool_groups.mistakes(config)
    yield from groups.mistakes(config)
    yield from budgets.mistakes(config)
    yield from user_limits.mistakes(config)
    yield from prices.mistakes(config)
    yield from fetching.mistakes(config)
    yield from web_search.mistakes(config)
    yield from request_rules.mistakes(config)
    yield from telemetry.mistakes(config)
    yield from project_tag.mistakes(config)
    yield from openai_routes.mistakes(config)
    yield from alerts.mistakes(config)
    yield from sign_in.mistakes(config)
    yield from oidc.mistakes(config)
    yield from managed_settings.mistakes(config)


def _model_mistakes(config: Mapping[Any, Any]) -> Iterator[str]:
    models = config.get("model_list")
    if name := misnamed_list(config):
        yield f"{name}: is not a section of this file; write model_list: in place of {name}:"
    elif isinstance(models, dict) and models:
        named = next((name for name, entry in models.items() if name not in OF_ENTRY and isinstance(entry, dict)), None)
        if named is None:
            yield "model_list: should hold at least one model, each behind a dash; write `- model_name: NAME`"
        else:
            yield (
                f"model_list: {named}: is a key, and model_list should be a list of models; write `- model_name: {named}` in "
                f"place of `{named}:`, and litellm_params below it, as far in as model_name"
            )
    elif not isinstance(models, list) or not models:
        yield "model_list: should hold at least one model; write `- model_name: NAME` below it"
    else:
        for place, model in enumerate(models, start=1):
            if problem := _entry_problem(model):
                yield f"model_list: entry {place} {problem}"


def misnamed_list(config: Mapping[Any, Any]) -> str:
    """Return the key under which the models are where model_list is missing; empty where there is none."""
    if "model_list" in config:
        return ""
    alike = (str(key) for key in config if re.sub(r"[^a-z]", "", str(key).lower()) in _OTHER_NAMES)
    return next(alike, "")


def _entry_problem(model: object) -> str:
    """Return what keeps an entry of model_list from being a model, and what to write; empty for a model."""
    if not isinstance(model, dict):
        return "should have model_name, and litellm_params with a model; it is not a mapping"
    if not isinstance(model.get("model_name"), str):
        return "should have model_name, the name that clients request, as a text"
    if not isinstance(model.get("litellm_params"), dict):
        return _params_problem(model)
    named, problem = model["litellm_params"].get("model"), ""
    if not named:
        problem = f"should have a model in its litellm_params{'; model is beside it, so indent it' if 'model' in model else ''}"
    elif not isinstance(named, str):
        problem = "should have one text as the model of its litellm_params, such as openai/gpt-5.2"
    elif model.get("model_info") is not None and not isinstance(model["model_info"], dict):
        problem = "should have model_info as a mapping, such as model_info: {chat_server: vllm}"
    return problem


def _params_problem(model: Mapping[Any, Any]) -> str:
    """Return what is wrong with an entry whose litellm_params are not a mapping."""
    if isinstance(model.get("litellm_params"), list):
        return "should have litellm_params as a mapping; remove the dash in front of its keys"
    others = (
        str(name) for name, value in model.items() if name not in OF_ENTRY and isinstance(value, dict) and "model" in value
    )
    if other := next(others, ""):
        return f"should have litellm_params, and has {other}; write litellm_params: in place of {other}:"
    if beside := [name for name in ("model", "api_base", "api_key") if name in model]:
        problem = f"should have {', '.join(beside)} below litellm_params"
        if "litellm_params" in model:
            return f"{problem}; indent them further than litellm_params"
        return f"{problem}; write the line `litellm_params:` above them, as far in as model_name, and indent them further"
    return "should have model_name, and litellm_params with a model; write litellm_params: {model: PROVIDER/MODEL}"


def variables(config: object) -> set[str]:
    """Return the names of all environment variables that the configuration refers to."""
    if isinstance(config, dict):
        return set().union(*(variables(value) for value in config.values())) if config else set()
    if isinstance(config, list):
        return set().union(*(variables(value) for value in config)) if config else set()
    match = _VARIABLE.fullmatch(config) if isinstance(config, str) else None
    return {match[1]} if match else set()


def unset_variables(config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the unset variables that each model needs, by model name; models without any are left out."""
    missing: dict[str, tuple[str, ...]] = {}
    for model in config.get("model_list") or []:
        unset = sorted(name for name in variables(model.get("litellm_params")) if not environ.get(name))
        if unset:
            missing[model["model_name"]] = tuple(unset)
    return missing


def not_ready(
    config: Mapping[str, Any], environ: Mapping[str, str], hosts: Hosts, *, no_pool: bool
) -> dict[str, tuple[str, ...]]:
    """Return, for each model that is not ready, the variables to set; none for Claude's models if the pool is empty.

    ``no_pool`` is whether requests need a credential of the pool, and the pool has none.
    """
    found: dict[str, tuple[str, ...]] = {}
    ready: set[str] = set()
    unset = unset_variables(config, environ)
    for entry in config.get("model_list") or ():
        name, params = entry["model_name"], entry["litellm_params"]
        provider = hosts.provider(str(params["model"]), params.get("custom_llm_provider"), params.get("api_base"))
        if name in unset:
            found.setdefault(name, unset[name])
        elif no_pool and provider is Provider.CLAUDE and not params.get("api_key"):
            found.setdefault(name, ())
        else:
            ready.add(name)
    return {name: needs for name, needs in found.items() if name not in ready}


def referring_parameters(config: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return, for each model name, the names of the ``litellm_params`` that come from environment variables."""
    found: dict[str, frozenset[str]] = {}
    for model in config.get("model_list") or []:
        names = frozenset(name for name, value in model["litellm_params"].items() if variables(value))
        found[model["model_name"]] = found.get(model["model_name"], frozenset()) | names
    return found


def redis_url(config: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Return the URL of the Redis that LiteLLM uses, by ``router_settings`` or its variables: a secret."""

    def setting(name: str) -> str:
        value = str((config.get("router_settings") or {}).get(f"redis_{name}") or "")
        match = _VARIABLE.fullmatch(value)
        return (environ.get(match[1], "") if match else value) or environ.get(f"REDIS_{name.upper()}", "")

    if url := setting("url"):
        return url
    host = setting("host")
    password = f":{quote(setting('password'), safe='')}@" if setting("password") else ""
    return f"redis://{password}{host}:{setting('port') or 6379}" if host else None


def model_names(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the models, in the order of the file, each once."""
    return list(dict.fromkeys(model["model_name"] for model in config.get("model_list") or []))


def _aliases(config: Mapping[str, Any]) -> list[str]:
    """Return the aliases of models in ``router_settings``."""
    aliases = (config.get("router_settings") or {}).get("model_group_alias")
    return [str(name) for name in aliases] if isinstance(aliases, dict) else []


# Returns the ``litellm_params`` of every deployment of a model name, with wildcards and variables replaced.
Lookup = Callable[[str], Sequence[Mapping[str, Any]]]
# The limit for cached names: clients choose them if a pattern matches.
MAX_NAMES = 1000


class Fallbacks(NamedTuple):
    """The fallback models of a name, in order: in general, and after two kinds of errors.

    None if no rule of that kind applies to the name.
    """

    general: tuple[str, ...]
    context_window: tuple[str, ...] | None
    content_policy: tuple[str, ...] | None


class ActiveConfig:
    """The configuration that applies now, and values derived from it. ``replace`` applies another one."""

    def __init__(
        self,
        loaded: Mapping[str, Any],
        environ: Mapping[str, str],
        *,
        hosts: Hosts | None = None,
        lookup: Lookup = lambda _: (),
        endpoint_lookup: EndpointLookup = no_endpoint,
    ) -> None:
        self._environ = environ
        self._hosts = hosts or Hosts()
        self.lookup = lookup
        self.endpoint_lookup = endpoint_lookup
        self.replace(loaded)

    def replace(self, loaded: Mapping[str, Any]) -> None:
        """Apply another configuration, all of it in one step."""
        self.loaded = loaded
        self.unset = unset_variables(loaded, self._environ)
        self.referring = referring_parameters(loaded)
        self.limits = model_access.Limits.of(loaded)
        self.pool_groups = pool_groups.PoolGroups.of(loaded)
        self.groups = groups.Groups.of(loaded)
        self.budgets = budgets.Budgets.of(loaded)
        self.user_limits = user_limits.UserLimits.of(loaded)
        self.prices = prices.Overrides.of(loaded)
        self.fetch_hosts = fetching.FetchHosts.of(loaded)
        self.web_search = web_search.web_search(loaded, self._environ)
        self.rules = request_rules.rules(loaded)
        self.telemetry = telemetry.telemetry(loaded, self._environ)
        self.alerts = alerts.Alerts.of(loaded, self._environ)
        self.project_tag = project_tag.project_tag(loaded)
        self.openai_routes = openai_routes.openai_routes(loaded)
        self.sign_in = sign_in.SignIn.of(loaded)
        self.oidc = oidc.Oidc.of(loaded, self._environ)
        self.managed_settings = managed_settings.ManagedSettings.of(loaded)
        self.features = features.reasons(loaded)
        self.routing = Routing.of(loaded)
        self.listed = listed_names((*model_names(loaded), *_aliases(loaded)))
        self._names: dict[str, tuple[tuple[Deployment, ...], tuple[str, ...]]] = {}
        self._fallbacks: dict[str, Fallbacks] = {}

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables that the configuration refers to."""
        return self._environ

    def deployments(self, name: str) -> tuple[Deployment, ...]:
        """Return the deployments of a name, without those that lack a key if others are ready. Empty for an unknown name."""
        return self._resolved(name)[0]

    def is_ready(self, name: str) -> bool:
        """Whether a name has a deployment that lacks no key."""
        deployments, missing = self._resolved(name)
        return bool(deployments) and not missing

    def missing(self, name: str) -> tuple[str, ...]:
        """Return the unset variables because of which no deployment of a name is ready."""
        return self._resolved(name)[1]

    def fallbacks(self, name: str) -> Fallbacks:
        """Return the fallback models of a name, without models that are not ready."""
        found = self._fallbacks.get(name)
        if found is None:
            routing = self.routing
            found = Fallbacks(
                self._ready(routing.fallbacks_of(name)) or (),
                self._ready(routing.context_window_fallbacks_of(name)),
                self._ready(routing.content_policy_fallbacks_of(name)),
            )
            if len(self._fallbacks) >= MAX_NAMES:
                self._fallbacks.clear()
            self._fallbacks[name] = found
        return found

    def skipped_fallbacks(self, name: str) -> dict[str, tuple[str, ...]]:
        """Return the general fallbacks of a name that are not ready, with the unset variables of each."""
        return {one: self.missing(one) for one in self.routing.fallbacks_of(name) if not self.is_ready(one)}

    def _ready(self, names: list[str] | None) -> tuple[str, ...] | None:
        return None if names is None else tuple(name for name in names if self.is_ready(name))

    def _resolved(self, name: str) -> tuple[tuple[Deployment, ...], tuple[str, ...]]:
        found = self._names.get(name)
        if found is None:
            every = self.lookup(name)
            ready = [params for params in every if not self.lacks_key(params, name)]
            deployments = tuple(
                deployment(params, self._hosts, endpoint_lookup=self.endpoint_lookup) for params in ready or every
            )
            found = deployments, () if ready else self.unset.get(name, ())
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
            self._names[name] = found
        return found

    def lacks_key(self, params: Mapping[str, Any], name: str) -> bool:
        """Whether a parameter that config.yaml reads from the environment is empty."""
        return name in self.unset and any(not params.get(each) for each in self.referring.get(name, ()))
