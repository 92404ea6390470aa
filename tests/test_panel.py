"""panel.py: the routes that show quota and usage, without a proxy around them."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_status import KNOWLEDGE, NOW, record

from claude_proxy.panel import Panel
from claude_proxy.pool import Pool
from claude_proxy.settings import Settings
from claude_proxy.usage import Book

TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"
CREDENTIAL = "sk-ant-oat01-made-up-first"
ENVIRONMENT = {"PROXY_STATIC_TOKEN": TOKEN, "LITELLM_MASTER_KEY": MASTER, "CLAUDE_OAUTH_TOKENS": f"first={CREDENTIAL}"}


def client(refreshed=None, **environ):
    settings = Settings.parse(ENVIRONMENT | environ)
    book = Book(clock=lambda: NOW)
    book.record(record("static"))
    book.record(record("somebody"))

    async def fresh():
        if refreshed is not None:
            refreshed.append(1)

    pool = Pool(settings.credentials, affinity=settings.affinity, quarantine=1, clock=lambda: NOW)
    panel = Panel(settings, pool, book, knowledge=lambda: KNOWLEDGE, fresh=fresh, clock=lambda: NOW)
    return TestClient(Starlette(routes=panel.routes()))


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


@pytest.mark.parametrize(("static", "needed"), [(TOKEN, "yes"), ("", "no")])
def test_the_page_holds_no_data(static, needed):
    """The page is the same for everybody, but for whether it has to ask for a token; its parts are all in it."""
    asked = client(PROXY_STATIC_TOKEN=static)
    page = asked.get("/pool", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert f'data-needs-token="{needed}"' in page.text
    assert page.text == asked.get("/pool", headers={"accept": "text/html", "x-litellm-api-key": MASTER}).text
    assert not [word for word in ("first", "somebody", TOKEN, MASTER) if f">{word}<" in page.text]
    assert re.findall(r"""(?:src|href)=["']?([^"' >]*)""", page.text) == ["data:,"]
    assert "{{" not in page.text


def test_the_policy_names_what_is_in_the_page():
    """Nothing runs but the page's own script, by its hash; a script in the data would not."""
    policy = client().get("/pool", headers={"accept": "text/html"}).headers["content-security-policy"]
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; connect-src 'self'; img-src data:; "
        r"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        policy,
    )
