"""Checks of the variables of Claude Code: in .env, in a client's settings.json, and in config.yaml."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from claude_proxy.access.routes import is_open
from claude_proxy.check import names
from claude_proxy.check.client_clouds import BEARER, OFF, client_clouds, is_client_of_cloud
from claude_proxy.check.client_clouds import KNOWN as OF_CLOUDS
from claude_proxy.check.client_file import ClientFile
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, Level, error, info, warning
from claude_proxy.check.models import claude_code_names, is_private
from claude_proxy.config.settings import TokenMode
from claude_proxy.credentials.credential import is_claude_credential
from claude_proxy.providers.endpoints import ANTHROPIC_API, Origin
from claude_proxy.upstream.headers import FALLBACKS, PROXY_TOKEN, SESSION, TOKEN_MODE

HEADERS, BASE_URL = "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_BASE_URL"
AUTH_TOKEN, API_KEY = "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"
QUIET = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"
_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SECOND_HEADER = rf"\s*(?={_NAME}\s*:\s*\S)"
# What users write between two headers; Claude Code splits at line ends only and sends the rest as one header.
SEPARATORS = {
    "a literal \\n": re.compile(rf"\\+n{_SECOND_HEADER}"),
    ";": re.compile(rf";{_SECOND_HEADER}"),
    ",": re.compile(rf",{_SECOND_HEADER}"),
}
_LINE = re.compile(rf"{_NAME}\s*:.*")
# Paths that Claude Code adds by itself, or that belong to another API.
_TAIL = re.compile(r"/v1(/messages|/chat/completions)?/?$")
_REFERENCE = re.compile(r"\$(env:)?\{?\w+\}?|%\w+%|os\.environ/\w+")
_PAGE = re.compile(r"^/(pool|ui|health|metrics|usage)/?$")
# What `claude-proxy settings` and the start print where the token is not shown.
PLACEHOLDER = re.compile(r"PROXY_STATIC_TOKEN-from-\.env|the-token-of-\S+|the-token-that-user-add-showed|none-is-needed")
# Variables of Claude Code that a settings.json for a proxy holds, for misspellings of them.
KNOWN = frozenset(
    {
        HEADERS, BASE_URL, AUTH_TOKEN, API_KEY, "ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_DEFAULT_FABLE_MODEL",
        "CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_MAX_CONTEXT_TOKENS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
        "CLAUDE_CODE_ATTRIBUTION_HEADER", "CLAUDE_CODE_AUTO_MODE_SERVER", "CLAUDE_CODE_AUTO_MODE_MODEL", "API_TIMEOUT_MS",
        QUIET, *OF_CLOUDS,
    }
)  # fmt: skip
# Names that users write for one of these, which are not like enough to be taken for a misspelling.
OTHER_NAMES = {
    "ANTHROPIC_API_BASE": BASE_URL, "ANTHROPIC_API_URL": BASE_URL, "ANTHROPIC_URL": BASE_URL, "ANTHROPIC_ENDPOINT": BASE_URL,
    "ANTHROPIC_API_BASE_URL": BASE_URL, "CLAUDE_BASE_URL": BASE_URL, "ANTHROPIC_HOST": BASE_URL, "ANTHROPIC_TOKEN": AUTH_TOKEN,
    "ANTHROPIC_KEY": AUTH_TOKEN, "PROXY_STATIC_TOKEN": AUTH_TOKEN, "CLAUDE_MODEL": "ANTHROPIC_MODEL",
    "ANTHROPIC_HEADERS": HEADERS,
}  # fmt: skip
# Headers that the proxy reads, and how alike another name has to be to be taken for a misspelling of one.
OWN_HEADERS = frozenset({PROXY_TOKEN, TOKEN_MODE, FALLBACKS, SESSION})
ALIKE_HEADERS = 0.8
# A number of milliseconds, as JSON and a text may have it.
_MILLISECONDS = re.compile(r"[0-9]{1,18}(?:\.0{1,18})?")
# The shortest wait for a response, in milliseconds, that is not likely to be a number of seconds.
SHORTEST_WAIT = 60000
# How alike two names of variables have to be.
ALIKE = 0.85
QUOTES = tuple("\"'`")
NO_TOKEN = "has no token of the proxy"  # noqa: S105 - words of a finding
# Lists the proxy's models in /model, which QUIET turns off.
DISCOVERY = "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"


def client_file(facts: Facts) -> Iterator[Finding]:
    """What is wrong with the client's settings.json itself, and what it lacks to reach the proxy."""
    found = facts.client
    if found is None:
        return
    yield from found.problems
    values = found.values
    if any(problem.level is Level.ERROR for problem in found.problems) and not values:
        return
    misspelt = set[str]()
    for name in values:
        # A line of a shell, pasted as it is.
        meant = name.split(" ")[-1] if name.startswith(("export ", "set ")) and name.split(" ")[-1] in KNOWN else None
        meant = meant or OTHER_NAMES.get(name) or (None if name in KNOWN else names.meant(name, KNOWN - values.keys(), ALIKE))
        if meant and meant not in values:
            misspelt.add(meant)
            yield error(found.place(name), "is not a variable of Claude Code", f"did you mean {meant}?")
    yield from client_clouds(found)
    if not values.get(BASE_URL) and BASE_URL not in misspelt and not is_client_of_cloud(found):
        remedy = f'write "{BASE_URL}": "http://your-server:4000"; `claude-proxy settings` prints the whole block'
        yield error(found.name, f"{BASE_URL} is not set in env, so Claude Code sends its requests to Anthropic", remedy)
    yield from _tokens(facts, found)


