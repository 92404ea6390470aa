"""proxy/budget_responses.py: headers and errors about a user's budget."""

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.config.budgets import Budget, Period
from claude_proxy.proxy.budget_responses import budget_reached, dollars, store_unavailable, unpriced_model, with_budget
from claude_proxy.usage.standing import Standing

BERLIN = ZoneInfo("Europe/Berlin")
RESET = datetime(2026, 12, 1, tzinfo=BERLIN).timestamp()
USD = 1_000_000
UNIFIED = "anthropic-ratelimit-unified-"
OF_ACCOUNT = [("Anthropic-RateLimit-Unified-Status", "allowed"), ("anthropic-ratelimit-requests-remaining", "12")]


def standing(spent, scope="user:anna", period=Period.MONTH, limit=120, *, soft=False):
    return Standing(Budget(scope, {period: limit * USD}, soft), period, limit * USD, round(spent * USD), RESET)


def unified(headers):
    return {name.removeprefix(UNIFIED): value for name, value in headers if name.startswith(UNIFIED)}


@pytest.mark.parametrize(
    ("spent", "status", "utilization", "threshold"),
    [
        (0, "allowed", "0.00", None),
        (60, "allowed", "0.50", None),
        (89.99, "allowed", "0.74", None),
        (90, "allowed_warning", "0.75", "0.75"),
        (113.99, "allowed_warning", "0.94", "0.75"),
        (114, "allowed_warning", "0.95", "0.95"),
        (119.99, "allowed_warning", "0.99", "0.95"),
        (500, "allowed_warning", "0.99", "0.95"),
    ],
)
def test_a_good_response_reports_the_budget(spent, status, utilization, threshold):
    """The share has two decimals and stays below 1; from 75 and 95 per cent on, the client shows a notice."""
    expected = {
        "status": status,
        "representative-claim": "overage",
        "overage-status": status,
        "overage-utilization": utilization,
        "reset": str(int(RESET)),
        "overage-reset": str(int(RESET)),
    } | ({"overage-surpassed-threshold": threshold} if threshold else {})
    assert unified(with_budget([("content-type", "text/plain")], standing(spent), of_client=False)) == expected


def test_the_limits_of_the_account_are_removed():
    """The limits of the credential that responded are the operator's; other headers keep their place."""
    found = with_budget([("request-id", "r"), *OF_ACCOUNT, ("via", "x")], standing(1), of_client=False)
    assert [pair for pair in found if not pair[0].startswith(UNIFIED)] == [("request-id", "r"), ("via", "x")]
    assert unified(found)["overage-utilization"] == "0.00"


def test_the_limits_of_the_clients_own_account_stay():
    """With the client's own credential, the headers are the user's own and are not touched."""
    assert with_budget(OF_ACCOUNT, standing(100), of_client=True) == OF_ACCOUNT


@pytest.mark.parametrize(("period", "name"), [(Period.DAY, "daily"), (Period.WEEK, "weekly"), (Period.MONTH, "monthly")])
def test_a_spent_budget_is_refused_with_the_headers_of_the_protocol(period, name):
    """The error is a 429 of the type billing_error that is not repeated, and has no representative claim."""
    refused = budget_reached(standing(120, period=period), RESET - 90.5, BERLIN)
    headers = dict(refused.headers)
    assert (refused.status, refused.kind) == (429, "billing_error")
    assert (headers.pop("retry-after"), headers.pop("x-should-retry")) == ("91", "false")
    assert unified(headers.items()) == {
        "status": "rejected",
        "reset": str(int(RESET)),
        "overage-reset": str(int(RESET)),
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-period": name,
        "overage-disabled-reason": "org_spend_cap_reached",
    }
    assert len(headers) == 7


@pytest.mark.parametrize(
    ("scope", "words", "shared"),
    [
        ("user:anna", "Your monthly budget ($120.00) is spent", None),
        ("group:team-a", "The monthly budget of the group team-a ($120.00) is spent", "group_pool"),
        ("all", "The monthly budget of all users of this proxy ($120.00) is spent", "group_pool"),
    ],
)
def test_the_message_names_the_budget_its_reset_and_whom_to_ask(scope, words, shared):
    """One sentence says whose budget is spent, when it resets, with the zone, and who can help; a shared one is marked."""
    refused = budget_reached(standing(120, scope), RESET - 10, BERLIN)
    rest = "; it resets on 1 December 2026 at 00:00 (Europe/Berlin), and the proxy's operator can raise it."
    assert str(refused) == words + rest
    assert unified(refused.headers).get("overage-scope") == shared


def test_after_the_reset_the_client_waits_a_second():
    """``retry-after`` is at least a second, also if the clock is already at the reset."""
    assert dict(budget_reached(standing(120), RESET + 5, BERLIN).headers)["retry-after"] == "1"


def test_a_missing_store_is_a_503_that_may_be_repeated():
    """The client may try again after some seconds, and the words say what is missing."""
    refused = store_unavailable()
    assert (refused.status, refused.headers) == (503, [("retry-after", "5")])
    assert "cannot check your budget" in str(refused)


def test_an_unpriced_model_is_a_400_that_says_what_to_add():
    """Claude Code shows the message and neither repeats the request nor asks for a login."""
    refusal = unpriced_model("glm").refusal()
    error = json.loads(refusal.body)["error"]
    assert (refusal.status, error["type"], refusal.reason) == (400, "invalid_request_error", "unpriced_model")
    assert dict(refusal.headers)["x-should-retry"] == "false"
    assert error["message"] == (
        "No price is known for the model glm, so your budget cannot include it. The proxy's operator can add the price to "
        "config.yaml: claude_proxy: prices: glm: {input: USD, output: USD}, per million tokens."
    )


def test_dollars():
    """Amounts have two decimals and separators."""
    assert dollars(1_234_500_000) == "$1,234.50"
