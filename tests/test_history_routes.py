"""server/history_routes.py: who sees what of the history, and in which form."""

import asyncio
import csv
import io
import itertools
from dataclasses import replace

import httpx
import pytest
from msgspec import structs
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_history_queries import RECORD, Clock

from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.credential import NO_TERMS, Terms
from claude_proxy.credentials.pool import Pool
from claude_proxy.history.service import History
from claude_proxy.server import history_routes
from claude_proxy.server.history_routes import HistoryRoutes
from claude_proxy.server.viewers import Viewers

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
ENVIRONMENT = {
    "PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": "first=sk-ant-oat01-made-up-first",
}  # fmt: skip
BOTH = (RECORD, structs.replace(RECORD, user="static"))


def client(path=None, *, refreshed=None, wait=None, groups=NO_GROUPS, terms=NO_TERMS, records=BOTH, clock=None):
    settings = Settings.parse(ENVIRONMENT)
    clock = clock or Clock()
    history = History(path, clock=clock)
    for record in records:
        history.record(record)

    async def fresh():
        if refreshed is not None:
            refreshed.append(1)
        if wait is not None:
            await wait.wait()

    pool = Pool(
        [replace(one, terms=terms) for one in settings.credentials], affinity=settings.affinity, quarantine=1, clock=Clock()
    )
    routes = HistoryRoutes(history, Viewers(settings, pool, lambda: groups), fresh=fresh, clock=clock)
    found = TestClient(Starlette(routes=routes.routes()))
    found.history = history
    return found


def get(asked, path, token=MASTER, **parameters):
    return asked.get(path, params=parameters, headers={"x-litellm-api-key": token} if token else {})


