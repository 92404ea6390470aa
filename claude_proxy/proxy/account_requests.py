"""Sends a request about batches and files to Anthropic, with the one credential that it needs."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import Refusal, own_refusal
from claude_proxy.asgi import Headers
from claude_proxy.config.deployments import Lane
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.pool import Pool
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.proxy.api_keys import OBJECTS
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.claude_lane import refused, replayed, unreachable
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.rotation import Rotation
from claude_proxy.proxy.sources import PinnedSource, SingleSource
from claude_proxy.upstream.client import StreamedResponse, UpstreamClient, UpstreamError

SERVED = "anthropic/batches-and-files"
# What the rotation may repair in the body of a message; these requests have no message.
_NO_MESSAGE = b"{}"


class Call(NamedTuple):
    """One request: its route, its query and its body, whole or in parts. ``headers`` replace those of the client."""

    method: str
    path: str
    query: str = ""
    body: bytes | AsyncIterator[bytes] = b""
    headers: Headers | None = None


class Failed(Exception):
    """There is no good response. ``refusal`` is for the client; ``may_be_done`` whether Anthropic may have done the work."""

    def __init__(self, refusal: Refusal, *, may_be_done: bool = False) -> None:
        super().__init__(refusal.status)
        self.refusal = refusal
        self.may_be_done = may_be_done


class AccountRequests:
    """One per process. ``clock`` returns Unix seconds."""

    def __init__(
        self, settings: Settings, hosts: Hosts, pool: Pool, client: UpstreamClient, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._hosts = hosts
        self._pool = pool
        self._client = client
        self._clock = clock

    async def send(
        self, request: Request, credential: Credential, call: Call, redact: Callable[[str], str]
    ) -> StreamedResponse:
        """Return a good response, which the caller closes; raise ``Failed`` for every other one, and without one."""
        is_own = credential is request.client.credential
        source = SingleSource(credential) if is_own else PinnedSource(self._pool, credential)
        journal = Journal()
        journal.begin(Provider.CLAUDE, SERVED, lane=Lane.CLAUDE)
        rotation = Rotation(
            source,
            request,
            journal,
            scope=OBJECTS,
            cooldown=self._settings.cooldown_seconds,
            clock=self._clock,
            redact=redact,
        )
        url = f"{self._settings.claude_base}{call.path}{f'?{call.query}' if call.query else ''}"

        async def post(headers: Headers, _content: bytes) -> StreamedResponse:
            body = call.body
            return await self._client.send(
                url, _replaced(headers, call.headers), body, method=call.method, on_sent=journal.record_sent
            )

        try:
            judged = await rotation.send(self._hosts, url, _NO_MESSAGE, post)
        except UpstreamError as error:
            raise Failed(_refusal(unreachable(error).refusal), may_be_done=journal.at_provider) from None
        response = judged.response
        if response.status >= 400:
            raise Failed(_refusal(refused(judged, source).refusal))
        if reason := response.rejection_reason:
            response.close()
            raise Failed(own_refusal(502, f"Anthropic {reason}.", []), may_be_done=True)
        return response

    async def read(
        self, request: Request, credential: Credential, call: Call, redact: Callable[[str], str]
    ) -> tuple[dict[str, Any], Headers]:
        """Send a request; return the JSON object of its good response, and the headers for the client.

        Raises ``Failed``, also for a response that is no JSON object.
        """
        response = await self.send(request, credential, call, redact)
        try:
            content = await response.read()
            found = json.loads(content)
        except UpstreamError as error:
            raise Failed(_refusal(unreachable(error).refusal), may_be_done=True) from None
        except (ValueError, RecursionError):
            found = None
        finally:
            response.close()
        if not isinstance(found, dict):
            raise Failed(own_refusal(502, "Anthropic sent a response that is no JSON object.", []), may_be_done=True)
        return found, [pair for pair in replayed(response) if pair[0] != "content-type"]


def _replaced(headers: Headers, more: Headers | None) -> Headers:
    """Return the headers, with those of ``more`` instead of others of the same name."""
    names = {name.lower() for name, _ in more or ()}
    return [*(pair for pair in headers if pair[0].lower() not in names), *(more or ())]


def _refusal(found: Refusal | None) -> Refusal:
    return found or own_refusal(502, "Anthropic did not respond.", [])
