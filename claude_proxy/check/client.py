"""Checks of what Claude Code is told: its variables in ``.env``, in a ``settings.json``, and in ``config.yaml``."""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from claude_proxy.access.routes import is_open
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config.settings import TokenMode
from claude_proxy.upstream.headers import PROXY_TOKEN

HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SECOND_HEADER = rf"\s*(?={_NAME}\s*:\s*\S)"
# What stands between two headers that Claude Code takes for one; it splits at newlines and nowhere else.
SEPARATORS = {
    "a literal \\n": re.compile(rf"\\+n{_SECOND_HEADER}"),
    ";": re.compile(rf";{_SECOND_HEADER}"),
    ",": re.compile(rf",{_SECOND_HEADER}"),
}
_LINE = re.compile(rf"{_NAME}\s*:.*")
# What `claude-proxy settings` and the start print where the token is not shown.
PLACEHOLDER = re.compile(r"PROXY_STATIC_TOKEN-from-\.env|the-token-of-\S+|the-token-that-user-add-showed|none-is-needed")


def client_variables(facts: Facts) -> Iterator[Finding]:
    """Variables of Claude Code's with which it does not reach the proxy, or Anthropic does not recognise it."""
    places: list[tuple[str, Mapping[str, object]]] = [
        ("settings.json", facts.client_settings),
        (".env", facts.dotenv.values),
        (facts.at("environment_variables"), facts.section("environment_variables")),
    ]
    for where, variables in places:
        for name, check in CHECKS.items():
            value = variables.get(name)
            if value is not None:
                place = facts.dotenv.place(name) if where == ".env" else f"{where}: {name}"
                yield from check(place, str(value), facts)


def _headers(place: str, value: str, facts: Facts) -> Iterator[Finding]:
    remedy = "one header a line: `x-litellm-api-key: TOKEN`, and in JSON \\n between two"
    if _is_json(value):
        yield error(place, "holds JSON", remedy)
        return
    for separator, pattern in SEPARATORS.items():
        if pattern.search(value):
            # The proxy takes a comma for what was meant; other gateways do not.
            say = warning if separator == "," else error
            yield say(place, f"has {separator} between two headers, and Claude Code splits at newlines only", remedy)
            return
    for number, line in enumerate(filter(None, value.splitlines()), start=1):
        if not _LINE.fullmatch(line.strip()):
            yield error(place, f"line {number} of it is not `name: value`", remedy)
        name, _, token = line.partition(":")
        if name.strip().lower() == PROXY_TOKEN:
            yield from _placeholder(place, token.strip(), facts)


def _base_url(place: str, value: str, _: Facts) -> Iterator[Finding]:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield error(place, "is not a URL", "it should be one such as http://your-server:4000")
    elif re.search(r"/v1(/messages)?/?$", parts.path):
        yield error(place, "ends in /v1, which Claude Code adds by itself", "take /v1 away")


def _attribution(place: str, value: str, _: Facts) -> Iterator[Finding]:
    if value.strip().lower() in ("0", "false", "no", "off"):
        problem = "takes away what Anthropic recognises Claude Code by: OAuth tokens then get a 429 that names no limit"
        yield error(place, problem, "take the line away")


def _auth_token(place: str, value: str, facts: Facts) -> Iterator[Finding]:
    yield from _placeholder(place, value.strip(), facts)
    settings = facts.settings
    if not value or settings is None:
        return
    if settings.master_key and settings.master_key.reveal() == value:
        yield error(place, "is LITELLM_MASTER_KEY, which is for administration", "it should be PROXY_STATIC_TOKEN")
    if settings.mode is TokenMode.PASSTHROUGH:
        remedy = "put the proxy's token into ANTHROPIC_CUSTOM_HEADERS instead (README, form B)"
        yield warning(place, "makes Claude Code leave out its own login, which passthrough needs", remedy)


def _placeholder(place: str, token: str, facts: Facts) -> Iterator[Finding]:
    is_enough = facts.settings is not None and is_open(facts.settings)
    if PLACEHOLDER.fullmatch(token) and not is_enough:
        remedy = "put the token itself there; `claude-proxy settings` prints the static one, `claude-proxy user add` a new one"
        yield error(place, f"has {token} in the token's place", remedy)


def _is_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), (dict, list))
    except ValueError:
        return value.strip().startswith("{")


CHECKS = {
    HEADERS: _headers,
    "ANTHROPIC_BASE_URL": _base_url,
    "CLAUDE_CODE_ATTRIBUTION_HEADER": _attribution,
    "ANTHROPIC_AUTH_TOKEN": _auth_token,
}
