"""The route ``/pool/requests``: the latest requests, with the rule that decided, the attempts and what each has cost.

It identifies its caller again, after the gateway. A caller without the master key sees their own requests only. Requests of
other processes appear within about a second: pages poll this route, so it waits for no exchange with the store.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_proxy.access.routes import Caller, check_route, identify
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.settings import Settings
from claude_proxy.server.pages import DATA_HEADERS
from claude_proxy.text import clean
from claude_proxy.upstream import headers as header_policy
from claude_proxy.usage.recent_requests import MOST, Filters, RecentRequests
from claude_proxy.usage.report import Viewer
from claude_proxy.usage.running_requests import RunningRequests

PATH = "/pool/requests"
LIMIT = 100
# The filters that a query may repeat, and all its parameters.
NAMES = ("user", "model", "credential", "rule", "lane", "status")
PARAMETERS = (*NAMES, "q", "before", "since", "limit")
# What ``status`` may be besides a code.
STATUSES = ("ok", "error", "failover")
# The maximum number of parameters, and the maximum length of each.
MAX_PARAMETERS = 100
MAX_VALUE = 500


class RequestRoutes:
    """Serves the latest requests. ``ready`` returns once this process has the state that others have stored before its start.

    ``viewer`` returns whom a caller may see.
    """

    def __init__(
        self,
        settings: Settings,
        recent: RecentRequests,
        running: RunningRequests,
        *,
        ready: Callable[[], Awaitable[None]],
        viewer: Callable[[Caller], Viewer],
    ) -> None:
        self._settings = settings
        self._recent = recent
        self._running = running
        self._ready = ready
        self._viewer = viewer

    def routes(self) -> list[Route]:
        """Return the routes, to be placed before LiteLLM's."""
        return [Route(PATH, self._show, methods=["GET"])]

    async def _show(self, request: Request) -> Response:
        try:
            caller = identify(header_policy.read(request.headers.items()), self._settings)
            check_route(caller, request.method, PATH)
            filters, limit = read_query(request.query_params.multi_items())
        except Refused as refused:
            return JSONResponse({"error": {"message": str(refused)}}, refused.status)
        await self._ready()
        viewer = self._viewer(caller)
        only_user = None if viewer.sees_all_users else clean(viewer.name)
        try:
            found, following = self._recent.read(filters, limit, only_user=only_user, hidden=viewer.hidden)
        except ValueError:
            return JSONResponse({"error": {"message": "before and since should be the id of a request."}}, 400)
        oldest = self._recent.kept_since()
        # By the minute: a full list drops its oldest request with each new one.
        since = None if oldest is None else oldest - oldest % 60
        running = sum(count for user, count in self._running.users().items() if only_user in (None, user))
        # An entry never changes. Its credentials may become hidden, so these are a part of what the tag names.
        numbers = (str(following), str(since), str(running))
        named = "\n".join([*(one.id for one in found), *numbers, str(only_user), *sorted(viewer.hidden)])
        headers = DATA_HEADERS | {"etag": f'W/"{hashlib.sha256(named.encode()).hexdigest()[:24]}"'}
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers=headers)
        shown = {"requests": [one.shown() for one in found], "next": following, "running": running, "kept_since": since}
        # Three times as fast as ``JSONResponse`` for a thousand of them.
        return Response(msgspec.json.encode(shown), headers=headers, media_type="application/json")


def running_of(running: RunningRequests, viewer: Viewer) -> dict[str, object]:
    """Return the requests in progress that a viewer may see; the users only for the holder of the master key."""
    users = running.users()
    if not viewer.sees_all_users:
        return {"requests": users.get(clean(viewer.name), 0)}
    return {"requests": sum(users.values()), "users": dict(sorted(users.items(), key=lambda one: (-one[1], one[0])))}


def read_query(pairs: Collection[tuple[str, str]]) -> tuple[Filters, int]:
    """Return the filters and the limit of a query; empty values are left out. Raises ``Refused`` with 400."""
    values: dict[str, list[str]] = {}
    if len(pairs) > MAX_PARAMETERS:
        raise Refused(400, f"The query has more than {MAX_PARAMETERS} parameters.")
    for name, value in pairs:
        if name not in PARAMETERS:
            raise Refused(400, f"{clean(name)} is not a parameter; these are: {', '.join(PARAMETERS)}.")
        if len(value) > MAX_VALUE:
            raise Refused(400, f"{name} should have at most {MAX_VALUE} characters.")
        if value:
            values.setdefault(name, []).append(value)
    last = {name: found[-1] for name, found in values.items()}
    limit = last.get("limit", str(LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MOST)) and 1 <= int(limit) <= MOST):
        raise Refused(400, f"limit should be a number from 1 to {MOST}.")
    for status in values.get("status", ()):
        if status not in STATUSES and not (status.isascii() and status.isdigit() and len(status) == len("200")):
            raise Refused(400, "status should be ok, error, failover or a code such as 429.")
    named = {name: frozenset(values.get(name, ())) for name in NAMES}
    text = last.get("q", "").casefold()
    return Filters(**named, text=text, before=last.get("before", ""), since=last.get("since", "")), int(limit)
