"""The proxy's settings: read once from a mapping into one frozen value, with all errors reported together."""

import functools
import os
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx

from claude_proxy.config.credentials_file import files_of
from claude_proxy.config.pool_sources import Pooled, pooled
from claude_proxy.config.static_token import OWN_FILE as OWN_TOKEN_FILE
from claude_proxy.config.static_token import VARIABLE as STATIC_TOKEN
from claude_proxy.config.static_token import opens
from claude_proxy.config.users import FILE_VARIABLE, UserBook, digest_of, parse_list, parse_users
from claude_proxy.credentials.credential import (
    CLAUDE_PREFIX,
    Credential,
    Kind,
    MalformedCredentials,
    is_claude_credential,
    parse_credentials,
    same_label,
)
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool import Affinity, ExtraUsage
from claude_proxy.secret import Secret

E = TypeVar("E", bound=Enum)


class TokenMode(Enum):
    """Whose credential goes to Claude: one of the pool, or the client's own."""

    ROTATE = "rotate"
    PASSTHROUGH = "passthrough"


class LogFormat(Enum):
    """How the log's lines look."""

    TEXT = "text"
    JSON = "json"


class Variable(NamedTuple):
    """A line of the table that README, ``.env.example`` and this module share."""

    default: str
    meaning: str
    secret: bool = False


# The one list of the variables that this project reads. Provider keys are named by config.yaml and read by LiteLLM.
VARIABLES: Mapping[str, Variable] = {
    "PROXY_STATIC_TOKEN": Variable(
        "", "the token that every client may send; empty: a generated one; `open` needs no token", secret=True
    ),
    "PROXY_USER_TOKENS": Variable("", "a token for each user: name=token, separated by commas", secret=True),
    "PROXY_USER_TOKENS_FILE": Variable("", "the same in a file, one per line; a change applies immediately"),
    "PROXY_SIGNING_KEYS_FILE": Variable("", "the keys of sign-in with `/login`, in a file that all replicas read and write"),
    "LITELLM_MASTER_KEY": Variable("", "the key for administration; empty makes a random one at each start", secret=True),
    "CLAUDE_OAUTH_TOKENS": Variable("", "the pool's Claude OAuth tokens", secret=True),
    "CLAUDE_API_KEYS": Variable("", "the pool's Anthropic API keys, used when no OAuth token is usable", secret=True),
    "CLAUDE_CREDENTIALS_FILE": Variable(
        "", "more of the pool, with priorities and other terms; a change applies without a restart"
    ),
    "CLAUDE_TOKEN_MODE": Variable("rotate", "whose credential goes to Claude: `rotate` or `passthrough`"),
    "CLAUDE_TOKEN_COOLDOWN_SECONDS": Variable("60", "rest after a 429 that does not say how long"),
    "CLAUDE_TOKEN_QUARANTINE_SECONDS": Variable("900", "how long a refused credential stays out"),
    "CLAUDE_TOKEN_AFFINITY": Variable("session", "`session` keeps a session on one credential, `none` does not"),
    "CLAUDE_TOKEN_SOFT_LIMIT": Variable("0.98", "the fullness of a window from which a credential takes no new session"),
    "CLAUDE_POOL_ORDER": Variable("headroom", "which credential a new session takes: `headroom` or `reset-first`"),
    "CLAUDE_EXTRA_USAGE": Variable("last", "a plan's paid extra usage: `last`, when every plan is full, or `never`"),
    "CLAUDE_POOL_MAX_WAIT_SECONDS": Variable("0", "how long a request waits when every credential rests (at most 240)"),
    "CLAUDE_POOL_STATE_FILE": Variable("", "what the pool knows, in a file shared by all workers; `none` keeps it in memory"),
    "REDIS_URL": Variable("", "a Redis that keeps what the pool knows, for several replicas", secret=True),
    "DATABASE_URL": Variable("", "a PostgreSQL for LiteLLM's own keys, budgets and admin pages", secret=True),
    "NUM_WORKERS": Variable("1", "how many processes serve"),
    "PROXY_DRAIN_SECONDS": Variable("120", "how long a stop waits for requests under way (at most 3600)"),
    "ANTHROPIC_API_BASE": Variable("https://api.anthropic.com", "where Claude is; the only host that sees a Claude credential"),
    "PROXY_LOG_FORMAT": Variable("text", "the log's lines: `text` or `json`"),
    "HOST": Variable("127.0.0.1", "the address that `make run` listens on"),
    "PORT": Variable("4000", "the port"),
    "SCALE_PORT": Variable("4080", "the port of the load balancer in Docker's profile `scale`"),
    "PROXY_DOMAIN": Variable("localhost", "the name that Docker's profile `tls` gets a certificate for"),
    "HTTP_PORT": Variable("80", "the port from which Docker's profile `tls` sends to HTTPS"),
    "HTTPS_PORT": Variable("443", "the port of Docker's profile `tls`"),
    "PROXY_BIND": Variable("0.0.0.0", "the address that Docker publishes the port on"),  # noqa: S104 - a team's server
    "CLAUDE_PROXY_IMAGE": Variable("", "the name of the published image that Docker uses, without a tag; empty: built here"),
}
# The launcher passes ``REDIS_URL`` on under this name: LiteLLM would use the original too, and fail when Redis is down.
OWN_REDIS = "CLAUDE_PROXY_REDIS_URL"
# The launcher passes the path of the users file on under this name while the file does not exist.
OWN_USERS_FILE = "CLAUDE_PROXY_USERS_FILE"