def keeps_requests_back(facts: Facts) -> bool:
    """Whether a client's file has no address, or an error in its address, token or headers that a request would show again."""
    if facts.client is None or not Origin.of(facts.client.values.get(BASE_URL, "").strip()):
        return True
    places = {facts.client.place(name) for name in (BASE_URL, AUTH_TOKEN, API_KEY, HEADERS)}
    found = (one for one in (*client_file(facts), *client_variables(facts)) if one.level is Level.ERROR)
    return any(one.place in places or one.problem == NO_TOKEN for one in found)


def unreported(facts: Facts, found: Iterable[Finding]) -> list[Finding]:
    """Leave out the errors at a model that is not in this folder's config.yaml, which is reported without a request."""
    reported = {one.place for one in claude_code_names(facts) if one.level is Level.ERROR}
    return [one for one in found if one.level is not Level.ERROR or one.place not in reported]


def _tokens(facts: Facts, found: ClientFile) -> Iterator[Finding]:
    """A token that is missing, or that is sent where another one should be."""
    values = found.values
    headers = values.get(HEADERS, "")
    in_headers = PROXY_TOKEN in headers.lower() or bool(misspelt_token_header(headers))
    has_token = (
        values.get(AUTH_TOKEN) or values.get(API_KEY) or in_headers or (is_client_of_cloud(found) and values.get(BEARER))
    )
    if not has_token and not found.has_helper and not (facts.settings and is_open(facts.settings)):
        remedy = f"write {AUTH_TOKEN}; `claude-proxy settings` prints it"
        yield error(found.name, NO_TOKEN, remedy)
    if values.get(AUTH_TOKEN) and values.get(API_KEY):
        problem = f"is set beside {AUTH_TOKEN}; Claude Code sends both and asks which one to use"
        yield warning(found.place(API_KEY), problem, f"remove {API_KEY}")
    api_key = values.get(API_KEY, "")
    is_also_sent = HEADERS if in_headers else API_KEY if api_key and not is_claude_credential(api_key) else ""
    is_quiet = values.get(QUIET, "").lower() not in OFF
    if is_also_sent and not is_quiet and not (facts.settings and is_open(facts.settings)):
        remedy = f'add "{QUIET}": "1"'
        yield warning(found.place(is_also_sent), "Claude Code also sends the token to Anthropic", remedy)
    elif not is_quiet and values.get(DISCOVERY, "").lower() in OFF:
        problem = f"{QUIET} is not set, so Claude Code also sends telemetry to Anthropic"
        yield info(found.name, problem, f'add "{QUIET}": "1" to turn that off')
    elif is_also_sent == API_KEY and not values.get(AUTH_TOKEN):
        problem = f"only {QUIET} keeps Claude Code from sending this token to Anthropic too"
        yield info(found.place(API_KEY), problem, f"write it in {AUTH_TOKEN} instead")
    if replaces_the_login(values):
        problem = "replaces the user's login, which passthrough needs"
        remedy = f"form B: remove {AUTH_TOKEN}; form A: remove {TOKEN_MODE}"
        yield error(found.place(AUTH_TOKEN), problem, remedy)


