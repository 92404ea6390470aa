"""credentials/redaction.py: known secrets leave every text."""

import io
import logging
import sys

import pytest

from claude_proxy.credentials.redaction import MARK, MIN_LENGTH, RedactingFilter, Redactor, secrets_in_config, secrets_of
from claude_proxy.secret import Secret

TOKEN, LONGER = "sk-made-up-token", "sk-made-up-token-and-more"
OAUTH = "sk-ant-oat01-made-up-a"
REDACTOR = Redactor([Secret(TOKEN), Secret(LONGER), Secret("short"), Secret("")])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("nothing here", "nothing here"),
        (f"a {TOKEN} b", f"a {MARK} b"),
        (f"{TOKEN}{TOKEN}", f"{MARK}{MARK}"),
        (f"a {LONGER} b", f"a {MARK} b"),
        (f'{{"key":"{TOKEN}"}}', f'{{"key":"{MARK}"}}'),
        ("a short word", "a short word"),
        ("", ""),
        (f"Bearer {OAUTH}.", f"Bearer {MARK}."),
        ("keys begin with sk-ant-oat01", "keys begin with sk-ant-oat01"),
        ("Bearer eyJhbGciOiJI.eyJzdWIiOiJh.c2lnbmF0dXJl!", f"Bearer {MARK}!"),
        ("eyJhbGciOiJI is not a whole token", "eyJhbGciOiJI is not a whole token"),
    ],
    ids=["none", "one", "twice", "longest-first", "in-json", "too-short-to-be-one", "empty", "claude-by-its-form",
        "claude-prefix", "access-token-by-its-form", "part-of-one"],
)  # fmt: skip
def test_text(text, clean):
    """Every known secret leaves a text, the longest first, whatever looks like a Claude credential too, and nothing else."""
    assert REDACTOR.text(text) == clean


@pytest.mark.parametrize("order", [1, -1], ids=["short-first", "long-first"])
def test_secrets_of_one_request(order):
    """Secrets that are known for one request leave with the others, in whatever order they are given."""
    mine = [Secret("client-made-up"), Secret("client-made-up-and-more"), Secret("tiny")][::order]
    assert REDACTOR.text(f"client-made-up-and-more client-made-up {TOKEN} tiny", mine) == f"{MARK} {MARK} {MARK} tiny"


def test_a_secret_that_becomes_known_later():
    """What is learned leaves from then on, the longest first as always; nothing and what is too short teach nothing."""
    redactor = Redactor([Secret(TOKEN)])
    for secret in (None, Secret("short"), Secret(LONGER), Secret(LONGER)):
        redactor.learn(secret)
    assert redactor.text(f"a {LONGER} b {TOKEN} short") == f"a {MARK} b {MARK} short"


def test_a_known_credential_leaves_as_a_whole():
    """A known Claude credential with unusual characters leaves with its end, not only as far as its form goes."""
    assert Redactor([Secret(f"{OAUTH}.made+up=")]).text(f"<{OAUTH}.made+up=>") == f"<{MARK}>"


def test_secrets_of():
    """The environment's values whose variable sounds like a secret are known; other values and empty ones are not."""
    environ = {
        "ZAI_API_KEY": "a", "AWS_SECRET_ACCESS_KEY": "b", "CLAUDE_OAUTH_TOKENS": "c", "PROXY_STATIC_TOKEN": "d",
        "REDIS_PASSWORD": "e",
        "CLIENT_SECRET": "f", "CLAUDE_API_KEYS": "g", "PATH": "x", "AZURE_API_BASE": "x", "KEYBOARD": "x", "OPENAI_API_KEY": "",
        "AWS_BEARER_TOKEN_BEDROCK": "h",
    }  # fmt: skip
    assert sorted(secret.reveal() for secret in secrets_of(environ)) == list("abcdefgh")


def test_the_bound_is_the_documented_one():
    """A value of the least length is taken out, a shorter one would take harmless words with it."""
    value = "x" * MIN_LENGTH
    assert Redactor([Secret(value)]).text(value) == MARK
    assert Redactor([Secret(value[1:])]).text(value[1:]) == value[1:]


class JsonLike(logging.Formatter):
    """A formatter that formats an exception by itself, as some do that write JSON."""

    def format(self, record):
        text = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        return f"{record.getMessage()} {text}"


def fail(text):
    try:
        {}[text]
    except KeyError as error:
        raise ValueError(f"no {text}") from error


@pytest.fixture
def log():
    """A logger with the filter on its handlers, and what they wrote."""
    logger, out = logging.getLogger("test.redaction"), io.StringIO()
    handlers = []
    for formatter in (logging.Formatter(), JsonLike()):
        handler = logging.StreamHandler(out)
        handler.setFormatter(formatter)
        handler.addFilter(RedactingFilter(REDACTOR))
        logger.addHandler(handler)
        handlers.append(handler)
    yield logger, out
    for handler in handlers:
        logger.removeHandler(handler)


