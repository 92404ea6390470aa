"""ASGI types, and the encoding of response headers."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[str, str]]
# Scope key of a function that registers a callback; the callback runs once when the client disconnects. None unregisters it.
WHEN_GONE = "claude_proxy.when_gone"
WhenGone = Callable[[Callable[[], None] | None], None]
# Scope key of a function that registers the `Cut` of a request, for a server that stops before the response has ended.
WHEN_CUT = "claude_proxy.when_cut"


class Cut(Protocol):
    """Ends a request, with ``force`` at any point of its response; returns whether the request ends."""

    def __call__(self, *, force: bool) -> bool: ...


WhenCut = Callable[[Cut], None]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI expects them: lower-case names, bytes."""
    return [(name.lower().encode("latin-1"), _encoded_value(value)) for name, value in headers]


def _encoded_value(value: str) -> bytes:
    """Encode a header value as Latin-1, or as UTF-8 if httpx has decoded it as UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
