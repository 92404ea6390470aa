"""usage/report.py: what is said of the pool and the book, and to whom."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from recorded import Recorded, report

from claude_proxy.anthropic.usage import Usage
from claude_proxy.credentials.course import Course, Sample
from claude_proxy.credentials.credential import Credential, Kind, Terms
from claude_proxy.credentials.rate_limits import Cooldown, Snapshot, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.secret import Secret
from claude_proxy.usage.record import Record
from claude_proxy.usage.report import (
    StoreStatus,
    Viewer,
    credential,
    full_at,
    headroom,
    headroom_of_pool,
    state,
    state_name,
    window_title,
    windows,
)

NOW = 1_795_000_000.0
HOUR, DAY = 3600.0, 86400.0
ADMIN, ANNA = Viewer("admin", sees_all_users=True), Viewer("anna", sees_all_users=False)
STORE_STATUS = StoreStatus("SQLite", unavailable=False, process_started=NOW - DAY)


def snapshot(label="first", cooldowns=None, windows=None, sessions=2):
    return Snapshot(
        Credential(label, Kind.OAUTH, Secret(f"sk-ant-oat01-made-up-{label}")), NOW, cooldowns or {}, windows or {}, sessions
    )


def closed(label="closed", expires=None, cooldowns=None, **terms):
    """A credential that is paused, or whose login expires then."""
    secret = Secret(f"sk-ant-oat01-made-up-{label}")
    one = Credential(label, Kind.OAUTH, secret, terms=Terms(**terms), source="home", renewed=True, expires=expires)
    return Snapshot(one, NOW, cooldowns or {}, {}, 0, disabled=one.is_disabled(NOW))


def utc(at):
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def record(user="anna", model="m", credential="first", **more):
    return Record(NOW, user, model, f"anthropic/{model}", credential, 200, 0.1, 0.2, Usage(1, 2, 3, 4), **more)


@pytest.fixture
def recorded():
    return Recorded(clock=lambda: NOW)


OPUS = {("opus", "7d_opus"): Window(1.0, NOW + DAY, NOW)}


@pytest.mark.parametrize(
    ("cooldowns", "seen", "name", "words"),
    [
        ({}, {}, "usable", "usable"),
        (
            {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 5h")},
            {("", "5h"): Window(1.0, NOW + HOUR, NOW)},
            "rate-limited",
            f"rate-limited until {utc(NOW + HOUR)}: 5-hour window at 100 %",
        ),
        (
            {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 5h, 7d")},
            {},
            "rate-limited",
            f"rate-limited until {utc(NOW + HOUR)}: 5-hour window, 7-day window",
        ),
        (
            {EVERYTHING: Cooldown(NOW + HOUR, "the credential was rejected", rejected=True)},
            {},
            "rejected",
            f"rejected until {utc(NOW + HOUR)}: the credential was rejected",
        ),
        (
            {EVERYTHING: Cooldown(NOW + HOUR, "the account was rejected", rejected=True, explanation="It is disabled.")},
            {},
            "rejected",
            f'rejected until {utc(NOW + HOUR)}: the account was rejected: "It is disabled."',
        ),
        (
            {Scope("opus"): Cooldown(NOW + DAY, "limit reached: 7d_opus")},
            OPUS,
            "partly rate-limited",
            f"partly rate-limited; rate-limited for Opus until {utc(NOW + DAY)}: 7-day window of Opus at 100 %",
        ),
        (
            {Scope("opus"): Cooldown(NOW + DAY, "limit reached: 7d_opus"), EVERYTHING: Cooldown(NOW + 60, "slow down")},
            OPUS,
            "rate-limited",
            (
                f"rate-limited until {utc(NOW + 60)}: slow down; "
                f"rate-limited for Opus until {utc(NOW + DAY)}: 7-day window of Opus at 100 %"
            ),
        ),
    ],
    ids=["usable", "limit", "limits-unseen", "refused", "explained", "family", "both"],
)
def test_the_state_in_words(cooldowns, seen, name, words):
    """A state says what may be asked, until when not, and which window is the reason."""
    one = snapshot(cooldowns=cooldowns, windows=seen)
    assert (state_name(one), state(one)["words"]) == (name, words)


@pytest.mark.parametrize(
    ("name", "title"),
    [("5h", "5-hour window"), ("7d", "7-day window"), ("7d_opus", "7-day window of Opus"), ("overage", "overage")],
)
def test_window_titles(name, title):
    """A window's name is its length and perhaps a family; another name is shown as it is."""
    assert window_title(name) == title


