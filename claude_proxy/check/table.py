"""The checks, in the order in which they are told. Each takes the facts and yields what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from claude_proxy.check import client, files, hosts, installation, models, people, pool, tokens, web_search
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error


class When(Enum):
    """When a check runs beside the command: at the start too, or not, because the start says it by itself or has no time."""

    START = "at the start, too"
    COMMAND = "in the command"
    ONLINE = "in the command, unless it is offline"


class Needs(Enum):
    """What a check cannot do without: what it would find is the consequence of a mistake that is told already."""

    NOTHING = "nothing"
    CONFIG = "a config.yaml that is YAML"
    MODELS = "one model_list"


@dataclass(frozen=True)
class Check:
    """One row: ``title`` is what is right when nothing is found."""

    title: str
    find: Callable[[Facts], Iterator[Finding]]
    when: When = When.START
    needs: Needs = Needs.NOTHING


CHECKS: tuple[Check, ...] = (
    Check("the settings and config.yaml are such that the proxy starts", files.mistakes, When.COMMAND),
    Check("config.yaml has its name", files.config_name),
    Check("no key stands in config.yaml twice", files.repeated_keys, needs=Needs.CONFIG),
    Check("every key of config.yaml is known", files.unknown_keys, needs=Needs.CONFIG),
    Check("every line of .env is read", files.dotenv_lines),
    Check("nobody else can read .env", files.permissions),
    Check("a token guards the proxy", tokens.open_proxy, When.COMMAND),
    Check("every line of the file of users is read", people.users_file, When.COMMAND),
    Check("whoever has limits is somebody", people.limited_people, needs=Needs.CONFIG),
    Check("the proxy's own tokens are hard to guess", tokens.weak_tokens),
    Check("the Claude credentials are well-formed", tokens.credentials),
    Check("the pool's file is there and nobody else can read it", pool.files),
    Check("every credential of the pool's file can be asked", pool.credentials),
    Check("the terms of the pool are meant for somebody", pool.terms),
    Check("every group of config.yaml has a credential", pool.groups, needs=Needs.CONFIG),
    Check("the providers' keys are well-formed", tokens.provider_keys),
    Check("no key stands in config.yaml in clear text", models.clear_text_keys, needs=Needs.CONFIG),
    Check("no model asks for a secret of the proxy's own", models.own_secrets, needs=Needs.CONFIG),
    Check("every model has its key", models.unset_variables, When.COMMAND, Needs.MODELS),
    Check("LiteLLM knows every model's provider", models.providers, needs=Needs.MODELS),
    Check("every api_base fits its format", models.endpoints, needs=Needs.MODELS),
    Check("every chat_server is one that is known", models.chat_servers, needs=Needs.MODELS),
    Check("the search of the web is ready, if there is one", web_search.web_search, needs=Needs.CONFIG),
    Check("every fallback is a model that is served", models.fallbacks, needs=Needs.MODELS),
    Check("what Claude Code asks for is served", models.claude_code_names, needs=Needs.MODELS),
    Check("no model only sounds like Claude", models.claude_names_elsewhere, When.COMMAND, Needs.MODELS),
    Check("Claude Code's variables are as it reads them", client.client_variables),
    Check("LiteLLM is the release that was tested", installation.litellm_version),
    Check("the proxies of the environment are readable", installation.outbound_proxies),
    Check("nothing unknown runs when Python starts", installation.startup_files),
    Check("it is clear which way requests go", models.ways_of_requests, When.COMMAND, Needs.MODELS),
    Check("every host can be reached", hosts.hosts, When.ONLINE, Needs.MODELS),
    Check("the clock is right", hosts.clock, When.ONLINE),
)


def run(facts: Facts, *whens: When) -> list[tuple[Check, list[Finding]]]:
    """Run the checks of these kinds and return what each has found; one that lacks what it needs is left out."""
    return [(check, _found(check, facts)) for check in CHECKS if check.when in whens and _has(facts, check.needs)]


def of_config(facts: Facts) -> list[Finding]:
    """Return what is told of a config.yaml that was changed under way."""
    checks = [check for check in CHECKS if check.find in OF_CONFIG and _has(facts, check.needs)]
    return [finding for check in checks for finding in _found(check, facts)]


def _has(facts: Facts, needs: Needs) -> bool:
    there = {Needs.NOTHING: True, Needs.CONFIG: bool(facts.config), Needs.MODELS: facts.has_models}
    return there[needs]


def _found(check: Check, facts: Facts) -> list[Finding]:
    try:
        return list(check.find(facts))
    except Exception as problem:  # noqa: BLE001 - a check with a mistake of its own must not keep the proxy from starting
        return [error(check.title, f"the check broke ({type(problem).__name__})", "please report this")]


OF_CONFIG = (
    files.repeated_keys,
    files.unknown_keys,
    people.limited_people,
    pool.groups,
    models.clear_text_keys,
    models.own_secrets,
    models.providers,
    models.endpoints,
    web_search.web_search,
    models.fallbacks,
)
