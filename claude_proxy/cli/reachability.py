"""Whether Claude's host and Redis accept connections, looked at in a thread while the server starts. It delays nothing."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from claude_proxy.check.hosts import PROXY_VARIABLES, reach
from claude_proxy.cli.start_report import Line
from claude_proxy.config.settings import Settings, TokenMode
from claude_proxy.providers.endpoints import Origin

REDIS_PORT = 6379


def begin(settings: Settings) -> Callable[[], list[Line]]:
    """Begin to connect; return what returns a warning for each host that was found to accept no connection so far."""
    found: list[Line] = []
    threading.Thread(target=lambda: found.extend(warnings(settings)), daemon=True).start()
    return lambda: [*found]


def warnings(settings: Settings) -> Iterator[Line]:
    """Yield a warning for each host that accepts no connection; nothing is sent."""
    redis = urlsplit(settings.redis_url.reveal()) if settings.redis_url else None
    if redis and redis.hostname:
        origin = Origin("redis", redis.hostname, redis.port or REDIS_PORT)
        words = "until it does, each process knows only its own rate limits and usage; start Redis, or correct REDIS_URL"
        yield from _warning(origin, "Redis", words)
    is_used = settings.credentials or settings.mode is TokenMode.PASSTHROUGH
    if is_used and (claude := Origin.of(settings.claude_base)) and not any(map(os.environ.get, PROXY_VARIABLES)):
        words = "requests for Claude fail until it does; check the network, a firewall, and ANTHROPIC_API_BASE"
        yield from _warning(claude, "Claude", words)


def _warning(origin: Origin, name: str, words: str) -> Iterator[Line]:
    if problem := reach(origin):
        yield Line(f"{name} at {origin.host}:{origin.port} {problem}: {words}.", logging.WARNING)
