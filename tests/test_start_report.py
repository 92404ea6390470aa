"""cli/start_report.py: what a start reports."""

import io
import json
import logging

import pytest

from claude_proxy import __version__
from claude_proxy.cli import start_report
from claude_proxy.cli.start_report import Line
from claude_proxy.config.settings import LogFormat, Settings

TOKEN, MASTER, USER = "sk-made-up-token", "sk-made-up-master", "made-up-and-long-enough"
OAUTH = "sk-ant-oat01-made-up-a"
DEMO = {"model_name": "demo", "litellm_params": {"model": "anthropic/demo", "api_base": "http://demo.invalid"}}
CLAUDE = {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}}
GLM = {
    "model_name": "glm",
    "litellm_params": {"model": "anthropic/glm", "api_base": "https://glm.example", "api_key": "os.environ/ZAI_API_KEY"},
}
GEMINI = {"model_name": "gemini", "litellm_params": {"model": "gemini/x"}}


def reported(tmp_path, *models, text="", container=False, **environ):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    loaded = {"model_list": [*(models or (DEMO, CLAUDE, GLM))]} | ({"litellm_settings": {"cache": True}} if text else {})
    return [*start_report.serves(Settings.parse(environ), loaded, path, container=container)]


def texts(lines):
    return [line.text for line in lines]


