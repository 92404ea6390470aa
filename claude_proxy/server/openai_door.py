"""The routes of OpenAI's API for other clients: chat completions, responses and embeddings, through LiteLLM.

``claude_proxy: openai_routes: true`` in config.yaml opens them. Tokens, models, limits and budgets are those of the Messages
API.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from claude_proxy.access.routes import OPENAI_ROUTES, Caller, Role
from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, Refused, error_message, own_refusal, send_refusal
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.asgi import App, Receive, Scope, Send, encoded
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.openai_routes import KEY
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.lazy import lazy
from claude_proxy.openai.api_errors import ErrorFormat, last_event
from claude_proxy.openai.api_requests import ROUTES, Api, as_messages, parsed, reduced, wants_usage, written
from claude_proxy.providers.endpoints import BLOCK
from claude_proxy.providers.fetching import FetchHosts
from claude_proxy.proxy.budget_responses import BILLING_ERROR
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.openai_lane import OpenaiResponse
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.outcome import Outcome
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse, StreamFormat
from claude_proxy.proxy.serving import Serving
from claude_proxy.server.bodies import HeldBody, body_alone, read_body, weigh
from claude_proxy.server.doors import Head
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.under_way import UnderWay
from claude_proxy.upstream import headers as header_policy

# The headers that LiteLLM gets of these clients.
SENT = frozenset({"host", header_policy.PROXY_TOKEN})
KEEPALIVE = b": keep-alive\n\n"
# The status that the Messages API has for a forbidden model here, and LiteLLM's (1.106.2) for a spent budget, with its words.
BAD_REQUEST = 400
SPENT_STATUS, SPENT = 422, "Budget has been exceeded"
OFF = f"is off: set {KEY}: true under {BLOCK} in config.yaml."


class OpenaiRequest(Request, frozen=True, dict=True):
    """A request in a format of OpenAI's API."""

    api: Api = Api.CHAT

    @lazy
    def body(self) -> Mapping[str, Any]:
        """What is asked, as a Messages request, for estimates of its tokens."""
        return as_messages(parsed(self.raw, self.api), self.api)


@dataclass(frozen=True)
class Call:
    """A request for LiteLLM: its format, its reduced body, and whether the client asks for the usage of a stream."""

    api: Api
    body: dict[str, Any]
    shows_usage: bool


class OpenaiDoor:
    """One per process. ``app`` is LiteLLM's."""

    def __init__(
        self, app: App, config: ActiveConfig, serving: Serving, redactor: Redactor, model_requests: ModelRequests
    ) -> None:
        self._app = app
        self._config = config
        self._serving = serving
        self._redactor = redactor
        self._model_requests = model_requests

    def serves(self, method: str, route: str) -> bool:
        """Whether a route is one of these, open or not."""
        return (method, route) in OPENAI_ROUTES

    def in_format(self, route: str, send: Send) -> Send:  # noqa: ARG002 - the same for all
        """Return a ``send`` that gives errors OpenAI's shape."""
        return ErrorFormat(send)

    async def serve(self, scope: Scope, head: Head, memory: HeldBody, receive: Receive, send: Send) -> None:
        """Respond to an identified caller's request."""
        if not self._config.openai_routes:
            await send_refusal(send, own_refusal(404, f"{scope['path']} {OFF}"))
            return
        try:
            raw = await read_body(receive, memory)
            weigh(memory, raw)
            call, streams = await offloaded(len(raw), call_of, raw, ROUTES[scope["path"]], self._config.fetch_hosts)
        except Refused as refused:
            await send_refusal(send, refused.refusal())
            return
        except ConnectionAbortedError:
            return
        caller, model = head.caller, call.body["model"]
        request = OpenaiRequest(
            head.client,
            head.headers,
            raw,
            RequestView(model, streams=streams),
            user=caller.name,
            groups=self._config.groups.of_user(caller.name, caller.groups),
            api=call.api,
        )
        events = StreamFormat(functools.partial(last_event, call.api, model), KEEPALIVE)
        outlet = ClientResponse(send, request, self._redactor, Journal(), stream_format=events)

        async def respond(under_way: UnderWay) -> None:
            call_litellm = functools.partial(self._call_litellm, under_way, scope, caller, call)
            await self._serving.serve(request, outlet, outlet.journal, call_litellm, enters_litellm=True)

        await self._model_requests.serve(scope, caller, receive, outlet, respond)

    async def _call_litellm(
        self, under_way: UnderWay, scope: Scope, caller: Caller, call: Call, model: str, *, planned: bool
    ) -> Outcome:
        """Call LiteLLM's app with a reduced body, in a context in which its hooks find the request."""
        outlet, request = under_way.outlet, under_way.outlet.request
        entrance = under_way.entrance = Entrance(request, outlet, outlet.journal, planned=planned, model=model, is_openai=True)
        # LiteLLM checks a virtual key's models by the name in config.yaml.
        name = model if caller.role is Role.KEY else request.model
        body = await offloaded(len(request.raw), written, call.body | {"model": name})
        headers = [
            *((header, value) for header, value in header_policy.for_litellm(request.headers, caller.token) if header in SENT),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
        ]
        response = OpenaiResponse(entrance, call.api, shows_usage=call.shows_usage)
        token = current.set(entrance)
        try:
            inner = dict(scope) | {"headers": encoded(headers), "query_string": b""}
            await self._app(inner, body_alone(body), response)
        finally:
            current.reset(token)
        return _in_words_of_the_api(entrance.outcome(response.outcome()))


def call_of(raw: bytes, api: Api, hosts: FetchHosts) -> tuple[Call, bool]:
    """Return what LiteLLM is asked, and whether for a stream. Raises ``Refused``."""
    body = parsed(raw, api)
    kept = reduced(body, api, hosts)
    return Call(api, kept, wants_usage(body)), kept.get("stream") is True


def _in_words_of_the_api(outcome: Outcome) -> Outcome:
    """Return an outcome with OpenAI's status for a forbidden model and for a spent budget of a virtual key."""
    refusal = outcome.refusal
    if refusal is None:
        return outcome
    message = error_message(refusal.body, refusal.status)
    if refusal.reason == MODEL_NOT_ALLOWED and refusal.status == BAD_REQUEST:
        own = own_refusal(403, message, reason=refusal.reason)
    elif refusal.status == SPENT_STATUS and message.startswith(SPENT):
        own = own_refusal(429, message, kind=BILLING_ERROR)
    else:
        return outcome
    return replace(outcome, status=own.status, refusal=own)
