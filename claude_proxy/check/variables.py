"""Checks of the names in .env, of settings that contradict what reads them, and of keys that belong to another provider."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit

from claude_proxy.check import names
from claude_proxy.check.dotenv_text import continuations
from claude_proxy.check.endpoints import host_of
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, info, warning
from claude_proxy.check.models import REFERENCE, resolved
from claude_proxy.config import models
from claude_proxy.config.settings import VARIABLES
from claude_proxy.credentials.credential import API_KEY_PREFIX, CLAUDE_PREFIX

# Variables of Claude Code that may be in a .env, beside those of this project and of config.yaml.
OF_CLIENT = ("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL")
OF_CLIENT_PREFIXES = ("ANTHROPIC_DEFAULT_", "CLAUDE_CODE_")
# Names that users write for a variable of this project, which are not like enough to be taken for a misspelling.
OTHER_NAMES = {
    "ANTHROPIC_API_KEY": "CLAUDE_API_KEYS", "ANTHROPIC_API_KEYS": "CLAUDE_API_KEYS", "ANTHROPIC_KEY": "CLAUDE_API_KEYS",
    "ANTHROPIC_OAUTH_TOKEN": "CLAUDE_OAUTH_TOKENS", "ANTHROPIC_OAUTH_TOKENS": "CLAUDE_OAUTH_TOKENS",
    "CLAUDE_CODE_OAUTH_TOKEN": "CLAUDE_OAUTH_TOKENS", "CLAUDE_CODE_OAUTH_TOKENS": "CLAUDE_OAUTH_TOKENS",
    "CLAUDE_TOKEN": "CLAUDE_OAUTH_TOKENS", "CLAUDE_TOKENS": "CLAUDE_OAUTH_TOKENS", "OAUTH_TOKENS": "CLAUDE_OAUTH_TOKENS",
    "PROXY_TOKEN": "PROXY_STATIC_TOKEN", "STATIC_TOKEN": "PROXY_STATIC_TOKEN", "PROXY_API_KEY": "PROXY_STATIC_TOKEN",
    "MASTER_KEY": "LITELLM_MASTER_KEY", "PROXY_MASTER_KEY": "LITELLM_MASTER_KEY", "USER_TOKENS": "PROXY_USER_TOKENS",
    "PROXY_USERS": "PROXY_USER_TOKENS", "PROXY_PORT": "PORT", "LITELLM_PORT": "PORT", "PROXY_HOST": "HOST",
    "DOMAIN": "PROXY_DOMAIN", "WORKERS": "NUM_WORKERS", "POSTGRES_URL": "DATABASE_URL", "LOG_FORMAT": "PROXY_LOG_FORMAT",
}  # fmt: skip
# Variables of other programs that read the same environment.
OF_OTHERS = re.compile(
    r"(AWS|AZURE|COMPOSE|DD|DOCKER|GCP|GOOGLE|LANGFUSE|LANGSMITH|LITELLM|OTEL|PRISMA|PYTHON|REDIS|SSL|UI|VERTEX)_\w+"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY|TZ|LANG|PATH|HOME|DISABLE_\w+|STORE_MODEL_IN_DB|SALT_KEY",
    re.IGNORECASE,
)


class Form(NamedTuple):
    """The keys of a provider: how they start, its name, and the ends of its hosts."""

    prefix: re.Pattern[str]
    provider: str
    hosts: tuple[str, ...]


KEY_FORMS = (
    Form(re.compile(r"sk-ant-"), "Anthropic", ("anthropic.com",)),
    Form(re.compile(r"sk-or-"), "OpenRouter", ("openrouter.ai",)),
    Form(re.compile(r"sk-(proj|svcacct|admin)-"), "OpenAI", ("openai.com",)),
    Form(re.compile(r"sk-kimi-"), "Kimi", ("kimi.com",)),
    Form(re.compile(r"gsk_"), "Groq", ("groq.com",)),
    Form(re.compile(r"AIza"), "Google", ("googleapis.com",)),
    Form(re.compile(r"xai-"), "xAI", ("x.ai",)),
    Form(re.compile(r"hf_"), "Hugging Face", ("huggingface.co",)),
    Form(re.compile(r"nvapi-"), "NVIDIA", ("nvidia.com",)),
    Form(re.compile(r"pplx-"), "Perplexity", ("perplexity.ai",)),
    Form(re.compile(r"csk-"), "Cerebras", ("cerebras.ai",)),
    Form(re.compile(r"fw_"), "Fireworks", ("fireworks.ai",)),
    Form(re.compile(r"tvly-"), "Tavily", ("tavily.com",)),
    Form(re.compile(r"(ghp_|github_pat_)"), "GitHub", ("github.com", "githubcopilot.com")),
)
# The profiles of docker-compose.yml.
PROFILES = ("db", "scale", "tls")
# Hosts of providers whose keys have no form of their own.
OTHER_HOSTS = ("z.ai", "deepseek.com", "mistral.ai", "moonshot.ai", "together.xyz", "together.ai", "minimax.io", "bigmodel.cn")


def names_in_dotenv(facts: Facts) -> Iterator[Finding]:
    """Variables that nothing reads: a misspelling, another program's name for one, or a credential under a wrong name."""
    used = models.variables(dict(facts.config))
    known = {*VARIABLES, *used, *OF_CLIENT}
    known |= {f"{name}_FILE" for name in known}
    unset = {name for name in known | names.OF_PROVIDERS if not facts.dotenv.values.get(name)}
    rest = {number for numbers in continuations(facts.dotenv).values() for number in numbers}
    for name, value in facts.dotenv.values.items():
        if facts.dotenv.lines[name] in rest:
            continue  # the rest of a list, which is reported
        if CLAUDE_PREFIX in name:
            problem = "starts with a Claude credential and not with a name"
            yield error(facts.dotenv.place(name), problem, "write CLAUDE_OAUTH_TOKENS=... in one line")
            continue
        if name in known or not value:
            continue
        place = facts.dotenv.place(name)
        meant = None if name in names.OF_PROVIDERS else names.meant_variable(name, unset)
        other = OTHER_NAMES.get(name.upper())
        other = other if other in unset else None
        if value.startswith(CLAUDE_PREFIX) and (other or not meant):
            home = "CLAUDE_API_KEYS" if value.startswith(API_KEY_PREFIX) else "CLAUDE_OAUTH_TOKENS"
            yield error(place, "holds a Claude credential and is not read", f"write {home}=...")
        elif other:
            # Some of these names are other programs' too.
            yield warning(place, "is not a variable of this proxy and is not read", f"did you mean {other}?")
        elif meant:
            yield error(place, "is not a known variable and is not read", f"did you mean {meant}?")
        elif facts.config and not name.startswith(OF_CLIENT_PREFIXES) and not OF_OTHERS.fullmatch(name):
            yield info(place, "is set, and neither this proxy nor config.yaml names it")


def values(facts: Facts) -> Iterator[Finding]:
    """Values with which a part of the deployment does not work, although the start accepts them."""
    domain, place = facts.environ.get("PROXY_DOMAIN", "").strip(), facts.dotenv.place("PROXY_DOMAIN")
    if "://" in domain:
        yield error(
            place, "has a scheme, and should hold a name only", f"write PROXY_DOMAIN={domain.split('://', 1)[1].split('/')[0]}"
        )
    elif re.search(r"[/:\s]", domain):
        yield error(place, "has a port or a path, and should hold a name only", "write the name only; HTTPS_PORT sets the port")
    base = facts.environ.get("ANTHROPIC_API_BASE", "").strip().rstrip("/")
    if ending := re.search(r"/v1(/messages)?$", base):
        place = facts.dotenv.place("ANTHROPIC_API_BASE")
        yield error(place, f"ends with {ending[0]}, which the proxy adds by itself", f"remove {ending[0]}")
    elif (parts := urlsplit(base)).hostname and _is_known(parts.hostname) and not _is_at(parts.hostname, ("anthropic.com",)):
        problem = f"is the address of {parts.hostname}, and the proxy sends Claude credentials there"
        remedy = "remove the line, and write the address as api_base of a model in config.yaml"
        yield error(facts.dotenv.place("ANTHROPIC_API_BASE"), problem, remedy)
    ports = [name for name in ("PORT", "SCALE_PORT", "HTTP_PORT", "HTTPS_PORT") if facts.environ.get(name, "").strip()]
    for name, other in pairwise(sorted(ports, key=lambda one: facts.environ[one])):
        if facts.environ[name] == facts.environ[other] and "SCALE_PORT" in (name, other):
            yield warning(facts.dotenv.place(other), f"is the same as {name}; Docker can publish a port once", "choose another")


def docker(facts: Facts) -> Iterator[Finding]:
    """Values that only Docker Compose reads."""
    bind = facts.environ.get("PROXY_BIND", "").strip()
    found = re.fullmatch(r"(?:https?://)?([^/:\s]+)(:\d+)?/?", bind)
    if found and found[1] != bind:
        remedy = f"write PROXY_BIND={found[1]}, and the port in PORT"
        yield error(facts.dotenv.place("PROXY_BIND"), "has a scheme or a port, and should hold an address only", remedy)
    place = facts.dotenv.place("COMPOSE_PROFILES")
    for one in filter(None, (part.strip() for part in facts.environ.get("COMPOSE_PROFILES", "").split(","))):
        if one not in PROFILES:
            meant = names.meant(one, PROFILES, names.ALIKE_MODELS)
            remedy = "separate two profiles with a comma" if " " in one else f"did you mean {meant}?" if meant else ""
            yield error(place, f"{one} is not a profile: they are {', '.join(PROFILES)}", remedy)


def foreign_keys(facts: Facts) -> Iterator[Finding]:
    """A key that has the form of one provider and is sent to another one, which rejects it."""
    for place, entry in facts.models:
        params = entry["litellm_params"]
        key, host = resolved(params.get("api_key"), facts.environ), host_of(params, facts)
        form = next((one for one in KEY_FORMS if one.prefix.match(key)), None)
        if form is None or not host or _is_at(host, form.hosts) or not _is_known(host):
            continue
        given = str(params.get("api_key"))
        at = facts.at("model_list", place, "litellm_params", "api_key")
        if REFERENCE.fullmatch(given):
            name = given.removeprefix("os.environ/")
            at, key_is = facts.dotenv.place(name), "holds a key"
        else:
            key_is = "api_key is a key"
        problem = f"{key_is} of {form.provider} by its form, and model {entry['model_name']} sends it to {host}"
        yield error(at, problem, f"put the key of {host} there")


def _is_at(host: str, ends: tuple[str, ...]) -> bool:
    return any(host == end or host.endswith(f".{end}") for end in ends)


def _is_known(host: str) -> bool:
    """Whether a host is a provider's own and not a gateway, which takes the keys of others."""
    return _is_at(host, (*OTHER_HOSTS, *(end for form in KEY_FORMS for end in form.hosts)))
