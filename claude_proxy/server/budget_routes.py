"""The routes of budgets: what Claude Code's /usage shows, and changes by the holder of the master key. JSON in and out.

Each route identifies its caller again, after the gateway.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_proxy.access.routes import Caller, Role, check_route, identify
from claude_proxy.anthropic.errors import Refused, error_body, error_type
from claude_proxy.config.budgets import ALL, Budget, Period
from claude_proxy.config.money import amount, micro_usd
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import folded
from claude_proxy.upstream import headers as header_policy
from claude_proxy.usage import budget_report
from claude_proxy.usage.budget_overrides import Limits
from claude_proxy.usage.standing import ActiveBudgets

logger = logging.getLogger(__name__)

USAGE, CHANGE = "/api/oauth/usage", "/budget"
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
# The most characters of a time.
MAX_UNTIL = 64
UNTIL = "until: should be a time to come: tomorrow, a date such as 2026-12-05, a time such as 18:00, or both."
_SCOPE = re.compile(r"(?:user|group):[^\s:][^\n\r]{0,199}")


class BudgetChange(NamedTuple):
    """Amounts of a scope, in micro-USD; without any, the override is removed. ``until`` names their end, empty for none."""

    scope: str
    limits: Limits
    until: str = ""


class BudgetRoutes:
    """Shows and changes the budgets of all processes.

    ``confirm`` exchanges rows with the store and returns whether it was available; ``is_shared`` is whether there is one.
    ``groups`` returns a caller's groups. ``unknown_name`` returns a sentence about a scope of a user or group that does not
    exist, and an empty text for any other scope.
    """

    def __init__(
        self,
        settings: Settings,
        budgets: ActiveBudgets,
        *,
        confirm: Callable[[], Awaitable[bool]],
        is_shared: bool,
        groups: Callable[[Caller], tuple[str, ...]],
        unknown_name: Callable[[str], str],
    ) -> None:
        self._settings = settings
        self._budgets = budgets
        self._confirm = confirm
        self._is_shared = is_shared
        self._groups = groups
        self._unknown_name = unknown_name

    def routes(self) -> list[Route]:
        """Return the routes, to be placed before LiteLLM's."""
        return [Route(USAGE, self._show_usage, methods=["GET"]), Route(CHANGE, self._change, methods=["POST"])]

    def rows(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the budgets that a caller may see: all with the master key, otherwise those of the caller's own requests."""
        return budget_report.rows(self._budgets, self.of_caller(caller))

    def of_caller(self, caller: Caller) -> list[Budget]:
        """Return the budgets that a caller may see."""
        budgets = self._budgets
        return budgets.every() if caller.role is Role.ADMIN else budgets.of_user(caller.name, self._groups(caller))

    async def _show_usage(self, request: Request) -> Response:
        try:
            caller = self._caller(request, USAGE)
        except Refused as refused:
            return _error(refused)
        if self._budgets:
            await self._confirm()
        found = budget_report.usage_for_client(self._budgets, caller.name, self._groups(caller))
        return JSONResponse(found, headers=HEADERS)

    async def _change(self, request: Request) -> Response:
        try:
            self._caller(request, CHANGE)
            change = read_change(await request.body())
            until = self._until(change.until)
            await self._apply(change, until)
        except Refused as refused:
            return _error(refused)
        scope = change.scope
        logger.info("the budget of %s was %s", scope, self._words(change.limits, until))
        rows = [row for row in budget_report.rows(self._budgets, self._budgets.every()) if row["scope"] == scope]
        done = {"scope": scope, "done": "set" if change.limits else "unset", "until": until, "budgets": rows}
        done["warning"] = self._unknown_name(scope) if change.limits else ""
        return JSONResponse(done | {"timezone": str(self._budgets.configured.timezone)}, headers=HEADERS)

    def _until(self, text: str) -> float | None:
        try:
            return self._budgets.moment(text) if text else None
        except ValueError:
            raise Refused(400, UNTIL) from None

    def _words(self, limits: Limits, until: float | None) -> str:
        if not limits:
            return "reset to config.yaml"
        words = ", ".join(f"{period.value} {'none' if limit is None else limit}" for period, limit in limits.items())
        timezone = self._budgets.configured.timezone
        end = f", until {datetime.fromtimestamp(until, timezone):%Y-%m-%d %H:%M} ({timezone})" if until is not None else ""
        return f"changed (micro-USD): {words}{end}"

    async def _apply(self, change: BudgetChange, until: float | None) -> None:
        scope, limits, _ = change
        if not self._is_shared:
            raise Refused(409, "This proxy has no store that keeps a changed budget. Change it in config.yaml.")
        await self._confirm()  # first, so that the periods that another process has changed are kept
        if not limits and not self._budgets.overrides.of(scope):
            raise Refused(404, f"The budget of {scope} was not changed; config.yaml applies.")
        self._budgets.overrides.change(scope, limits, until)
        if not await self._confirm():
            raise Refused(
                503,
                "The store is not available: the budget has changed in one process, and in the others when it is back.",
            )

    def _caller(self, request: Request, route: str) -> Caller:
        caller = identify(header_policy.read(request.headers.items()), self._settings)
        check_route(caller, request.method, route)
        return caller


def read_change(raw: bytes) -> BudgetChange:
    """Return what a body changes. Raises ``Refused``."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    scope = body.get("scope") if isinstance(body, dict) else None
    limits = body.get("limits") if isinstance(body, dict) else None
    if not isinstance(scope, str) or not isinstance(limits, dict):
        raise Refused(400, "The body should be a JSON object with scope, and limits by day, week or month.")
    if scope != ALL and not (_SCOPE.fullmatch(scope) and scope.isprintable()):
        raise Refused(400, f"scope: should be user:NAME, group:NAME or {ALL}.")
    until = body.get("until") or ""
    if not isinstance(until, str) or len(until) > MAX_UNTIL:
        raise Refused(400, UNTIL)
    if until and not limits:
        raise Refused(400, "until: needs limits. Without limits, config.yaml applies again immediately.")
    kind, colon, name = scope.partition(":")
    amounts = {_period(name): _amount(name, value) for name, value in limits.items()}
    return BudgetChange(f"{kind}{colon}{folded(name)}", amounts, until)


def _period(name: str) -> Period:
    try:
        return Period(name)
    except ValueError:
        raise Refused(400, "limits: the periods are day, week and month.") from None


def _amount(name: str, value: object) -> int | None:
    """Return an amount in micro-USD; None for no limit."""
    if value is None:
        return None
    usd = amount(value)
    if usd is None or not micro_usd(usd):
        raise Refused(400, f"limits: {name}: should be an amount in USD above 0, or null for no limit.")
    return micro_usd(usd)


def _error(refused: Refused) -> Response:
    body = error_body(refused.kind or error_type(refused.status), str(refused))
    return JSONResponse(body, refused.status, headers={"cache-control": "no-store", "x-should-retry": "false"})
