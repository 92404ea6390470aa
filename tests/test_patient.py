"""state/patient.py: a store that is waited for no longer than a request can wait."""

import asyncio

import pytest
from stores import NOW, row

from claude_proxy.state.memory import MemoryStore
from claude_proxy.state.patient import PatientStore
from claude_proxy.state.store import StoreUnavailable

pytestmark = pytest.mark.anyio


async def test_calls_pass():
    """Each call reaches the store, and its result comes back."""
    store = PatientStore(MemoryStore())
    assert store.kind == "memory"
    await store.push([row("a"), row("b", 1.0)])
    assert await store.read(["b"]) == [row("b", 1.0)]
    await store.prune("b", NOW, 10)
    rows, _ = await store.pull(0)
    assert rows == [row("a")]
    await store.close()


async def test_a_store_that_does_not_respond(monkeypatch):
    """A call that hangs is a store that is away."""
    inner = MemoryStore()

    async def hang(*_):
        await asyncio.Event().wait()

    for name in ("push", "pull", "read", "prune", "close"):
        monkeypatch.setattr(inner, name, hang)
    store = PatientStore(inner, 0.01)
    for call in (store.push([]), store.pull(0), store.read([]), store.prune("", 0, 0), store.close()):
        with pytest.raises(StoreUnavailable, match="no response"):
            await call
