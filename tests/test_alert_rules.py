"""alerts/rules.py: which alerts a situation causes."""

from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from test_report import DAY, HOUR, NOW, closed, snapshot

from claude_proxy.alerts import rules
from claude_proxy.alerts.forecast import empty_at
from claude_proxy.alerts.rules import MAX_OF_RULE, MAX_TEXT, alerts_of, in_words
from claude_proxy.alerts.situation import ErrorShare, Situation
from claude_proxy.config.alerts import RULE_NAMES, Alerts, Thresholds
from claude_proxy.config.budgets import Budget, Period
from claude_proxy.credentials.credential import Kind
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.usage.report import StoreStatus
from claude_proxy.usage.standing import Standing

DEFAULTS = Thresholds()
OFF = Alerts.of({"claude_proxy": {"alerts": {"rules": dict.fromkeys(RULE_NAMES, False)}}}, {}).thresholds
LIMITED = {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 7d", windows=("7d",))}
REFUSED = {EVERYTHING: Cooldown(NOW + HOUR, "invalid token (HTTP 401)", rejected=True, explanation="OAuth token revoked.")}
HERE = StoreStatus("Redis", unavailable=False, process_started=NOW)


def week(used, left=3 * DAY, seen=NOW):
    return {("", "7d"): Window(used, NOW + left, seen)}


def budget(spent, limit=100, scope="user:anna", period=Period.MONTH, *, soft=False):
    return Standing(Budget(scope, {period: limit}, soft), period, limit, spent, NOW + DAY)


def made(days_ago):
    """A credential with a setup token of that age."""
    day = date(2026, 11, 18) - timedelta(days_ago)  # NOW's day
    one = snapshot("old", windows=week(0.1))
    return replace(one, credential=replace(one.credential, made=day))


def found(thresholds=DEFAULTS, **situation):
    forecast = empty_at(situation.get("pool", ()), NOW)
    return alerts_of(Situation(NOW, **situation, empty_at=forecast), thresholds)


def keys(thresholds=DEFAULTS, **situation):
    return [(one.key, one.severity, one.level) for one in found(thresholds, **situation)]


EMPTY, EMPTY_FOR = ("pool-empty", "critical", 2), ("pool-empty", "critical", 1)


def only(families, until=NOW + HOUR):
    """Limits for requests with these model families, as an API key has them."""
    return {Scope(family, "messages", "standard"): Cooldown(until, "too many requests") for family in families.split()}


def of_api(label, families, until=NOW + HOUR):
    return snapshot(label, cooldowns=only(families, until))


def asked(families, *pool):
    """A pool of which clients request these model families."""
    return [replace(one, requested=frozenset(families.split())) for one in pool]


WELL = [snapshot("a", windows=week(0.5)), snapshot("b", windows=week(0.2))]


def test_nothing_to_report():
    """A proxy in order has no alert."""
    assert keys() == []
    assert keys(pool=WELL, budgets=[budget(74)], errors=ErrorShare(100, 5), store=HERE) == []


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        # The pool
        ({"pool": [snapshot(cooldowns=LIMITED)]}, [EMPTY]),
        ({"pool": [snapshot(cooldowns=LIMITED), closed(paused=True)]}, [EMPTY]),
        ({"pool": [closed(paused=True)]}, []),
        ({"pool": [snapshot(windows=week(0.95)), snapshot("b", windows=week(0.92))]}, [("pool-low", "warning", 0)]),
        # One that is full for an hour, and one of which little is left: the reset brings room.
        ({"pool": [snapshot(cooldowns=LIMITED), snapshot("b", windows=week(0.92))]}, []),
        ({"pool": [snapshot(windows=week(0.95, left=HOUR))]}, []),
        ({"pool": [snapshot(cooldowns={Scope("opus"): Cooldown(NOW + DAY, "limit")}, windows=week(0.1))]}, []),
        # A family that clients request, and that no credential serves, also if one is then paused; another one does not count.
        ({"pool": [of_api("a", "sonnet"), of_api("b", "sonnet")]}, []),
        ({"pool": asked("sonnet", of_api("a", "sonnet"), of_api("b", "sonnet"))}, [EMPTY_FOR]),
        ({"pool": asked("sonnet opus", of_api("a", "sonnet"), of_api("b", "sonnet opus"))}, [EMPTY_FOR]),
        ({"pool": asked("sonnet", of_api("a", "sonnet"), of_api("b", ""))}, []),
        ({"pool": asked("opus", of_api("a", "sonnet"), of_api("b", "sonnet"))}, []),
        ({"pool": asked("sonnet", closed("a", cooldowns=only("sonnet"), paused=True), closed("b", paused=True))}, [EMPTY]),
        ({"pool": asked("sonnet", of_api("a", "sonnet"), closed("b", paused=True))}, [EMPTY_FOR]),
        ({"pool": asked("sonnet", of_api("a", ""), closed("b", paused=True))}, []),
        ({"pool": asked("sonnet", snapshot(cooldowns={Scope("sonnet", "count_tokens"): Cooldown(NOW + DAY, "limit")}))}, []),
        # Credentials
        ({"pool": [snapshot("r", cooldowns=REFUSED), *WELL]}, [("credential-rejected:r", "warning", 0)]),
        ({"pool": [snapshot("r", cooldowns=REFUSED)]}, [EMPTY, ("credential-rejected:r", "warning", 0)]),
        ({"pool": [closed("home", expires=NOW - 1), *WELL]}, [("login-expired:home", "warning", 0)]),
        ({"pool": [made(334)]}, []),
        ({"pool": [made(340)]}, [("token-ends:old", "info", 1)]),
        ({"pool": [made(360)]}, [("token-ends:old", "warning", 2)]),
        ({"pool": [made(365)]}, [("token-ends:old", "critical", 3)]),
        # Budgets
        ({"budgets": [budget(75)]}, [("budget:user:anna:month", "info", 1)]),
        ({"budgets": [budget(95)]}, [("budget:user:anna:month", "warning", 2)]),
        ({"budgets": [budget(100)]}, [("budget:user:anna:month", "warning", 3)]),
        ({"budgets": [budget(130, scope="all", period=Period.DAY)]}, [("budget:all:day", "critical", 3)]),
        ({"budgets": [budget(130, scope="all", soft=True)]}, [("budget:all:month", "warning", 3)]),
        # Errors
        ({"errors": ErrorShare(19, 19)}, []),
        ({"errors": ErrorShare(20, 4)}, [("error-rate", "warning", 0)]),
        ({"errors": ErrorShare(20, 10)}, [("error-rate", "critical", 0)]),
        # The rest
        ({"store": HERE._replace(unavailable=True)}, [("store-away", "warning", 0)]),
        ({"store": StoreStatus(None, unavailable=True, process_started=NOW)}, []),
        ({"bad_releases": ["LiteLLM 1.82.8 is installed"]}, [("litellm-release", "critical", 0)]),
        ({"history_away": True}, [("history-away", "warning", 0)]),
        ({"config_refused": True}, [("config-problem", "warning", 0)]),
        ({"problems": ["credentials.yaml: is not YAML", "x"]}, [("pool-problem", "warning", 0)]),
        ({"without_credential": ["claude-*"]}, [("no-credential", "warning", 0)]),
        ({"is_open": True}, [("open-proxy", "info", 0)]),
        ({"unpriced": {"glm": 3}}, [("unpriced-model:glm", "info", 0)]),
        ({"unpriced": {"glm": 3}, "budgets": [budget(0)]}, [("unpriced-model:glm", "warning", 0)]),
    ],
)  # fmt: skip
def test_rules(situation, expected):
    """What is wrong is one alert with a severity, the most severe first; no rule that is off has one."""
    assert keys(**situation) == expected
    assert keys(OFF, **situation) == []


