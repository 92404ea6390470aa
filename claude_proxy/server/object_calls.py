"""What requests about batches and about files have in common: find the object and its key, ask Anthropic, list."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from claude_proxy.access.routes import Role
from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.messages import to_json
from claude_proxy.asgi import Headers, Receive, Scope
from claude_proxy.credentials.credential import Credential
from claude_proxy.credentials.made_objects import MadeObject, ObjectKind
from claude_proxy.proxy.account_objects import AccountObjects
from claude_proxy.proxy.account_requests import AccountRequests, Call, Failed
from claude_proxy.proxy.request import Request
from claude_proxy.proxy.response import ClientResponse
from claude_proxy.server.doors import Head

# Anthropic's own numbers, but for the largest page: each object of it is a request to Anthropic.
USUAL_PAGE, LARGEST_PAGE, MOST = 20, 100, 1000
# How many objects of a page are asked for at the same time, and how often a page is filled again after some were gone.
AT_ONCE = 8
ROUNDS = 3
# How many descriptions are kept for lists, how large one is at most, and for how long, in seconds.
MAX_KEPT, MAX_KEPT_BYTES, KEPT_SECONDS = 5_000, 4096, 3600.0
AFTER, BEFORE, LIMIT = "after_id", "before_id", "limit"
# The list of files has also an opaque cursor, here the id behind a prefix, and a restriction to some ids.
PAGE, PAGE_PREFIX, IDS = "page", "page_", "ids"


class Operation(Enum):
    """What a request does with an object, or with all of a kind."""

    MAKE = auto()
    LIST = auto()
    RETRIEVE = auto()
    CANCEL = auto()
    DELETE = auto()
    CONTENT = auto()


class Asked(NamedTuple):
    """One request; ``id`` is empty for an operation on all objects. ``receive`` reads the body of an upload."""

    operation: Operation
    id: str
    scope: Scope
    head: Head
    request: Request
    receive: Receive

    @property
    def is_admin(self) -> bool:
        """Whether the caller has the master key."""
        return self.head.caller.role is Role.ADMIN


class Page(NamedTuple):
    """A part of a list, and whether there is more in the direction in which it was asked for."""

    objects: list[MadeObject]
    has_more: bool


# Changes an object of Anthropic's before the client gets it.
Edit = Callable[[dict[str, Any]], dict[str, Any]]


class Descriptions:
    """Objects as Anthropic has described them for a list, as long as they cannot change: Anthropic limits requests about them.

    At most ``MAX_KEPT`` are kept, each for ``KEPT_SECONDS``. ``is_final`` returns whether an object cannot change.
    """

    def __init__(self, is_final: Callable[[dict[str, Any]], bool], clock: Callable[[], float]) -> None:
        self._is_final = is_final
        self._clock = clock
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    def find(self, identifier: str) -> dict[str, Any] | None:
        """Return a description that is still valid."""
        kept = self._kept.get(identifier)
        return kept[1] if kept is not None and self._clock() - kept[0] < KEPT_SECONDS else None

    def keep(self, identifier: str, found: dict[str, Any]) -> None:
        """Keep a description, if it is final and not too large."""
        if self._is_final(found) and len(to_json(found)) <= MAX_KEPT_BYTES:
            self._kept.pop(identifier, None)
            self._kept[identifier] = self._clock(), found
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]


class ObjectCalls:
    """The requests about one kind of objects, whose routes begin with ``base``. One for each kind and process."""

    def __init__(
        self, kind: ObjectKind, base: str, objects: AccountObjects, requests: AccountRequests, descriptions: Descriptions
    ) -> None:
        self.kind = kind
        self.base = base
        self.objects = objects
        self.requests = requests
        self._descriptions = descriptions

    async def target(self, asked: Asked) -> tuple[MadeObject | None, Credential]:
        """Return the object of a request and its key; no object for a client's own credential. Raises ``Refused``."""
        own = self.objects.keys.own(asked.request.client)
        if own is not None:
            return None, own
        made = await self.objects.find(self.kind, asked.id, asked.request.user, is_admin=asked.is_admin)
        return made, self.objects.keys.of(made)

    async def relay(self, asked: Asked, outlet: ClientResponse, edit: Edit, *, action: str = "") -> None:
        """Pass the request on, and its response, a JSON object."""
        made, key = await self.target(asked)
        path = f"{self.base}/{asked.id}{f'/{action}' if action else ''}"
        call = Call(asked.scope["method"], path, asked.request.query)
        found, headers = await self.requests.read(asked.request, key, call, outlet.redact)
        if made is not None and asked.operation is Operation.DELETE:
            await self.objects.discard(made)
        await send_json(outlet, edit(found), headers)

    async def send_list(self, asked: Asked, outlet: ClientResponse, edit: Edit) -> None:
        """Send a page of the caller's objects, each as Anthropic describes it now."""
        own = self.objects.keys.own(asked.request.client)
        if own is not None:
            call = Call("GET", self.base, asked.request.query)
            found, headers = await self.requests.read(asked.request, own, call, outlet.redact)
            data = found.get("data")
            entries = [edit(one) if isinstance(one, dict) else one for one in data] if isinstance(data, list) else data
            await send_json(outlet, found | {"data": entries}, headers)
            return
        query = _query(asked.request.query)
        every = await self.objects.of_caller(self.kind, asked.head.caller)
        for _ in range(ROUNDS):
            page = page_of(every, query, self.objects.keys.knows)
            found_now = await self._described(asked, page.objects, outlet)
            gone = {made.id for made, one in zip(page.objects, found_now, strict=True) if one is None}
            if not gone:
                break
            every = [replace(one, deleted=True) if one.id in gone else one for one in every]
        described = [edit(one) for one in found_now if one is not None]
        first, last = (page.objects[0].id, page.objects[-1].id) if page.objects else (None, None)
        following = f"{PAGE_PREFIX}{last}" if page.has_more and BEFORE not in query else None
        ends = {"first_id": first, "last_id": last, "next_page": following}
        await send_json(outlet, {"data": described, "has_more": page.has_more, **ends}, ())

    async def _described(self, asked: Asked, page: list[MadeObject], outlet: ClientResponse) -> list[dict[str, Any] | None]:
        """Return the objects as Anthropic describes them; None for one that it does not find.

        That one stays recorded: Anthropic also finds nothing without the header that its beta needs.
        """
        free = asyncio.Semaphore(AT_ONCE)
        query = "beta=true" if "beta=true" in asked.request.query.split("&") else ""

        async def describe(made: MadeObject) -> dict[str, Any] | None:
            if (kept := self._descriptions.find(made.id)) is not None:
                return kept
            async with free:
                call = Call("GET", f"{self.base}/{made.id}", query)
                try:
                    found, _ = await self.requests.read(asked.request, self.objects.keys.of(made), call, outlet.redact)
                except Failed as failed:
                    if failed.refusal.status != 404:
                        raise
                    return None
                self._descriptions.keep(made.id, found)
                return found

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_caught(describe(made))) for made in page]
        found = [task.result() for task in tasks]
        for one in found:
            if isinstance(one, Exception):
                raise one
        return [one for one in found if not isinstance(one, Exception)]


