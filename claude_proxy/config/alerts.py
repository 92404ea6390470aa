"""What operators are alerted to, and where: ``claude_proxy: alerts:`` in config.yaml. Plain values, no I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from claude_proxy.config.spelling import unknown
from claude_proxy.providers.endpoints import BLOCK, Origin, in_block
from claude_proxy.secret import Secret

KEY = "alerts"
TO, NAME, PAGE, RULES = "to", "name", "url", "rules"
KEYS = (TO, NAME, PAGE, RULES)
URL, SEVERITY = "url", "severity"
TARGET_KEYS = (URL, NAME, SEVERITY)
INFO, WARNING, CRITICAL = "info", "warning", "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)
# Rules that are on or off, and what each of them reports.
POOL_EMPTY, REJECTED, LOGIN_EXPIRED, STORE_AWAY = "pool_empty", "credential_rejected", "login_expired", "store_away"
BAD_RELEASE, CONFIG_PROBLEM, PROBLEM, NO_CREDENTIAL, OPEN_PROXY, UNPRICED = (
    "litellm_release",
    "config_problem",
    "pool_problem",
    "no_credential",
    "open_proxy",
    "unpriced_model",
)
SWITCHES = (
    POOL_EMPTY,
    REJECTED,
    LOGIN_EXPIRED,
    STORE_AWAY,
    BAD_RELEASE,
    CONFIG_PROBLEM,
    PROBLEM,
    NO_CREDENTIAL,
    OPEN_PROXY,
    UNPRICED,
)
POOL_LOW, TOKEN_ENDS, BUDGET, ERROR_RATE = "pool_low", "token_ends", "budget", "error_rate"
RULE_NAMES = (POOL_LOW, POOL_EMPTY, REJECTED, TOKEN_ENDS, LOGIN_EXPIRED, BUDGET, ERROR_RATE, *SWITCHES[3:])
MAX_TARGETS = 20
MAX_NAME = 60
_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_SEPARATORS = re.compile(r"[/:@?&=#]")
# From this length on, a part of an address is a token.
TOKEN_LENGTH = 20
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://", re.IGNORECASE)


class Number(NamedTuple):
    """A number in a rule: its smallest and largest value, and its default."""

    least: int
    most: int
    default: int


# The numbers of the rules that have several.
NUMBERS: Mapping[str, Mapping[str, Number]] = {
    POOL_LOW: {"below": Number(1, 99, 10), "hours": Number(0, 168, 2)},
    ERROR_RATE: {"above": Number(1, 100, 20), "requests": Number(1, 1_000_000, 20), "minutes": Number(1, 10, 10)},
}
# The thresholds of the rules that have a list of them, with the largest allowed one.
LISTS: Mapping[str, tuple[tuple[int, ...], int, str]] = {
    TOKEN_ENDS: ((30, 7, 1), 365, "days before the end"),
    BUDGET: ((75, 95, 100), 100, "per cent of the budget"),
}


@dataclass(frozen=True)
class Thresholds:
    """When a rule applies. None or an empty tuple: the rule is off."""

    # The share that is left of the pool, in per cent, and for how many hours no reset changes that.
    pool_low: tuple[int, int] | None = (10, 2)
    # Days before the end of a setup token, and shares of a budget in per cent.
    token_ends: tuple[int, ...] = (30, 7, 1)
    budget: tuple[int, ...] = (75, 95, 100)
    # The share of failed requests in per cent, the least number of requests, and the minutes in which they are counted.
    error_rate: tuple[int, int, int] | None = (20, 20, 10)
    # The names of ``SWITCHES`` that are off.
    off: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Target:
    """Where alerts are sent. ``name`` appears in logs; ``url`` may contain a token or a password."""

    name: str
    url: Secret
    severity: str = INFO

    def wants(self, severity: str) -> bool:
        """Return whether alerts of this severity are sent there."""
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)


@dataclass(frozen=True)
class Alerts:
    """The alerts of a configuration. ``name`` is the title of messages, ``page`` the address in them; may be empty."""

    targets: tuple[Target, ...] = ()
    name: str = "claude-proxy"
    page: str = ""
    thresholds: Thresholds = Thresholds()

    @classmethod
    def of(cls, config: Mapping[str, Any], environ: Mapping[str, str]) -> "Alerts":
        """Read a configuration in which ``mistakes`` found no error. A target that is not ready is left out."""
        found = in_block(config, KEY) or {}
        targets, names = [], set[str]()
        for entry in found.get(TO) or ():
            name, url = _name_of(entry, names, environ), _entry(entry)[URL]
            if not missing(url, environ):
                targets.append(Target(name, Secret(resolved(url, environ)), _entry(entry).get(SEVERITY, INFO)))
        thresholds = _thresholds(found.get(RULES) or {})
        return cls(tuple(targets), found.get(NAME) or cls.name, found.get(PAGE) or "", thresholds)


def missing(url: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the unset variables to which a target's address refers."""
    return tuple(name for name in dict.fromkeys(_REFERENCE.findall(url)) if not environ.get(name, "").strip())


