"""The routes of batches: make, list, retrieve, cancel and delete one, and read its results."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import Refused, own_refusal
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.pool_groups import PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import folded
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind, fingerprint, is_id
from claude_proxy.credentials.order import Requester
from claude_proxy.proxy.account_requests import Call, Failed
from claude_proxy.proxy.admission import Admission
from claude_proxy.proxy.api_keys import not_supported
from claude_proxy.proxy.batch_counting import BatchCounting, details_of
from claude_proxy.proxy.batches import Batch, checked_batch, deployments_of, parsed_batch, total
from claude_proxy.proxy.budget_responses import unpriced_model
from claude_proxy.proxy.lanes.claude_lane import replayed
from claude_proxy.proxy.offload import offloaded
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.addresses import base_of
from claude_proxy.server.object_calls import Asked, ObjectCalls, Operation, send_json
from claude_proxy.upstream.client import UpstreamError
from claude_proxy.usage.prices import Prices

logger = logging.getLogger(__name__)

BASE = "/v1/messages/batches"
RESULTS_URL = "results_url"
NO_LITELLM = (
    "Batches are not supported while settings of this proxy send every request through LiteLLM, which serves no batch here: "
    "{why}."
)
TOO_MANY = "You have too many {what} that were made through this proxy; delete some of them."
NO_ID = own_refusal(502, "Anthropic sent a response without a usable id.", [])


class Parts(NamedTuple):
    """What the routes need. ``needs_litellm`` returns why no request may pass LiteLLM by; empty if they may.

    ``window`` returns the context window of a model of config.yaml.
    """

    settings: Settings
    config: ActiveConfig
    admission: Admission
    prices: Prices
    counting: BatchCounting
    groups: Callable[..., Requester]
    window: Callable[[str], int]
    needs_litellm: Callable[[], str]
    clock: Callable[[], float]


class BatchRoutes:
    """One per process."""

    def __init__(self, calls: ObjectCalls, parts: Parts) -> None:
        self._calls = calls
        self._parts = parts
        # A batch that Anthropic has made is recorded, also if its client disconnects meanwhile.
        self._making: set[asyncio.Task[Any]] = set()

    async def serve(self, asked: Asked, outlet: ClientResponse) -> None:
        """Respond to a request. Raises ``Refused`` and ``Failed``."""

        def edit(found: dict[str, Any]) -> dict[str, Any]:
            return self._with_own_address(found, asked)

        match asked.operation:
            case Operation.MAKE:
                await self._make(asked, outlet, edit)
            case Operation.LIST:
                await self._calls.send_list(asked, outlet, edit)
            case Operation.CANCEL:
                await self._calls.relay(asked, outlet, edit, action="cancel")
            case Operation.CONTENT:
                await self._send_results(asked, outlet)
            case _:
                await self._calls.relay(asked, outlet, edit)

    def _with_own_address(self, found: dict[str, Any], asked: Asked) -> dict[str, Any]:
        """Return a batch whose results are at the proxy's address; Anthropic's would take the proxy's token."""
        if not isinstance(found.get(RESULTS_URL), str):
            return {name: value for name, value in found.items() if name != RESULTS_URL} | (
                {RESULTS_URL: None} if RESULTS_URL in found else {}
            )
        identifier = found.get("id")
        url = f"{base_of(asked.scope, self._parts.settings)}{BASE}/{identifier}/results" if is_id(identifier) else None
        return found | {RESULTS_URL: url}

    # --- Making --------------------------------------------------------------------------------------------------------------

    async def _make(self, asked: Asked, outlet: ClientResponse, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        request, parts = asked.request, self._parts
        if why := parts.needs_litellm():
            raise not_supported(NO_LITELLM.format(why=why))
        batch = await self._read(request)
        for name in sorted(batch.names):
            if parts.admission.lacks_price(request, name):
                raise unpriced_model(name)
        own = self._calls.objects.keys.own(request.client)
        if own is not None:
            call = Call("POST", BASE, request.query, batch.body, _as_json())
            found, headers = await self._calls.requests.read(request, own, call, outlet.redact)
        else:
            key = await self._key(request, batch)
            making = asyncio.ensure_future(self._made(request, batch, key, outlet))
            self._making.add(making)
            making.add_done_callback(self._finished)
            found, headers = await asyncio.shield(making)
        await send_json(outlet, edit(found), headers)

    async def _read(self, request: Request) -> Batch:
        """Return the batch in a body; raise ``Refused`` if its user may not send it."""
        size, config = len(request.raw), self._parts.config
        body = await offloaded(size, parsed_batch, request.raw)
        deployments = deployments_of(body, config)
        windows = {name: self._parts.window(name) for name in deployments}
        return await offloaded(size, checked_batch, body, request.user, deployments, config.limits, windows)

    def _finished(self, making: asyncio.Task[Any]) -> None:
        self._making.discard(making)
        if not making.cancelled():
            making.exception()  # the client may have left, and nobody else wants to know

    async def _key(self, request: Request, batch: Batch) -> Credential:
        """Return the API key for a batch: that of its files, or one that its user may use for every model in it."""
        objects = self._calls.objects
        if not objects.made.has_room(ObjectKind.BATCH, folded(request.user)):
            raise Refused(429, TOO_MANY.format(what="batches"), [("x-should-retry", "false")])
        found = [self._parts.groups(request, sent, name) for sent, (name, _) in batch.models.items()]
        requester = Requester(found[0].user, tuple(dict.fromkeys(groups for one in found for groups in one.groups)))
        pinned = await objects.key_of_files(batch.files, request.user, requester)
        return pinned or objects.keys.choose(request.client, requester)

    async def _made(
        self, request: Request, batch: Batch, key: Credential, outlet: ClientResponse
    ) -> tuple[dict[str, Any], Any]:
        """Send a batch, and record whose it is and what it may cost."""
        parts = self._parts
        amount = await total(batch.most, parts.prices.cost)
        reserved = await parts.admission.reserve(request, amount)
        call = Call("POST", BASE, request.query, batch.body, _as_json())
        try:
            found, headers = await self._calls.requests.read(request, key, call, outlet.redact)
        except Failed as failed:
            if reserved is not None and not failed.may_be_done:
                await reserved.cancel()
            raise
        identifier, details = found.get("id"), details_of(batch, request.user, request.groups, reserved)
        made = MadeObject(ObjectKind.BATCH, str(identifier), folded(request.user), fingerprint(key), parts.clock(), details)
        if not is_id(identifier) or not await self._calls.objects.record(made):
            raise Failed(NO_ID, may_be_done=True)
        logger.info("user %s made batch %s with credential %s (requests=%d)", request.user, made.id, key.label, batch.count)
        return found, headers

    # --- Results -------------------------------------------------------------------------------------------------------------

    async def _send_results(self, asked: Asked, outlet: ClientResponse) -> None:
        """Send the results while they arrive, and count them before their end."""
        made, key = await self._calls.target(asked)
        call = Call("GET", f"{BASE}/{asked.id}/results", asked.request.query)
        response = await self._calls.requests.send(asked.request, key, call, outlet.redact)
        response.has_no_events()
        results = self._parts.counting.reader(made) if made is not None else None
        try:
            await outlet.begin(200, replayed(response))
            while piece := await response.piece():
                await outlet.write(results.feed(piece) if results else piece)
            if results is not None and made is not None:
                await outlet.write(results.finish())
                await self._parts.counting.count(made, results, key.label)
            await outlet.end()
        except UpstreamError as error:  # the client's response stays without an end, as Anthropic's did
            logger.warning("Anthropic broke off the results of batch %s (%s)", asked.id, error)
        finally:
            response.close()


def has_ended(found: dict[str, Any]) -> bool:
    """Whether a batch will not change any more."""
    return found.get("processing_status") == "ended"


def _as_json() -> list[tuple[str, str]]:
    return [("content-type", "application/json")]


def requester_of(groups: Callable[[], PoolGroups], known: Callable[[], Any]) -> Callable[..., Requester]:
    """Return a function that returns the requester of a request for a model with these names."""

    def requester(request: Request, *models: str) -> Requester:
        return groups().requester(request.user, *models, groups=request.groups, known=known())

    return requester
