"""config/static_token.py: the word that opens a proxy, and when a start generates a token."""

import pytest

from claude_proxy.access.routes import is_open
from claude_proxy.config.settings import Settings, SettingsError
from claude_proxy.config.static_token import OWN_FILE, UnusableToken, is_needed, use_generated

TOKEN, USER_TOKEN = "sk-made-up-generated-token", "made-up-token-of-anna"
DATABASE = "postgresql://u:p@127.0.0.1/d"


@pytest.mark.parametrize(
    ("variables", "needed"),
    [
        ({}, True),
        ({"PROXY_STATIC_TOKEN": "  "}, True),
        ({"PROXY_STATIC_TOKEN": TOKEN}, False),
        ({"PROXY_STATIC_TOKEN": "open"}, False),
        ({"PROXY_STATIC_TOKEN_FILE": "/run/secrets/token"}, False),
        ({"PROXY_USER_TOKENS": f"anna={USER_TOKEN}"}, False),
        ({"PROXY_USER_TOKENS_FILE": "/x/users"}, False),
        ({"DATABASE_URL": DATABASE}, False),
        ({"LITELLM_MASTER_KEY": "sk-made-up-master", "CLAUDE_OAUTH_TOKENS": "sk-ant-oat01-made-up"}, True),
    ],
)
def test_when_a_token_is_generated(variables, needed):
    """A token is generated where neither a static token, nor users, nor a database say who may use the proxy."""
    assert is_needed(variables) is needed


@pytest.mark.parametrize(
    ("variables", "opened"),
    [
        ({"PROXY_STATIC_TOKEN": "open"}, True),
        ({"PROXY_STATIC_TOKEN": " open "}, True),
        ({"PROXY_STATIC_TOKEN": "open", "PROXY_USER_TOKENS": f"anna={USER_TOKEN}"}, True),
        ({"PROXY_STATIC_TOKEN": ""}, False),
        ({"PROXY_STATIC_TOKEN": TOKEN}, False),
        ({"PROXY_STATIC_TOKEN": "opened-made-up"}, False),
        ({"PROXY_USER_TOKENS": f"anna={USER_TOKEN}"}, False),
        ({"CLAUDE_PROXY_USERS_FILE": "/not/there"}, False),
        ({"DATABASE_URL": DATABASE}, False),
    ],
)
def test_only_the_word_opens_a_served_proxy(variables, opened):
    """A proxy that `serve` started is open where PROXY_STATIC_TOKEN is `open`, and in no other case."""
    assert is_open(Settings.parse(variables | {OWN_FILE: "/x/token"})) is opened


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PROXY_STATIC_TOKEN": "Open"}, "is 'Open'; write `open`"),
        ({"PROXY_STATIC_TOKEN": "open", "DATABASE_URL": DATABASE}, "set only one of the two"),
    ],
)
def test_the_word_is_not_guessed(variables, words):
    """Another spelling is no token that everyone can guess, and the word beside a database is an error."""
    with pytest.raises(SettingsError, match=words):
        Settings.parse(variables)


def test_a_generated_token_is_used(tmp_path):
    """The token of an earlier start applies, also beside users, but not beside a static token of the operator's."""
    path = tmp_path / "token"
    for variables in ({}, {"PROXY_USER_TOKENS": f"anna={USER_TOKEN}"}):
        environ = dict(variables)
        use_generated(path, environ)
        assert environ == {**variables, OWN_FILE: str(path)}
    path.write_text(f"{TOKEN}\n")
    for variables in ({}, {"PROXY_USER_TOKENS": f"anna={USER_TOKEN}"}):
        environ = dict(variables)
        use_generated(path, environ)
        assert environ == {**variables, "PROXY_STATIC_TOKEN": TOKEN, OWN_FILE: str(path)}
    environ = {"PROXY_STATIC_TOKEN": "sk-made-up-other"}
    use_generated(path, environ)
    assert environ["PROXY_STATIC_TOKEN"] == "sk-made-up-other"


@pytest.mark.parametrize("content", [b"", b"\n", b"open\n", b"\xff\xfe"])
def test_a_file_without_a_token_opens_nothing(tmp_path, content):
    """A file that was emptied or damaged is an error that names the file and the remedy."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UnusableToken, match="remove the file so that the next start generates a new token"):
        use_generated(path, {})