def resolved(url: str, environ: Mapping[str, str]) -> str:
    """Return a target's address with the values of its variables.

    A value inside an address is escaped; a slash stays, except in a user name or password.
    """
    url = url.strip()
    if whole := _REFERENCE.fullmatch(url):
        return environ.get(whole[1], "").strip()
    user_info = url.rfind("@")
    return _REFERENCE.sub(
        lambda found: quote(environ.get(found[1], "").strip(), safe="" if found.start() < user_info else "/"), url
    )


def secrets(targets: Iterable[Target]) -> Iterator[Secret]:
    """Yield what no log may contain: the addresses, their passwords, and the long parts in them, which are tokens."""
    for target in targets:
        url = target.url.reveal()
        yield target.url
        user_info, at, _ = url.partition("://")[2].rpartition("@")
        if at and ":" in user_info:
            yield Secret(user_info.partition(":")[2])
            yield Secret(unquote(user_info.partition(":")[2]))
        yield from (Secret(part) for part in _SEPARATORS.split(url) if len(part) >= TOKEN_LENGTH)


def entries(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the targets as written, of a configuration in which ``mistakes`` found no error."""
    found = in_block(config, KEY) or {}
    return tuple(_entry(entry) for entry in found.get(TO) or ())


def _entry(entry: object) -> Mapping[str, Any]:
    return entry if isinstance(entry, dict) else {URL: entry}


def _name_of(entry: object, taken: set[str], environ: Mapping[str, str]) -> str:
    """Return a target's name: the one that is written, else its kind, with a number for the second of a kind."""
    written = _entry(entry).get(NAME) or _kind(resolved(_entry(entry)[URL], environ))
    name, number = str(written), 2
    while name in taken:
        name, number = f"{written} {number}", number + 1
    taken.add(name)
    return name


def _kind(url: str) -> str:
    """Return the scheme of an address; for a web page also its host, which is no secret."""
    origin = Origin.of(url)
    if origin is not None:
        return origin.host
    scheme = urlsplit(url).scheme if _SCHEME.match(url) else ""
    return scheme.lower() or "target"


def _thresholds(rules: Mapping[str, Any]) -> Thresholds:
    def numbers(name: str) -> tuple[int, ...] | None:
        written = rules.get(name, True)
        if written is False:
            return None
        given = written if isinstance(written, dict) else {}
        return tuple(given.get(key, number.default) for key, number in NUMBERS[name].items())

    def listed(name: str) -> tuple[int, ...]:
        written = rules.get(name, True)
        if isinstance(written, list):
            return tuple(written)
        return () if written is False else LISTS[name][0]

    low, rate = numbers(POOL_LOW), numbers(ERROR_RATE)
    return Thresholds(
        None if low is None else (low[0], low[1]),
        listed(TOKEN_ENDS),
        listed(BUDGET),
        None if rate is None else (rate[0], rate[1], rate[2]),
        frozenset(name for name in SWITCHES if rules.get(name) is False),
    )


def mistakes(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield one message per error in the section; ``config`` is a mapping that is not validated yet."""
    if KEY in config:
        yield f"{KEY}: belongs under {BLOCK}; at the beginning of a line nobody is alerted"
    found, at = in_block(config, KEY), f"{BLOCK}: {KEY}"
    if found is None:
        return
    if not isinstance(found, dict):
        yield f"{at}: should be a mapping with the key {TO}, a list of addresses"
        return
    yield from (f"{at}: {unknown(name, KEYS)}" for name in found if name not in KEYS)
    yield from (f"{at}: {TO}: {mistake}" for mistake in _mistakes_of_targets(found.get(TO)))
    if NAME in found and not _is_name(found[NAME]):
        yield f"{at}: {NAME}: should be a text of up to {MAX_NAME} characters, the title of messages"
    page = found.get(PAGE)
    if page is not None and (not isinstance(page, str) or Origin.of(page) is None):
        yield f"{at}: {PAGE}: should be the address of the page, such as https://proxy.example.org/pool"
    rules = found.get(RULES)
    if rules is not None and not isinstance(rules, dict):
        yield f"{at}: {RULES}: should be a mapping of rules, such as {POOL_LOW}: {{below: 10, hours: 2}}"
    elif rules:
        yield from (f"{at}: {RULES}: {mistake}" for name, value in rules.items() for mistake in _mistakes_of_rule(name, value))


def _mistakes_of_targets(found: object) -> Iterator[str]:
    """Yield the errors. No value is shown: an address may contain a token."""
    if found is None:
        return
    if not isinstance(found, list) or len(found) > MAX_TARGETS:
        yield f"should be a list of up to {MAX_TARGETS} addresses, each behind a dash"
        return
    for place, entry in enumerate(found, start=1):
        url = _entry(entry).get(URL)
        if not isinstance(url, str) or not (_REFERENCE.fullmatch(url.strip()) or _SCHEME.match(url.strip())):
            yield f"entry {place} should be an address such as jsons://example.org/alerts, or os.environ/NAME"
        for key in entry if isinstance(entry, dict) else ():
            if key not in TARGET_KEYS:
                yield f"entry {place}: {unknown(key, TARGET_KEYS)}"
        if not _is_name(_entry(entry).get(NAME, "target")):
            yield f"entry {place}: {NAME}: should be a text of up to {MAX_NAME} characters"
        if _entry(entry).get(SEVERITY, INFO) not in SEVERITIES:
            yield f"entry {place}: {SEVERITY}: should be one of {', '.join(SEVERITIES)}, the least one that is sent there"


def _mistakes_of_rule(name: object, value: object) -> Iterator[str]:
    if name not in RULE_NAMES:
        yield unknown(name, RULE_NAMES)
    elif isinstance(value, bool):
        return
    elif name in NUMBERS:
        yield from _mistakes_of_numbers(str(name), value)
    elif name in LISTS:
        default, most, words = LISTS[str(name)]
        if not isinstance(value, list) or not value or not all(_is_number(one, 1, most) for one in value):
            yield f"{name}: should be {words}, as a list of whole numbers up to {most} such as {[*default]}, or false"
    else:
        yield f"{name}: should be true or false"


def _mistakes_of_numbers(name: str, value: object) -> Iterator[str]:
    known = NUMBERS[name]
    if not isinstance(value, dict):
        example = ", ".join(f"{key}: {number.default}" for key, number in known.items())
        yield f"{name}: should be {{{example}}}, or false"
        return
    for key, given in value.items():
        number = known.get(key) if isinstance(key, str) else None
        if number is None:
            yield f"{name}: {unknown(key, tuple(known))}"
        elif not _is_number(given, number.least, number.most):
            yield f"{name}: {key}: should be a whole number from {number.least} to {number.most}"


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME and value.isprintable()
