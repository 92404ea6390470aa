"""The routes for clients of Bedrock and Vertex AI (Claude Code with CLAUDE_CODE_USE_BEDROCK or CLAUDE_CODE_USE_VERTEX)."""

import functools
import json
from collections.abc import Awaitable, Callable

import msgspec

from claude_proxy.access.routes import Caller, Role
from claude_proxy.anthropic.errors import MODEL_NOT_ALLOWED, Refusal, Refused, send_refusal
from claude_proxy.anthropic.request_view import RequestView
from claude_proxy.asgi import Receive, ReshapedErrors, Scope, Send
from claude_proxy.config.models import ActiveConfig
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.providers import cloud_errors
from claude_proxy.providers.cloud_routes import Action, Cloud, CloudCall, call_of, cloud_of, profile_of
from claude_proxy.providers.model_names import is_name
from claude_proxy.proxy.budget_responses import unpriced_model
from claude_proxy.proxy.cloud_plan import check_ready, cloud_target, profile, profiles
from claude_proxy.proxy.journal import Journal
from claude_proxy.proxy.lanes.cloud_lane import CloudLane
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.plan import LacksPrice, Target
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.bodies import HeldBody, read_body, weigh
from claude_proxy.server.doors import Head
from claude_proxy.server.model_requests import ModelRequests
from claude_proxy.server.under_way import UnderWay

NOT_SERVED = "{} is not served by this proxy: it serves Claude's models, and no other part of {}."
NOT_FOR_KEYS = "Virtual keys cannot use the routes of {}; use /v1/messages, or another token of this proxy."
NEEDS_LITELLM = "config.yaml has {}, which needs LiteLLM, so requests of {}'s clients are refused; use /v1/messages."


class _Body(msgspec.Struct):
    model: str | None = None


_DECODER = msgspec.json.Decoder(_Body)


class CloudDoor:
    """Serves the paths that reach Claude, for models that config.yaml has on that cloud, and refuses every other path."""

    def __init__(
        self,
        requests: ModelRequests,
        lane: CloudLane,
        config: ActiveConfig,
        redactor: Redactor,
        *,
        lacks_price: LacksPrice,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        """``ready`` returns once the process has the state of the others; ``lacks_price`` as for ``Serving``."""
        self._requests = requests
        self._lane = lane
        self._config = config
        self._redactor = redactor
        self._lacks_price = lacks_price
        self._ready = ready

    def serves(self, method: str, route: str) -> bool:  # noqa: ARG002 - of every method
        """Whether a route is one of a cloud, served or not."""
        return cloud_of(route) is not None

    def in_format(self, route: str, send: Send) -> Send:
        """Return a ``send`` that gives errors the shape of the route's cloud."""
        return ReshapedErrors(send, functools.partial(cloud_errors.shaped, cloud_of(route) or Cloud.BEDROCK))

    async def serve(self, scope: Scope, head: Head, memory: HeldBody, receive: Receive, send: Send) -> None:
        """Respond in the form that the cloud's client expects."""
        cloud = cloud_of(scope["path"]) or Cloud.BEDROCK
        try:
            if (name := profile_of(scope["method"], scope["path"])) is not None:
                await send_refusal(send, self._profiles(name, head.caller))
                return
            call = self._call(scope, head, cloud)
            raw = await read_body(receive, memory)
            call = await offloaded(len(raw), named, call, raw)
        except Refused as refused:
            await send_refusal(send, refused.refusal(), head=scope["method"] == "HEAD")
            return
        except ConnectionAbortedError:
            return
        caller = head.caller
        target = cloud_target(call, self._config, caller.name)
        request = Request(
            head.client,
            head.headers,
            raw,
            # No keep-alive of the proxy may stand between a cloud's bytes, so this is no stream to the outlet.
            RequestView(target.name if target else call.model, streams=False),
            user=caller.name,
            counts_tokens=call.action is Action.COUNT,
            weigh=functools.partial(weigh, memory, raw),
            groups=self._config.groups.of_user(caller.name, caller.groups),
        )
        outlet = ClientResponse(send, request, self._redactor, Journal())

        async def respond(_: UnderWay) -> None:
            await self._respond(call, target, outlet)

        await self._requests.serve(scope, caller, receive, outlet, respond)

    def _profiles(self, name: str, caller: Caller) -> Refusal:
        """Return a profile of Bedrock, or all without a name, from config.yaml; no cloud is asked."""
        if caller.role is Role.KEY:
            raise Refused(400, NOT_FOR_KEYS.format(Cloud.BEDROCK.value))
        found = profile(self._config, caller.name, name) if name else profiles(self._config, caller.name)
        return Refusal(200, [("content-type", "application/json")], json.dumps(found).encode())

    def _call(self, scope: Scope, head: Head, cloud: Cloud) -> CloudCall:
        """Return what is asked for; raise ``Refused`` for what is never served here."""
        call = call_of(scope["method"], scope["path"])
        if call is None:
            raise Refused(404, NOT_SERVED.format(f"{scope['method']} {scope['path'][:200]}", cloud.value))
        if head.caller.role is Role.KEY:
            raise Refused(400, NOT_FOR_KEYS.format(cloud.value))
        if self._config.features:
            # Such as a guardrail, which these requests would not pass.
            raise Refused(400, NEEDS_LITELLM.format(", ".join(self._config.features), cloud.value))
        return call

    async def _respond(self, call: CloudCall, target: Target | None, outlet: ClientResponse) -> None:
        await self._ready()
        request, limits = outlet.request, self._config.limits
        if limits.patterns:
            in_body = call.cloud is Cloud.VERTEX and call.action is Action.COUNT
            size = len(request.raw)
            request.weigh()
            forbidden = await offloaded(size, limits.forbidden, request.user, request.name, request.raw, named_in_body=in_body)
            if forbidden:
                raise Refused(400, limits.refusal(request.user, forbidden), reason=MODEL_NOT_ALLOWED)
        found = check_ready(call, target, self._config)
        if not request.counts_tokens and self._lacks_price(request, found.name):
            raise unpriced_model(found.name)
        outcome = await self._lane.serve(call, found, outlet)
        if outcome.refusal is not None:
            outlet.journal.record_failed()
            await outlet.refuse(outcome.refusal)


def named(call: CloudCall, raw: bytes) -> CloudCall:
    """Return the call with its model's name; raise ``Refused`` for a body that is not a JSON object."""
    try:
        found = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "The body should be a JSON object, with the fields of the Messages API.") from None
    if call.model:
        return call
    if not found.model or not is_name(found.model):
        raise Refused(400, "model: Field required")
    return call._replace(model=found.model)