class Service(NamedTuple):
    """What is at an address, the schemes of the address, and an example."""

    name: str
    schemes: tuple[str, ...]
    example: str


SERVICES: Mapping[str, Service] = {
    "REDIS_URL": Service("a Redis", ("redis://", "rediss://", "unix://"), "redis://localhost:6379/0"),
    "DATABASE_URL": Service(
        "a PostgreSQL", ("postgresql://", "postgres://"), "postgresql://user:password@localhost:5432/litellm"
    ),
}
# The sources of credentials that no command can change.
POOL_VARIABLES = ("CLAUDE_OAUTH_TOKENS", "CLAUDE_API_KEYS")
POOL_SOURCES = frozenset({*POOL_VARIABLES, *(f"{name}_FILE" for name in POOL_VARIABLES)})
SECRET_NAMES = tuple(name for name, variable in VARIABLES.items() if variable.secret)


def secret_file(name: str, environ: Mapping[str, str]) -> str:
    """Return the path that ``NAME_FILE`` holds, unless that is a variable of its own."""
    return "" if f"{name}_FILE" in VARIABLES else environ.get(f"{name}_FILE", "").strip()


# The serving process removes these from its environment: LiteLLM resolves references to any variable of the environment.
# LiteLLM itself needs DATABASE_URL, LITELLM_MASTER_KEY and the providers' keys.
OWN_SECRETS = frozenset(SECRET_NAMES) - {"DATABASE_URL", "LITELLM_MASTER_KEY"} | {OWN_REDIS}
TAKEN_NAMES = OWN_SECRETS | {f"{name}_FILE" for name in SECRET_NAMES} | {OWN_USERS_FILE, OWN_TOKEN_FILE}


class Environment(ChainMap[str, str]):
    """The variables that the process was started with, including those that ``os.environ`` no longer has."""

    def __repr__(self) -> str:
        """Show no value: some are secrets."""
        return f"<{type(self).__name__} of {len(self)} variables>"


@functools.cache
def _taken() -> dict[str, str]:
    """Return the variables that the process has removed from ``os.environ``: one dict per process."""
    return {}


def environment() -> Environment:
    """Move the proxy's own secrets out of ``os.environ``; return all variables, including those that earlier calls moved.

    Each worker inherits the environment of its parent, so each calls this before it imports LiteLLM, and again afterwards:
    in its development mode LiteLLM reads a ``.env`` when it is imported.
    """
    taken = _taken()
    for name in TAKEN_NAMES & os.environ.keys():
        taken.setdefault(name, os.environ.pop(name))
    return Environment(taken, os.environ)


class SettingsError(ValueError):
    """Invalid settings. ``mistakes`` holds a sentence per error: the variable, the problem, and what to write instead."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Settings:
    """All settings, checked. Times are in seconds."""

    static_token: Secret | None
    # The only part of the settings that changes: it reads its file again after each change.
    users: UserBook = field(compare=False)
    master_key: Secret | None
    credentials: tuple[Credential, ...]
    mode: TokenMode
    cooldown_seconds: float
    quarantine_seconds: float
    affinity: Affinity
    soft_limit: float
    order: Order
    extra_usage: ExtraUsage
    max_wait_seconds: float
    state_file: str
    redis_url: Secret | None
    database_url: Secret | None
    workers: int
    drain_seconds: float
    claude_base: str
    log_format: LogFormat
    host: str
    port: int
    domain: str
    # What keeps single credentials from being used, in words.
    pool_problems: tuple[str, ...] = ()
    # Whether PROXY_STATIC_TOKEN is the word that opens the proxy to everyone.
    opened: bool = False
    # Whether `claude-proxy serve` started the process: then nothing but that word opens it.
    served: bool = False

    @classmethod
    def parse(cls, environ: Mapping[str, str], *, lenient: bool = False) -> "Settings":
        """Read every variable; raise ``SettingsError`` with all errors together.

        ``lenient`` turns errors of the pool into problems: a worker that starts beside others uses what it can read.
        """
        return _Reader(environ).settings(lenient=lenient)


def read_pool(environ: Mapping[str, str], before: Iterable[Credential] = (), *, required: bool = False) -> Pooled:
    """Return the pool of the variables and files as they are now; ``before`` and ``required`` are as in ``pooled``."""
    reader = _Reader(environ)
    found = reader.pool(before, required=required)
    return found._replace(mistakes=(*reader.mistakes, *found.mistakes))


def read_secret_file(name: str, path: str) -> str:
    """Return the text of the file that ``NAME_FILE`` names; raise ``SettingsError`` if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        # The path is not shown: it may be the secret itself.
        reason = "it is a credential and no path" if CLAUDE_PREFIX in path else reason
        mistake = f"{name}_FILE: the file cannot be read ({reason}); set it to the path of a readable file"
        raise SettingsError((mistake,)) from error


