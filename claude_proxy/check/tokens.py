"""Checks of secrets by their form. A finding names a variable, a label or a place, never a value."""

import re
from collections.abc import Iterator, Mapping

from claude_proxy.access.routes import is_open
from claude_proxy.check.dotenv_text import QUOTES, continuations
from claude_proxy.check.facts import Facts
from claude_proxy.check.findings import Finding, error, warning
from claude_proxy.config import models
from claude_proxy.config.settings import SettingsError, read_secret_file
from claude_proxy.config.static_token import OPEN
from claude_proxy.credentials.credential import API_KEY_PREFIX, CLAUDE_PREFIX, OAUTH_PREFIX, is_claude_credential

CREDENTIAL_PREFIXES = {"CLAUDE_OAUTH_TOKENS": OAUTH_PREFIX, "CLAUDE_API_KEYS": API_KEY_PREFIX}
OWN_TOKENS = ("PROXY_STATIC_TOKEN", "LITELLM_MASTER_KEY")
# Anthropic's credentials have 108 characters; shorter than this, one has lost its end.
SHORTEST_CREDENTIAL = 80
SHORTEST_TOKEN = 20
# Values from documents, which are known to everyone.
PLACEHOLDER = re.compile(
    r"(?i)sk-1234|sk-master.*|change[-_]?me.*|secret|password|test|token|.*\.\.\.|.*\u2026|<.*>|your[-_ ].*|.*[-_]your[-_].*"
    r"|PROXY_STATIC_TOKEN.*|none-is-needed|x{3,}|sk-x{3,}|.*replace[-_]?(me|this).*|.*example.*"
)
EXAMPLE_CREDENTIAL = re.compile(rf"(?i){CLAUDE_PREFIX}(oat|api)[0-9]{{2}}-((.)\3*|\.+|.*(\.\.\.|\u2026))?")


def credentials(facts: Facts) -> Iterator[Finding]:
    """Entries of the pool with which no request can be sent: each by its label or place."""
    for name, prefix in CREDENTIAL_PREFIXES.items():
        seen: dict[str, str] = {}
        for label, value in _entries_of(facts, name):
            place = f"{facts.dotenv.place(name)}, {label}"
            if any(quote in value for quote in QUOTES):
                yield error(place, "has quotes in it, which are sent as a part of the credential", "remove them")
            elif EXAMPLE_CREDENTIAL.fullmatch(value):
                yield error(place, "is the value of an example", f"write a real credential ({prefix}...)")
            elif value.startswith(tuple(CREDENTIAL_PREFIXES.values())) and not value.startswith(prefix):
                continue  # it keeps the proxy from starting, which is reported
            elif not value.startswith(prefix) and (shorter := _shorter(label, seen)):
                problem = f"does not start with {prefix}; if it is the end of {shorter}, the line end in that splits it"
                yield error(place, problem, "write each credential in one line")
            elif not value.startswith(prefix):
                yield error(place, f"does not start with {prefix}", "copy it again")
            elif len(value) < SHORTEST_CREDENTIAL:
                yield warning(place, f"has {len(value)} characters, and a credential of Anthropic has 108", "copy it whole")
            if value in seen:
                yield warning(place, f"is the same value as {seen[value]}", "remove one; it is used once")
            seen.setdefault(value, label)


def _entries_of(facts: Facts, name: str) -> list[tuple[str, str]]:
    """Return the entries of a list, without a backslash that should join two lines: those are reported by themselves."""
    found = entries(secret(facts, name))
    return [one for one in found if one[1] != "\\"] if name in continuations(facts.dotenv) else found


def _shorter(label: str, seen: Mapping[str, str]) -> str:
    """Return the label of the entry before one without a label, where that has lost its end; empty where it is whole."""
    before = next(reversed([*seen]), "")
    return seen[before] if label.startswith("entry ") and 0 < len(before) < SHORTEST_CREDENTIAL else ""


def entries(text: str) -> list[tuple[str, str]]:
    """Split a list as the pool does; an entry without a label is named by its place."""
    found = []
    for place, entry in enumerate(filter(None, re.split(r"[,\s]+", re.sub(r"\s*=\s*", "=", text))), start=1):
        label, equals, value = entry.partition("=")
        labelled = equals and not label.strip(QUOTES).startswith(CLAUDE_PREFIX)
        found.append((label if labelled else f"entry {place}", value if labelled else entry))
    return found


def weak_tokens(facts: Facts) -> Iterator[Finding]:
    """The proxy's own tokens: a value of an example, or one that can be guessed, protects nothing."""
    good = "`openssl rand -hex 32` prints a good one"
    for name in OWN_TOKENS:
        value = secret(facts, name)
        if not value or (name == "PROXY_STATIC_TOKEN" and value == OPEN):
            continue
        if PLACEHOLDER.fullmatch(value):
            yield error(facts.dotenv.place(name), "is the value of an example", good)
        elif not facts.dotenv.values.get(name) and (value[0] in QUOTES or value[-1] in QUOTES):
            yield error(facts.dotenv.place(name), "has quotes around its value that are a part of it", "remove them")
        elif len(value) < SHORTEST_TOKEN or len(set(value)) < 6:
            yield warning(facts.dotenv.place(name), "is short enough to be guessed", good)


def provider_keys(facts: Facts) -> Iterator[Finding]:
    """The keys that config.yaml names: spaces and other characters are sent along, values of examples are rejected."""
    for name in sorted(models.variables(dict(facts.config)) - {*OWN_TOKENS, *CREDENTIAL_PREFIXES}):
        value, place = facts.environ.get(name, ""), facts.dotenv.place(name)
        if not value:
            continue
        if value != value.strip():
            yield error(place, "has spaces around its value, which are sent as a part of it", "remove them")
        elif not facts.dotenv.values.get(name) and (value[0] in QUOTES or value[-1] in QUOTES):
            yield error(place, "has quotes around its value that are sent as a part of it", "remove them")
        elif PLACEHOLDER.fullmatch(value):
            yield error(place, "is the value of an example", "write the real one, or leave it empty")
        elif is_claude_credential(value) and not name.startswith("ANTHROPIC"):
            yield error(place, "is a Claude credential, and config.yaml sends it to another provider", "remove it")
        elif (
            value[0] not in QUOTES
            and name.upper().endswith(("KEY", "TOKEN"))
            and not (value.isascii() and value.isprintable() and " " not in value)
        ):
            yield error(place, "has a space or a character that no HTTP header can carry", "copy the key again")


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
        return ""  # an error that is reported by itself
