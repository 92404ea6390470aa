"""What reaches the log."""

import io
import json
import logging

import pytest
from msgspec.structs import replace

from claude_proxy.anthropic.usage import Usage
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.secret import Secret
from claude_proxy.usage import request_log
from claude_proxy.usage.record import Record

SECRET = "made-up-secret-value"


@pytest.fixture
def litellm_log():
    """A handler as LiteLLM's, on one of its loggers; everything is as before afterwards."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    loggers = [
        logging.getLogger(name) for name in (None, "claude_proxy", *request_log.LITELLM_LOGGERS, *request_log.OTHER_LOGGERS)
    ]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in loggers]
    filters = {handler: list(handler.filters) for one in loggers for handler in one.handlers}
    logger = logging.getLogger("LiteLLM Proxy")
    logger.handlers = [handler]
    yield logger, out
    for one, handlers, level, propagate in before:
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)
    for handler, kept in filters.items():
        handler.filters = kept


@pytest.mark.parametrize(("verbose", "lines"), [(False, 1), (True, 5)])
def test_litellms_errors_are_one_line_each_and_hold_no_secret(litellm_log, verbose, lines):
    """A refused request is one line in the log, unless somebody asked for all of it; a known secret is in neither."""
    logger, out = litellm_log
    request_log.configure(Redactor([Secret(SECRET)]), verbose=verbose)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("refused %s", SECRET)
    assert len(out.getvalue().splitlines()) == lines
    assert out.getvalue().startswith("refused ***")
    assert SECRET not in out.getvalue()
    assert not out.closed


def test_the_projects_own_lines_are_written_once(litellm_log, capsys):
    """Configuring twice, as LiteLLM loads an entry file twice, writes no line twice."""
    assert litellm_log
    logging.getLogger("claude_proxy").handlers = []
    for _ in range(2):
        request_log.configure(Redactor([]), verbose=False)
    logging.getLogger("claude_proxy.proxy.rotation").warning("credential a rests")
    assert capsys.readouterr().err.count("credential a rests") == 1


RECORD = Record(
    at=0.0,
    user="anna",
    requested="claude-opus-4-8",
    served="anthropic/claude-opus-4-8",
    credential="first",
    status=200,
    first_byte_seconds=0.25,
    seconds=1.5,
    usage=Usage(1, 2, 3, 4),
    failovers=("second: five_hour limit (HTTP 429)",),
)


def written(capsys, *records, as_json=False, redactor=None):
    logging.getLogger("claude_proxy").handlers = []
    request_log.configure(redactor or Redactor([]), verbose=False, as_json=as_json)
    for record in records:
        request_log.write_request(record)
    return capsys.readouterr().err


def test_a_count_of_tokens_says_so(litellm_log, capsys):
    """The line of a request that only counts tokens is told from one that is answered."""
    assert " only=count_tokens " in written(capsys, replace(RECORD, counts_tokens=True))
    assert "only=" not in written(capsys, RECORD)


def test_a_request_is_one_line(litellm_log, capsys):
    """A request's line says who, what, on which credential, how it ended and how long it took."""
    line = written(capsys, RECORD)
    assert line.count("\n") == 1
    assert line.endswith(
        "INFO claude_proxy.requests: user=anna model=claude-opus-4-8 served=anthropic/claude-opus-4-8 credential=first "
        "status=200 first_byte_ms=250 ms=1500 input=1 output=2 cache_read=3 cache_write=4 "
        'failovers="second: five_hour limit (HTTP 429)"\n'
    )


def test_a_request_without_a_fallback_says_why(litellm_log, capsys):
    """The line of a request that failed for want of a fallback has the reason, and no other line speaks of one."""
    why = "fallback glm-fast is not ready: set ZAI_API_KEY"
    assert f' no_fallback="{why}" error=' in written(capsys, replace(RECORD, no_fallback=why, error="rate_limit_error"))
    assert "no_fallback" not in written(capsys, RECORD)


def test_a_request_as_json_has_its_fields(litellm_log, capsys):
    """With JSON each line is an object, with a request's fields and the level beside its message."""
    line = json.loads(written(capsys, RECORD, as_json=True))
    assert (line["level"], line["logger"], line["user"], line["ms"]) == ("INFO", "claude_proxy.requests", "anna", 1500)
    assert line["failovers"] == ["second: five_hour limit (HTTP 429)"]
    assert "error" not in line


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_what_clients_choose_breaks_no_line_and_shows_no_secret(litellm_log, capsys, as_json):
    """Control characters in a model's name are escaped, a long name is cut, and a secret in it is redacted."""
    hostile = replace(RECORD, requested=f"a\n2026 ERROR \x1b[31m\u202e {SECRET} {'x' * 1000}")
    text = written(capsys, hostile, as_json=as_json, redactor=Redactor([Secret(SECRET)]))
    assert text.count("\n") == 1
    assert len(text) < 1200
    assert not {"\x1b", "\u202e"} & set(text)
    assert SECRET not in text
    assert "***" in text


def test_a_traceback_in_json_is_one_line_without_secrets(litellm_log, capsys):
    """An exception is part of its line, redacted."""
    logging.getLogger("claude_proxy").handlers = []
    request_log.configure(Redactor([Secret(SECRET)]), verbose=False, as_json=True)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("claude_proxy.x").exception("oh")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "ValueError: ***" in json.loads(text)["traceback"]


def test_a_line_of_litellms_is_one_line():
    """Of a record the first line is left, and nothing in it that a terminal would obey: clients choose names of models."""
    record = logging.LogRecord(
        "LiteLLM", logging.ERROR, __file__, 1, "no %s", ("model \x1b[2J\x9b\u202e\rINJECTED\u2028x\ny",), None
    )
    assert request_log.OneLineFilter().filter(record)
    assert record.getMessage() == "no model \\x1b[2J\\x9b\\u202e"
