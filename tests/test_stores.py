"""config/stores.py: where the pool's state is shared."""

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
    """A Redis of the proxy's or of LiteLLM's comes before the file, and without either the state is this process's."""
    store = shared_store(Settings.parse(variables), {"router_settings": router})
    assert type(store) is (kind or type(None))


def test_the_usual_file(tmp_path):
    """Where the settings name no file the usual one counts, unless they say that there is none."""
    assert type(shared_store(Settings.parse({}), {}, tmp_path / "pool.sqlite3")) is SqliteStore
    assert shared_store(Settings.parse({"CLAUDE_POOL_STATE_FILE": "none"}), {}, tmp_path / "pool.sqlite3") is None
