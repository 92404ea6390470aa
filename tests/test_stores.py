"""config/stores.py: the shared store of the pool's state."""

import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.config.stores import history_file, shared_store
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore


@pytest.mark.parametrize(
    ("variables", "router", "kind"),
    [
        ({}, {}, None),
        ({"CLAUDE_POOL_STATE_FILE": "none"}, {}, None),
        ({"CLAUDE_POOL_STATE_FILE": "/data/pool.sqlite3"}, {}, SqliteStore),
        ({"CLAUDE_POOL_STATE_FILE": "/data/pool.sqlite3", "REDIS_URL": "redis://localhost"}, {}, RedisStore),
        ({"CLAUDE_POOL_STATE_FILE": "/data/pool.sqlite3"}, {"redis_host": "localhost"}, RedisStore),
        ({"CLAUDE_POOL_STATE_FILE": "none", "REDIS_URL": "redis://localhost"}, {}, RedisStore),
    ],
    ids=["nothing", "none", "file", "redis-first", "litellms-redis", "redis-without-a-file"],
)
def test_where_state_is_shared(variables, router, kind):
    """The proxy's or LiteLLM's Redis has priority over the file; without either the state is in memory."""
    store = shared_store(Settings.parse(variables), {"router_settings": router})
    assert type(store) is (kind or type(None))


def test_the_usual_file(tmp_path):
    """The usual file is used if the settings name none, unless they disable it."""
    assert type(shared_store(Settings.parse({}), {}, tmp_path / "pool.sqlite3")) is SqliteStore
    assert shared_store(Settings.parse({"CLAUDE_POOL_STATE_FILE": "none"}), {}, tmp_path / "pool.sqlite3") is None


def test_the_file_of_the_history(tmp_path, monkeypatch):
    """The history is beside the state file, also where its folder is not made yet, and in memory without a file or a place."""

    def found(state_file):
        return history_file(Settings.parse({"CLAUDE_POOL_STATE_FILE": state_file}), "history.sqlite")

    assert found(str(tmp_path / "new" / "pool.sqlite3")) == tmp_path / "new" / "history.sqlite"
    assert (found(""), found("none")) == (None, None)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert found(str(tmp_path / "pool.sqlite3")) is None
