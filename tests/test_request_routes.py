"""server/request_routes.py: the latest requests, by the token of who asks for them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_request_entry import RECORD

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.settings import Settings
from claude_proxy.server.request_routes import MAX_PARAMETERS, MAX_VALUE, RequestRoutes, read_query, running_of
from claude_proxy.server.viewers import viewer_of
from claude_proxy.usage.recent_requests import MOST, RecentRequests
from claude_proxy.usage.report import Viewer
from claude_proxy.usage.running_requests import RunningRequests

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
NOW = 1_800_000_100.0
ENVIRONMENT = {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER}


class Served:
    """The route of a process with some requests of two users."""

    def __init__(self, hidden=()):
        self.settings = Settings.parse(ENVIRONMENT)
        self.recent, self.running = RecentRequests(clock=lambda: NOW), RunningRequests()
        self.refreshed = 0
        for place, user in enumerate(("static", "anna", "static")):
            self.recent.record(replace(RECORD, user=user, at=NOW - 50 + place))

        async def ready():
            self.refreshed += 1

        def viewer(caller):
            return viewer_of(caller)._replace(hidden=frozenset(hidden))

        routes = RequestRoutes(self.settings, self.recent, self.running, ready=ready, viewer=viewer)
        self.client = TestClient(Starlette(routes=routes.routes()))

    def get(self, query="", token=MASTER):
        return self.client.get(f"/pool/requests{query}", headers={"x-litellm-api-key": token} if token else {})


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), (TOKEN, 200), (MASTER, 200)])
def test_the_route_identifies_its_caller_by_itself(token, status):
    """The route responds by the token, is never cached, and asks the other processes only for who may see it."""
    served = Served()
    answer = served.get(token=token)
    assert (answer.status_code, served.refreshed) == (status, int(status == 200))
    assert answer.headers.get("cache-control") == ("no-store" if status == 200 else None)


def test_who_sees_whose_requests():
    """The master key sees every user's requests, and those in progress; another token only its own."""
    served = Served(hidden={"anna-max"})
    with served.running.counted("anna"), served.running.counted("static"):
        everything, mine = served.get().json(), served.get(token=TOKEN).json()
    assert [one["user"] for one in everything["requests"]] == ["static", "anna", "static"]
    assert [one["user"] for one in mine["requests"]] == ["static", "static"]
    assert (everything["running"], mine["running"], mine["next"]) == (2, 1, None)
    # Credentials that are kept for others, which the master key sees anyway, have no name.
    assert "anna-max" not in json.dumps(mine)
    for query in ("?user=anna", "?q=anna", "?credential=anna-max"):
        assert served.get(query, TOKEN).json()["requests"] == []


def test_a_page_that_polls_gets_nothing_twice():
    """A response has a tag, by which it is not sent again until it has changed: by a request, or by one in progress."""
    served = Served()
    tag = served.get().headers["etag"]

    def again(query="", token=MASTER):
        return served.client.get(f"/pool/requests{query}", headers={"x-litellm-api-key": token, "if-none-match": tag})

    assert (again().status_code, again().content, again().headers["etag"]) == (304, b"", tag)
    assert [again("?limit=2").status_code, again(token=TOKEN).status_code] == [200, 200]
    with served.running.counted("anna"):
        assert again().status_code == 200
    served.recent.record(RECORD)
    assert again().status_code == 200


def test_since_when_requests_are_kept():
    """The response says since which minute requests are kept, for every query; without any request it is not known."""
    served = Served()
    oldest = served.recent.latest()[-1].ended
    for query, token in (("?limit=1", MASTER), ("?user=nobody", MASTER), ("", TOKEN)):
        assert served.get(query, token).json()["kept_since"] == oldest - oldest % 60
    served.recent = RecentRequests(clock=lambda: NOW)
    assert served.recent.kept_since() is None


def test_a_query_narrows_and_pages():
    """The query filters by name and text, and continues where a page ended."""
    served = Served()
    first = served.get("?limit=1&user=static").json()
    second = served.get(f"?limit=1&user=static&before={first['next']}").json()
    assert [len(first["requests"]), len(second["requests"]), second["next"]] == [1, 1, None]
    assert first["requests"][0]["id"] > second["requests"][0]["id"]
    assert len(served.get("?q=LIMIT reached&status=ok&status=429&user=").json()["requests"]) == 3
    assert len(served.get("?status=failover").json()["requests"]) == 3
    assert len(served.get(f"?since={first['requests'][0]['id']}").json()["requests"]) == 3  # they overlap


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?limit=0", "limit should be"),
        (f"?limit={MOST + 1}", "limit should be"),
        ("?limit=x", "limit should be"),
        ("?limit=%D9%A1", "limit should be"),
        ("?status=bad", "status should be"),
        ("?before=x", "should be the id"),
        ("?since=1-%00", "should be the id"),
        ("?usr=anna", "usr is not a parameter"),
        (f"?q={'x' * (MAX_VALUE + 1)}", "at most"),
        ("?" + "&".join(["user=a"] * (MAX_PARAMETERS + 1)), "more than"),
    ],
)
def test_a_wrong_query_is_refused_in_words(query, problem):
    """A query that means nothing is refused, and the error says what it should be."""
    answer = Served().get(query)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]["message"]


@given(st.lists(st.tuples(st.sampled_from(["limit", "status", "before", "q", "user", "x"]), st.text(max_size=20)), max_size=5))
def test_no_query_breaks_the_route(pairs):
    """Whatever a query contains, it is read or refused."""
    try:
        filters, limit = read_query(pairs)
    except Refused:
        return
    assert 1 <= limit <= MOST
    assert filters.text == filters.text.casefold()


def test_the_running_requests_of_a_viewer():
    """The master key sees the requests in progress of each user; another viewer only the number of their own."""
    running = RunningRequests()
    with running.counted("ben"), running.counted("anna"), running.counted("Ben"):
        assert running_of(running, Viewer("admin", sees_all_users=True)) == {"requests": 3, "users": {"ben": 2, "anna": 1}}
        assert running_of(running, Viewer("ben", sees_all_users=False)) == {"requests": 2}
        assert running_of(running, Viewer("dora", sees_all_users=False)) == {"requests": 0}
