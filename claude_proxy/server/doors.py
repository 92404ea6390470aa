"""Routes beside the Messages API that the proxy serves by its own rules: another format, or another part of an API."""

from typing import NamedTuple, Protocol

from claude_proxy.access.routes import Caller
from claude_proxy.asgi import Headers, Receive, Scope, Send
from claude_proxy.server.bodies import HeldBody
from claude_proxy.upstream.headers import Client


class Head(NamedTuple):
    """A request before its body is read."""

    client: Client
    headers: Headers
    caller: Caller


class Door(Protocol):
    """A group of routes for every caller who may use the models."""

    def serves(self, method: str, route: str) -> bool:
        """Whether a route is this door's, by ``canonical_route``."""

    async def serve(self, scope: Scope, head: Head, memory: HeldBody, receive: Receive, send: Send) -> None:
        """Respond to an identified caller's request. ``scope`` has the canonical route as its path.

        ``memory`` holds what is read of the body (``read_body``). Everything is checked here but the token: virtual keys,
        whose models only LiteLLM knows, too.
        """
