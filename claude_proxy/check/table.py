"""The checks, in the order of the report. Each takes the facts and yields findings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from claude_proxy.check import (
    alerts,
    client,
    client_requests,
    deployments,
    dotenv_text,
    endpoints,
    fallbacks,
    files,
    hosts,
    installation,
    listening,
    managed_settings,
    models,
    oidc,
    pool,
    prices,
    rules,
    sign_in,
    tokens,
    users,
    variables,
    web_search,
    yaml_text,
)
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error
from claude_proxy.check.steps import Steps, silently


class When(Enum):
    """When a check runs: also at the start, or in the command alone, because the start reports the same or has no time."""

    START = "at the start and in the command"
    COMMAND = "in the command"
    ONLINE = "in the command, unless it is offline"


class Needs(Enum):
    """What a check needs; without it, it would report consequences of an error that is reported already."""

    NOTHING = "nothing"
    CONFIG = "a config.yaml that is YAML"
    MODELS = "one model_list"
    CLIENT = "a client's settings.json"
    ADDRESS = "a client's settings.json without an error in its address, token and headers"


@dataclass(frozen=True)
class Check:
    """One row; ``title`` states what is right when there is no finding."""

    title: str
    find: Callable[[Facts], Iterator[Finding]]
    when: When = When.START
    needs: Needs = Needs.NOTHING


CHECKS: tuple[Check, ...] = (
    Check("the proxy starts with these settings and this config.yaml", files.mistakes, When.COMMAND),
    Check("the proxy can listen at its address", listening.address, When.COMMAND),
    Check("the files have the names that are read", files.file_names),
    Check("config.yaml has ordinary spaces and quotes", yaml_text.characters, needs=Needs.CONFIG),
    Check("no key is in config.yaml twice", files.repeated_keys, needs=Needs.CONFIG),
    Check("every key of config.yaml is known", files.unknown_keys, needs=Needs.CONFIG),
    Check("the files and servers that config.yaml names exist", files.other_files, needs=Needs.CONFIG),
    Check("every line of .env is read", dotenv_text.lines),
    Check("every name in .env is a known one", variables.names_in_dotenv),
    Check("the values in .env fit what reads them", variables.values),
    Check("Docker Compose can read its values in .env", variables.docker),
    Check("no other user can read .env and the files of secrets", files.permissions),
    Check("a token protects the proxy", tokens.open_proxy, When.COMMAND),
    Check("every line of the users file is read", users.users_file, When.COMMAND),
    Check("every limited user exists", users.limited_users, needs=Needs.CONFIG),
    Check("users can sign in, if there are any", sign_in.sign_in, needs=Needs.CONFIG),
    Check("the proxy's own tokens are hard to guess", tokens.weak_tokens),
    Check("the key for administration is set", tokens.master_key, needs=Needs.CONFIG),
    Check("the Claude credentials are well-formed", tokens.credentials),
    Check("every date at a credential is read", tokens.dates),
    Check("the pool's file exists and no other user can read it", pool.files),
    Check("every credential of the pool's file can be used", pool.credentials),
    Check("the terms of the pool fit its users", pool.terms),
    Check("every group of config.yaml has a credential", pool.groups, needs=Needs.CONFIG),
    Check("the keys of the providers are well-formed", tokens.provider_keys),
    Check("every key is sent to its own provider", variables.foreign_keys, needs=Needs.MODELS),
    Check("no key is in config.yaml in clear text", models.clear_text_keys, needs=Needs.CONFIG),
    Check("no model uses a secret of the proxy", models.own_secrets, needs=Needs.CONFIG),
    Check("every model has its key", models.unset_variables, When.COMMAND, Needs.MODELS),
    Check("every model has a provider that LiteLLM knows", deployments.providers, needs=Needs.MODELS),
    Check("every parameter of a model has its type", deployments.parameters, needs=Needs.MODELS),
    Check("every time and count is a number", deployments.numbers, needs=Needs.MODELS),
    Check("no other provider's model is sent to Anthropic", deployments.foreign_models, needs=Needs.MODELS),
    Check("every model_name is there once, or has copies of one model", deployments.duplicates, needs=Needs.MODELS),
    Check("every api_base fits its format", endpoints.endpoints, needs=Needs.MODELS),
    Check("every chat_server is a known one and applies", deployments.chat_servers, needs=Needs.MODELS),
    Check("the provider of sign-in is ready, if there is one", oidc.oidc, needs=Needs.CONFIG),
    Check("the web search is ready, if there is one", web_search.web_search, needs=Needs.CONFIG),
    Check("every address for alerts can be used, if there is one", alerts.alerts, When.COMMAND, Needs.CONFIG),
    Check("every model has a price, if there is a budget", prices.prices, needs=Needs.MODELS),
    Check("Claude Code knows every managed setting", managed_settings.unknown_settings, needs=Needs.CONFIG),
    Check("no managed setting is a secret of the proxy", managed_settings.own_secrets, needs=Needs.CONFIG),
    Check("the users and groups with managed settings exist", managed_settings.unknown_names, needs=Needs.CONFIG),
    Check("every fallback is a model that is served", fallbacks.fallbacks, needs=Needs.MODELS),
    Check("the fallbacks of Claude apply to Claude Code's names", fallbacks.names_of_claude, When.COMMAND, Needs.MODELS),
    Check("every fallback has its key", fallbacks.unready_fallbacks, When.COMMAND, Needs.MODELS),
    Check("it is known what responds for Claude", fallbacks.empty_pool, When.COMMAND, Needs.MODELS),
    Check("every rule that chooses a model can apply", rules.rules, When.COMMAND, Needs.MODELS),
    Check("the models that Claude Code requests are served", models.claude_code_names, needs=Needs.MODELS),
    Check("no model is Claude by its name only", models.claude_names_elsewhere, When.COMMAND, Needs.MODELS),
    Check("settings.json is complete", client.client_file, When.COMMAND, Needs.CLIENT),
    Check("Claude Code's variables have the form that it reads", client.client_variables),
    Check("LiteLLM is the release that was tested", installation.litellm_version),
    Check("the HTTP proxies of the environment can be read", installation.outbound_proxies),
    Check("nothing unknown runs when Python starts", installation.startup_files),
    Check("it is known which requests go through LiteLLM", models.ways_of_requests, When.COMMAND, Needs.MODELS),
    Check("no other program uses the port", listening.port, When.ONLINE),
    Check("every host can be reached", hosts.hosts, When.ONLINE, Needs.MODELS),
    Check("the clock is right", hosts.clock, When.ONLINE),
    Check(
        "a client with this settings.json reaches the proxy", client_requests.unreported_requests, When.ONLINE, Needs.ADDRESS
    ),
)


def run(facts: Facts, *whens: When, steps: Steps = silently) -> list[tuple[Check, list[Finding]]]:
    """Run the checks of these kinds and return the findings of each; one that lacks what it needs is left out."""
    chosen = ((f"Checking: {check.title} ...", check) for check in CHECKS if check.when in whens and _has(facts, check.needs))
    return [(check, _found(check, facts)) for check in steps(chosen)]


def of_config(facts: Facts) -> list[Finding]:
    """Return what is logged about a config.yaml that changed while the proxy serves."""
    checks = [check for check in CHECKS if check.find in OF_CONFIG and _has(facts, check.needs)]
    return [finding for check in checks for finding in _found(check, facts)]


def _has(facts: Facts, needs: Needs) -> bool:
    there = {
        Needs.NOTHING: True,
        Needs.CONFIG: bool(facts.config),
        Needs.MODELS: facts.has_models,
        Needs.CLIENT: facts.client is not None,
        Needs.ADDRESS: not client.keeps_requests_back(facts),
    }
    return there[needs]


def _found(check: Check, facts: Facts) -> list[Finding]:
    try:
        return list(check.find(facts))
    except Exception as problem:  # noqa: BLE001 - a check with a bug must not keep the proxy from starting
        return [error(check.title, f"the check failed ({type(problem).__name__})", "please report this")]


OF_CONFIG = (
    files.repeated_keys,
    files.unknown_keys,
    users.limited_users,
    pool.groups,
    models.clear_text_keys,
    models.own_secrets,
    deployments.providers,
    deployments.parameters,
    deployments.numbers,
    deployments.foreign_models,
    deployments.duplicates,
    endpoints.endpoints,
    deployments.chat_servers,
    oidc.oidc,
    web_search.web_search,
    managed_settings.unknown_settings,
    managed_settings.own_secrets,
    managed_settings.unknown_names,
    fallbacks.fallbacks,
)
