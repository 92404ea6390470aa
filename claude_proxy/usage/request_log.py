"""The process's log: the proxy's own lines, LiteLLM's errors in one line each, and no secret."""

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from claude_proxy.config.money import shown
from claude_proxy.credentials.redaction import RedactingFilter, Redactor
from claude_proxy.text import printable
from claude_proxy.usage.record import Record

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LITELLM_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
# LiteLLM's timer for its own jobs: it warns of one that a busy start has delayed.
TIMER_LOGGERS = ("apscheduler.executors.default", "apscheduler.scheduler")
OTHER_LOGGERS = ("uvicorn", "uvicorn.access", "uvicorn.error")


# Only the attributes that ``FORMAT`` and the JSON lines show: the others would cost time for every record.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = logging.logAsyncioTasks = False  # type: ignore[attr-defined]

# One line for each request; values that need no quotes.
requests = logging.getLogger("claude_proxy.requests")
_BARE = re.compile(r"[A-Za-z0-9_.,:/@+*-]+")
# The maximum length of a text or name in the log and the history.
MAX_TEXT = 200
# How long a line may be buffered, in seconds.
FLUSH_SECONDS = 0.05


class BatchingHandler(logging.StreamHandler[Any]):
    """Writes buffered lines together, because one write per line costs a busy process more than the line itself.

    A line is buffered for at most ``FLUSH_SECONDS``. A warning, and a line outside of an event loop, is written immediately,
    with all lines before it.
    """

    def __init__(self, stream: Any, redactor: Redactor) -> None:
        super().__init__(stream)
        self._redactor = redactor
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Buffer a line and schedule its output."""
        try:
            self._lines.append(self.format(record))
            loop = asyncio.get_running_loop() if record.levelno < logging.WARNING else None
        except RuntimeError:
            loop = None
        except Exception:  # noqa: BLE001 - like the base class: a log line with an error must not break its caller
            self.handleError(record)
            return
        if loop is None:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        lines, self._lines = self._lines, []
        if lines:
            self.stream.write(self._redactor.text(self.terminator.join([*lines, ""])))
        super().flush()


class OneLineFilter(logging.Filter):
    """Cuts a record to its first line: LiteLLM 1.106.2 writes sixty lines of traceback for every rejected request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable((record.getMessage().splitlines() or [""])[0]), ()
        record.exc_info = record.exc_text = None
        return True


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text; the time is formatted once per second."""

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._second, self._shown = 0, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - as the base class
        """Return the local time with milliseconds, like ``logging``."""
        second = int(record.created)
        if second != self._second:
            self._second, self._shown = second, time.strftime(self.default_time_format, time.localtime(second))
        return f"{self._shown},{int(record.msecs):03d}"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, with a request's fields. Texts are redacted before they are quoted."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= getattr(record, "request", {})
        if record.exc_text or record.exc_info:
            fields["traceback"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps({name: self._clean(value) for name, value in fields.items()})

    def _clean(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._clean(part) for part in value]
        return self._redactor.text(value) if isinstance(value, str) else value


def write_request(record: Record) -> None:
    """Log one line for a request: user, model, credential, result and duration. Never a part of a body."""
    if not requests.isEnabledFor(logging.INFO):
        return
    fields = request_fields(record)
    text = " ".join([f"{name}={value if type(value) is int else _shown(value)}" for name, value in fields.items()])
    # Created directly: the logger would search the stack for the caller.
    line = logging.LogRecord(requests.name, logging.INFO, __file__, 0, text, None, None)
    line.request = fields
    requests.handle(line)


def request_fields(record: Record) -> Mapping[str, Any]:
    """Return the fields of a request's line. Names that clients choose are cut."""
    usage = record.usage
    fields: dict[str, Any] = {
        "user": record.user[:MAX_TEXT],
        "model": record.requested[:MAX_TEXT],
        "only": "count_tokens" if record.counts_tokens else "",
        "rule": record.rule,
        "project": record.project[:MAX_TEXT],
        "served": record.served[:MAX_TEXT],
        "credential": record.credential[:MAX_TEXT],
        "status": record.status,
        "first_byte_ms": round(1000 * record.first_byte_seconds),
        "ms": round(1000 * record.seconds),
        "input": usage.input,
        "output": usage.output,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "usd": shown(record.cost) if record.cost is not None and record.served else "",
        "failovers": [text[:MAX_TEXT] for text in record.failovers],
        "no_fallback": record.no_fallback[:MAX_TEXT],
        "error": record.error[:MAX_TEXT],
    }
    return {name: value for name, value in fields.items() if value or value == 0}


def _shown(value: Any) -> str:
    """Return a value on one line, quoted and escaped unless it is a plain word or a number."""
    return _quoted("; ".join(value) if isinstance(value, list) else str(value))


# Users, models and credentials are the same ones again and again.
@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) else json.dumps(text)


def configure(redactor: Redactor, *, verbose: bool, as_json: bool = False) -> None:
    """Add a handler to the project's logger, and redaction to every handler; unless verbose, shorten LiteLLM's errors."""
    own = logging.getLogger("claude_proxy")
    if not own.handlers:
        stream = BatchingHandler(sys.stderr, redactor)
        stream.setFormatter(JsonFormatter(redactor) if as_json else TextFormatter())
        own.addHandler(stream)
        own.setLevel(logging.INFO)
        own.propagate = False
    for timer in () if verbose else TIMER_LOGGERS:
        logging.getLogger(timer).setLevel(logging.ERROR)
    for name in (None, "claude_proxy", *LITELLM_LOGGERS, *OTHER_LOGGERS):
        for handler in logging.getLogger(name).handlers:
            if not isinstance(handler, BatchingHandler):  # which redacts what it writes, tracebacks included
                handler.addFilter(RedactingFilter(redactor))
            if name in LITELLM_LOGGERS and not verbose:
                handler.addFilter(OneLineFilter())
            if as_json and not isinstance(handler, BatchingHandler):
                handler.setFormatter(JsonFormatter(redactor))