def test_the_end_of_a_start(tmp_path):
    """The last lines are the version and the address, the pool's page, and how to get the settings; none holds a secret."""
    secrets = {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": OAUTH}
    lines = texts(reported(tmp_path, **secrets, PROXY_USER_TOKENS=f"anna={USER}", PORT="4321"))
    assert lines == [
        "Claude credentials in the pool: 1 (mode rotate).",
        "Ready models: demo, claude-*.",
        "Not ready: glm. Set ZAI_API_KEY in .env.",
        "All requests go directly to the provider, without LiteLLM.",
        "Accepted tokens: the static token, the token of 1 user.",
        f"claude-proxy {__version__} is ready: open http://127.0.0.1:4321/ in a browser.",
        "Credentials, rate limits and usage: http://127.0.0.1:4321/pool",
        "To print the settings for Claude Code, with the token: `make settings`",
    ]
    assert "docker compose exec proxy claude-proxy settings" in texts(reported(tmp_path, container=True))[-1]


@pytest.mark.parametrize(
    ("environ", "lines"),
    [
        ({}, ["Ready models: demo.", f"Not ready: claude-*. {start_report.NO_CREDENTIAL}"]),
        ({"CLAUDE_TOKEN_MODE": "passthrough"}, ["Ready models: demo, claude-*."]),
    ],
)
def test_what_a_model_of_claude_lacks(tmp_path, environ, lines):
    """A model of Claude's is not ready without a credential, unless each client brings its own."""
    assert texts(reported(tmp_path, DEMO, CLAUDE, **environ))[1:-3][: len(lines)] == lines


def test_a_name_almost_as_the_variable_that_is_set(tmp_path, monkeypatch):
    """A model whose variable is not set is reported with the variable that is set and has a name like it."""
    monkeypatch.setenv("OPENAI_API_KEY", "made-up")
    monkeypatch.delenv("OPENAI_KEY", raising=False)
    gpt = {"model_name": "gpt", "litellm_params": {"model": "openai/gpt-5.2", "api_key": "os.environ/OPENAI_KEY"}}
    lines = texts(reported(tmp_path, DEMO, gpt))
    assert "Not ready: gpt. Set OPENAI_KEY in .env. Did you mean OPENAI_API_KEY, which is set?" in lines


def test_a_fallback_that_is_not_ready(tmp_path):
    """A fallback without its key is named, because it does not respond in place of another model."""
    path = tmp_path / "config.yaml"
    path.write_text("")
    fallbacks = [{"claude-*": ["glm"]}, {"demo": ["claude-*"]}]
    loaded = {"model_list": [DEMO, CLAUDE, GLM], "router_settings": {"fallbacks": fallbacks}}
    settings = Settings.parse({"CLAUDE_TOKEN_MODE": "passthrough"})
    found = texts(start_report.serves(settings, loaded, path, container=False))
    assert "These models are fallbacks, but are skipped until they are ready: glm." in found


@pytest.mark.parametrize("has_key", [False, True])
def test_a_pattern_without_a_usable_fallback(tmp_path, monkeypatch, has_key):
    """A pattern whose fallbacks are all skipped is a warning, with the variable to set, unless another line is its fallback."""
    monkeypatch.delenv("ZAI_API_KEY", raising=False)
    if has_key:
        monkeypatch.setenv("ZAI_API_KEY", "made-up")
    path = tmp_path / "config.yaml"
    path.write_text("")
    fallbacks = [{"claude-*": ["gemini"]}, {"claude-haiku-*": ["glm"]}]
    loaded = {"model_list": [CLAUDE, GLM, GEMINI], "router_settings": {"fallbacks": fallbacks}}
    settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": OAUTH, "PROXY_STATIC_TOKEN": TOKEN})
    found = [line for line in start_report.serves(settings, loaded, path, container=False) if line.level == logging.WARNING]
    words = (
        "claude-haiku-* has no usable fallback: glm is not ready; the less specific line claude-* does not apply instead; "
        "set ZAI_API_KEY in .env, or write another model on this line of fallbacks."
    )
    assert texts(found) == ([] if has_key else [words])


def test_the_lanes(tmp_path):
    """The settings that send requests through LiteLLM are named with their line."""
    found = texts(reported(tmp_path, text="\nlitellm_settings:\n  cache: true\n"))
    assert "All requests go through LiteLLM because of litellm_settings.cache (config.yaml line 3)." in found
    found = texts(reported(tmp_path, DEMO, GEMINI))
    assert "LiteLLM translates the requests for gemini." in found
    assert "All other requests go directly to the provider, without LiteLLM." in found


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PROXY_STATIC_TOKEN": "open"}, "This proxy is open: everyone"),
        ({"ANTHROPIC_API_BASE": "http://127.0.0.1:9"}, "ANTHROPIC_API_BASE is http://127.0.0.1:9: Claude credentials"),
        ({"CLAUDE_PROXY_TOKEN_FILE": "/x"}, "Nobody can use the proxy yet"),
    ],
)
def test_dangers_are_warnings(tmp_path, environ, words):
    """An open proxy, a proxy that nobody can use, and credentials that are sent unencrypted are warnings at every start."""
    (found,) = [line for line in reported(tmp_path, **{"PROXY_STATIC_TOKEN": "", **environ}) if line.text.startswith(words)]
    assert found.level == logging.WARNING


def test_what_is_written_is_reported(tmp_path):
    """The first lines name each file that the start has made; for a generated token also the reason."""
    found = texts(start_report.begins(Settings.parse({"NUM_WORKERS": "2"}), [tmp_path / ".env", tmp_path / "token"]))
    assert found == [
        f"Wrote {tmp_path / '.env'}.",
        f"There is no token and no user yet, so the proxy generated a token and wrote it to {tmp_path / 'token'}.",
        f"claude-proxy {__version__} is starting with 2 processes ...",
    ]


@pytest.mark.parametrize("log_format", LogFormat)
def test_the_form_of_a_line(log_format):
    """A line is text, a warning with its level in front, or JSON as every other line of the log is."""
    out = io.StringIO()
    start_report.write([Line("a"), Line("b", logging.WARNING)], log_format, out)
    lines = out.getvalue().splitlines()
    if log_format is LogFormat.TEXT:
        assert lines == ["a", "WARNING: b"]
    else:
        found = [json.loads(line) for line in lines]
        assert [(one["level"], one["message"]) for one in found] == [("INFO", "a"), ("WARNING", "b")]
        assert {tuple(one) for one in found} == {("time", "level", "logger", "message")}
