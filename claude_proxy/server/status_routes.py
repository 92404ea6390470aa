"""The status routes ``/pool``, ``/metrics`` and ``/usage.csv``. They use neither LiteLLM nor a model.

Each route identifies its caller again, after the gateway. The page under ``/pool`` is public and contains no data: it requests
a token and fetches the data with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_proxy.access.routes import Caller, is_open, wants_page
from claude_proxy.alerts import metrics
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.pool import Pool
from claude_proxy.history import table
from claude_proxy.history.database import UNAVAILABLE, HistoryUnavailable
from claude_proxy.history.periods import is_day
from claude_proxy.history.service import History
from claude_proxy.server.pages import DATA_HEADERS, page
from claude_proxy.server.report_cache import ReportCache
from claude_proxy.server.turns import TooMany, Turns
from claude_proxy.server.viewers import Viewers
from claude_proxy.usage import prometheus, report
from claude_proxy.usage.report import StoreStatus, Viewer

# How many requests of one user for metrics or a table may wait for another one of theirs, and what the others are told.
MAX_WAITING = 20
TOO_MANY = "Too many requests of this user are in progress; try again in a moment."


class StatusRoutes:
    """Serves one process's pool and history, after ``fresh`` has applied the state of the other processes."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        history: History,
        *,
        store_status: Callable[[], StoreStatus],
        fresh: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        problems: Callable[[], Sequence[str]] = tuple,
        groups: Callable[[], PoolGroups] = lambda: NO_GROUPS,
        budgets: Callable[[Caller], Sequence[Mapping[str, Any]]] = lambda _: (),
        overview: Callable[[Viewer, Caller], Mapping[str, Any]] = lambda *_: {},
        running: Callable[[Viewer], Mapping[str, Any]] = lambda _: {"requests": 0},
        metrics: Callable[[Viewer, Caller], Iterable[Metric]] = lambda *_: (),
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._history = history
        self._store_status = store_status
        self._fresh = fresh
        self._clock = clock
        self._problems = problems
        self._viewers = Viewers(settings, pool, groups)
        self._budgets = budgets
        self._reports = ReportCache(clock)
        self._turns = Turns(MAX_WAITING)
        self._overview = overview
        self._running = running
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Return the routes, to be placed before LiteLLM's."""
        return [
            Route("/pool", self._show_pool, methods=["GET"]),
            Route("/metrics", self._show_metrics, methods=["GET"]),
            Route("/usage.csv", self._show_usage, methods=["GET"]),
        ]

    async def _show_pool(self, request: Request) -> Response:
        if wants_page(request.method, "/pool", request.headers.get("accept", "")):
            return page("pool", self._settings)

        try:
            viewer, caller = self._viewers.identify(request, "/pool")
        except Refused as refused:
            return JSONResponse({"error": {"message": str(refused)}}, refused.status)
        known = request.headers.get("if-none-match")
        who = (caller.role, caller.name, caller.groups)
        shown = self._reports.recent(who) if known else None
        if shown is None:
            await self._fresh()
            shown = self._reports.keep(who, await self._report(viewer, caller))
        headers = DATA_HEADERS | {"etag": shown.tag}
        if shown.is_known(known):
            return Response(None, 304, headers=headers)
        return Response(shown.body, media_type="application/json", headers=headers)

    async def _report(self, viewer: Viewer, caller: Caller) -> dict[str, Any]:
        used = await self._history.used()
        found = report.report(
            self._pool.snapshot(),
            used,
            viewer,
            self._store_status(),
            self._clock(),
            events=self._history.events,
            problems=self._problems(),
        )
        return found | {
            "open": is_open(self._settings),
            "budgets": [*self._budgets(caller)],
            "running": self._running(viewer),
            **self._overview(viewer, caller),
        }

    async def _show_metrics(self, request: Request) -> Response:
        async def data(viewer: Viewer, caller: Caller) -> Response:
            counted = await self._history.counted()
            more = [*self._metrics(viewer, caller), *metrics.running(self._running(viewer))]
            # In a thread, because a year of many users is ten thousand lines.
            text = await asyncio.to_thread(
                prometheus.exposition, self._pool.snapshot(), counted, viewer, self._store_status(), more
            )
            return Response(text, headers=DATA_HEADERS | {"content-type": prometheus.CONTENT_TYPE})

        return await self._respond(request, "/metrics", data)

    async def _show_usage(self, request: Request) -> Response:
        async def data(*_: object) -> Response:
            by = [column for column in request.query_params.getlist("by") if column in table.BY] or table.BY
            first = request.query_params.get("from", "")
            try:
                text = await self._history.table(by, first if is_day(first) else "")
            except HistoryUnavailable:
                return JSONResponse({"error": {"message": UNAVAILABLE}}, 503)
            return Response(text, headers=DATA_HEADERS, media_type="text/csv")

        return await self._respond(request, "/usage.csv", data)

    async def _respond(self, request: Request, route: str, data: Callable[[Viewer, Caller], Awaitable[Response]]) -> Response:
        try:
            viewer, caller = self._viewers.identify(request, route)
        except Refused as refused:
            return JSONResponse({"error": {"message": str(refused)}}, refused.status)
        try:
            # Sums over a year take a while, and several at a time would take the time of all others.
            async with self._turns.of(viewer.name):
                await self._fresh()
                return await data(viewer, caller)
        except TooMany:
            return JSONResponse({"error": {"message": TOO_MANY}}, 429, headers=DATA_HEADERS)
