"""server/managed_route.py: who gets which response to ``GET /managed/settings``, and when it is 304 or 404."""

import json

import pytest

from claude_proxy.access.routes import Caller, Role
from claude_proxy.config.client_models import ClientModels
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.config.settings_json import checksum
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.secret import Secret
from claude_proxy.server import managed_route
from claude_proxy.server.managed_route import ManagedRoute

MODELS = [{"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}}]
ANNA, BEN = Caller(Role.USER, None, "Anna"), Caller(Role.USER, None, "ben")
SECRET = "made-up-secret-of-the-proxy"


def config_of(**section):
    users = {"ben": {"groups": ["Team-A"]}}
    return {"model_list": MODELS, "claude_proxy": {"users": users, "managed_settings": section}}


class Proxy:
    """The route with a configuration that can be replaced."""

    def __init__(self, loaded):
        self.config = ActiveConfig(loaded, {})
        self.has_login = True
        self.route = ManagedRoute(self.config, Redactor([Secret(SECRET)]), self.models, has_login=lambda: self.has_login)

    def models(self):
        return ClientModels(self.config.loaded, Settings.parse({}), lambda _: None)

    def ask(self, caller=ANNA, *tags):
        return self.route.respond(caller, [("If-None-Match", tag) for tag in tags])

    def settings(self, caller=ANNA):
        return json.loads(self.ask(caller).body)["settings"]


def test_the_response():
    """A 200 has the id, the checksum of the settings and the settings, and the same checksum in quotes as its ETag."""
    response = Proxy(config_of(fill=False, all={"language": "é"})).ask()
    body = json.loads(response.body)
    assert [*sorted(body)] == ["checksum", "settings", "uuid"]
    assert body["settings"] == {"language": "é"}
    assert body["checksum"] == checksum({"language": "é"})
    assert response.headers["etag"] == f'"{body["checksum"]}"'
    assert response.headers["content-type"] == "application/json"
    assert "x-cc-gateway-version" not in response.headers, "it would give the other headers another meaning"


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ((), 200),
        (('"sha256:other"',), 200),
        (("*",), 200),
        (("{tag}",), 304),
        (("W/{tag}",), 304),
        (('"sha256:other", {tag}',), 304),
        (('"sha256:other"', "{tag}"), 304),
        (("{bare}",), 200),
    ],
)
def test_when_it_is_not_modified(tags, status):
    """304 is the response to a tag of these settings and to nothing else; ``*`` only asks whether there are any."""
    proxy = Proxy(config_of(all={}))
    tag = proxy.ask().headers["etag"]
    response = proxy.ask(ANNA, *(one.format(tag=tag, bare=tag.strip('"')) for one in tags))
    assert response.status_code == status
    assert response.headers["etag"] == tag
    assert bool(response.body) is (status == 200)


@pytest.mark.parametrize("loaded", [{"model_list": MODELS}, config_of(), config_of(users={"ben": {}})])
def test_no_policy(loaded):
    """A user without a policy gets 404 in Anthropic's shape, also for a request with a tag."""
    for tags in ((), ("*",), ('"sha256:x"',)):
        response = Proxy(loaded).ask(ANNA, *tags)
        assert response.status_code == 404
        assert json.loads(response.body)["error"]["type"] == "not_found_error"
        assert response.headers["x-should-retry"] == "false"


def test_an_empty_policy_is_not_none():
    """Settings without a key are a policy, too."""
    assert Proxy(config_of(fill=False, all={})).settings() == {}


def test_groups_and_users():
    """A user gets what is for everyone, for their groups and for themselves, whatever the case of a name.

    The groups are those in config.yaml and those that the sign-in names.
    """
    section = {"all": {"language": "all"}, "groups": {"TEAM-a": {"model": "g"}}, "users": {"anna": {"language": "anna"}}}
    proxy = Proxy(config_of(fill=False, **section))
    assert proxy.settings(ANNA) == {"language": "anna"}
    assert proxy.settings(BEN) == {"language": "all", "model": "g"}
    assert proxy.settings(Caller(Role.USER, None, "carla", ("Team-A",))) == {"language": "all", "model": "g"}
    assert proxy.settings(Caller(Role.USER, None, "carla", ("team-b",))) == {"language": "all"}


def test_another_configuration_applies_immediately():
    """After a change of config.yaml, or of whether there is a credential for Claude, the next response is another one."""
    proxy = Proxy(config_of(all={"language": "one"}))
    before = proxy.ask().headers["etag"]
    proxy.config.replace(config_of(all={"language": "two"}))
    assert proxy.ask(ANNA, before).status_code == 200
    assert proxy.settings()["language"] == "two"
    assert "opus" in proxy.settings()["availableModels"]
    proxy.has_login = False
    assert proxy.settings()["availableModels"] == []
    proxy.config.replace({"model_list": MODELS})
    assert proxy.ask().status_code == 404


def test_responses_are_made_once(monkeypatch):
    """The settings of a user are computed once for a configuration, and not for more than ``MAX_KEPT`` users at a time."""
    monkeypatch.setattr(managed_route, "MAX_KEPT", 2)
    made = []
    monkeypatch.setattr(managed_route, "policy_of", lambda *of, **_: made.append(of[3]))
    proxy = Proxy(config_of(all={}))
    for name in ("anna", "Anna", "ben", "anna", "carl", "ANNA", "carl"):
        proxy.ask(Caller(Role.USER, None, name))
    assert made == ["anna", "ben", "carl", "anna"]


def test_a_known_secret_does_not_leave(caplog):
    """A secret of the proxy that is in the settings all the same is taken out, which is logged without it."""
    proxy = Proxy(config_of(fill=False, all={"language": f"x {SECRET} y"}))
    assert proxy.settings() == {"language": "x *** y"}
    assert "a secret of the proxy is in the settings of anna" in caplog.text
    assert SECRET not in caplog.text
