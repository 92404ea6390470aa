"""The app that is served."""

import asyncio
import gc
import logging

import httpx
import pytest

from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm import app as module
from claude_proxy.server.gateway import Gateway

KEY = "made-up-key-of-a-provider-0123"


class InnerApp:
    """LiteLLM's app, as far as the guard knows it."""

    middleware_stack = None

    async def __call__(self, scope, receive, send):
        await self.middleware_stack(scope, receive, send)


async def bare(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inner"})


@pytest.mark.parametrize("path", ["/v1/messages", "/health/liveliness", "/health/readiness", "/", "/key/generate"])
@pytest.mark.parametrize(("guarded", "status"), [(False, 503), (True, 200)], ids=["bare", "guarded"])
def test_nothing_is_served_before_the_gateway_is_there(monkeypatch, path, guarded, status):
    """Whatever kept the callbacks from loading, LiteLLM alone answers nothing, not even a health check."""
    inner = InnerApp()
    inner.middleware_stack = Gateway(bare, Settings.parse({}), Redactor([])) if guarded else bare
    monkeypatch.setattr(module, "litellm_app", inner)

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(module.app), base_url="http://proxy") as client:
            return await client.get(path)

    answer = asyncio.run(ask())
    if not guarded:
        assert (answer.status_code, answer.headers["x-should-retry"]) == (status, "false")
    elif path.startswith("/health"):
        assert (answer.status_code, answer.text) == (status, "inner")
    else:
        assert b"inner" not in answer.content


def test_the_last_changes_are_told_before_the_stop_is_complete(monkeypatch):
    """The server ends the process when it hears that the stop is complete, so the pool's last changes go out before that."""
    order = []

    class Inner(InnerApp):
        async def __call__(self, scope, receive, send):
            await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})

    async def close():
        order.append("told")

    async def send(message):
        order.append(message["type"])

    monkeypatch.setattr(module, "litellm_app", Inner())
    monkeypatch.setattr(module, "close", close)
    monkeypatch.setattr(module, "drain_seconds", lambda: None)
    asyncio.run(module.app({"type": "lifespan"}, None, send))
    assert order == ["lifespan.startup.complete", "told", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("seconds", [None, 1.5], ids=["not-loaded", "loaded"])
def test_signals_are_taken_once_the_start_is_complete(monkeypatch, seconds):
    """From the end of the start on a signal drains, unless the callbacks are not there: then there is nothing to drain."""
    order = []

    class Inner(InnerApp):
        async def __call__(self, scope, receive, send):
            await send({"type": "lifespan.startup.complete"})

    async def send(message):
        order.append(message["type"])

    monkeypatch.setattr(module, "litellm_app", Inner())
    monkeypatch.setattr(module, "keep_what_is_there", lambda: None)
    monkeypatch.setattr(module, "drain_seconds", lambda: seconds)
    monkeypatch.setattr(module, "take_signals", lambda app, seconds: order.append((app, seconds)))
    asyncio.run(module.app({"type": "lifespan"}, None, send))
    assert order == [*([(module.app, seconds)] if seconds else []), "lifespan.startup.complete"]


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(("error", "cause"), [("ValueError", "config.yaml"), ("prisma.errors.DataError", "DATABASE_URL")])
def test_a_start_that_fails_is_one_line(monkeypatch, capsys, log_format, error, cause):
    """What LiteLLM does not start with is one line with the error at the end of its traceback, and without a secret of it."""
    sent, logger = [], logging.getLogger("claude_proxy")

    class Inner(InnerApp):
        async def __call__(self, scope, receive, send):
            traceback = f"Traceback (most recent call last):\n  File x\n{error}: no such thing: {KEY}\n"
            await send({"type": "lifespan.startup.failed", "message": traceback})
            raise ValueError

    async def send(message):
        sent.append(message)

    monkeypatch.setenv("MADE_UP_API_KEY", KEY)
    monkeypatch.setenv("PROXY_LOG_FORMAT", log_format)
    monkeypatch.setattr(module, "litellm_app", Inner())
    monkeypatch.setattr(logger, "handlers", [])
    asyncio.run(module.app({"type": "lifespan"}, None, send))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"LiteLLM does not start with {cause}: {error}: no such thing" in line
    assert f"correct {cause}, then start again" in line
    assert KEY not in line
    assert line.startswith("{") == (log_format == "json")
    assert sent == [{"type": "lifespan.startup.failed"}]


def test_what_is_there_after_the_start_is_not_searched_for_garbage():
    """Neither the objects of the start nor few new ones cause a search."""
    before = gc.get_threshold()
    try:
        gc.disable()
        module.keep_what_is_there()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold() == module.GARBAGE_THRESHOLDS
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
