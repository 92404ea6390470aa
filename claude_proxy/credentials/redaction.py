"""Removes every known secret from texts that leave the process; the last line of defense."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from claude_proxy.credentials.credential import CLAUDE_PREFIX
from claude_proxy.secret import Secret

# Shorter values would match harmless words.
MIN_LENGTH = 8
SECRET_SUFFIXES = ("_KEY", "_TOKEN", "_TOKENS", "_KEYS", "_SECRET", "_PASSWORD", "REDIS_URL", "DATABASE_URL", "_TOKEN_BEDROCK")
# Parameters of config.yaml, and headers, that contain a secret.
SECRET_PARAMETER = re.compile(
    r"(^|[_-])(key|token|secret|password|credentials|secret_access_key|authorization)$", re.IGNORECASE
)
# Values that stand for "no key" at a self-hosted endpoint.
NO_KEY = re.compile(
    r"(?i)none|null|dummy|empty|fake|x+|no[-_ ]?key|not[-_ ]?needed|anything|ollama|lm-studio|sk-no-key-required"
)
REFERENCE = "os.environ/"
MARK = "***"
_PASSWORD = re.compile(r"\w+://[^:/@]*:(?P<password>[^/]+)@")
# Claude credentials are also recognized by their form: a client may put its own anywhere.
CLAUDE_CREDENTIAL = re.compile(rf"{CLAUDE_PREFIX}[A-Za-z0-9_-]{{8,}}")
# And so are access tokens: each user gets a new one every hour.
JWT_PREFIX = "eyJ"
JWT = re.compile(rf"{JWT_PREFIX}[A-Za-z0-9_-]{{8,}}\.{JWT_PREFIX}[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{8,}}")


def secrets_of(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the values of variables with a secret's name, such as the providers' keys, which LiteLLM reads itself.

    If such a value is a URL, its password is returned too.
    """
    values = [value for name, value in environ.items() if name.endswith(SECRET_SUFFIXES) and value]
    passwords = [_PASSWORD.match(value) for value in values]
    return tuple(map(Secret, [*values, *(unquote(found["password"]) for found in passwords if found)]))


def secrets_in_config(config: object, environ: Mapping[str, str]) -> Iterator[Secret]:
    """Yield the secrets in config.yaml: the values of such parameters, or of the variables that they reference."""
    if isinstance(config, list):
        for value in config:
            yield from secrets_in_config(value, environ)
    elif isinstance(config, dict):
        for name, value in config.items():
            if isinstance(value, str) and SECRET_PARAMETER.search(str(name)):
                yield from _secrets_in_value(environ.get(value.removeprefix(REFERENCE), "") if REFERENCE in value else value)
            elif isinstance(value, str) and (found := _PASSWORD.match(value)):
                yield Secret(unquote(found["password"]))
            else:
                yield from secrets_in_config(value, environ)


def _secrets_in_value(value: str) -> Iterator[Secret]:
    if NO_KEY.fullmatch(value):
        return
    yield Secret(value)
    scheme, _, rest = value.partition(" ")
    if scheme.lower() in ("bearer", "basic") and rest:
        yield Secret(rest.strip())
    try:
        key = json.loads(value).get("private_key") if value.startswith("{") else None  # a Google service account
    except (ValueError, RecursionError):
        return
    if isinstance(key, str):
        yield from (Secret(line) for line in key.splitlines() if not line.startswith("-----"))


class Redactor:
    """Removes known secret values from texts."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._values: list[str] = []
        self._forms: list[bytes] = []
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret | None) -> None:
        """Add a secret. A user's token is stored as a hash only, so its value is added at the first use."""
        value = secret.reveal() if secret else ""
        if len(value) >= MIN_LENGTH and value not in self._values:
            self._values = sorted([*self._values, value], key=len, reverse=True)
            self._forms = _forms(self._values)

    def text(self, text: str, more: Iterable[Secret] = ()) -> str:
        """Return the text without the secrets and without those of ``more``, which belong to one request."""
        extra = self._unknown(more)
        # The longest first: otherwise the end of a value that starts with another value would remain.
        for value in sorted({*self._values, *extra}, key=len, reverse=True) if extra else self._values:
            if value in text:
                text = text.replace(value, MARK)
        # Last: this pattern matches only the first part of a value that contains other characters.
        text = CLAUDE_CREDENTIAL.sub(MARK, text) if CLAUDE_PREFIX in text else text
        return JWT.sub(MARK, text) if JWT_PREFIX in text else text

    def forms(self, more: Iterable[Secret] = ()) -> list[bytes]:
        """Return the secrets as they may appear in a response, plain and JSON-escaped, the longest first."""
        extra = self._unknown(more)
        return _forms([*self._values, *extra]) if extra else self._forms

    def _unknown(self, secrets: Iterable[Secret]) -> set[str]:
        values = (secret.reveal() for secret in secrets)
        return {value for value in values if len(value) >= MIN_LENGTH and value not in self._values}


def _forms(values: Iterable[str]) -> list[bytes]:
    forms = {form.encode("utf-8", "surrogatepass") for value in values for form in (value, json.dumps(value)[1:-1])}
    return sorted(forms, key=len, reverse=True)


class RedactingFilter(logging.Filter):
    """Redacts a log record in place, including the text of its traceback."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a log line with wrong arguments must not break the request
            message, record.args = f"{record.msg} {record.args}", ()
            record.msg = message
        clean = self._redactor.text(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            clean = self._redactor.text(record.exc_text)
            if clean != record.exc_text:
                # A formatter that formats the exception itself, such as LiteLLM's JSON formatter, would restore the secret.
                record.exc_text, record.exc_info = clean, None
        return True
