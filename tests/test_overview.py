"""alerts/overview.py and server/overview.py: the state of the proxy in one sentence, for each viewer what they may see."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs
from test_alert_rules import asked, of_api
from test_application import CONFIG, POOL, app_of
from test_report import DAY, HOUR, STORE_STATUS, closed, record, snapshot

from claude_proxy import guard
from claude_proxy.access.routes import Caller, Role
from claude_proxy.alerts.overview import alerts_as_json, overview
from claude_proxy.alerts.rules import Alert, alerts_of
from claude_proxy.alerts.situation import Situation
from claude_proxy.config.alerts import Thresholds
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, MESSAGES, STANDARD, Scope
from claude_proxy.server.viewers import viewer_of
from claude_proxy.usage.prometheus import exposition
from claude_proxy.usage.used import Counted

NOW = 1_800_000_000.0
ADMIN, ANNA = Caller(Role.ADMIN, None, "admin"), Caller(Role.USER, None, "Anna")
LIMITED = {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 7d")}
PAUSED = closed("d", paused=True)
EMPTY = "The pool is empty: its credential is not usable; it is usable again at Fri 09:00 UTC."


def week(used):
    return {("", "7d"): Window(used, NOW + 3 * DAY, NOW)}


def shown(**situation):
    found = Situation(NOW, **situation)
    return overview(found, alerts_of(found, Thresholds()), {})


@pytest.mark.parametrize(
    ("situation", "level", "sentence"),
    [
        (
            {"pool": [snapshot("a", windows=week(0.3)), snapshot("b", windows=week(0.5))]},
            "good",
            "All is well: 2 of 2 credentials are usable, 60 % of the week is free.",
        ),
        ({"pool": [snapshot("a")]}, "good", "All is well: the credential is usable."),
        (
            {"pool": [snapshot("a", windows={("", "5h"): Window(0.25, NOW + HOUR, NOW)}), closed(paused=True)]},
            "good",
            "All is well: the credential is usable (1 more is paused), 75 % of the fullest windows is free.",
        ),
        ({"pool": [closed(paused=True)]}, "good", "All is well; the pool has no credential in use."),
        (
            {"pool": asked("sonnet", of_api("a", "sonnet"), of_api("b", ""))},
            "good",
            "All is well: 1 of 2 credentials is usable.",
        ),
        (
            {"pool": asked("sonnet opus", of_api("a", "sonnet"), of_api("b", ""))},
            "good",
            "All is well: 2 of 2 credentials are usable (1 of them partly rate-limited).",
        ),
        (
            {"pool": asked("sonnet opus", of_api("a", "sonnet"), of_api("b", ""), closed("c", paused=True), PAUSED)},
            "good",
            "All is well: 2 of 2 credentials are usable (1 of them partly rate-limited; 2 more are paused).",
        ),
        ({"pool": [of_api("a", "opus")]}, "good", "All is well: the credential is partly rate-limited."),
        (
            {"pool": asked("sonnet", *(of_api(label, "sonnet", NOW + HOUR) for label in "ab"))},
            "critical",
            "The pool is empty for Sonnet: none of its 2 credentials is usable; the first is usable again at Fri 09:00 UTC.",
        ),
        ({"is_open": True}, "good", "All is well; the pool has no credential in use."),
        ({"problems": ["x"]}, "warning", "The files of the pool have errors: x."),
        (
            {"pool": [snapshot(cooldowns=LIMITED)], "problems": ["x"]},
            "critical",
            f"{EMPTY} Also: The files of the pool have errors: x.",
        ),
        (
            {"problems": ["x"], "without_credential": ["m"], "unpriced": {"glm": 1}, "bad_releases": ["y"]},
            "critical",
            "y. 2 more things need attention.",
        ),
    ],
)
def test_the_sentence(situation, level, sentence):
    """All is well, or what is worst, in one sentence; information alone is no reason to worry."""
    found = shown(**situation)
    assert (found["level"], found["sentence"]) == (level, sentence)


def test_a_switched_off_alert_hides_no_shortage():
    """Without the alert, the sentence still says what the pool cannot serve."""
    pool = asked("sonnet", *(of_api(label, "sonnet", NOW + HOUR) for label in "ab"))
    found = overview(Situation(NOW, pool), [], {})
    assert (found["level"], found["sentence"].partition(":")[0]) == ("warning", "The pool is empty for Sonnet")


@pytest.mark.parametrize(
    ("situation", "words"),
    [
        ({"pool": asked("opus sonnet", of_api("a", "sonnet"))}, "no credential is usable for Sonnet"),
        ({}, "the pool has no credential in use"),
        ({"pool": [snapshot()]}, "at this pace the pool does not run out within a week"),
        (
            {"pool": [snapshot("a", windows=week(0.9)), snapshot()]},
            "at this pace the pool does not run out within a week, but 1 of 2 credentials becomes full before it resets: a",
        ),
        (
            {"pool": [snapshot("a", windows=week(0.8)), snapshot("b", windows=week(0.9)), snapshot(windows=week(0.1))]},
            (
                "at this pace the pool does not run out within a week, but 2 of 3 credentials become full before they reset: "
                "b and a"
            ),
        ),
        (
            {"pool": [*(snapshot(label, windows=week(0.9)) for label in "abcdefg"), snapshot(), closed(paused=True)]},
            (
                "at this pace the pool does not run out within a week, but 7 of 8 credentials that are not paused become full "
                "before they reset: a, b, c, d, e and 2 more"
            ),
        ),
        ({"pool": [snapshot()], "empty_at": NOW}, "the pool is empty"),
        ({"pool": [snapshot()], "empty_at": NOW + DAY}, "at this pace the pool is empty on Sat 08:00 UTC"),
    ],
)
def test_when_the_pool_is_empty(situation, words):
    """The forecast is a part of a sentence."""
    assert shown(**situation)["empty_in_words"] == words


def test_the_days_of_the_sums():
    """The seven days whose sums alerts have are today and the six before, in the zone of the budgets."""
    assert shown()["week"] == {"from": "2027-01-09", "to": "2027-01-15"}
    late = Situation(NOW, zone=ZoneInfo("Pacific/Kiritimati"))
    assert overview(late, [], {})["week"] == {"from": "2027-01-09", "to": "2027-01-15"}
    assert overview(late._replace(now=NOW + 3 * HOUR), [], {})["week"]["to"] == "2027-01-16"


def test_alerts_as_json():
    """Each alert has since when it fires, or since when its cause began; one that nobody has noted fires now."""
    alert = Alert("k", "info", "text", "action", 3, "on the page")
    assert alerts_as_json([alert], {}, NOW) == [
        {"key": "k", "severity": "info", "text": "text", "action": "action", "on_page": "on the page", "since": NOW}
    ]
    assert alerts_as_json([alert], {"k": 5.0}, NOW)[0]["since"] == 5.0
    for cause, since in ((3.0, 3.0), (7.0, 5.0)):
        assert alerts_as_json([alert._replace(cause=cause)], {"k": 5.0}, NOW)[0]["since"] == since


# --- what each viewer sees ---------------------------------------------------------------------------------------------------

BUDGETS = {"claude_proxy": {"users": {"anna": {"budget": {"month": 1}}, "ben": {"budget": {"month": 1}}}}}


@pytest.fixture
def app():
    app = app_of(loaded=CONFIG | BUDGETS, CLAUDE_OAUTH_TOKENS=f"hidden={POOL}", PROXY_STATIC_TOKEN="open")
    today = app.budgets.today()
    for user, amount in (("anna", 800_000), ("ben", 1_200_000)):
        app.budgets.book.open((f"user:{user}", "all"), today).set(amount)
        app.history.record(structs.replace(record(user, "m", "hidden"), at=NOW, cost=amount))
    app.history.record(structs.replace(record("ben", "glm", ""), at=NOW, cost=None))
    app.pool.state("hidden").put_window(("", "7d"), Window(0.95, NOW + 3 * DAY, NOW), NOW)
    with ThreadPoolExecutor(1) as thread:  # an event loop may be running in this one
        thread.submit(lambda: asyncio.run(app.history.used())).result()
    return app


def seen(app, caller, hidden=()):
    return app.overview.shown(viewer_of(caller)._replace(hidden=frozenset(hidden)), caller)


def test_the_master_key_sees_everything(app):
    """All alerts, with what to do, and the money of all users."""
    found = seen(app, ADMIN)
    keys = {one["key"] for one in found["alerts"]}
    assert keys == {"pool-low", "budget:user:ben:month", "budget:user:anna:month", "open-proxy", "unpriced-model:glm"}
    assert found["overview"]["level"] == "warning"
    assert found["overview"]["money"] == {"today": 2.0, "week": 2.0, "month": 2.0, "unpriced": 1}
    assert all(one["action"] and one["since"] == NOW for one in found["alerts"])


def test_a_user_sees_their_own(app):
    """A user gets alerts about their own budget and their own money; the sentence names no credential and nobody else."""
    found = seen(app, ANNA)
    assert [one["key"] for one in found["alerts"]] == ["budget:user:anna:month"]
    assert found["overview"]["money"] == {"today": 0.8, "week": 0.8, "month": 0.8, "unpriced": 0}
    assert found["overview"]["sentence"].startswith("The pool has 5 % left")
    text = json.dumps(found)
    assert not any(word in text for word in ("ben", "hidden", "open-proxy"))


def test_what_a_user_does_about_a_budget(app):
    """A user is not told to run a command that needs the master key."""
    (ben,) = seen(app, ANNA._replace(name="ben"))["alerts"]
    assert ben["action"] == "The proxy's operator can raise it."
    assert "claude-proxy" not in json.dumps(seen(app, ANNA)["alerts"])


def test_metrics(app):
    """The master key sees the alerts and budgets of all; a user those of their own."""

    def exported(caller):
        found = app.overview.metrics(viewer_of(caller), caller)
        return {(sample.name, *sample.labels.values()): sample.value for family in found for sample in family.samples}

    every, own = exported(ADMIN), exported(ANNA)
    assert every["claude_proxy_budget_spent_usd", "user:ben", "month"] == 1.2
    assert every["claude_proxy_alerts", "open-proxy", "info"] == 1
    assert {key[1] for key in own if "budget" in key[0]} == {"user:anna"}
    assert ("claude_proxy_alerts", "open-proxy", "info") not in own


def test_a_credential_for_others_is_no_part_of_a_users_pool(app):
    """What a user may not use is not in the state that they see."""
    found = seen(app, ANNA, ["hidden"])["overview"]
    assert (found["level"], found["empty_at"]) == ("warning", None)
    assert found["sentence"] == "You may use no credential of the pool: each is for another group."
    assert found["empty_in_words"] == "no credential of the pool is for you"


def test_a_pool_without_credentials():
    """Models that need a credential are an alert while the pool has none, and not once it has one."""
    claude = {"model_name": "claude-*", "litellm_params": {"model": "anthropic/*"}}
    loaded = {"model_list": [claude]}
    empty = app_of(loaded=loaded, CLAUDE_OAUTH_TOKENS="", PROXY_STATIC_TOKEN="sk-made-up-static")
    assert [one.key for one in empty.overview.watch.current(empty.overview.situation())] == ["no-credential"]
    full = app_of(loaded=loaded, PROXY_STATIC_TOKEN="sk-made-up-static")
    assert full.overview.watch.current(full.overview.situation()) == []


def test_a_pool_that_cannot_serve_what_clients_request(app):
    """The limits of model families count if clients request them, and a pause ends no alert; every number agrees."""

    def state():
        app.overview._latest = None
        found = seen(app, ADMIN)
        metrics = exposition(app.pool.snapshot(), Counted({}, {}, {}), viewer_of(ADMIN), STORE_STATUS).decode()
        (ratio,) = re.findall(r"^claude_proxy_pool_usable_ratio (.+)$", metrics, re.MULTILINE)
        return "pool-empty" in [one["key"] for one in found["alerts"]], float(ratio)

    sonnet = Scope("sonnet", MESSAGES, STANDARD)
    app.pool.state("hidden").put_cooldown(sonnet, Cooldown(NOW + HOUR, "too many requests", recorded_at=NOW), NOW)
    app.pool.record_requested(Scope("haiku", MESSAGES, STANDARD))
    assert state() == (False, 1.0)
    app.pool.record_requested(sonnet)
    assert state() == (True, 1.0), "it serves Haiku"
    assert seen(app, ANNA)["overview"]["sentence"].startswith("The pool is empty for Sonnet: ")
    (one,) = (found.credential for found in app.pool.snapshot())
    app.pool.replace_credentials([replace(one, terms=replace(one.terms, paused=True))])
    assert state() == (True, 0.0)


def test_an_unpriced_model_is_the_one_that_responded():
    """A fallback without a price has the alert, and not the requested model; the alert ends when there is a price."""
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}-v1"}} for name in ("local-coder", "priced")]
    app = app_of(loaded={"model_list": models}, PROXY_STATIC_TOKEN="sk-made-up-static")
    app.history.record(structs.replace(record("ben", "priced", ""), at=NOW, served="openai/local-coder-v1", cost=None))
    app.history.record(structs.replace(record("ben", "priced", ""), at=NOW, served="anthropic/gone", cost=None))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(app.history.used())).result()
    assert app.overview.situation().unpriced == {"local-coder": 1, "gone": 1}
    prices = {"local-coder": {"input": 0, "output": 0}, "gone": {"input": 1, "output": 1}}
    app.config.replace({"model_list": models, "claude_proxy": {"prices": prices}})
    assert app.overview.situation().unpriced == {}


def test_errors_of_requests_reach_the_rules(app):
    """What is recorded of requests is the error rate."""
    for _ in range(20):
        app._records.append(structs.replace(record(), at=NOW, status=500))
    app.write_records()
    assert "error-rate" in [one["key"] for one in seen(app, ADMIN)["alerts"]]


async def _no_wait(*_):
    await asyncio.Event().wait()


@pytest.mark.anyio
async def test_a_release_that_is_installed_later(app, monkeypatch):
    """A release that steals credentials is an alert soon after it is installed."""
    looked = asyncio.Event()

    def found(_):
        loop.call_soon_threadsafe(looked.set)
        return ["LiteLLM 1.82.8 is installed"]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(guard, "found", found)
    monkeypatch.setattr(app.overview.watch, "run", _no_wait)
    running = asyncio.ensure_future(app.overview.run())
    await looked.wait()
    for _ in range(1000):  # the thread has looked, and its result arrives a moment later
        app.overview._latest = None
        keys = [one["key"] for one in seen(app, ADMIN)["alerts"]]
        if "litellm-release" in keys:
            break
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert "litellm-release" in keys


def test_a_config_that_does_not_apply(app):
    """A changed config.yaml with errors is an alert until it applies."""
    app.config_watcher = SimpleNamespace(is_refused=True)
    assert "config-problem" in [one["key"] for one in seen(app, ADMIN)["alerts"]]
