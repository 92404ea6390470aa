"""server/status_routes.py: the routes that show quota and usage, without a proxy around them."""

import asyncio
import csv
import io
import itertools
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from prometheus_client.parser import text_string_to_metric_families
from recorded import Recorded, exposition, report
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_report import NOW, STORE_STATUS, record

from claude_proxy.cli.tables import aligned
from claude_proxy.cli.terminal import render
from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import NO_TERMS, Terms
from claude_proxy.credentials.pool import Pool, PoolRequest
from claude_proxy.history.service import History
from claude_proxy.server.status_routes import StatusRoutes
from claude_proxy.state.rows import Row
from claude_proxy.usage.report import Viewer

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
CREDENTIAL = "sk-ant-oat01-made-up-first"
ENVIRONMENT = {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": f"first={CREDENTIAL}"}


def client(refreshed=None, *, groups=NO_GROUPS, terms=NO_TERMS, wait=None, **environ):
    settings = Settings.parse(ENVIRONMENT | environ)
    history = History(None, clock=lambda: NOW)
    history.record(record("static"))
    history.record(record("somebody"))

    async def fresh():
        if refreshed is not None:
            refreshed.append(1)
        if wait is not None:
            await wait.wait()

    credentials = [replace(one, terms=terms) for one in settings.credentials]
    pool = Pool(credentials, affinity=settings.affinity, quarantine=1, clock=lambda: NOW)
    status_routes = StatusRoutes(
        settings, pool, history, store_status=lambda: STORE_STATUS, fresh=fresh, clock=lambda: NOW, groups=lambda: groups
    )
    return TestClient(Starlette(routes=status_routes.routes()))


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/pool", None, 401), ("/pool", "wrong", 401), ("/pool", TOKEN, 200), ("/pool", MASTER, 200),
        ("/metrics", None, 401), ("/metrics", TOKEN, 200), ("/metrics", MASTER, 200),
        ("/usage.csv", None, 401), ("/usage.csv", TOKEN, 403), ("/usage.csv", MASTER, 200),
    ],
)  # fmt: skip
def test_each_route_identifies_its_caller_by_itself(path, token, status):
    """A route answers by the token even when nothing stands before it, and asks the other processes only for who may see it."""
    refreshed = []
    answer = client(refreshed).get(path, headers={"authorization": f"Bearer {token}"} if token else {})
    assert answer.status_code == status
    assert answer.headers.get("cache-control") == ("no-store" if status == 200 else None)
    assert len(refreshed) == (status == 200)
    assert CREDENTIAL not in answer.text


def test_who_sees_whom():
    """The static token sees itself, the master key everybody."""
    asked = client()
    mine = asked.get("/pool", headers={"x-litellm-api-key": TOKEN}).json()
    all_people = asked.get("/pool", headers={"x-litellm-api-key": MASTER}).json()
    assert [row["name"] for row in mine["users"]] == ["static"]
    assert sorted(row["name"] for row in all_people["users"]) == ["somebody", "static"]


def test_a_credential_that_is_for_others_is_not_shown():
    """Who may not use a credential finds it nowhere: not among the credentials, in the sums, the failovers or the metrics."""
    groups = PoolGroups.of({"claude_proxy": {"users": {"somebody": {"groups": ["theirs"]}}}})
    asked = client(groups=groups, terms=Terms(groups=frozenset({"theirs"})))
    for token, seen in ((TOKEN, False), (MASTER, True)):
        shown = asked.get("/pool", headers={"x-litellm-api-key": token}).json()
        metrics = asked.get("/metrics", headers={"x-litellm-api-key": token}).text
        assert (len(shown["credentials"]), shown["pool"]["credentials"]) == (seen, seen)
        assert ('"first"' in json.dumps(shown)) is ('"first"' in metrics) is seen