@pytest.mark.parametrize("path", ["/pool/history", "/pool/history.csv", "/pool/highlights"])
@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), (TOKEN, 200), (MASTER, 200)])
def test_each_route_identifies_its_caller_by_itself(path, token, status):
    """A route responds by the token even when nothing stands before it, and asks other processes only for who may see it."""
    refreshed = []
    response = get(client(refreshed=refreshed), path, token)
    assert (response.status_code, len(refreshed)) == (status, status == 200)
    assert status != 200 or response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"range": "soon"}, "range: is a number of hours or days"), ({"step": "minute"}, "step: is one of hour, day, month"),
        ({"by": "colour"}, "by: is one of none, user"), ({"wanted": "1"}, "unknown parameter 'wanted'"),
        ({"from": "2026-13-01"}, "from: is a day such as"), ({"from": "2026-11-18", "to": "2026-11-01"}, "from before to"),
        ({"range": "90d", "step": "hour"}, "hours are kept for 8 days"),
        ({"range": "401d", "step": "day"}, "at most 400 days"), ({"range": "9999d"}, "at most ten years"),
        ({"from": "2026-11-01", "range": "7d"}, "besides from and to"), ({"by": ["user"] * 2}, "more than once"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(parameters, words):
    """A parameter that cannot be read is refused in words."""
    response = get(client(), "/pool/history", **parameters)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_a_user_sees_their_own_usage():
    """A caller without the master key finds neither the numbers nor the names of others, in any form."""
    groups = PoolGroups.of({"claude_proxy": {"users": {"anna": {"groups": ["theirs"]}}}})
    asked = client(groups=groups, terms=Terms(groups=frozenset({"theirs"})))
    for by in ("user", "credential", "model"):
        own = get(asked, "/pool/history", TOKEN, by=by).json()
        assert own["total"]["requests"] == 1
        assert "anna" not in str(own)
        assert "first" not in str(own).replace("first_byte", "")
        assert "anna" not in get(asked, "/pool/history.csv", TOKEN, by=by).text
    assert get(asked, "/pool/history", TOKEN, user="anna").json()["total"]["requests"] == 0
    assert get(asked, "/pool/history", by="user").json()["total"]["requests"] == 2


def test_what_is_shown_as_a_table():
    """The CSV has a line for each period and name of the view, and text that looks like a formula is quoted."""
    asked = client(records=[RECORD, structs.replace(RECORD, project="=cmd|' /C calc'!A0")])
    found = [*csv.DictReader(io.StringIO(get(asked, "/pool/history.csv", by="project").text))]
    assert [(line["period"], line["project"], line["usd"]) for line in found] == [
        ("2026-11-18T14", "'=cmd|' /C calc'!A0", "1.5"),
        ("2026-11-18T14", "website", "1.5"),
    ]
    (line,) = csv.DictReader(io.StringIO(get(asked, "/pool/history.csv", range="30d").text))
    assert (line["period"], line["requests"], "project" in line) == ("2026-11-18", "2", False)


def test_a_table_has_its_filters():
    """The CSV has a column with the names of each filter, so that the files of several users can be put together."""
    asked = client(records=[RECORD, structs.replace(RECORD, user="ben", project="=1+1")])
    parameters = {"by": "project", "user": ["anna", "ben"], "project": "=1+1"}
    text = get(asked, "/pool/history.csv", **parameters).text
    (line,) = csv.DictReader(io.StringIO(text))
    assert text.startswith("period,user,project,requests")
    assert (line["user"], line["project"]) == ("anna; ben", "'=1+1")


def test_the_sums_as_a_table():
    """On request the CSV has a line for each name, with the sums of the range, as the table of the page has them."""
    asked = client(records=[RECORD, structs.replace(RECORD, user="ben"), structs.replace(RECORD, user="ben", project="=1+1")])
    parameters = {"range": "30d", "by": "user", "model": "opus", "lines": "names"}
    text = get(asked, "/pool/history.csv", **parameters).text
    assert text.startswith("from,to,model,user,requests,")
    assert [(line["user"], line["requests"], line["usd"]) for line in csv.DictReader(io.StringIO(text))] == [
        ("ben", "2", "3.0"),
        ("anna", "1", "1.5"),
    ]
    (line,) = csv.DictReader(io.StringIO(get(asked, "/pool/history.csv", range="30d", lines="names").text))
    assert (line["from"], line["to"], line["requests"], "user" in line) == ("2026-10-20", "2026-11-18", "3", False)
    names = get(asked, "/pool/history.csv", by="project", lines="names").text
    assert "'=1+1" in names
    for path, value in (("/pool/history", "names"), ("/pool/history.csv", "days")):
        assert get(asked, path, lines=value).status_code == 400


def test_highlights_are_made_once_a_minute():
    """Pages that ask within a minute get the same highlights, each viewer their own; after that they are made anew."""
    clock = Clock()
    refreshed = []
    asked = client(
        records=[RECORD, structs.replace(RECORD, user="static", project="docs", cost=1)], clock=clock, refreshed=refreshed
    )
    for number in range(2):
        assert get(asked, "/pool/highlights").json()["project"]["name"] == "website"
        own = get(asked, "/pool/highlights", TOKEN)
        assert own.json()["project"]["name"] == "docs"
        assert "anna" not in own.text
        assert len(refreshed) == 2
        clock.now += 50.0 * (1 - number)
    asked.history.record(structs.replace(RECORD, project="shop", cost=90_000_000))
    assert get(asked, "/pool/highlights").json()["project"]["name"] == "website"
    clock.now += 11.0
    assert get(asked, "/pool/highlights").json()["project"]["name"] == "shop"
    assert len(refreshed) == 3


@pytest.mark.parametrize("path", ["/pool/history", "/pool/highlights"])
def test_a_history_that_cannot_be_read(tmp_path, path):
    """Without its database the route says so; recording goes on."""
    (tmp_path / "file").write_text("")
    response = get(client(tmp_path / "file" / "history.sqlite"), path)
    assert response.status_code == 503
    assert "history is not available" in response.json()["error"]["message"]


@pytest.mark.anyio
async def test_a_user_waits_for_their_own_views(monkeypatch):
    """Beyond the requests that may wait for a user's turn, one more is refused in words; another user's is not."""
    monkeypatch.setattr(history_routes, "MAX_WAITING", 1)
    go = asyncio.Event()
    asked = client(wait=go)
    transport = httpx.ASGITransport(asked.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as http:

        async def ask(token):
            return (await http.get("/pool/history", headers={"x-litellm-api-key": token})).status_code

        waiting = [asyncio.ensure_future(ask(TOKEN)) for _ in range(4)]
        assert [await one for one in itertools.islice(asyncio.as_completed(waiting), 2)] == [429, 429]
        go.set()
        assert await ask(MASTER) == 200
        assert sorted(await asyncio.gather(*waiting)) == [200, 200, 429, 429]
