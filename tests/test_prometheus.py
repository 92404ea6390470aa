"""usage/prometheus.py: the pool and the book in Prometheus' format, and what is built on it."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from recorded import Recorded, exposition
from test_report import ADMIN, ANNA, DAY, HOUR, NOW, OPUS, STORE_STATUS, record, snapshot

from claude_proxy.alerts import metrics
from claude_proxy.alerts.rules import Alert
from claude_proxy.config.budgets import Budget, Period
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.usage.standing import Standing

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
NAME = re.compile(r"\bclaude_proxy_[a-z_]+")


@pytest.fixture
def recorded():
    recorded = Recorded(clock=lambda: NOW)
    for user in ("anna", "anna", "ben"):
        recorded.record(record(user, failovers=("second: limit",)))
    return recorded


POOL = [
    snapshot(windows={("", "5h"): Window(0.6, NOW + HOUR, NOW), **OPUS}, cooldowns={Scope("opus"): Cooldown(NOW + DAY, "x")}),
    snapshot("second", cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "x", rejected=True)}),
]


MORE = [
    *metrics.attention([Alert("pool-empty", "critical", "x", "y"), Alert("budget:all:day", "info", "x", "y")], NOW + DAY),
    *metrics.budgets([Standing(Budget("all", {Period.DAY: 10**7}), Period.DAY, 10**7, 25 * 10**5, NOW + DAY)]),
    *metrics.running({"requests": 3}),
]


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, *sorted(labels.items())]


def test_the_numbers_are_the_books_and_the_pools(recorded):
    """Requests, tokens, times, windows, rests and the pool's room are exported as they are known."""
    found = samples(exposition(POOL, recorded, ADMIN, STORE_STATUS))
    anna = {"user": "anna", "model": "m", "served": "anthropic/m", "credential": "first"}
    assert value(found, "claude_proxy_requests_total", **anna) == 2
    assert value(found, "claude_proxy_tokens_total", **anna, type="cache_write") == 8
    assert value(found, "claude_proxy_failovers_total", left="second") == 3
    assert value(found, "claude_proxy_request_seconds_bucket", model="m", le="0.1") == 0
    assert value(found, "claude_proxy_request_seconds_bucket", model="m", le="0.25") == 3
    assert value(found, "claude_proxy_request_seconds_bucket", model="m", le="+Inf") == 3
    assert value(found, "claude_proxy_request_seconds_sum", model="m") == pytest.approx(0.6)
    assert value(found, "claude_proxy_credential_utilization_ratio", credential="first", window="5h") == 0.6
    assert value(found, "claude_proxy_credential_reset_seconds", credential="first", window="5h") == NOW + HOUR
    assert (
        value(found, "claude_proxy_credential_cooldown_until_seconds", credential="first", family="opus", endpoint="", speed="")
        == NOW + DAY
    )
    assert value(found, "claude_proxy_credential_state", credential="second", state="rejected") == 1
    assert value(found, "claude_proxy_credential_state", credential="first", state="rejected") == 0
    assert value(found, "claude_proxy_setup_token_ends_seconds", credential="first") == NOW + 365 * DAY
    assert value(found, "claude_proxy_pool_usable_ratio") == 0.5
    assert value(found, "claude_proxy_pool_headroom_ratio") == pytest.approx(0.2)
    assert value(found, "claude_proxy_shared") == 1


def test_a_user_finds_others_summed(recorded):
    """Who does not hold the master key finds its own name and everybody else's numbers as ``other``."""
    found = samples(exposition(POOL, recorded, ANNA, STORE_STATUS))
    users = {dict(labels)["user"]: number for (name, *labels), number in found.items() if name == "claude_proxy_requests_total"}
    assert users == {"anna": 2, "other": 1}