@pytest.mark.parametrize(("static", "needed"), [(TOKEN, "yes"), ("", "no")])
def test_the_page_holds_no_data(static, needed):
    """The page is the same for everybody, but for whether it has to ask for a token; its parts are all in it."""
    asked = client(PROXY_STATIC_TOKEN=static)
    page = asked.get("/pool", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert f'data-needs-token="{needed}"' in page.text
    assert page.text == asked.get("/pool", headers={"accept": "text/html", "x-litellm-api-key": MASTER}).text
    assert not [word for word in ("first", "somebody", TOKEN, MASTER) if f">{word}<" in page.text]
    links = re.findall(r"""(?:src|href)=["']?([^"' >]*)""", page.text)
    assert not [link for link in links if not link.startswith(("pool/assets/", "#/")) and link != "data:,"]
    assert "{{" not in page.text


def test_a_report_that_is_known_is_not_sent_again():
    """The same report is sent once; each viewer has reports of their own, and who asks without a tag gets a new one."""
    refreshed = []
    asked = client(refreshed)
    first = asked.get("/pool", headers={"x-litellm-api-key": MASTER})
    tag = first.headers["etag"]
    again = asked.get("/pool", headers={"x-litellm-api-key": MASTER, "if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (again.headers["cache-control"], len(refreshed)) == ("no-store", 1)
    mine = asked.get("/pool", headers={"x-litellm-api-key": TOKEN, "if-none-match": tag})
    assert (mine.status_code, [row["name"] for row in mine.json()["users"]]) == (200, ["static"])
    assert asked.get("/pool", headers={"x-litellm-api-key": MASTER}).json() == first.json()
    assert len(refreshed) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "token"), [("/metrics", TOKEN), ("/metrics", MASTER), ("/usage.csv", MASTER)])
async def test_a_user_waits_for_their_own_sums(monkeypatch, path, token):
    """Of one user, sums are made one after the other; beyond what may wait, one more is refused in words."""
    monkeypatch.setattr("claude_proxy.server.status_routes.MAX_WAITING", 1)
    go, begun = asyncio.Event(), []
    transport = httpx.ASGITransport(client(begun, wait=go).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as http:

        async def ask():
            return (await http.get(path, headers={"x-litellm-api-key": token})).status_code

        asked = [asyncio.ensure_future(ask()) for _ in range(4)]
        assert [await one for one in itertools.islice(asyncio.as_completed(asked), 2)] == [429, 429]
        assert begun == [1]
        go.set()
        assert sorted(await asyncio.gather(*asked)) == [200, 200, 429, 429]


# --- rows that no proxy wrote ----------------------------------------------------------------------------------------------

HOUR = 3600.0
NASTY = "\x1b[2J\r\n\t=cmd|x\u202e\ud800\x00"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, 1, -1, 0.5, 1e15, 1e16, 1e300, -1e300, 10**30, 10**400, math.nan, math.inf, -math.inf, NOW, NOW * 1000]
    )
    | st.sampled_from(["", "1", "anna", "claude-x", "first", NASTY, "x" * 5000, "inf"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["at", "reason", "out", NASTY]), inner, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = st.lists(VALUES, min_size=7, max_size=7) | st.just([1] * 7)
PAGES = st.lists(
    st.tuples(st.tuples(st.sampled_from(["taken", "total", "moved", "tomorrow"]), VALUES, VALUES, VALUES, VALUES), NUMBERS)
    | st.tuples(st.tuples(st.just("taken"), *[st.sampled_from(["anna", "first", NASTY, ""])] * 4), st.just([1e15] * 7))
    | st.tuples(st.tuples(st.sampled_from(["total", "first_byte"]), VALUES), st.lists(VALUES, min_size=14, max_size=14))
    | st.tuples(st.tuples(st.just("moved"), VALUES), st.lists(VALUES, min_size=1, max_size=1))
    | VALUES,
    max_size=4,
)
EVENTS = st.fixed_dictionaries(
    {
        "failovers": st.lists(st.tuples(VALUES, VALUES, VALUES, VALUES) | VALUES, max_size=4) | VALUES,
        "errors": st.dictionaries(st.sampled_from(["first", NASTY]), st.tuples(VALUES, VALUES) | VALUES, max_size=2) | VALUES,
    }
)
RATE_LIMITED = st.fixed_dictionaries(
    {
        "until": VALUES | st.just(NOW + HOUR) | st.just(0),
        "reason": VALUES,
        "rejected": VALUES,
        "windows": VALUES | st.lists(st.sampled_from(["5h", NASTY, "x" * 5000]), max_size=20),
    }
)
WINDOWS = st.fixed_dictionaries({"utilization": VALUES, "reset": VALUES | st.just(NOW + HOUR)})
DAYS = ["2026-11-18", "2026-01-05", "99999-01-01", "9999-12-31", "0001-01-01", "20261118", "2026-W47-3", "no-day", NASTY]
PLACES = ["", "opus", NASTY, "x" * 5000, "9" * 5000 + "h", "9" * 400 + "d_opus", "5h", "7d_opus"]
STAMPS = st.sampled_from([0.0, 1.0, NOW - HOUR, NOW, NOW + HOUR, NOW + 300 * 86400, 1e12, 1e300, -1e300, math.inf, math.nan])
DEEP = "[" * 100_000


def rows():
    """Rows of every kind that there is, under right and wrong keys, with right and wrong values."""

    def of(key, values):
        return st.builds(
            Row, key, STAMPS, values.map(json.dumps) | st.sampled_from(["", "{", DEEP, "9" * 5000, "1e999", NASTY])
        )

    days, places = st.sampled_from(DAYS), st.sampled_from(PLACES)
    return st.lists(
        of(days.map("usage:{}:w".format), PAGES)
        | of(days.map(lambda day: f"month:{day[:7]}"), PAGES)
        | of(st.sampled_from(["events:w", f"events:{NASTY}", "events:" + "x" * 5000]), EVENTS)
        | of(st.sampled_from(["cursor", "salt", "seen:{key}", "session:s", f"session:{NASTY}"]), VALUES | st.just("{key}"))
        | of(places.map("credential:{{key}}:limit:{}".format), RATE_LIMITED)
        | of(st.tuples(places, places).map(lambda two: f"credential:{{key}}:window:{two[0]}:{two[1]}"), WINDOWS),
        max_size=12,
    )


def is_plain(text):
    return all(char.isprintable() or char == "\n" for char in text)


@given(rows())
@example([Row("credential:{key}:window::" + "9" * 5000 + "h", NOW, json.dumps({"utilization": 0.5, "reset": NOW + HOUR}))])
@example([Row("credential:{key}:window::5h", NOW, json.dumps({"utilization": 0.5, "reset": 1e300}))])
@example([Row("usage:2026-11-18:w", NOW, json.dumps([[["taken", "a", "b", "c", "d"], ["1"] * 7]]))])
@example([Row("usage:2026-11-18:w", NOW, json.dumps([[["taken", "a", "b", "c", "d"], [1e308] * 7]] * 2))])
@example([Row("events:w", NOW, json.dumps({"failovers": [[1e300, "a", "b", "c"]], "errors": {}}))])
@example([Row("seen:{key}", 0.0, "1e300")])
@example([Row("cursor", NOW, "9" * 4000)])
def test_whatever_a_store_holds_everything_is_shown(found):
    """Whatever rows another process left, the status, the metrics, the CSV and the terminal show something, in plain text."""
    settings = Settings.parse(ENVIRONMENT)
    pool = Pool(settings.credentials, affinity=settings.affinity, quarantine=1, clock=lambda: NOW)
    recorded = Recorded(clock=lambda: NOW, listed=lambda model: model == "m")
    recorded.record(record("anna"))
    key = pool.state("first").key
    told = [Row(row.key.replace("{key}", key), row.stamp, row.value.replace("{key}", key)) for row in found]
    pool.merge(told)
    recorded.merge(told)
    viewer = Viewer("admin", sees_all_users=True)
    shown = json.dumps(report(pool.snapshot(), recorded, viewer, STORE_STATUS, NOW), allow_nan=False)
    metrics = exposition(pool.snapshot(), recorded, viewer, STORE_STATUS).decode()
    terminal = render(json.loads(shown), 80, colours=False, local=lambda at: datetime.fromtimestamp(at, UTC))
    table = aligned([*csv.reader(io.StringIO(recorded.csv()))])
    assert [*text_string_to_metric_families(metrics)]
    assert all(is_plain(text) for text in (*strings(json.loads(shown)), metrics, recorded.csv(), terminal, table))
    assert max(map(len, terminal.splitlines())) <= 80
    shared = recorded.history.shared
    for part in shared:
        part.flush_next()
    for row in (
        *pool.everything(),
        *pool.changed(),
        *(row for part in shared for row in (*part.everything(), *part.changed())),
    ):
        json.loads(row.value)
    pool.choose(PoolRequest("s", "opus"))


def strings(value):
    """Every text in a JSON value."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []
