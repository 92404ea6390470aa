"""The last line of defence for secrets: texts that leave the process lose every secret value that is known."""

import logging
from collections.abc import Iterable, Mapping

from claude_proxy.credentials import Secret

# Shorter values would take harmless words out of every text.
MIN_LENGTH = 8
SECRET_SUFFIXES = ("_KEY", "_TOKEN", "_TOKENS", "_KEYS", "_SECRET", "_PASSWORD")
MARK = "***"


def secrets_of(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the environment's values whose variable sounds like a secret: the providers' keys, which LiteLLM reads itself."""
    return tuple(Secret(value) for name, value in environ.items() if name.endswith(SECRET_SUFFIXES) and value)


class Redactor:
    """Takes known secret values out of texts."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        values = {secret.reveal() for secret in secrets}
        self._values = sorted((value for value in values if len(value) >= MIN_LENGTH), key=len, reverse=True)

    def text(self, text: str, more: Iterable[Secret] = ()) -> str:
        """Return the text without the secrets, and without those of ``more``, which are known for one request only."""
        extra = [secret.reveal() for secret in more]
        for value in (*self._values, *(value for value in extra if len(value) >= MIN_LENGTH)):
            if value in text:
                text = text.replace(value, MARK)
        return text


class RedactingFilter(logging.Filter):
    """Redacts a log record in place, its traceback's text included."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = self._redactor.text(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        return True
