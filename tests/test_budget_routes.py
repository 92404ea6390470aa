"""server/budget_routes.py: what shows and changes budgets, without a proxy around it."""

import json
import logging
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from claude_proxy.access.routes import Caller, Role
from claude_proxy.config.budgets import Budgets, Period
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.server.budget_names import unknown_name
from claude_proxy.server.budget_routes import BudgetRoutes
from claude_proxy.usage.spend import scopes_of
from claude_proxy.usage.standing import ActiveBudgets

TOKEN, MASTER = "sk-the-static-token", "sk-the-master-key"
ANNAS = "a-token-of-anna-0123456789"
NOW = 1_795_000_000.0
USD = 1_000_000
CONFIG = {"claude_proxy": {"users": {"anna": {"budget": {"month": 120}}}, "budget": {"month": 2000}}}


class World:
    """The routes, and a store that may be away."""

    def __init__(self, *, is_shared=True):
        self.now = NOW
        self.budgets = ActiveBudgets(lambda: Budgets.of(CONFIG), lambda: self.now)
        self.available, self.confirmed = True, 0
        settings = Settings.parse(
            {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "PROXY_USER_TOKENS": f"anna={ANNAS}"}
        )
        self.routes = BudgetRoutes(
            settings,
            self.budgets,
            confirm=self._confirm,
            is_shared=is_shared,
            groups=lambda caller: caller.groups,
            unknown_name=lambda scope: unknown_name(scope, ActiveConfig(CONFIG, {}), settings),
        )
        self.client = TestClient(Starlette(routes=self.routes.routes()))

    async def _confirm(self):
        self.confirmed += 1
        return self.available

    def usage(self, token):
        return self.client.get("/api/oauth/usage", headers={"authorization": f"Bearer {token}"} if token else {})

    def change(self, body, token=MASTER):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.post("/budget", content=content, headers={"x-litellm-api-key": token})
        return answer.status_code, answer.json()


@pytest.fixture
def world():
    return World()


@pytest.mark.parametrize(
    ("scope", "warning"),
    [
        ("user:Anna", ""),
        ("user:static", ""),
        ("all", ""),
        ("user:anne", "No user is called anne; did you mean anna? The budget applies once there is one."),
        ("group:nobody", "No group is called nobody. The budget applies once there is one."),
    ],
)
def test_a_budget_of_nobody(world, scope, warning):
    """A budget of a name that no user and no group has is set, because the name may be added later, with a warning."""
    status, body = world.change({"scope": scope, "limits": {"day": 2}})
    assert (status, body["warning"], len(body["budgets"]) > 0) == (200, warning, True)
    assert world.change({"scope": scope, "limits": {}})[1]["warning"] == ""


def test_each_caller_sees_their_own_usage(world):
    """The caller of a token sees the budget of that user, up to date with the other processes."""
    world.budgets.book.open(scopes_of("anna", ()), world.budgets.today()).set(30 * USD)
    answer = world.usage(ANNAS)
    assert (answer.status_code, answer.headers["cache-control"], world.confirmed) == (200, "no-store", 1)
    assert answer.json()["extra_usage"] == {
        "is_enabled": True, "monthly_limit": 12000, "used_credits": 3000, "utilization": 25, "currency": "USD",
    }  # fmt: skip
    assert world.usage(TOKEN).json()["extra_usage"]["monthly_limit"] == 200_000


@pytest.mark.parametrize("token", [None, "wrong-token-of-nobody"])
def test_without_a_token_no_usage_is_shown(world, token):
    """The error is in Anthropic's shape and is not repeated."""
    answer = world.usage(token)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (401, "false")
    assert answer.json()["error"]["type"] == "authentication_error"


def test_rows_of_the_page(world):
    """The master key sees every budget, a user those to which their own requests count."""
    assert [row["scope"] for row in world.routes.rows(Caller(Role.ADMIN, None, "admin"))] == ["all", "user:anna"]
    assert [row["scope"] for row in world.routes.rows(Caller(Role.USER, None, "ben"))] == ["all"]


