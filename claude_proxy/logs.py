"""What the process writes into its log: this project's decisions, LiteLLM's errors in one line each, and no secret."""

import logging
import sys

from claude_proxy.redaction import RedactingFilter, Redactor

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LITELLM_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
OTHER_LOGGERS = ("uvicorn", "uvicorn.access", "uvicorn.error")


class OneLineFilter(logging.Filter):
    """Cuts a record to its first line: LiteLLM 1.106.2 writes sixty lines of traceback for every refused request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().split("\n", 1)[0], ()
        record.exc_info = record.exc_text = None
        return True


def configure(redactor: Redactor, *, verbose: bool) -> None:
    """Give this project's logger a handler, and every handler there is the redaction; unless verbose, make LiteLLM brief."""
    own = logging.getLogger("claude_proxy")
    if not own.handlers:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(logging.Formatter(FORMAT))
        own.addHandler(stream)
        own.setLevel(logging.INFO)
        own.propagate = False
    for name in (None, "claude_proxy", *LITELLM_LOGGERS, *OTHER_LOGGERS):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(RedactingFilter(redactor))
            if name in LITELLM_LOGGERS and not verbose:
                handler.addFilter(OneLineFilter())
