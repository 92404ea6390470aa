"""Checks of secrets by their form. A finding names a variable, a label or a place, and never a value."""

import re
from collections.abc import Iterator

from claude_proxy.access.routes import is_open
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config import models
from claude_proxy.config.settings import SettingsError, read_secret_file
from claude_proxy.credentials.credential import API_KEY_PREFIX, CLAUDE_PREFIX, OAUTH_PREFIX

CREDENTIAL_PREFIXES = {"CLAUDE_OAUTH_TOKENS": OAUTH_PREFIX, "CLAUDE_API_KEYS": API_KEY_PREFIX}
OWN_TOKENS = ("PROXY_STATIC_TOKEN", "LITELLM_MASTER_KEY")
# Anthropic's credentials have 108 characters; shorter than this, one has lost its end.
SHORTEST_CREDENTIAL = 80
SHORTEST_TOKEN = 20
QUOTES = "\"'`\u2018\u2019\u201c\u201d"
# Values that documents use: everybody knows them.
PLACEHOLDER = re.compile(
    r"(?i)sk-1234|sk-master.*|change[-_]?me.*|secret|password|test|token|.*\.\.\.|.*\u2026|<.*>|your[-_ ].*|.*[-_]your[-_].*"
    r"|PROXY_STATIC_TOKEN.*|none-is-needed|x{3,}|sk-x{3,}|.*replace[-_]?(me|this).*|.*example.*"
)
EXAMPLE_CREDENTIAL = re.compile(rf"(?i){CLAUDE_PREFIX}(oat|api)[0-9]{{2}}-((.)\3*|\.+|.*(\.\.\.|\u2026))?")


def credentials(facts: Facts) -> Iterator[Finding]:
    """Entries of the pool that no request can go out with: each by its label or place."""
    for name, prefix in CREDENTIAL_PREFIXES.items():
        seen: dict[str, str] = {}
        for label, value in entries(secret(facts, name)):
            place = f"{facts.dotenv.place(name)}, {label}"
            if any(quote in value for quote in QUOTES):
                yield error(place, "has quotes in it", "take them away")
            elif EXAMPLE_CREDENTIAL.fullmatch(value):
                yield error(place, "is an example's value", f"put a real one there ({prefix}...)")
            elif not value.startswith(prefix):
                yield error(place, f"does not begin with {prefix}", "copy it again")
            elif len(value) < SHORTEST_CREDENTIAL:
                yield warning(place, f"has {len(value)} characters, and Anthropic's have 108", "was its end cut off?")
            if value in seen:
                yield warning(place, f"is the same value as {seen[value]}", "one of them is passed over")
            seen.setdefault(value, label)


def entries(text: str) -> list[tuple[str, str]]:
    """Split a list as the pool does; an entry without a label is named by its place."""
    found = []
    for place, entry in enumerate(filter(None, re.split(r"[,\s]+", re.sub(r"\s*=\s*", "=", text))), start=1):
        label, equals, value = entry.partition("=")
        labelled = equals and not label.strip(QUOTES).startswith(CLAUDE_PREFIX)
        found.append((label if labelled else f"entry {place}", value if labelled else entry))
    return found


def weak_tokens(facts: Facts) -> Iterator[Finding]:
    """The proxy's own tokens: what an example or a guess holds is known to everybody."""
    for name in OWN_TOKENS:
        value = secret(facts, name)
        if not value:
            continue
        if PLACEHOLDER.fullmatch(value):
            yield error(facts.dotenv.place(name), "is an example's value", "`openssl rand -hex 32` prints a good one")
        elif value[0] in QUOTES or value[-1] in QUOTES:
            yield error(facts.dotenv.place(name), "has quotes around it", "take them away")
        elif len(value) < SHORTEST_TOKEN or len(set(value)) < 6:
            yield warning(facts.dotenv.place(name), "is short enough to be guessed", "`openssl rand -hex 32` prints a good one")


def provider_keys(facts: Facts) -> Iterator[Finding]:
    """The keys that config.yaml names: quotes and spaces around them are sent along, examples are refused."""
    for name in sorted(models.variables(dict(facts.config)) - {*OWN_TOKENS, *CREDENTIAL_PREFIXES}):
        value = facts.environ.get(name, "")
        if not value:
            continue
        if value != value.strip() or value[0] in QUOTES or value[-1] in QUOTES:
            yield error(facts.dotenv.place(name), "has quotes or spaces around its value", "take them away")
        elif PLACEHOLDER.fullmatch(value):
            yield error(facts.dotenv.place(name), "is an example's value", "put the real one there, or leave it empty")
        elif value.startswith(CLAUDE_PREFIX) and not name.startswith("ANTHROPIC"):
            yield error(
                facts.dotenv.place(name), "is a Claude credential, and config.yaml sends it to a provider", "take it away"
            )


def open_proxy(facts: Facts) -> Iterator[Finding]:
    """With the word `open` in the token's place, everyone who can reach the port is a user."""
    if facts.settings and is_open(facts.settings):
        problem = "is `open`: everyone who can reach the port can use the models and credentials without a token"
        yield warning(
            facts.dotenv.place("PROXY_STATIC_TOKEN"), problem, "set a token; `openssl rand -hex 32` prints a good one"
        )


def secret(facts: Facts, name: str) -> str:
    """Return a secret's text, from the variable or from the file that ``NAME_FILE`` names; empty where there is none."""
    text, path = facts.environ.get(name, "").strip(), facts.environ.get(f"{name}_FILE", "").strip()
    try:
        return text or (read_secret_file(name, path) if path else "")
    except SettingsError:
        return ""  # a mistake that is told by itself
