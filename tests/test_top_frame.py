"""cli/top_frame.py: the pictures of ``top``, and that each fits its terminal."""

import re
from datetime import UTC, datetime

import pytest
from recorded import Recorded, report
from test_report import ADMIN, ANNA, DAY, HOUR, NOW, OPUS, STORE_STATUS, closed, record, snapshot

from claude_proxy.cli.top_frame import VIEWS, Data, Size, View, as_text, frame, last_offset
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope

URL = "http://127.0.0.1:4000"
OVERVIEW = {
    "level": "warning",
    "sentence": "2 of 4 credentials are usable, 31 % of the week is free.",
    "empty_at": NOW + 2 * HOUR,
    "empty_in_words": "at this pace the pool is empty on Wed 13:06 UTC",
    "money": {"today": 12.5, "week": 80.1, "month": 1310.0, "unpriced": 3},
}
ALERTS = [
    {
        "key": "credential-rejected:second",
        "severity": "critical",
        "text": "Anthropic rejects the credential second.",
        "action": "Replace it: claude-proxy pool add second --replace.",
        "since": NOW - HOUR,
    }
]
BUDGET = {
    "scope": "user:anna", "period": "month", "limit": 100.0, "spent": 91.2, "percent": 91, "resets_at": NOW + DAY,
    "timezone": "UTC", "soft": False, "configured": 100.0, "override": False,
}  # fmt: skip


def request(number=0, **more):
    usual = {
        "id": f"{NOW - number}-ab", "at": NOW - number, "user": "anna", "requested": "claude-opus-4-8",
        "model": "claude-opus-4-8", "served": "anthropic/claude-opus-4-8", "lane": "claude", "credential": "first",
        "rule": "", "project": "", "groups": [],
        "attempts": [{"target": "first", "why": "", "seconds": 8.1}], "status": 200, "error": "", "first_byte": 1.2,
        "seconds": 9.7, "bytes": 18231, "input": 100, "output": 200, "cache_read": 40000, "cache_write": 12, "usd": 0.31,
        "request_id": "req_01made-up",
    }  # fmt: skip
    return usual | more


def pool(viewer=ADMIN, credentials=4, **more):
    """The JSON of ``/pool`` with credentials in each state."""
    recorded = Recorded(clock=lambda: NOW)
    recorded.record(record(failovers=("second: five_hour limit (HTTP 429)",)))
    week = {("", "7d"): Window(0.4, NOW + 3 * DAY, NOW)}
    opus = {Scope("opus"): Cooldown(NOW + DAY, "limit reached: 7d_opus")}
    found = [
        snapshot(windows={("", "5h"): Window(0.5, NOW + 4 * HOUR, NOW), **week, **OPUS}, cooldowns=opus),
        snapshot("second", cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "the credential was refused", rejected=True)}),
        snapshot("third", windows={("", "5h"): Window(0.2, NOW + 2 * HOUR, NOW), **week}),
        closed("fourth", paused=True),
        *(snapshot(f"more-{number}", windows=week) for number in range(credentials - 4)),
    ]  # fmt: skip
    return report(found, recorded, viewer, STORE_STATUS, NOW) | {"open": False, "budgets": []} | more


def everything(requests=30, **more):
    running = {"requests": 7, "users": {"anna": 5, "ben": 2}}
    shown = {"overview": OVERVIEW, "alerts": ALERTS, "running": running, "budgets": [BUDGET]}
    moved = {"target": "second", "why": "five_hour limit (HTTP 429)", "seconds": 0.4}
    failed = [moved, {"target": "first", "why": "", "seconds": 2}]
    listed = [
        request(1, user="ben", rule="titles", model="glm", credential="", served="zai/glm", usd=None),
        request(2, attempts=failed),
        request(3, status=529, error="overloaded_error", usd=0.0, first_byte=None),
        *(request(number) for number in range(4, requests)),
    ]
    return Data(URL, NOW, pool(**(shown | more)), {"requests": listed, "next": None, "running": 7})


def utc(at):
    return datetime.fromtimestamp(at, UTC)


def lines(data, view="overview", width=80, height=None, offset=0, *, unicode=True):
    found = frame(data, View(view, offset), Size(width, height), local=utc, unicode=unicode)
    return [one.plain.rstrip() for one in found]


HEAD = [
    "2 of 4 credentials are usable, 31 % of the week is free.",
    "running 7 (anna 5, ben 2) · USD today 12.50, week 80.10, month 1,310 and 3",
    "responses without a known cost · budgets: user:anna month 91 % · at this pace",
    "the pool is empty on Wed 13:06 UTC",
    "",
    "! Anthropic rejects the credential second.",
    "",
]