async def _caught(work: Any) -> dict[str, Any] | Failed | Refused | None:
    """Return the result or the error: one error must not hide behind a group of errors."""
    try:
        return await work  # type: ignore[no-any-return]
    except (Failed, Refused) as error:
        return error


def page_of(every: list[MadeObject], query: dict[str, str], is_there: Callable[[MadeObject], bool]) -> Page:
    """Return the page of a query from all objects, the newest first. Raises ``Refused`` for an invalid query.

    A cursor may be a deleted object, or one that ``is_there`` leaves out.
    """
    wanted = query.get(LIMIT, str(USUAL_PAGE))
    if not (wanted.isascii() and wanted.isdecimal() and len(wanted) < 5 and 0 < int(wanted) <= MOST):
        raise Refused(400, f"{LIMIT}: Input should be a number from 1 to {MOST}")
    if len(query.keys() & {AFTER, BEFORE, PAGE, IDS}) > 1:
        raise Refused(400, f"{AFTER}, {BEFORE}, {PAGE} and {IDS} cannot be used together")
    size = min(int(wanted), LARGEST_PAGE)
    cursor = next((name for name in (AFTER, BEFORE, PAGE) if name in query), None)
    at = (0.0, "")
    if cursor is not None:
        identifier = query[cursor].removeprefix(PAGE_PREFIX if cursor == PAGE else "")
        found = next((one for one in every if one.id == identifier), None)
        if found is None:
            raise Refused(400, f"{cursor}: not found")
        at = found.place
    there = [one for one in every if not one.deleted and is_there(one)]
    if IDS in query:
        ids = query[IDS].split(",")
        if len({*ids}) > LARGEST_PAGE:
            raise Refused(400, f"{IDS}: at most {LARGEST_PAGE}")
        return Page([one for one in there if one.id in ids], has_more=False)
    if cursor == BEFORE:
        newer = [one for one in there if one.place > at]
        return Page(newer[-size:], len(newer) > size)
    older = [one for one in there if one.place < at] if cursor else there
    return Page(older[:size], len(older) > size)


def _query(query: str) -> dict[str, str]:
    """Return the values of a query; raise ``Refused`` for a filter that the proxy does not know of its objects."""
    try:
        every = parse_qs(query, keep_blank_values=True, max_num_fields=2 * LARGEST_PAGE)
    except ValueError:
        raise Refused(400, "The query has too many fields.") from None
    found = {name: values[0] for name, values in every.items() if name.removesuffix("[]") != IDS}
    if ids := every.get(IDS, []) + every.get(f"{IDS}[]", []):
        found[IDS] = ",".join(ids)
    if "scope_id" in found:
        raise Refused(400, "scope_id: this proxy lists only the files that were uploaded through it, which have no scope")
    return found


async def send_json(outlet: ClientResponse, found: dict[str, Any], headers: Headers) -> None:
    """Send a JSON object."""
    body = to_json(found)
    sent = [*headers, ("content-type", "application/json"), ("content-length", str(len(body)))]
    await outlet.begin(200, sent)
    await outlet.end(body)
