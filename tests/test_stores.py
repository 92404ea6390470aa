"""config/stores.py: the shared store of the pool's state."""

import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.config.stores import shared_store
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
