"""ASGI types, the encoding of response headers, and errors in another format."""

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


# Returns the headers that an error has in another format, and its body, from its status and body.
Reshape = Callable[[int, bytes], tuple[Headers, bytes]]


class ReshapedErrors:
    """ASGI ``send`` that gives errors another format, in which they replace headers of the same name; all else passes."""

    def __init__(self, send: Send, reshape: Reshape) -> None:
        self._send = send
        self._reshape = reshape
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Send a message, or hold the start of an error until its body is complete."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
            return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, self._start = self._start, None
        more, body = self._reshape(start["status"], bytes(self._body))
        own = encoded([*more, ("content-length", str(len(body)))])
        names = {name for name, _ in own}
        kept = [pair for pair in start["headers"] if pair[0].lower() not in names]
        await self._send({**start, "headers": [*kept, *own]})
        await self._send({**message, "body": body})


def encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI expects them: lower-case names, bytes."""
    try:
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    except UnicodeEncodeError:  # httpx has decoded a value as UTF-8
        return [(name.lower().encode("latin-1"), _encoded_value(value)) for name, value in headers]


def _encoded_value(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