def test_a_user_finds_no_model_of_others():
    """The models that others used are one to who does not hold the master key, in numbers as in times."""
    recorded = Recorded(clock=lambda: NOW)
    for user, model in (("anna", "mine"), ("ben", "secret-plan"), ("ben", "mine"), ("carl", "another-plan")):
        recorded.record(record(user, model))
    text = exposition(POOL, recorded, ANNA, STORE_STATUS)
    assert b"plan" not in text
    found = samples(text)
    times = {dict(labels)["model"]: n for (name, *labels), n in found.items() if name == "claude_proxy_request_seconds_count"}
    assert times == {"mine": 2, "other": 2}
    assert value(found, "claude_proxy_requests_total", user="other", model="other", served="", credential="first") == 3
    assert b"secret-plan" in exposition(POOL, recorded, ADMIN, STORE_STATUS)


def test_names_that_clients_choose_are_escaped():
    """A name with quotes and line ends is one label's value."""
    recorded = Recorded(clock=lambda: NOW)
    recorded.record(record(model='a"\n\\b'))
    found = samples(exposition([], recorded, ADMIN, STORE_STATUS))
    assert {dict(labels)["model"] for (name, *labels) in found if name == "claude_proxy_requests_total"} == {'a"\\n\\b'}


@pytest.mark.parametrize("status", [200, 404])
def test_a_year_of_made_up_names_is_bounded(status):
    """After a year in which a user made up a hundred names of models a day the metrics are as long as after a month."""
    now, lengths = [NOW], []
    recorded = Recorded(clock=lambda: now[0], listed=lambda model: model == "m")
    for day in range(365):
        now[0] = NOW + day * DAY
        for number in range(100):
            made_up = f"claude-{day}-{number}"
            left = (f"anthropic/{made_up}: failed over to anthropic/m",)
            recorded.record(replace(record(model=made_up, failovers=left), status=status))
        recorded.record(record("ben"))
        recorded.flush()
        if day in (30, 364):
            lengths.append(exposition([], recorded, ADMIN, STORE_STATUS).count(b"\n"))
    assert lengths[1] <= lengths[0] < 1500
    ben = {"user": "ben", "model": "m", "served": "anthropic/m", "credential": "first"}
    assert value(samples(exposition([], recorded, ADMIN, STORE_STATUS)), "claude_proxy_requests_total", **ben) == 365


def test_what_needs_attention(recorded):
    """Alerts by rule, the forecast, budgets in USD and requests in progress are exported; a forecast only if there is one."""
    found = samples(exposition(POOL, recorded, ADMIN, STORE_STATUS, MORE))
    assert value(found, "claude_proxy_alerts", rule="pool-empty", severity="critical") == 1
    assert value(found, "claude_proxy_alerts", rule="budget", severity="info") == 1
    assert value(found, "claude_proxy_pool_empty_seconds") == NOW + DAY
    assert value(found, "claude_proxy_budget_usd", scope="all", period="day") == 10
    assert value(found, "claude_proxy_budget_spent_usd", scope="all", period="day") == 2.5
    assert value(found, "claude_proxy_running_requests") == 3
    without = samples(exposition(POOL, recorded, ADMIN, STORE_STATUS, metrics.attention([], None)))
    assert not any(name in ("claude_proxy_pool_empty_seconds", "claude_proxy_alerts") for name, *_ in without)


def test_an_empty_pool_has_no_room_to_tell():
    """Without a credential no room is exported, so that no alert about it fires."""
    found = samples(exposition([], Recorded(clock=lambda: NOW), ADMIN, STORE_STATUS._replace(unavailable=True)))
    assert found == {("claude_proxy_pool_credentials",): 0, ("claude_proxy_shared",): 0}