def test_the_overview_at_eighty_columns():
    """The head has the sentence, money, budgets and alerts; below it are the credentials, the worst first, and requests."""
    first, *rest = lines(everything(), height=24)
    assert (first.split(), len(first)) == (["claude-proxy", URL, "11:06:40"], 80)
    assert rest == [
        *HEAD,
        "credential  state                5 hours    7 days     forecast           today",
        "second      rejected             -          -          until 12:06            0",
        "first       partly rate-limited  ╂━──  50%  ━━╂─  40%  full at 12:06          1",
        "third       usable               ━─╂─  20%  ━━╂─  40%  on track               0",
        "fourth      paused               -          -          -                      0",
        "",
        "time      user      model                 credent…  code   first  tokens     USD",
        "11:06:39  ben       claude-opus-4-8       zai        200   1.20s  40,312       ?",
        "11:06:38  anna      claude-opus-4-8       first      200   1.20s  40,312    0.31",
        "          second failed after 0.40s: five_hour limit (HTTP 429)",
        "11:06:37  anna      claude-opus-4-8       first      529       -  40,312    0.00",
        "          overloaded_error",
        *(f"11:06:{second}  anna      claude-opus-4-8       first      200   1.20s  40,312    0.31" for second in (36, 35, 34)),
        " overview  a alerts  c credentials  r requests  u users  b budgets  q quit",
    ]  # fmt: skip


def test_the_overview_at_a_hundred_and_twenty_columns():
    """A wider terminal shows the resets of windows, sessions, lanes and whole durations."""
    found = lines(everything(), width=120, height=40)
    shown = [line for line in found if line.startswith(("credential ", "first ", "time ", "11:06:38"))]
    assert [re.split(" {2,}", line) for line in shown] == [
        ["credential", "state", "5 hours", "7 days", "forecast", "sess.", "today"],
        ["first", "partly rate-limited", "━━╂━━━─────", "50% 15:06", "━━━━──╂────", "40% Sat 11:06", "full at 12:06", "2", "1"],
        ["time", "user", "model", "credential", "lane", "code", "first", "total", "tokens", "USD"],
        ["11:06:38", "anna", "claude-opus-4-8", "first", "claude", "200", "1.20s", "9.70s", "40,312", "0.31"],
    ]
    assert len(found) == 40


@pytest.mark.parametrize(("width", "unicode"), [(20, True), (60, False), (80, True), (99, False), (120, True), (200, False)])
@pytest.mark.parametrize("height", [1, 5, 12, 24, 100])
@pytest.mark.parametrize("view", VIEWS)
def test_a_picture_fits_its_terminal(view, height, width, unicode):
    """Whatever the size and whatever the names, no line is wider than the terminal, and there are as many as it has."""
    label = "wide 口口口 \x1b[2J" * 5
    data = everything(credentials=12)
    data = Data(
        f"{URL}/{'x' * 300}",
        NOW,
        {**data.pool, "credentials": [{**one, "label": label} for one in data.pool["credentials"]]},
        {"requests": [{**one, "user": label, "error": label * 9} for one in data.requests["requests"]]},
        problem="No proxy responds. " * 9,
    )
    found = frame(data, View(view), Size(width, height), local=utc, unicode=unicode)
    assert len(found) == height
    assert max(line.cell_len for line in found) <= width
    assert "\x1b" not in "".join(line.plain for line in found)
    assert unicode or {*"".join(line.plain for line in found)} <= {*map(chr, range(32, 127)), "口", "…"}


def test_credentials_give_way():
    """With more credentials than lines, the overview says how many there are and keeps some of the requests."""
    found = lines(everything(credentials=40), height=24)
    assert len(found) == 24
    assert "and 33 more credentials: press c" in found
    assert any(line.startswith("11:06:39") for line in found)
    assert not any("more credential" in line for line in lines(everything(credentials=40), height=80))


@pytest.mark.parametrize("view", ["credentials", "requests"])
def test_a_view_scrolls_to_its_last_line(view):
    """A view of one thing has everything: what is below is counted, and the last line is there when it is scrolled to."""
    data, size = everything(credentials=12), Size(80, 24)
    whole = lines(data, view, height=200)
    last = last_offset(data, View(view), size, utc)
    assert 0 < last < len(whole)
    first = lines(data, view, height=24)
    assert f"and {last + 1} more lines: press down" == first[-2]
    end = lines(data, view, height=24, offset=last)
    assert "more line" not in end[-2]
    assert [line for line in whole[:-1] if line][-1] in end
    assert last_offset(data, View("overview"), size, utc) == 0


def test_the_requests_with_what_decided():
    """The view of requests adds the rule that decided to what failed."""
    found = lines(everything(), "requests", height=24)
    at = found.index("11:06:39  ben       claude-opus-4-8       zai        200   1.20s  40,312       ?")
    assert found[at + 1] == "          rule titles: glm"
    assert lines(Data(URL, NOW, pool(), {"requests": []}), "requests", height=24)[4] == "No request yet."


