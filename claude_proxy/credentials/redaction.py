"""The last line of defence for secrets: texts that leave the process lose every secret value that is known."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from claude_proxy.credentials.credential import CLAUDE_PREFIX
from claude_proxy.secret import Secret

# Shorter values would take harmless words out of every text.
MIN_LENGTH = 8
SECRET_SUFFIXES = ("_KEY", "_TOKEN", "_TOKENS", "_KEYS", "_SECRET", "_PASSWORD", "REDIS_URL", "DATABASE_URL")
# Parameters of config.yaml that hold a secret, and headers that do.
SECRET_PARAMETER = re.compile(
    r"(^|[_-])(key|token|secret|password|credentials|secret_access_key|authorization)$", re.IGNORECASE
)
# What stands for "no key" at an endpoint of one's own.
NO_KEY = re.compile(
    r"(?i)none|null|dummy|empty|fake|x+|no[-_ ]?key|not[-_ ]?needed|anything|ollama|lm-studio|sk-no-key-required"
)
REFERENCE = "os.environ/"
MARK = "***"
_PASSWORD = re.compile(r"\w+://[^:/@]*:(?P<password>[^/]+)@")
# Claude credentials are known by their form, too: a client may put its own where nobody looks for it.
CLAUDE_CREDENTIAL = re.compile(rf"{CLAUDE_PREFIX}[A-Za-z0-9_-]{{8,}}")


def secrets_of(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the environment's values whose variable sounds like a secret: the providers' keys, which LiteLLM reads itself.

    Of an address that is one, the password alone is one, too.
    """
    values = [value for name, value in environ.items() if name.endswith(SECRET_SUFFIXES) and value]
    passwords = [_PASSWORD.match(value) for value in values]
    return tuple(map(Secret, [*values, *(unquote(found["password"]) for found in passwords if found)]))


def secrets_in_config(config: object, environ: Mapping[str, str]) -> Iterator[Secret]:
    """Yield the values of the parameters of config.yaml that hold a secret: written there, or in a variable that they name."""
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
        key = json.loads(value).get("private_key") if value.startswith("{") else None  # a service account of Google's
    except (ValueError, RecursionError):
        return
    if isinstance(key, str):
        yield from (Secret(line) for line in key.splitlines() if not line.startswith("-----"))


class Redactor:
    """Takes known secret values out of texts."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._values: list[str] = []
        self._forms: list[bytes] = []
        for secret in secrets:
            self.learn(secret)

    def learn(self, secret: Secret | None) -> None:
        """Take this one out from now on, too: a person's token is known by its hash alone until it is used."""
        value = secret.reveal() if secret else ""
        if len(value) >= MIN_LENGTH and value not in self._values:
            self._values = sorted([*self._values, value], key=len, reverse=True)
            self._forms = _forms(self._values)

    def text(self, text: str, more: Iterable[Secret] = ()) -> str:
        """Return the text without the secrets, and without those of ``more``, which are known for one request only."""
        extra = self._unknown(more)
        # The longest first, or a value that begins with another one would leave its end behind.
        for value in sorted({*self._values, *extra}, key=len, reverse=True) if extra else self._values:
            if value in text:
                text = text.replace(value, MARK)
        # Last: of a value with other characters in it, the form takes only the beginning.
        return CLAUDE_CREDENTIAL.sub(MARK, text) if CLAUDE_PREFIX in text else text

    def forms(self, more: Iterable[Secret] = ()) -> list[bytes]:
        """Return the secrets as they can stand in a response, plain and inside JSON, the longest first."""
        extra = self._unknown(more)
        return _forms([*self._values, *extra]) if extra else self._forms

    def _unknown(self, secrets: Iterable[Secret]) -> set[str]:
        values = (secret.reveal() for secret in secrets)
        return {value for value in values if len(value) >= MIN_LENGTH and value not in self._values}


def _forms(values: Iterable[str]) -> list[bytes]:
    forms = {form.encode("utf-8", "surrogatepass") for value in values for form in (value, json.dumps(value)[1:-1])}
    return sorted(forms, key=len, reverse=True)


class RedactingFilter(logging.Filter):
    """Redacts a log record in place, its traceback's text included."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a log line with wrong arguments must not break the request that wrote it
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
                # A formatter that formats the exception by itself, as LiteLLM's for JSON does, would bring the secret back.
                record.exc_text, record.exc_info = clean, None
        return True
