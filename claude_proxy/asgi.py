"""ASGI: the shapes of its messages, and of headers."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[str, str]]
# Under this name a scope has a function that takes what is to be called, once, when the client is gone; None takes it back.
WHEN_GONE = "claude_proxy.when_gone"
WhenGone = Callable[[Callable[[], None] | None], None]
# Under this name a function that takes what ends the request when the server stops before its response has ended.
WHEN_CUT = "claude_proxy.when_cut"


class Cut(Protocol):
    """Ends a request, by force wherever its response stands; returns whether it ends."""

    def __call__(self, *, force: bool) -> bool: ...


WhenCut = Callable[[Cut], None]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them, with their names in lower case."""
    return [(name.lower().encode("latin-1"), _encoded_value(value)) for name, value in headers]


def _encoded_value(value: str) -> bytes:
    """Return a header's bytes: Latin-1, as ASGI has them, or UTF-8 for what httpx has read as UTF-8."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
