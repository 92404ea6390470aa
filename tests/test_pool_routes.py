"""server/pool_routes.py: the page's changes of the pool, without a proxy around them."""

import logging

import pytest
import yaml
from starlette.applications import Starlette
from starlette.testclient import TestClient

from claude_proxy.config.pool_watcher import PoolWatcher
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.server.pool_routes import PoolRoutes

TOKEN, MASTER = "sk-the-static-token", "sk-the-master-key"
FIXED, NEW = "sk-ant-oat01-made-up-fixed", "sk-ant-oat01-made-up-new"
KEY = {"x-litellm-api-key": MASTER}


class World:
    """The routes over a watcher of a file, and what they did."""

    def __init__(self, folder):
        self.path = folder / "credentials.yaml"
        variables = {"CLAUDE_CREDENTIALS_FILE": str(self.path), "CLAUDE_OAUTH_TOKENS": f"fixed={FIXED}"}
        settings = Settings.parse(variables | {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER})
        self.taken, self.lifted, self.redactor = [], [], Redactor([])
        self.watcher = PoolWatcher(variables, settings.credentials, self.taken.append)
        routes = PoolRoutes(settings, self.redactor, lambda: self.watcher, self.lifted.append)
        self.client = TestClient(Starlette(routes=routes.routes()))

    def ask(self, action, headers=KEY, **body):
        answer = self.client.post(f"/pool/{action}", json=body, headers=headers)
        assert "made-up" not in answer.text
        assert answer.headers.get("cache-control") == "no-store"
        return answer.status_code, answer.json()

    def entries(self):
        return yaml.safe_load(self.path.read_text())["credentials"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_from_the_first_to_the_last(world, caplog):
    """Each change is in the file and in force at once, and the response and the log name the label alone."""
    own = logging.getLogger("claude_proxy")
    own.propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")
    assert world.ask("add", label="new", secret=f" {NEW}\n", terms="priority=2 groups=a,b") == (
        200, {"done": "added", "label": "new"},
    )  # fmt: skip
    assert world.entries() == [{"label": "new", "secret": NEW, "priority": 2, "groups": ["a", "b"]}]
    assert [one.label for one in world.taken[-1]] == ["new", "fixed"]
    assert world.ask("pause", label="new") == (200, {"done": "paused", "label": "new"})
    assert world.taken[-1][0].terms.paused_since is not None
    assert world.ask("resume", label="new") == (200, {"done": "resumed", "label": "new"})
    assert not world.taken[-1][0].terms.paused
    assert world.ask("remove", label="new") == (200, {"done": "removed", "label": "new"})
    assert (world.entries(), world.lifted) == ([], ["new"])
    assert "credential new was removed on the page /pool" in caplog.text
    assert "made-up" not in caplog.text


def test_a_credential_of_a_variable_is_resumed_only(world):
    """What stands in .env can be made to rest no longer, and nothing else."""
    assert world.ask("resume", label="fixed")[0] == 200
    assert world.lifted == ["fixed"]
    for action in ("pause", "remove"):
        status, said = world.ask(action, label="fixed")
        assert (status, "comes from CLAUDE_OAUTH_TOKENS" in said["error"]["message"]) == (400, True)
    assert not world.path.exists() or world.entries() == []


def test_the_priority_of_a_credential(world):
    """A new priority is in the file and in force at once; what is no whole number is refused, and null is the default."""
    world.ask("add", label="new", secret=NEW, terms="groups=a")
    assert world.ask("priority", label="new", priority=3) == (200, {"done": "changed", "label": "new"})
    assert (world.entries()[0]["priority"], world.taken[-1][0].terms.priority) == (3, 3)
    for wrong in (1.5, 2000, "high", True, [1]):
        status, said = world.ask("priority", label="new", priority=wrong)
        assert (status, said["error"]["message"]) == (400, "priority should be a whole number from -1000 to 1000")
    assert world.ask("priority", label="fixed", priority=3)[0] == 400
    assert world.ask("priority", label="new", priority=None)[0] == 200
    assert world.entries() == [{"label": "new", "secret": NEW, "groups": ["a"]}]


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("add", {"label": "new", "secret": "made-up"}), ("add", {"label": NEW, "secret": NEW}), ("add", {"label": "new"}),
        ("add", {"label": "fixed", "secret": NEW}), ("add", {"label": "new", "secret": NEW, "terms": "prioritty=2"}),
        ("add", {"label": "new", "secret": [NEW]}), ("pause", {"label": "nobody"}), ("pause", {}), ("pause", {"label": 3}),
    ],
)  # fmt: skip
def test_what_is_not_done(world, action, body):
    """What cannot be done is a 400 in words without the secret, and changes nothing."""
    status, said = world.ask(action, **body)
    assert (status, bool(said["error"]["message"])) == (400, True)
    assert (world.taken, world.path.exists()) == ([], False)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"3"])
def test_a_body_that_is_none(world, content):
    """A body that is no JSON object is a 400."""
    answer = world.client.post("/pool/pause", content=content, headers=KEY)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"x-litellm-api-key": "wrong"}, 401), ({"x-litellm-api-key": TOKEN}, 403), ({"cookie": MASTER}, 401)],
)
def test_only_the_master_key_changes_the_pool(world, headers, status):
    """Every other token is refused by the route itself."""
    for action in ("add", "pause", "resume", "remove"):
        assert world.ask(action, headers, label="new", secret=NEW)[0] == status
    assert not world.path.exists()


def test_a_secret_is_known_to_the_redaction_first(world):
    """Even one that is refused is taken out of what leaves the process."""
    world.ask("add", label="a b", secret="sk-of-another-form-made-up")
    assert world.redactor.text("sk-of-another-form-made-up") == "***"


def test_without_a_watch_nothing_is_changed(world):
    """A proxy that watches no file says so."""
    world.watcher = None
    assert world.ask("pause", label="new")[0] == 409
