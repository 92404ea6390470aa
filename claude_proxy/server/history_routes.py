"""The routes ``/pool/history`` and ``/pool/history.csv``: what was used, by hour, day or month; and ``/pool/highlights``."""

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_proxy.anthropic.errors import Refused
from claude_proxy.history import queries
from claude_proxy.history.database import UNAVAILABLE, HistoryUnavailable
from claude_proxy.history.highlights import highlights
from claude_proxy.history.queries import Found
from claude_proxy.history.service import History
from claude_proxy.history.view import NONE, InvalidView, View, read_view
from claude_proxy.server.pages import DATA_HEADERS
from claude_proxy.server.turns import TooMany, Turns
from claude_proxy.server.viewers import Viewers
from claude_proxy.text import unformulated

ROUTE, CSV_ROUTE, HIGHLIGHTS_ROUTE = "/pool/history", "/pool/history.csv", "/pool/highlights"
# How many requests of one user may wait for another one of theirs.
MAX_WAITING = 20
# The lines of the CSV: one for each period and name, or with this parameter one for each name.
LINES, OF_NAMES = "lines", "names"
# How long the highlights of a viewer are shown, in seconds: a page asks for them as often, and ten pages make them once.
HIGHLIGHTS_SECONDS = 60.0
TOO_MANY = "Too many requests for the history of this user are in progress; try again in a moment."


class HistoryRoutes:
    """Who may not see every user sees their own usage only. ``fresh`` applies what this process has not counted yet."""

    def __init__(
        self, history: History, viewers: Viewers, *, fresh: Callable[[], Awaitable[None]], clock: Callable[[], float]
    ) -> None:
        self._history = history
        self._viewers = viewers
        self._fresh = fresh
        self._clock = clock
        self._turns = Turns(MAX_WAITING)
        # By the only user whose usage they show: when they were made, and what is sent.
        self._highlights: dict[str | None, tuple[float, bytes]] = {}

    def routes(self) -> list[Route]:
        """Return the routes, to be placed before LiteLLM's."""
        return [
            Route(ROUTE, self._show, methods=["GET"]),
            Route(CSV_ROUTE, self._show_csv, methods=["GET"]),
            Route(HIGHLIGHTS_ROUTE, self._show_highlights, methods=["GET"]),
        ]

    async def _show(self, request: Request) -> Response:
        return await self._respond(request, ROUTE, _as_json, "application/json")

    async def _show_csv(self, request: Request) -> Response:
        of_names = request.query_params.getlist(LINES) == [OF_NAMES]
        return await self._respond(request, CSV_ROUTE, _sums_as_csv if of_names else _as_csv, "text/csv")

    async def _show_highlights(self, request: Request) -> Response:
        try:
            viewer, _ = self._viewers.identify(request, HIGHLIGHTS_ROUTE)
        except Refused as refused:
            return _error(refused.status, str(refused))
        only_user = None if viewer.sees_all_users else viewer.name

        async def shown() -> bytes:
            now, zone = self._clock(), self._history.zone
            self._highlights = {who: one for who, one in self._highlights.items() if now - one[0] < HIGHLIGHTS_SECONDS}
            if only_user not in self._highlights:
                await self._fresh()
                found = await self._history.read(lambda connection: highlights(connection, now, zone, only_user))
                self._highlights[only_user] = now, msgspec.json.encode(found)
            return self._highlights[only_user][1]

        return await self._in_turn(viewer.name, shown, "application/json")

    async def _respond(self, request: Request, route: str, show: Callable[[View, Found], bytes], media_type: str) -> Response:
        # How the lines of a table are chosen is no part of the view.
        parameters = [pair for pair in request.query_params.multi_items() if route != CSV_ROUTE or pair != (LINES, OF_NAMES)]
        try:
            viewer, _ = self._viewers.identify(request, route)
            view = read_view(parameters, self._clock(), self._history.zone)
        except Refused as refused:
            return _error(refused.status, str(refused))
        except InvalidView as invalid:
            return _error(400, str(invalid))
        view = replace(view, only_user=None if viewer.sees_all_users else viewer.name, hidden=viewer.hidden)

        async def shown() -> bytes:
            await self._fresh()
            # All of it in the database's thread: a year of many names takes a while.
            return await self._history.read(lambda connection: show(view, queries.find(connection, view)))

        return await self._in_turn(viewer.name, shown, media_type)

    async def _in_turn(self, name: str, shown: Callable[[], Awaitable[bytes]], media_type: str) -> Response:
        """Respond once the viewer's other requests have their responses."""
        try:
            async with self._turns.of(name):
                content = await shown()
        except TooMany:
            return _error(429, TOO_MANY)
        except HistoryUnavailable:
            return _error(503, UNAVAILABLE)
        return Response(content, headers=DATA_HEADERS, media_type=media_type)


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": {"message": text}}, status, headers=DATA_HEADERS)


def _as_json(view: View, found: Found) -> bytes:
    return msgspec.json.encode(queries.shown(view, found))


def _as_csv(view: View, found: Found) -> bytes:
    return _csv(view, ["period"], queries.lines(view, found))


def _sums_as_csv(view: View, found: Found) -> bytes:
    return _csv(view, ["from", "to"], queries.sum_lines(view, found))


def _csv(view: View, time: Iterable[str], lines: Iterable[dict[str, Any]]) -> bytes:
    # The names of each filter are in a column, too, so that files of several users can be put together.
    filtered = {name: "; ".join(names) for name, names in view.filters.items() if name != view.by}
    columns = [*time, *filtered, *([view.by] if view.by != NONE else []), *queries.NUMBERS]
    return _table(columns, (filtered | line for line in lines)).encode()


def _table(columns: Iterable[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """Return lines as CSV. Text that looks like a formula is quoted; what is not known is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [*columns]
    writer.writerow(columns)
    for line in lines:
        values = (line[column] for column in columns)
        writer.writerow([unformulated(value) if isinstance(value, str) else value for value in values])
    return out.getvalue()