def test_users_and_budgets():
    """The views of users and budgets are the tables of ``claude-proxy status`` and ``budget``; without budgets it says so."""
    users = lines(everything(), "users", height=30)
    assert [line.split() for line in users if line.startswith(("Users", "anna"))] == [
        ["Users", *["today"] * 3, *["7", "days"] * 3],
        ["anna", "1", "0", "10", "1", "0", "10"],
    ]
    assert any(line.startswith("user:anna  month   91.20  100.00  91 %") for line in lines(everything(), "budgets", height=24))
    assert "There are no budgets." in " ".join(lines(Data(URL, NOW, pool()), "budgets", height=24))


def test_a_proxy_that_sends_less():
    """Of a proxy without overview, alerts and requests, the head is that of ``status``, with the problems and failovers."""
    found = lines(Data(URL, NOW, pool(open=True)), height=30)
    assert found[1] == "2 of 4 credentials usable, 37% of the rate limits left."
    assert found[3].startswith("! ")
    assert found[found.index("last failovers") + 1] == "11:06  second: five_hour limit (HTTP 429)"


def test_a_user_sees_themselves():
    """For a user without the master key nothing is shown that the proxy did not send, and their usage is called theirs."""
    found = lines(Data(URL, NOW, pool(ANNA, running={"requests": 1})), "users", height=24)
    assert found[2] == "running 1"
    assert any(line.startswith("You ") for line in found)


def test_a_proxy_that_no_longer_responds():
    """The reason stands at the top, with the time of the figures, which stay."""
    data = everything()
    found = lines(Data(URL, NOW, data.pool, data.requests, "No proxy responds."), height=24)
    assert found[1:3] == ["No proxy responds. The figures are those of 11:06:40.", HEAD[0]]


def test_many_alerts():
    """Three alerts are shown, and the number of the others."""
    alerts = [
        {"key": str(number), "severity": "info", "text": f"alert {number}", "action": "", "since": None} for number in range(9)
    ]
    found = lines(everything(alerts=alerts), height=24)
    assert [line for line in found if line.startswith("!")] == [
        "! alert 0", "! alert 1", "! alert 2", "! and 6 more alerts: press a",
    ]  # fmt: skip
    assert [line for line in lines(everything(alerts=alerts), "alerts", height=40) if line] == [
        *lines(everything(alerts=alerts), "alerts", height=40)[:5],
        *(f"! alert {number}" for number in range(9)),
        " o overview  alerts  c credentials  r requests  u users  b budgets  q quit",
    ]
    assert sum(line.startswith("! ") for line in lines(everything(alerts=alerts))) == 9
    assert "No alert fires." in lines(everything(alerts=[]), "alerts", height=24)


def test_what_to_do_has_its_place_in_a_tall_terminal():
    """From 36 lines on, the overview says of an alert since when it fires and what to do; the view of alerts always does."""
    told = ["! Anthropic rejects the credential second. Since 10:06.", "  Replace it: claude-proxy pool add second --replace."]
    for view, height in (("overview", 36), ("alerts", 24), ("overview", None)):
        found = lines(everything(), view, height=height)
        at = found.index(told[0])
        assert found[at : at + 2] == told
    reason = "  rejected until 12:06: the credential was refused"
    assert reason in lines(everything(), height=36)
    assert told[1] not in lines(everything(), height=35)


def test_the_budget_that_is_used_most_stands_first():
    """Budgets are sorted by their use; the head names the first one, and three in a wide terminal."""
    budgets = [BUDGET | {"scope": f"user:u{percent}", "percent": percent} for percent in (10, 80, 95, 30)]
    shown = lines(everything(budgets=budgets), "budgets", height=24)
    assert [line.split()[0] for line in shown if line.startswith("user:")] == ["user:u95", "user:u80", "user:u30", "user:u10"]
    assert shown[shown.index("") + 2].split() == ["scope", "period", "USD", "USD", "used", "resets", "notes"]
    long = [BUDGET | {"scope": f"user:{number}{'u' * 90}"} for number in range(20)]
    shown = lines(everything(budgets=long), "budgets", width=60, height=24)
    assert (len(shown), shown[-2].startswith("and ")) == (24, True)
    for width, most in ((80, 1), (120, 3)):
        assert " ".join(lines(everything(budgets=budgets), width=width)).count("user:u") == most


def test_a_picture_for_a_pipe():
    """Without a height everything is there: all credentials, the last ten requests, and no keys; colours only if asked for."""
    found = frame(everything(credentials=40), View(), Size(120), local=utc)
    text = as_text(found, colours=False)
    assert text.count("more-") == 36
    assert text.count("claude-opus-4-8 ") == 10
    assert "q quit" not in text
    assert "\x1b" not in text
    assert [line.rstrip() for line in text.splitlines()] == [line.plain.rstrip() for line in found]
    assert "\x1b[31mrejected" in as_text(found, colours=True)
