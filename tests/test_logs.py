"""What reaches the log."""

import io
import logging

import pytest

from claude_proxy import logs
from claude_proxy.credentials import Secret
from claude_proxy.redaction import Redactor

SECRET = "made-up-secret-value"


@pytest.fixture
def litellm_log():
    """A handler as LiteLLM's, on one of its loggers; everything is as before afterwards."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    loggers = [logging.getLogger(name) for name in (None, "claude_proxy", *logs.LITELLM_LOGGERS, *logs.OTHER_LOGGERS)]
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
    logs.configure(Redactor([Secret(SECRET)]), verbose=verbose)
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
        logs.configure(Redactor([]), verbose=False)
    logging.getLogger("claude_proxy.rotation").warning("credential a rests")
    assert capsys.readouterr().err.count("credential a rests") == 1
