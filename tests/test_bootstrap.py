"""Where the parts come together. That they do in LiteLLM's process is shown by the tests of a real proxy."""

import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.litellm.bootstrap import shared_store
from claude_proxy.litellm.callback import active_config
from claude_proxy.state.redis import RedisStore
from claude_proxy.state.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def fresh():
    active_config.cache_clear()
    yield
    active_config.cache_clear()


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
def test_where_state_is_shared(monkeypatch, variables, router, kind):
    """A Redis of the proxy's or of LiteLLM's comes before the file, and without either the state is this process's."""
    monkeypatch.setattr("claude_proxy.litellm.callback.load_config", lambda: {"router_settings": router})
    store = shared_store(Settings.parse(variables))
    assert type(store) is (kind or type(None))