@pytest.mark.parametrize(
    ("name", "utilization", "reset_in", "full_in"),
    [
        ("5h", 0.5, 4 * HOUR, 1 * HOUR),  # half in one hour
        ("5h", 0.9, 1 * HOUR, 4 * HOUR / 0.9 - 4 * HOUR),
        ("5h", 0.5, 1 * HOUR, None),  # half in four hours
        ("5h", 0.8, 1 * HOUR, None),  # just as the window ends
        ("7d", 0.5, 6 * DAY, 1 * DAY),
        ("7d", 0.0, 6 * DAY, None),
        ("7d", 1.2, 6 * DAY, 0),
        ("overage", 0.5, 6 * DAY, None),
        ("5h", 0.5, 6 * HOUR, None),  # it would have opened in the future
    ],
)
def test_when_a_window_is_full(name, utilization, reset_in, full_in):
    """A window goes on filling as it did since it opened; when it opens anew before it is full, there is no time."""
    full = full_at(name, Window(utilization, NOW + reset_in, NOW))
    assert full == (None if full_in is None else pytest.approx(NOW + full_in))


def test_headroom():
    """The room of a credential is what its fullest window for all models leaves; who rests has none; a pool's is the mean."""
    half = snapshot(windows={("", "5h"): Window(0.5, NOW + 1, NOW), ("", "7d"): Window(0.2, NOW + 1, NOW), **OPUS})
    over = snapshot(windows={("", "5h"): Window(1.5, NOW + 1, NOW)})
    cooling_down = snapshot(cooldowns={EVERYTHING: Cooldown(NOW + 1, "x")})
    assert [headroom(one) for one in (half, over, cooling_down, snapshot())] == [0.5, 0, 0, 1]
    assert headroom_of_pool([half, cooling_down]) == 0.25
    assert headroom_of_pool([]) is None


def test_a_window_is_shown_once():
    """Of what answers for two families said of one window the later counts; the shorter window comes first."""
    one = snapshot(
        windows={
            ("sonnet", "7d_opus"): Window(0.4, NOW + DAY, NOW - 5),
            ("opus", "7d_opus"): Window(0.6, NOW + DAY, NOW),
            ("", "7d"): Window(0.1, NOW + DAY, NOW),
            ("", "5h"): Window(0.2, NOW + DAY, NOW),
        }
    )
    assert [(name, window.utilization) for name, window in windows(one).items()] == [("5h", 0.2), ("7d", 0.1), ("7d_opus", 0.6)]


def test_a_window_has_its_course():
    """A window is shown with when it opened, if that is known, and its course since then, which ends with the last report."""
    opened = NOW + DAY - 7 * DAY
    current, last = Window(0.4, NOW + DAY, NOW), Window(0.6, NOW + DAY, NOW - 5)
    course = Course(NOW + DAY, (Sample(opened, 0.0), Sample(NOW - 90, 0.3)))
    one = replace(
        snapshot(windows={("", "7d"): current, ("sonnet", "7d_opus"): last, ("", "overage"): current}),
        courses={("", "7d"): course, ("sonnet", "7d_opus"): course._replace(reset=NOW - DAY)},
    )
    shown = {window["name"]: (window["opened"], window["course"]) for window in credential(one, NOW)["windows"]}
    assert shown == {
        "7d": (opened, [[opened, 0.0], [NOW - 90, 0.3], [NOW, 0.4]]),
        "7d_opus": (opened, [[NOW - 5, 0.6]]),
        "overage": (None, [[NOW, 0.4]]),
    }


def test_the_report_sums_by_credential_user_and_model(recorded):
    """The same requests are counted for the credential, the user and the model, today and in seven days."""
    for user, model in (("anna", "m"), ("anna", "n"), ("ben", "m")):
        recorded.record(record(user, model))
    data = report([snapshot(), snapshot("second")], recorded, ADMIN, STORE_STATUS, NOW)
    assert [one["today"]["requests"] for one in data["credentials"]] == [3, 0]
    assert {row["name"]: row["week"]["requests"] for row in data["users"]} == {"anna": 2, "ben": 1}
    assert {row["name"]: row["today"]["output"] for row in data["models"]} == {"m": 4, "n": 2}
    assert data["pool"] == {"credentials": 2, "usable": 2, "headroom": 1.0, "problems": []}
    assert json.loads(json.dumps(data)) == data


def test_a_user_sees_of_people_only_itself(recorded):
    """Who does not hold the master key finds its own usage and failovers, and the credentials; nothing else of other people."""
    for user in ("anna", "ben"):
        recorded.record(record(user, f"model-of-{user}", failovers=("first: limit",)))
    data = report([snapshot()], recorded, ANNA, STORE_STATUS, NOW)
    assert [row["name"] for row in data["users"]] == ["anna"]
    assert [row["name"] for row in data["models"]] == ["model-of-anna"]
    assert [(one["user"], one["model"]) for one in data["failovers"]] == [("anna", "model-of-anna")]
    assert "ben" not in json.dumps(data)
    assert data["credentials"][0]["today"]["requests"] == 2