def replaces_the_login(values: Mapping[str, object]) -> bool:
    """Whether the client requests passthrough and sends a token of the proxy in the place of the user's login."""
    token = str(values.get(AUTH_TOKEN, "")).strip()
    modes = [value.lower() for name, value in header_lines(str(values.get(HEADERS, ""))) if name == TOKEN_MODE]
    return bool(token) and not is_claude_credential(token) and TokenMode.PASSTHROUGH.value in modes


def header_lines(value: str) -> list[tuple[str, str]]:
    """Return the headers of ``ANTHROPIC_CUSTOM_HEADERS``, their names in lower case."""
    parts = [line.partition(":") for line in value.splitlines()]
    return [(name.strip().lower(), text.strip()) for name, colon, text in parts if colon]


def meant_header(name: str) -> str | None:
    """Return the header of the proxy that a name is a misspelling of; None for any other name."""
    return None if name in OWN_HEADERS else names.meant(name, (PROXY_TOKEN, TOKEN_MODE), ALIKE_HEADERS)


def misspelt_token_header(value: str) -> str:
    """Return the name under which the token is sent by mistake; empty where no name is like the right one."""
    return next((name for name, _ in header_lines(value) if meant_header(name) == PROXY_TOKEN), "")


def client_variables(facts: Facts) -> Iterator[Finding]:
    """Variables of Claude Code with which it does not reach the proxy, or Anthropic does not recognise it."""
    places: list[tuple[str, Mapping[str, object]]] = [
        ("client", facts.client_values),
        (".env", facts.dotenv.values),
        (facts.at("environment_variables"), facts.section("environment_variables")),
    ]
    for where, variables in places:
        for name, check in CHECKS.items():
            value = variables.get(name)
            if value is not None:
                yield from check(_place(facts, where, name), str(value), facts)


def _place(facts: Facts, where: str, name: str) -> str:
    if where == "client" and facts.client:
        return facts.client.place(name)
    return facts.dotenv.place(name) if where == ".env" else f"{where}: {name}"


def _headers(place: str, value: str, facts: Facts) -> Iterator[Finding]:
    remedy = "write one header a line: `x-litellm-api-key: TOKEN`, and in JSON \\n between two"
    if _is_json(value):
        yield error(place, "holds JSON", remedy)
        return
    for separator, pattern in SEPARATORS.items():
        if pattern.search(value):
            # The proxy understands a comma; other gateways do not.
            say = warning if separator == "," else error
            yield say(place, f"has {separator} between two headers, and Claude Code splits at line ends only", remedy)
            return
    for number, line in enumerate(filter(None, value.splitlines()), start=1):
        if not _LINE.fullmatch(line.strip()):
            yield error(place, f"line {number} of it is not `name: value`", remedy)
    for name, text in header_lines(value):
        if name == PROXY_TOKEN:
            yield from _placeholder(place, text, facts)
        elif name == TOKEN_MODE and text.lower() not in {mode.value for mode in TokenMode}:
            # The value is not shown: it may be a token.
            yield error(place, f"the value of {TOKEN_MODE} is neither rotate nor passthrough", "write one of the two")
        elif meant := meant_header(name):
            yield error(place, f"{name} is not a header of the proxy", f"did you mean {meant}?")


def _base_url(place: str, value: str, _: Facts) -> Iterator[Finding]:
    value = value.strip()
    origin = Origin.of(value)
    path = urlsplit(value).path if origin else ""
    tail = _TAIL.search(path) or _PAGE.search(path)
    if "://" not in value and value:
        yield error(place, "has no scheme", "write http:// or https:// in front, such as http://your-server:4000")
    elif origin is None:
        yield error(place, "is not a URL", "write one such as http://your-server:4000")
    elif origin == Origin.of(ANTHROPIC_API):
        yield error(place, "is the address of Anthropic and not of the proxy", "write one such as http://your-server:4000")
    elif tail:
        ending = tail[0].rstrip("/")
        reason = "which is a page of the proxy" if _PAGE.search(path) else "and Claude Code adds /v1/messages by itself"
        yield error(place, f"ends with {ending}, {reason}", f"remove {ending}")
    elif origin.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        yield error(
            place, f"names {origin.host}, where a server listens and no client connects", "write 127.0.0.1 or the server's name"
        )
    elif origin.scheme == "http" and not is_private(origin.host):
        yield warning(place, f"sends the token to {origin.host} unencrypted", "write https://")


def _wait(place: str, value: str, _: Facts) -> Iterator[Finding]:
    if value and not _MILLISECONDS.fullmatch(value.strip()):
        yield error(place, "is not a number of milliseconds", "write one such as 3000000, which is 50 minutes")
    elif value and float(value) < SHORTEST_WAIT:
        problem = f"is {float(value):.0f} milliseconds, and a response of a model can take minutes"
        yield warning(place, problem, "write 600000, or remove the line")


def _attribution(place: str, value: str, _: Facts) -> Iterator[Finding]:
    if value.strip().lower() in OFF[1:]:
        problem = "removes what Anthropic recognises Claude Code by: requests with OAuth tokens then get a 429 without a limit"
        yield error(place, problem, "remove the line")


def _auth_token(place: str, value: str, facts: Facts) -> Iterator[Finding]:
    yield from _placeholder(place, value.strip(), facts)
    settings = facts.settings
    if value.strip().lower().startswith("bearer "):
        yield error(place, "has Bearer in front, which Claude Code adds by itself", "write the token alone")
    elif _REFERENCE.fullmatch(value.strip()):
        yield error(place, "is the name of a variable, and Claude Code sends that text", "write the token itself")
    elif value != value.strip() or value[:1] in QUOTES or value[-1:] in QUOTES:
        yield error(place, "has a space or a quote at one of its ends", "write the token alone")
    elif is_claude_credential(value) and not _is_own_credential(facts):
        yield error(place, "is a Claude credential, and should be the token of this proxy", "`claude-proxy settings` prints it")
    if not value or settings is None:
        return
    if settings.master_key and settings.master_key.reveal() == value:
        yield error(place, "is LITELLM_MASTER_KEY, which is for administration", "write PROXY_STATIC_TOKEN or a user's token")
    if settings.mode is TokenMode.PASSTHROUGH and not replaces_the_login(facts.client_values):
        remedy = "put the proxy's token into ANTHROPIC_CUSTOM_HEADERS instead (README, form B)"
        yield warning(place, "makes Claude Code leave out its own login, which passthrough needs", remedy)


def _is_own_credential(facts: Facts) -> bool:
    """Whether a Claude credential may be in the token's place: the proxy gets its token in a header, or needs none."""
    headers = str(facts.client_values.get(HEADERS, "")) + str(facts.dotenv.values.get(HEADERS, ""))
    return PROXY_TOKEN in headers.lower() or (facts.settings is not None and is_open(facts.settings))


def _placeholder(place: str, token: str, facts: Facts) -> Iterator[Finding]:
    is_enough = facts.settings is not None and is_open(facts.settings)
    if PLACEHOLDER.fullmatch(token) and not is_enough:
        remedy = "write the token itself; `claude-proxy settings` prints the static one, `claude-proxy user add` a new one"
        yield error(place, f"has {token} in place of the token", remedy)


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), (dict, list))
    except ValueError:
        return value.strip().startswith("{")


CHECKS = {
    HEADERS: _headers,
    "API_TIMEOUT_MS": _wait,
    BASE_URL: _base_url,
    "CLAUDE_CODE_ATTRIBUTION_HEADER": _attribution,
    AUTH_TOKEN: _auth_token,
}
