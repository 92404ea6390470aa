"""What a client is told about its budget, in the headers and errors that Claude Code knows. Plain functions."""

import math
from datetime import datetime, tzinfo

from claude_proxy.anthropic.errors import UNPRICED_MODEL, Refused
from claude_proxy.asgi import Headers
from claude_proxy.config.budgets import Period
from claude_proxy.usage.standing import GROUP, USER, Standing

LIMITS = "anthropic-ratelimit-"
UNIFIED = f"{LIMITS}unified-"
BILLING_ERROR = "billing_error"
PERIOD_NAMES = {Period.DAY: "daily", Period.WEEK: "weekly", Period.MONTH: "monthly"}
# From these shares on, in per cent, Claude Code shows a notice.
THRESHOLDS = (95, 75)
# A response that is allowed never reports a full budget.
HIGHEST = 99
# How long a client waits for the store before it tries again, in seconds.
STORE_SECONDS = 5
MICRO = 1_000_000


def threshold(percent: int) -> int | None:
    """Return the highest threshold that a share has reached; None below all of them."""
    return next((one for one in THRESHOLDS if percent >= one), None)


def with_budget(headers: Headers, standing: Standing, *, of_client: bool) -> Headers:
    """Return the headers of a good response with the user's budget instead of the limits of the proxy's account.

    If the client's own credential was used, the limits are the user's own and stay.
    """
    if of_client:
        return headers
    kept = [pair for pair in headers if not pair[0].lower().startswith(LIMITS)]
    percent = min(HIGHEST, standing.percent)
    surpassed = threshold(percent)
    status = "allowed" if surpassed is None else "allowed_warning"
    found = {
        "status": status,
        "representative-claim": "overage",
        "overage-status": status,
        "overage-utilization": f"{percent / 100:.2f}",
        **_resets(standing),
    }
    if surpassed is not None:
        found["overage-surpassed-threshold"] = f"{surpassed / 100:.2f}"
    return [*kept, *((f"{UNIFIED}{name}", value) for name, value in found.items())]


def budget_reached(standing: Standing, now: float, timezone: tzinfo) -> Refused:
    """Return the error of a user whose budget is spent.

    Without a representative claim, Claude Code shows the message unchanged.
    """
    found = {
        "status": "rejected",
        **_resets(standing),
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": PERIOD_NAMES[standing.period],
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    if not standing.budget.scope.startswith(USER):
        found["overage-scope"] = "group_pool"
    headers = [
        ("retry-after", str(max(1, math.ceil(standing.resets_at - now)))),
        ("x-should-retry", "false"),
        *((f"{UNIFIED}{name}", value) for name, value in found.items()),
    ]
    return Refused(429, _sentence(standing, timezone), headers, kind=BILLING_ERROR)


def too_little_left(standing: Standing, amount: int, timezone: tzinfo) -> Refused:
    """Return the error for a batch that may cost more than what is left of a budget; the standing includes its amount."""
    left = dollars(max(0, standing.limit - standing.spent + amount))
    words = (
        f"This batch may cost up to {dollars(amount)}, and {left} of {_whose(standing)} ({dollars(standing.limit)}) is left. "
        "The input and max_tokens of each request count, at the price of batches: send a smaller batch, or lower max_tokens. "
        f"The budget resets {moment(standing.resets_at, timezone)}, and the proxy's operator can raise it."
    )
    return Refused(429, words, [("x-should-retry", "false")], kind=BILLING_ERROR)


def store_unavailable() -> Refused:
    """Return the error while the amounts of other processes are not known, if the operator wants requests to be refused."""
    return Refused(
        503,
        "This proxy cannot check your budget: the store that it shares with its other processes is not available. "
        "Please try again in a moment.",
        [("retry-after", str(STORE_SECONDS))],
    )


def unpriced_model(model: str) -> Refused:
    """Return the error for a model without a known price, if the operator wants users with a budget to use no such model.

    The status is 400, as for a model that the user may not use: after a 403, Claude Code tells its user to log in.
    """
    return Refused(
        400,
        f"No price is known for the model {model}, so your budget cannot include it. The proxy's operator can add the price to "
        f"config.yaml: claude_proxy: prices: {model}: {{input: USD, output: USD}}, per million tokens.",
        reason=UNPRICED_MODEL,
    )


def _resets(standing: Standing) -> dict[str, str]:
    at = str(int(standing.resets_at))
    return {"reset": at, "overage-reset": at}


def _whose(standing: Standing) -> str:
    """Return a budget in words, inside of a sentence."""
    scope, period = standing.budget.scope, PERIOD_NAMES[standing.period]
    if scope.startswith(USER):
        return f"your {period} budget"
    if scope.startswith(GROUP):
        return f"the {period} budget of the group {scope.removeprefix(GROUP)}"
    return f"the {period} budget of all users of this proxy"


def _sentence(standing: Standing, timezone: tzinfo) -> str:
    amount, whose = dollars(standing.limit), _whose(standing)
    what = f"{whose[0].upper()}{whose[1:]}"
    resets = moment(standing.resets_at, timezone)
    return f"{what} ({amount}) is spent; it resets {resets}, and the proxy's operator can raise it."


def moment(at: float, timezone: tzinfo) -> str:
    """Return a time in words, with its zone: on 1 December 2026 at 00:00 (Europe/Berlin)."""
    local = datetime.fromtimestamp(at, timezone)
    return f"on {local.day} {local:%B %Y} at {local:%H:%M} ({timezone})"


def dollars(micro: int) -> str:
    """Return an amount of micro-USD in words: $1,234.50."""
    return f"${micro / MICRO:,.2f}"
