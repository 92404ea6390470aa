"""upstream/cloud_credentials.py: a credential is loaded and refreshed once for all who wait for it."""

import asyncio
import threading

import pytest

from claude_proxy.upstream.cloud_credentials import MAX_SOURCES, CloudCredentialError, CredentialCache

pytestmark = pytest.mark.anyio


class Sources:
    """Counts what is loaded and refreshed, and in which thread."""

    def __init__(self):
        self.loaded, self.refreshed, self.threads = 0, 0, set()
        self.stale = True

    def load(self):
        self.loaded += 1
        self.threads.add(threading.current_thread())
        return "source"

    def fresh(self, source):
        return None if self.stale else f"value of {source}"

    def refresh(self, source):
        self.refreshed += 1
        self.threads.add(threading.current_thread())
        self.stale = False
        return f"value of {source}"


async def test_many_requests_at_once():
    """One load and one refresh serve all requests, away from the event loop's thread."""
    sources = Sources()
    cache = CredentialCache(sources.fresh, sources.refresh)
    found = await asyncio.gather(*(cache.get("key", sources.load) for _ in range(20)))
    assert {*found} == {"value of source"}
    assert (sources.loaded, sources.refreshed) == (1, 1)
    assert threading.main_thread() not in sources.threads


async def test_a_source_that_is_stale_later():
    """A source is refreshed when it is stale, and is not loaded again."""
    sources = Sources()
    cache = CredentialCache(sources.fresh, sources.refresh)
    await cache.get("key", sources.load)
    await cache.get("key", sources.load)
    assert sources.refreshed == 1
    sources.stale = True
    await cache.get("key", sources.load)
    assert (sources.loaded, sources.refreshed) == (1, 2)


async def test_a_rejected_source():
    """A source that is forgotten is loaded again."""
    sources = Sources()
    cache = CredentialCache(sources.fresh, sources.refresh)
    await cache.get("key", sources.load)
    cache.forget("key")
    cache.forget("nobody")
    await cache.get("key", sources.load)
    assert sources.loaded == 2


async def test_a_source_that_fails():
    """A failure is raised to each request, and the next one tries again."""
    sources = Sources()
    cache = CredentialCache(sources.fresh, sources.refresh)

    def fails():
        raise CloudCredentialError("made up")

    for _ in range(2):
        with pytest.raises(CloudCredentialError, match="made up"):
            await cache.get("key", fails)
    assert await cache.get("key", sources.load) == "value of source"


async def test_the_number_of_sources():
    """A configuration that changes again and again fills no memory."""
    sources = Sources()
    cache = CredentialCache(sources.fresh, sources.refresh)
    for number in range(MAX_SOURCES + 10):
        await cache.get(number, sources.load)
    assert len(cache._sources) <= MAX_SOURCES
    assert len(cache._locks) <= MAX_SOURCES + 1