def shown(value: str) -> str:
    """Return an invalid value for an error message, unless it is a credential."""
    return "a Claude credential (sk-ant-...)" if CLAUDE_PREFIX in value else repr(value)


class _Reader:
    """Collects errors while it reads, so that one start shows all of them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.mistakes: list[str] = []

    def settings(self, *, lenient: bool) -> Settings:
        found = self.pool()
        self.mistakes += found.mistakes
        problems = (*found.problems, *(self.mistakes if lenient else ()))
        if lenient:
            self.mistakes.clear()
        database_url = self.address("DATABASE_URL")
        opened, mistakes = opens(self.value(STATIC_TOKEN), database=database_url is not None)
        self.mistakes += mistakes
        static_token, master_key = None if opened else self.secret(STATIC_TOKEN), self.secret("LITELLM_MASTER_KEY")
        if static_token and master_key and static_token.matches(master_key):
            self.mistakes.append(
                "LITELLM_MASTER_KEY: is the same as PROXY_STATIC_TOKEN, which would make every client an administrator; "
                "set it to a value of its own"
            )
        settings = Settings(
            static_token=static_token,
            users=self.users(static_token, master_key),
            master_key=master_key,
            credentials=found.credentials,
            pool_problems=problems,
            mode=self.choice("CLAUDE_TOKEN_MODE", TokenMode),
            cooldown_seconds=self.seconds("CLAUDE_TOKEN_COOLDOWN_SECONDS"),
            quarantine_seconds=self.seconds("CLAUDE_TOKEN_QUARANTINE_SECONDS"),
            affinity=self.choice("CLAUDE_TOKEN_AFFINITY", Affinity),
            soft_limit=self.number("CLAUDE_TOKEN_SOFT_LIMIT", float, 0, 1, "a fraction from 0 to 1"),
            order=self.choice("CLAUDE_POOL_ORDER", Order),
            extra_usage=self.choice("CLAUDE_EXTRA_USAGE", ExtraUsage),
            max_wait_seconds=self.number("CLAUDE_POOL_MAX_WAIT_SECONDS", float, 0, 240, "a number of seconds from 0 to 240"),
            state_file=self.value("CLAUDE_POOL_STATE_FILE"),
            redis_url=self.address("REDIS_URL", OWN_REDIS),
            database_url=database_url,
            workers=int(self.number("NUM_WORKERS", int, 1, 64, "a number of processes from 1 to 64")),
            drain_seconds=self.number("PROXY_DRAIN_SECONDS", float, 0, 3600, "a number of seconds from 0 to 3600"),
            claude_base=self.url("ANTHROPIC_API_BASE"),
            log_format=self.choice("PROXY_LOG_FORMAT", LogFormat),
            host=self.value("HOST"),
            port=self.port("PORT"),
            domain=self.value("PROXY_DOMAIN"),
            opened=opened,
            served=OWN_TOKEN_FILE in self.environ,
        )
        if self.mistakes:
            raise SettingsError(tuple(self.mistakes))
        return settings

    def value(self, name: str) -> str:
        return self.environ.get(name, "").strip() or VARIABLES[name].default

    def text(self, name: str) -> str:
        """Return a secret's text, from the variable or from the file that ``NAME_FILE`` names; empty if neither is set."""
        text, path = self.environ.get(name, "").strip(), secret_file(name, self.environ)
        if not path:
            return text
        if text:
            self.mistakes.append(f"{name}_FILE: {name} is set too; set only one of them")
            return ""
        try:
            return read_secret_file(name, path)
        except SettingsError as error:
            self.mistakes += error.mistakes
            return ""

    def secret(self, name: str) -> Secret | None:
        text = self.text(name)
        if not text:
            return None
        if text.startswith(("$(", "`")):
            self.mistakes.append(f"{name}: is a command of a shell, which is not run; run it, and write what it prints")
            return None
        if not text.isascii() or not text.isprintable() or " " in text or "," in text:
            self.mistakes.append(
                f"{name}: contains a space, a comma or a character that an HTTP header cannot carry; "
                "set it to one word of letters and digits, such as `openssl rand -hex 32` prints"
            )
            return None
        if is_claude_credential(text):
            # The header policy would take it for the client's own credential, so it would never be accepted.
            self.mistakes.append(f"{name}: is a Claude credential (sk-ant-...); set it to a token of the proxy's own")
            return None
        return Secret(text)

    def users(self, static_token: Secret | None, master_key: Secret | None) -> UserBook:
        """Read the users of the variable. The users file is not read here: an error in it does not stop a start."""
        named = (("PROXY_STATIC_TOKEN", static_token), ("LITELLM_MASTER_KEY", master_key))
        forbidden = {digest_of(secret): name for name, secret in named if secret}
        fixed, mistakes = parse_users(parse_list(self.text("PROXY_USER_TOKENS")), forbidden=forbidden)
        self.mistakes += [f"PROXY_USER_TOKENS: {mistake}" for mistake in mistakes]
        path = self.value(FILE_VARIABLE)
        own = path or self.environ.get(OWN_USERS_FILE, "")
        return UserBook(fixed, Path(own) if own else None, named=bool(path), forbidden=forbidden)

    def pool(self, before: Iterable[Credential] = (), *, required: bool = False) -> Pooled:
        """Read the variables, whose errors this reader collects, and add the credentials of the file."""
        oauth = self.credentials("CLAUDE_OAUTH_TOKENS", Kind.OAUTH)
        keys = self.credentials("CLAUDE_API_KEYS", Kind.API_KEY)
        twice = same_label((*oauth, *keys))
        if twice is not None:
            self.mistakes.append(
                f"CLAUDE_API_KEYS: the label {twice!r} is also used in CLAUDE_OAUTH_TOKENS; give each another label"
            )
        found = pooled((*oauth, *keys), files_of(self.environ), before, required=required)
        named = (secret_file(name, self.environ) for name in POOL_VARIABLES)
        return found._replace(paths=(*found.paths, *(Path(path) for path in named if path)))

    def credentials(self, name: str, kind: Kind) -> tuple[Credential, ...]:
        source = f"{name}_FILE" if secret_file(name, self.environ) else name
        try:
            return tuple(replace(one, source=source) for one in parse_credentials(self.text(name), kind))
        except MalformedCredentials as error:
            self.mistakes.append(f"{name}: {error}; write `value` or `label=value`, separated by commas")
            return ()

    def choice(self, name: str, choices: type[E]) -> E:
        options = {str(member.value): member for member in choices}
        value = self.value(name)
        if value not in options:
            self.mistakes.append(f"{name}: is {shown(value)}; set it to {' or '.join(options)}")
            return options[VARIABLES[name].default]
        return options[value]

    def number(self, name: str, convert: Callable[[str], float], low: float, high: float, meant: str) -> float:
        value = self.value(name)
        try:
            number = convert(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            self.mistakes.append(f"{name}: is {shown(value)}; set it to {meant}")
            return convert(VARIABLES[name].default)
        return number

    def seconds(self, name: str) -> float:
        return self.number(name, float, 0, 7 * 86400, "a number of seconds from 0 to 604800")

    def port(self, name: str) -> int:
        return int(self.number(name, int, 1, 65535, "a port number from 1 to 65535"))

    def address(self, name: str, other: str = "") -> Secret | None:
        """Read the address of a service. It may contain a password, so it is never shown."""
        service, text = SERVICES[name], self.text(name) or self.environ.get(other, "")
        if text and not text.startswith(service.schemes):
            self.mistakes.append(f"{name}: is not the address of {service.name}; write one such as {service.example}")
            return None
        return Secret(text) if text else None

    def url(self, name: str) -> str:
        value = self.value(name).rstrip("/")
        try:
            parts = urlsplit(value)
            usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc)
            # The HTTP client accepts fewer URLs, and treats a line break in one differently.
            usable = usable and value.isascii() and value.isprintable() and bool(httpx.URL(value).host)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            self.mistakes.append(f"{name}: is not a usable URL; write one such as {VARIABLES[name].default}")
            return VARIABLES[name].default
        return value