@pytest.mark.parametrize(
    ("situation", "text"),
    [
        (
            {"pool": [snapshot(cooldowns=LIMITED), snapshot("r", cooldowns=REFUSED)]},
            "The pool is empty: none of its 2 credentials is usable; the first is usable again at Wed 12:06 UTC.",
        ),
        (
            {"pool": [snapshot("r", cooldowns=REFUSED)]},
            "The pool is empty: its credential is not usable; that does not change by itself.",
        ),
        (
            {"pool": asked("sonnet opus haiku", of_api("a", "sonnet opus", NOW + DAY), of_api("b", "sonnet opus haiku"))},
            (
                "The pool is empty for Opus and Sonnet: none of its 2 credentials is usable; the first is usable again at "
                "Wed 12:06 UTC."
            ),
        ),
        (
            {"pool": asked("sonnet", of_api("a", "sonnet"), closed("b", paused=True))},
            (
                "The pool is empty for Sonnet: its credential is not usable (1 more is paused); it is usable again at "
                "Wed 12:06 UTC."
            ),
        ),
        (
            {"pool": asked("sonnet", closed("a", paused=True), closed("b", paused=True))},
            "The pool is empty: its 2 credentials are paused; that does not change by itself.",
        ),
        (
            {"pool": [snapshot(windows={("", "7d"): Window(0.95, NOW + 3 * DAY, NOW)})]},
            "The pool has 5 % left, and no reset changes that within 2 h; at this pace it is empty at Wed 16:09 UTC.",
        ),
        (
            {"pool": [snapshot("r", cooldowns=REFUSED), *WELL]},
            'Anthropic rejects the credential r: invalid token (HTTP 401), "OAuth token revoked".',
        ),
        (
            {"budgets": [budget(100)]},
            "100 % of the month's budget of user anna is spent; its requests are refused. It resets at Thu 11:06 UTC.",
        ),
        ({"errors": ErrorShare(40, 9, 5)}, "22 % of the 40 requests of the last 5 minutes failed."),
        (
            {"without_credential": ["a", "b", "c", "d"]},
            "The pool has no credential, which these models need: a, b, c and 1 more.",
        ),
        ({"problems": ["x", "y"]}, "The files of the pool have errors: x (and 1 more)."),
        (
            {"unpriced": {"glm": 1}},
            "No price is known for the model glm: 1 response of the last seven days without a known cost.",
        ),
    ],
)
def test_texts(situation, text):
    """An alert says what is wrong, and since an operator reads it at night, until when."""
    assert found(**situation)[0].text == text
    assert found(**situation)[0].action