def expressions():
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_dashboard_and_alerts_name_metrics_that_there_are(recorded):
    """Every metric in the dashboard and in the rules is one that is exported."""
    exported = {name for name, *_ in samples(exposition(POOL, recorded, ADMIN, STORE_STATUS, MORE))}
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 10
    assert named <= exported


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules_and_the_metrics(recorded):
    """Prometheus' own tool finds no mistake in the alert rules, nor in what is exported."""
    rules = subprocess.run(
        ["promtool", "check", "rules", DEPLOY / "prometheus-rules.yml"], capture_output=True, text=True, check=False
    )
    assert rules.returncode == 0, rules.stderr
    metrics = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition(POOL, recorded, ADMIN, STORE_STATUS, MORE),
        capture_output=True,
        check=False,
    )
    assert (metrics.returncode, metrics.stdout + metrics.stderr) == (0, b"")


# Each series with its values by minute, and the alert that they cause after twenty minutes, with its summary.
CAUSES = [
    ("claude_proxy_pool_empty_seconds", "7200+0x30", "ClaudePoolEmptySoon", "At this pace the pool is empty in 1h 40m 0s."),
    (
        'claude_proxy_credential_state{credential="home",state="expired"}',
        "1+0x30",
        "ClaudeLoginExpired",
        "credential home has expired.",
    ),
    (
        'claude_proxy_alerts{rule="pool-empty",severity="critical"}',
        "1+0x30",
        "ClaudeProxyCritical",
        "reports pool-empty as critical.",
    ),
]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(("series", "values", "alert", "summary"), CAUSES)
def test_rules_fire(series, values, alert, summary, tmp_path):
    """Prometheus' own tool evaluates the rules: what they are about causes an alert, with a summary in words."""
    found = fired([{"series": series, "values": values}], alert, tmp_path)
    assert summary in found


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_rules_of_two_series(tmp_path):
    """A budget of which 95 % are spent, and errors of a fifth of the requests."""
    labels = '{scope="all",period="day"}'
    of_budget = [(f"claude_proxy_budget_usd{labels}", "10+0x30"), (f"claude_proxy_budget_spent_usd{labels}", "9.6+0x30")]
    of_errors = [("claude_proxy_requests_total", "0+10x30"), ("claude_proxy_errors_total", "0+3x30")]
    for found, alert, summary in (
        (of_budget, "ClaudeBudgetSpent", "96% of the day's budget of all is spent."),
        (of_errors, "ClaudeErrors", "30% of the requests of the last ten minutes failed."),
    ):
        assert summary in fired([{"series": name, "values": values} for name, values in found], alert, tmp_path)


def fired(series, alert, folder):
    """What promtool says of an alert after twenty minutes; it expects none, so that it prints what there is."""
    test = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{"eval_time": "20m", "alertname": alert, "exp_alerts": []}],
    }
    rules = {"rule_files": [str(DEPLOY / "prometheus-rules.yml")], "evaluation_interval": "1m", "tests": [test]}
    (folder / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", folder / "rules.yml"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def lost(written, read, path=""):
    """Yield the places of what was written and is not there any more."""
    if isinstance(written, dict):
        for name, value in written.items():
            yield from lost(value, read[name], f"{path}/{name}") if name in read else [f"{path}/{name}"]
    elif isinstance(written, list) and len(written) == len(read):
        for place, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from lost(one, other, f"{path}/{place}")
    elif written != read:
        yield path


def as_grafana_reads_it(dashboard):
    """The dashboard as Grafana's own types hold it."""
    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(copy.deepcopy(dashboard))))


def test_grafana_reads_the_whole_dashboard():
    """Grafana's types know every field of the dashboard, and would lose one with a wrong name."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert [*lost(dashboard, as_grafana_reads_it(dashboard))] == []
    dashboard["panels"][0]["targets"][0]["expression"] = "x"
    dashboard["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    found = [*lost(dashboard, as_grafana_reads_it(dashboard))]
    assert found == ["/panels/0/targets/0/expression", "/panels/1/fieldConfig/defaults/units"]


def test_the_panels_of_the_dashboard_do_not_overlap():
    """Each place of the dashboard belongs to one panel, and none is wider than the board."""
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
