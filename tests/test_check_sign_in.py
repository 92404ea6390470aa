"""check/sign_in.py: why users cannot sign in."""

import pytest

from claude_proxy.check.facts import Facts, KnownUsers
from claude_proxy.check.findings import Level
from claude_proxy.check.sign_in import sign_in
from claude_proxy.config.settings import Settings
from claude_proxy.config.signing_keys import OWN_FILE
from claude_proxy.signin.keys import KeyRing, written

MASTER = {"LITELLM_MASTER_KEY": "sk-made-up-master"}
REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0"}


def findings(environ, config=None, users=("anna",)):
    facts = Facts(environ, config=config or {}, settings=Settings.parse(environ), users=KnownUsers(users))
    return [*sign_in(facts)]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "signing-keys"
    file.write_bytes(written(KeyRing.new(1.0)))
    file.chmod(0o600)
    return file


def test_keys_that_can_be_used(path):
    """Keys that only the owner can read are right, and so is a file that the start will make."""
    assert not findings({OWN_FILE: str(path)})
    path.unlink()
    assert not findings({OWN_FILE: str(path)})


def test_keys_that_others_can_read(path):
    """Who can read the keys can make tokens for everybody."""
    path.chmod(0o640)
    (found,) = findings({OWN_FILE: str(path)})
    assert found.level is Level.ERROR
    assert "mode 640" in found.problem


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_keys_with_errors(path, content):
    """A file with errors closes sign-in; its content is not shown."""
    path.write_bytes(content)
    (found,) = findings({OWN_FILE: str(path)})
    assert "cannot be used" in found.problem
    path.unlink()
    path.mkdir()
    assert "cannot be read" in findings({OWN_FILE: str(path)})[0].problem


def test_replicas_need_a_master_key(path):
    """With a Redis the keys are sealed with a master key that the operator has set."""
    (found,) = findings(REDIS | {OWN_FILE: str(path)})
    assert found.level is Level.WARNING
    assert "set LITELLM_MASTER_KEY" in found.remedy
    assert not findings(REDIS | MASTER)


def test_workers_need_a_store():
    """Several processes without a store cannot serve a login."""
    (found,) = findings({"CLAUDE_POOL_STATE_FILE": "none", "NUM_WORKERS": "2"})
    assert "CLAUDE_POOL_STATE_FILE" in found.remedy


@pytest.mark.parametrize(("users", "section"), [((), {}), (("anna",), {"enabled": False}), (("anna",), {"enabled": "no"})])
def test_nobody_signs_in(users, section):
    """Without users, with sign-in turned off, or with an error that is reported already, nothing is reported."""
    assert not findings(REDIS, {"claude_proxy": {"sign_in": section}}, users)


def test_users_of_a_provider():
    """An identity provider has users too."""
    assert findings(REDIS, {"claude_proxy": {"sign_in": {"oidc": {"issuer": "https://login.example.org"}}}}, ())