def refused_for(reason, label="r", kind=Kind.OAUTH):
    one = snapshot(label, cooldowns={EVERYTHING: Cooldown(NOW + HOUR, reason, rejected=True)})
    return replace(one, credential=replace(one.credential, kind=kind))


@pytest.mark.parametrize(
    ("pool", "action"),
    [
        ([snapshot(cooldowns=LIMITED)], "Add a credential (`claude-proxy pool add LABEL`) or wait for the reset."),
        (
            [snapshot("r", cooldowns=REFUSED)],
            "Add a credential (`claude-proxy pool add LABEL`) or do what the alert of a rejected one says.",
        ),
        (
            asked("sonnet", of_api("a", "sonnet"), closed("b", paused=True)),
            (
                "Add a credential (`claude-proxy pool add LABEL`), resume a paused one (`claude-proxy pool resume LABEL`) "
                "or wait for the reset."
            ),
        ),
        (
            [closed("a", expires=NOW - 1)],
            "Add a credential (`claude-proxy pool add LABEL`) or log in again where a login has expired.",
        ),
    ],
)
def test_what_to_do_about_an_empty_pool(pool, action):
    """Only what helps is advised: waiting only where a limit resets."""
    assert found(pool=pool)[0].action == action


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (refused_for("the account was rejected: it has no credit left", kind=Kind.API_KEY), "Pay or add credit"),
        (refused_for("the account was rejected: it has no credit left"), "Pay or add credit"),
        (refused_for("the account has a billing problem", kind=Kind.API_KEY), "Pay or add credit"),
        (refused_for("the credential was rejected", kind=Kind.API_KEY), "Create a new API key"),
        (refused_for("the credential was rejected"), "Create a new token (`claude setup-token`)"),
    ],
)
def test_what_to_do_about_a_rejected_credential(one, words):
    """An account without credit needs credit, and no new secret; an API key is not replaced by a setup token."""
    (alert,) = found(pool=[one, *WELL])
    assert alert.action.startswith(words)