def test_log_messages(log):
    """A secret leaves a log line, in the message or in its arguments, and the rest of the line stays."""
    logger, out = log
    logger.warning("key %s of %d", TOKEN, 7)
    logger.warning(f"key {TOKEN} is 100 %")  # noqa: G004 - as others do it
    logger.warning("mapping %(key)s", {"key": TOKEN})
    assert "made-up" not in out.getvalue()
    assert f"key {MARK} of 7" in out.getvalue()
    assert f"key {MARK} is 100 %" in out.getvalue()
    assert f"mapping {MARK}" in out.getvalue()


def test_log_tracebacks(log):
    """A secret leaves a traceback and the exceptions behind it, whichever formatter writes them."""
    logger, out = log
    try:
        fail(TOKEN)
    except ValueError:
        logger.exception("failed")
    assert "made-up" not in out.getvalue()
    assert f"ValueError: no {MARK}" in out.getvalue()
    assert "KeyError" in out.getvalue()


def test_log_stacks(log):
    """A secret leaves the stack that a line carries."""
    logger, out = log
    record = logger.makeRecord("test", logging.WARNING, __file__, 1, "x", (), None)
    record.stack_info = f"Stack:\n  call({TOKEN})"
    logger.handle(record)
    assert "made-up" not in out.getvalue()
    assert f"call({MARK})" in out.getvalue()


def test_lines_without_a_secret_are_not_touched():
    """A record that holds no secret keeps its message, arguments and exception for other handlers."""
    try:
        fail("plain")
    except ValueError:
        record = logging.LogRecord("test", logging.WARNING, __file__, 1, "%s and %s", ("a", "b"), sys.exc_info())
    RedactingFilter(REDACTOR).filter(record)
    assert (record.msg, record.args, record.exc_info[0]) == ("%s and %s", ("a", "b"), ValueError)


@pytest.mark.parametrize(
    ("text", "args"), [("%s %s", (TOKEN,)), ("%d", (TOKEN,)), ("100 %", (TOKEN,))], ids=["few", "type", "sign"]
)
def test_a_line_that_cannot_be_formatted(log, text, args):
    """A log call with wrong arguments breaks nobody's request, and is written without the secret."""
    logger, out = log
    logger.warning(text, *args)
    assert "made-up" not in out.getvalue()
    assert MARK in out.getvalue()


def test_the_password_of_an_address_is_a_secret_of_its_own():
    """An error that shows only a part of a database's address does not show its password."""
    secrets = secrets_of({"DATABASE_URL": "postgresql://user:made-up%2Fpassword@db.example:5432/litellm"})
    shown = Redactor(secrets).text(
        "user: made-up/password, address: postgresql://user:made-up%2Fpassword@db.example:5432/litellm"
    )
    assert shown == "user: ***, address: ***"


CONFIG = {
    "model_list": [
        {"model_name": "a", "litellm_params": {"model": "anthropic/x", "api_key": "made-up-inline-key", "max_tokens": 100}},
        {
            "model_name": "b",
            "litellm_params": {"api_key": "os.environ/MY_VARIABLE", "aws_secret_access_key": "made-up-aws-key"},
        },
        {
            "model_name": "c",
            "litellm_params": {"extra_headers": {"Authorization": "Bearer made-up-bearer", "x-org": "made-up-org"}},
        },
        {
            "model_name": "d",
            "litellm_params": {"vertex_credentials": '{"private_key": "-----BEGIN KEY-----\\nmade-up-line\\n"}'},
        },
        {"model_name": "e", "litellm_params": {"api_key": "not-needed", "api_base": "https://user:made-up-password@host/v1"}},
    ],
    "general_settings": {"master_key": "os.environ/UNSET", "database_url": "postgresql://u:made-up-db-password@h/x"},
}


def test_secrets_in_config():
    """Keys that stand in config.yaml are secrets, and so are those in variables that it names, however these are called."""
    found = {secret.reveal() for secret in secrets_in_config(CONFIG, {"MY_VARIABLE": "made-up-of-a-variable"})} - {""}
    assert found == {
        "made-up-inline-key", "made-up-of-a-variable", "made-up-aws-key", "Bearer made-up-bearer", "made-up-bearer",
        "made-up-line", CONFIG["model_list"][3]["litellm_params"]["vertex_credentials"], "made-up-password",
        "made-up-db-password",
    }  # fmt: skip


def test_what_stands_for_no_key_is_no_secret():
    """A word such as ``not-needed`` stays in every text."""
    assert "not-needed" not in {secret.reveal() for secret in secrets_in_config(CONFIG, {})}