def test_the_master_key_changes_a_budget(world, caplog):
    """A change applies at once on top of config.yaml, is logged, and can be removed."""
    logging.getLogger("claude_proxy").propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")
    status, body = world.change({"scope": "user:Anna", "limits": {"month": 150, "day": 0.5}})
    assert (status, body["scope"], body["done"]) == (200, "user:anna", "set")
    assert [(row["period"], row["limit"], row["configured"]) for row in body["budgets"]] == [
        ("day", 0.5, None), ("month", 150.0, 120.0),
    ]  # fmt: skip
    assert world.budgets.of_user("anna", ())[0].limits == {Period.DAY: USD // 2, Period.MONTH: 150 * USD}
    assert world.change({"scope": "user:anna", "limits": {"day": None}})[0] == 200
    assert world.budgets.of_user("anna", ())[0].limits == {Period.MONTH: 150 * USD}
    assert world.change({"scope": "user:anna", "limits": {}})[1]["done"] == "unset"
    assert world.budgets.of_user("anna", ())[0].limits == {Period.MONTH: 120 * USD}
    assert "the budget of user:anna was reset to config.yaml" in caplog.text


def test_a_change_ends_at_the_given_time(world, caplog):
    """A change with ``until`` says and logs its end in the time zone of the budgets; then config.yaml applies."""
    logging.getLogger("claude_proxy").propagate = True
    caplog.set_level(logging.INFO, "claude_proxy")
    status, body = world.change({"scope": "user:anna", "limits": {"month": 150}, "until": "tomorrow"})
    midnight = datetime(2026, 11, 19, tzinfo=UTC).timestamp()
    assert (status, body["until"], body["timezone"]) == (200, midnight, "UTC")
    assert [(row["limit"], row["until"]) for row in body["budgets"]] == [(150.0, midnight)]
    assert "the budget of user:anna was changed (micro-USD): month 150000000, until 2026-11-19 00:00 (UTC)" in caplog.text
    world.now = midnight
    assert world.budgets.of_user("anna", ())[0].limits == {Period.MONTH: 120 * USD}


@pytest.mark.parametrize("until", ["yesterday", "2020-01-01", "x" * 200, 5, ["tomorrow"], "2026-11-18T00:00", True])
def test_an_end_that_is_no_time_to_come_is_refused(world, until):
    """A text that names no moment, or one that is past, changes nothing, and the error has examples."""
    status, answer = world.change({"scope": "all", "limits": {"day": 1}, "until": until})
    assert (status, "tomorrow, a date such as" in answer["error"]["message"]) == (400, True)
    assert not world.budgets.overrides


def test_an_end_without_amounts_is_refused(world):
    """A removal applies immediately; one for later is refused in words."""
    status, answer = world.change({"scope": "all", "limits": {}, "until": "tomorrow"})
    assert (status, answer["error"]["message"].startswith("until: needs limits.")) == (400, True)


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 403), (ANNAS, 403), ("wrong-token-of-nobody", 401)])
def test_nobody_else_changes_a_budget(world, token, status):
    """Without the master key nothing changes."""
    assert world.change({"scope": "all", "limits": {"month": 1}}, token)[0] == status
    assert not world.budgets.overrides


@pytest.mark.parametrize(
    "body",
    [
        b"", b"no json", b"[]", b"[" * 100_000, {"scope": "all"}, {"limits": {}}, {"scope": 5, "limits": {}},
        {"scope": "anna", "limits": {"day": 1}}, {"scope": "user:", "limits": {"day": 1}},
        {"scope": "user:a\nb", "limits": {"day": 1}}, {"scope": "user:" + "x" * 300, "limits": {"day": 1}},
        {"scope": "team:a", "limits": {"day": 1}}, {"scope": "all", "limits": {"year": 1}},
        {"scope": "all", "limits": {"day": 0}}, {"scope": "all", "limits": {"day": -1}},
        {"scope": "all", "limits": {"day": "many"}}, {"scope": "all", "limits": {"day": True}},
        {"scope": "all", "limits": {"day": 1e30}}, {"scope": "all", "limits": {"day": [1]}},
        {"scope": "all", "limits": {"day": 1e-9}},
    ],
)  # fmt: skip
def test_an_invalid_change_is_refused(world, body):
    """A change that is not a scope and amounts is a 400 in words, and changes nothing."""
    status, answer = world.change(body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert not world.budgets.overrides


def test_an_override_that_is_not_there_cannot_be_removed(world):
    """To unset what was never set is an error, so a typing error in a name is seen."""
    assert world.change({"scope": "user:anan", "limits": {}})[0] == 404


def test_without_a_store_config_yaml_is_the_place():
    """A process without a store would lose the change at its end, so it refuses it."""
    assert World(is_shared=False).change({"scope": "all", "limits": {"day": 1}})[0] == 409


def test_a_store_that_is_away_is_said(world):
    """If the other processes do not learn of a change yet, the response says so."""
    world.available = False
    status, answer = world.change({"scope": "all", "limits": {"day": 1}})
    assert (status, "when it is back" in answer["error"]["message"]) == (503, True)