def test_the_page_names_its_own_buttons():
    """What the page can do about an alert is in its own words; only what it cannot do is a command."""
    one = refused_for("the account has a billing problem")
    situations = [
        {"pool": [snapshot(cooldowns=LIMITED), closed("b", paused=True)]},
        {"pool": [one, *WELL]},
        {"pool": [refused_for("the credential was rejected"), *WELL]},
        {"budgets": [budget(96)]},
        {"without_credential": ["opus"]},
        {"errors": ErrorShare(40, 9)},
    ]
    for situation in situations:
        alert = found(**situation)[0]
        assert alert.on_page not in {"", alert.action}
        assert "claude-proxy" not in alert.on_page
        assert "/pool" not in alert.on_page


def test_a_credential_that_the_page_cannot_remove():
    """A credential that a variable names is replaced there, and the page does not say otherwise."""
    one = refused_for("the credential was rejected")
    for source, is_removed in (("credentials.yaml", True), ("CLAUDE_OAUTH_TOKENS", False)):
        found_one = replace(one, credential=replace(one.credential, source=source))
        (alert,) = found(pool=[found_one, *WELL])
        assert ("remove r" in alert.on_page) == is_removed


def test_since_when_a_credential_is_rejected():
    """An alert begins with its cause: a rejection, or the first day on which a setup token is about to end."""
    cooldown = Cooldown(NOW + HOUR, "the credential was rejected", rejected=True, recorded_at=NOW - HOUR)
    (alert,) = found(pool=[snapshot("r", cooldowns={EVERYTHING: cooldown}), *WELL])
    assert alert.cause == NOW - HOUR
    early, late = (found(pool=[made(days)])[0].cause for days in (340, 360))
    assert NOW - 340 * DAY < early < NOW
    assert early - late == 20 * DAY


def test_a_rejected_credential_stays_one_until_it_works():
    """When the pause after a rejection ends, the alert goes on until a response shows that the credential works."""
    since = {"r": NOW - HOUR}

    def rejected(**more):
        return [key for key, *_ in keys(pool=[snapshot("r", **more), *WELL], rejected_since=since)]

    assert rejected(windows=week(0.1, seen=NOW - 2 * HOUR)) == ["credential-rejected:r"]
    assert rejected(windows=week(0.1, seen=NOW)) == []
    assert rejected() == []  # nothing is known of it


def test_a_rule_with_a_bug(monkeypatch):
    """A rule that raises is an alert itself, and the others go on."""

    def broken(*_):
        yield rules.Alert("x", "info", "x", "y")
        raise ZeroDivisionError

    monkeypatch.setattr(rules, "RULES", (broken, rules.open_proxy))
    assert keys(is_open=True) == [("rule-failed:broken", "warning", 0), ("open-proxy", "info", 0)]


def test_texts_are_bounded():
    """Whatever a name or an explanation contains, a text is one line of bounded length, and a rule has so many alerts."""
    names = {f"model-{number}\n{'x' * 500}": 1 for number in range(MAX_OF_RULE + 50)}
    alerts = found(unpriced=names)
    assert len(alerts) == MAX_OF_RULE
    assert all(len(one.text) <= MAX_TEXT and one.text.isprintable() for one in alerts)


def test_a_rule_with_too_many_alerts_ends_none_of_them():
    """Of more budgets than alerts those that fire already are kept, whichever is the fullest now."""
    shares = [75 + number % 20 for number in range(MAX_OF_RULE + 50)]
    before = found(budgets=[budget(share, scope=f"user:u{number}") for number, share in enumerate(shares)])
    turned = [budget(share, scope=f"user:u{number}") for number, share in enumerate(reversed(shares))]
    after = found(budgets=turned, firing={one.key for one in before})
    assert len(before) == MAX_OF_RULE
    assert {one.key for one in after} == {one.key for one in before}
    with_all = found(budgets=[*turned, budget(76, scope="all")], firing={one.key for one in before})
    assert "budget:all:month" in {one.key for one in with_all}


def test_times_are_in_the_zone_of_the_budgets():
    """A time is that of the configured zone, with the date when it is not within the week."""
    assert in_words(NOW, ZoneInfo("Europe/Berlin"), NOW) == "Wed 12:06 CET"
    assert in_words(NOW + 20 * DAY, ZoneInfo("UTC"), NOW) == "2026-12-08 11:06 UTC"
