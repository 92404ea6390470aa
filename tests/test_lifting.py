"""credentials/lifting.py: the row that ends a credential's rests in every process."""

import asyncio
import json

import pytest
from pools import START, A, Clock, new_pool

from claude_proxy.credentials import lifting
from claude_proxy.credentials.lifting import lift
from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.replication import Synchronizer
from claude_proxy.state.rows import Row
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio


async def rows_of(store):
    return {row.key: row for row in (await store.pull(0))[0]}


async def test_the_row_is_found_by_the_pool():
    """The row is named by the credential's key in that store, holds nothing but its time, and a later one wins."""
    store, pool = MemoryStore(), new_pool(A, clock=Clock())
    pool.set_salt(await Synchronizer(store, pool).salt())
    assert await lift(store, A, START)
    assert await lift(store, A, START + 1)
    assert (await rows_of(store))[f"lifted:{pool.state('a').key}"] == Row(f"lifted:{pool.state('a').key}", START + 1, "true")


async def test_a_store_that_nobody_has_used():
    """Where no proxy has made a salt there is nothing to lift, and nothing is written."""
    store = MemoryStore()
    assert not await lift(store, A, START)
    assert await rows_of(store) == {}


async def test_a_store_that_cannot_be_used(monkeypatch):
    """A store that is broken or does not answer is said to be so, in words without a secret."""
    broken = MemoryStore()
    await broken.push([Row("salt", 0.0, json.dumps(3))])
    with pytest.raises(StoreUnavailable, match="salt"):
        await lift(broken, A)
    monkeypatch.setattr(lifting, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(broken, "pull", lambda _: asyncio.Event().wait())
    with pytest.raises(StoreUnavailable, match="no response within"):
        await lift(broken, A)
