"""server/budget_names.py: the names of users and groups that a budget may be changed for."""

import pytest

from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.server.budget_names import unknown_name

ANNAS = "a-token-of-anna-0123456789"
CONFIG = {
    "claude_proxy": {
        "users": {"anna": {"groups": ["Team-B"]}, "gone": {"models": ["x"]}},
        "groups": {"team-a": {"budget": {"day": 1}}},
    }
}
OIDC = {"sign_in": {"oidc": {"issuer": "https://id.example", "client_id": "made-up"}}}


def said(scope, config=CONFIG, **environ):
    return unknown_name(scope, ActiveConfig(config, {}), Settings.parse({"PROXY_USER_TOKENS": f"anna={ANNAS}", **environ}))


@pytest.mark.parametrize("scope", ["all", "user:anna", "user:admin", "user:static", "user:key", "group:team-a", "group:team-b"])
def test_a_known_name(scope):
    """Users with a token, callers without one of their own, and the groups of config.yaml are known, whatever their case."""
    assert said(scope) == ""


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        ("user:nobody", "No user is called nobody. The budget applies once there is one."),
        ("user:gone", "No user is called gone. The budget applies once there is one."),
        ("group:team-aa", "No group is called team-aa; did you mean team-a? The budget applies once there is one."),
    ],
)
def test_an_unknown_name(scope, says):
    """A name that nobody has is named, also one that config.yaml limits, with the name that it resembles."""
    assert said(scope) == says


def test_a_name_of_the_identity_provider():
    """With an identity provider the name may be one of its own, and the sentence says so."""
    config = {"claude_proxy": {**CONFIG["claude_proxy"], **OIDC}}
    assert said("user:ben@example.org", config).endswith("once there is one or the identity provider names this user.")


def test_a_users_file_with_an_error(tmp_path):
    """While a line of the users file cannot be read, nothing is said: the user may be in it."""
    path = tmp_path / "users"
    path.write_text("ben\n")
    path.chmod(0o600)
    assert said("user:ben", PROXY_USER_TOKENS_FILE=str(path)) == ""
