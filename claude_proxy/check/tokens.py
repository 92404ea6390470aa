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
# What users copy in place of a credential, by its start.
OTHER_KINDS = {
    "sk-ant-ort": "is the refresh token of a login and no credential",
    "sk-ant-admin": "is a key for administration at Anthropic, with which no message can be sent",
}
# A day in another form than 2026-03-01, which is read as a part of the label.
_OTHER_DATE = re.compile(r"@(?!\d{4}-\d\d-\d\d$)\d{1,4}[./-]\d{1,2}[./-]\d{1,4}$")
# How the start's error ends where the form of the whole list is wrong, so that its entries are not looked at.
WHOLE_FORMS = ("is JSON", "without a comma between them", "has a colon behind its label")
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
                yield error(place, *_other_form(value, prefix))
            elif len(value) < SHORTEST_CREDENTIAL:
                yield warning(place, f"has {len(value)} characters, and a credential of Anthropic has 108", "copy it whole")
            if value in seen:
                yield warning(place, f"is the same value as {seen[value]}", "remove one; it is used once")
            seen.setdefault(value, label)


def dates(facts: Facts) -> Iterator[Finding]:
    """A label that ends with a day in another form, so that the end of the token's year is not known."""
    for label, _ in _entries_of(facts, "CLAUDE_OAUTH_TOKENS"):
        if date := _OTHER_DATE.search(label):
            place = f"{facts.dotenv.place('CLAUDE_OAUTH_TOKENS')}, {label}"
            yield warning(place, f"has {date[0][1:]} as a part of its label, and not as a date", "write LABEL@2026-03-01=...")


def _other_form(value: str, prefix: str) -> tuple[str, str]:
    """Return what a value is that is no credential of this kind, and a remedy; the value itself is not shown."""
    if value.lower() == "bearer":
        return "is the word Bearer, which does not belong to a credential", "remove it"
    for other, problem in OTHER_KINDS.items():
        if value.startswith(other):
            remedy = "run `claude setup-token`, and write what it prints" if prefix == OAUTH_PREFIX else "make an API key"
            return problem, f"{remedy} ({prefix}...)"
    if "/" in value or value.startswith("~"):
        return "is a path", "write the credential itself, or set the variable of the same name with _FILE to the path"
    if value.isalpha() and len(value) < SHORTEST_TOKEN:
        return f"does not start with {prefix}", "if it is a part of a label: write the label without spaces, as in label=value"
    return f"does not start with {prefix}", "copy it again"


def _entries_of(facts: Facts, name: str) -> list[tuple[str, str]]:
    """Return the entries of a list, without a backslash that should join two lines: those are reported by themselves."""
    if any(mistake.startswith(f"{name}: ") and mistake.split("; ")[0].endswith(WHOLE_FORMS) for mistake in facts.mistakes):
        return []  # the cause keeps the proxy from starting, which is reported
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
        if not value or (name == "PROXY_STATIC_TOKEN" and value == OPEN) or value.startswith(("$", "`")):
            continue  # a command or the name of a variable, which is reported
        if PLACEHOLDER.fullmatch(value):
            yield error(facts.dotenv.place(name), "is the value of an example", good)
        elif not facts.dotenv.values.get(name) and (value[0] in QUOTES or value[-1] in QUOTES):
            yield error(facts.dotenv.place(name), "has quotes around its value that are a part of it", "remove them")
        elif len(value) < SHORTEST_TOKEN or len(set(value)) < 6:
            yield warning(facts.dotenv.place(name), "is short enough to be guessed", good)


def master_key(facts: Facts) -> Iterator[Finding]:
    """The key for administration that config.yaml names: an example's value, or a variable that is not set."""
    value, at = facts.section("general_settings").get("master_key"), facts.at("general_settings", "master_key")
    if not isinstance(value, str):
        return
    name = value.removeprefix("os.environ/")
    right = "write os.environ/LITELLM_MASTER_KEY"
    if name == value and PLACEHOLDER.fullmatch(value):
        yield error(at, "master_key is the value of an example", f"{right}, and set that variable in .env")
    elif name not in (value, "LITELLM_MASTER_KEY") and not facts.environ.get(name):
        yield error(at, f"master_key is {name}, which is not set, so there is no key for administration", right)


def provider_keys(facts: Facts) -> Iterator[Finding]:
    """The keys that config.yaml names: spaces and other characters are sent along, values of examples are rejected."""
    for name in sorted(models.variables(dict(facts.config)) - {*OWN_TOKENS, *CREDENTIAL_PREFIXES}):
        value, place = facts.environ.get(name, ""), facts.dotenv.place(name)
        if not value:
            continue
        if problem := _key_problem(name, value, is_read=bool(facts.dotenv.values.get(name))):
            yield error(place, *problem)


def _key_problem(name: str, value: str, *, is_read: bool) -> tuple[str, str] | None:
    """Return why a provider rejects a key, and a remedy; ``is_read`` is whether it is from .env, where quotes are removed."""
    if problem := _added(name, value):
        return problem
    if not is_read and (value[0] in QUOTES or value[-1] in QUOTES):
        return "has quotes around its value that are sent as a part of it", "remove them"
    if PLACEHOLDER.fullmatch(value):
        return "is the value of an example", "write the real one, or leave it empty"
    if is_claude_credential(value) and not name.startswith("ANTHROPIC"):
        return "is a Claude credential, and config.yaml sends it to another provider", "remove it"
    is_key = name.upper().endswith(("KEY", "TOKEN"))
    if is_key and value[0] not in QUOTES and not (value.isascii() and value.isprintable() and " " not in value):
        return "has a space or a character that no HTTP header can carry", "copy the key again"
    return None


def _added(name: str, value: str) -> tuple[str, str] | None:
    """Return what is beside the key in its value, and a remedy."""
    if value != value.strip():
        return "has spaces around its value, which are sent as a part of it", "remove them"
    if value.lower().startswith("bearer "):
        return "has Bearer in front, which is sent as a part of the key", "write the key alone"
    if value.startswith(f"{name}="):
        return f"has {name}= twice, and the second one is sent as a part of the key", "remove one"
    if " #" not in value and "# " in value:
        return "has a # behind the key, which starts a comment only after a space", "write a space before the #"
    return None


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