def test_the_last_error_stands_at_its_credential(recorded):
    """A credential shows what went wrong with it last, and when; another one shows nothing."""
    recorded.record(record(failovers=("second: five_hour limit (HTTP 429)",)))
    first, second = report([snapshot(), snapshot("second")], recorded, ADMIN, STORE_STATUS, NOW)["credentials"]
    assert first["last_error"] is None
    assert second["last_error"] == {"at": NOW, "text": "five_hour limit (HTTP 429)"}


def test_no_secret_is_in_the_report(recorded):
    """A report can be shown: it holds labels and no credential."""
    assert "made-up" not in json.dumps(report([snapshot()], recorded, ADMIN, STORE_STATUS, NOW))


# --- Who is not asked at all, and what is written of a credential ------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "name", "words"),
    [
        (closed(paused=True), "paused", "paused"),
        (closed(paused=True, paused_since=NOW - HOUR), "paused", f"paused since {utc(NOW - HOUR)}"),
        (closed(paused=True, expires=NOW), "paused", "paused"),
        (closed(expires=NOW), "expired", "its login has expired: start Claude Code in that home"),
        (
            closed(paused=True, cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "x")}),
            "paused",
            f"paused; rate-limited until {utc(NOW + HOUR)}: x",
        ),
    ],
)
def test_who_is_paused_or_expired_is_not_usable(one, name, words):
    """A paused credential and an expired login say so, with their rests, and are not among the usable ones."""
    assert (state_name(one), state(one)["words"]) == (name, words)
    assert state(one)["since"] == (NOW - HOUR if "since" in words else None)
    assert headroom(one) == 0


def test_the_paused_have_no_part_in_the_room(recorded):
    """What the operator has paused is counted, is not usable, and lowers no room; an expired login does."""
    pool = [snapshot(), closed("p", paused=True)]
    assert report(pool, recorded, ADMIN, STORE_STATUS, NOW)["pool"] == {
        "credentials": 2, "usable": 1, "headroom": 1.0, "problems": [],
    }  # fmt: skip
    assert headroom_of_pool([snapshot(), closed(expires=NOW)]) == 0.5
    assert headroom_of_pool([closed(paused=True)]) is None


def test_the_login_of_a_home(recorded):
    """A login has an expiry of its own, and no year."""
    (one,) = report([closed(expires=NOW + HOUR)], recorded, ANNA, STORE_STATUS, NOW)["credentials"]
    assert one["setup_token"] is None
    assert one["login"]["expires"] == NOW + HOUR
    assert one["login"]["words"].startswith(f"its login expires at {utc(NOW + HOUR)}")


def test_what_is_written_down_is_for_the_master_key(recorded):
    """Terms, sources and what is wrong with the files are shown to who sees everybody, and to nobody else."""
    fixed = Credential("fixed", Kind.API_KEY, Secret("sk-ant-api03-made-up"), source="CLAUDE_API_KEYS_FILE")
    pool = [closed(groups=frozenset({"b", "a"}), owner="anna", reserve=0.2), Snapshot(fixed, NOW, {}, {}, 0)]
    found = report(pool, recorded, ADMIN, STORE_STATUS, NOW, problems=("line 3",))
    assert found["pool"]["problems"] == ["line 3"]
    first, second = found["credentials"]
    assert (first["source"], first["editable"]) == ("home", True)
    assert first["terms"] == {"groups": ["a", "b"], "owner": "anna", "reserve": 0.2}
    assert (second["source"], second["editable"], second["terms"]) == ("CLAUDE_API_KEYS_FILE", False, {})
    hidden = report(pool, recorded, ANNA, STORE_STATUS, NOW, problems=("line 3",))
    assert hidden["pool"]["problems"] == []
    assert not {"source", "editable", "terms"} & {*hidden["credentials"][0]}
    assert "made-up" not in json.dumps([found, hidden])


def test_a_failover_from_a_credential_of_others_is_not_shown(recorded):
    """What names a credential that the viewer may not use is left out, and what names another one stays."""
    recorded.record(record(failovers=("first: limit (HTTP 429)", "second: limit (HTTP 429)")))
    shown = report([], recorded, Viewer("anna", sees_all_users=False, hidden=frozenset({"first"})), STORE_STATUS, NOW)
    assert [one["text"] for one in shown["failovers"]] == ["second: limit (HTTP 429)"]
