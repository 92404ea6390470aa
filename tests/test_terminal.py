"""cli/terminal.py: quota and usage in a terminal, and what is said when the proxy does not answer."""

import io
from datetime import UTC, datetime

import httpx
import pytest
import respx
from test_report import ADMIN, ANNA, DAY, HOUR, NOW, OPUS, STORE_STATUS, closed, record, snapshot

from claude_proxy.cli import terminal
from claude_proxy.cli.terminal import Unanswered, aligned, ask, counted, render, show_status, show_usage, url_of
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope
from claude_proxy.secret import Secret
from claude_proxy.usage.ledger import Book
from claude_proxy.usage.report import report

URL = "http://127.0.0.1:4000"
TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"


def shown(viewer=ADMIN, width=80, *, colours=False, **record_more):
    book = Book(clock=lambda: NOW)
    book.record(record(failovers=("second: five_hour limit (HTTP 429)",), **record_more))
    pool = [
        snapshot(
            windows={("", "5h"): Window(0.5, NOW + 4 * HOUR, NOW), **OPUS}, cooldowns={Scope("opus"): Cooldown(NOW + DAY, "x")}
        ),
        snapshot("second", cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "the credential was refused", rejected=True)}),
    ]
    data = report(pool, book, viewer, STORE_STATUS, NOW)
    return render(data, width, colours=colours, local=lambda at: datetime.fromtimestamp(at, UTC))


def test_everything_is_said():
    """The text holds states, windows with a bar and their times, sums, the last error and the failovers, in local time."""
    lines = [line.strip() for line in shown(width=120).splitlines()]
    assert lines[0] == "1 of 2 credentials usable, 25% room left"
    assert "2 sessions; today 0 requests, 0 tokens; 7 days 0 requests, 0 tokens" in lines
    assert "##########.......... 50% 5-hour window, full about 12:06, opens anew 15:06" in " ".join(lines).replace("  ", " ")
    assert any(line.startswith("rate-limited for Opus until ") for line in lines)
    assert any(line.startswith("rejected until 12:06: the credential was refused") for line in lines)
    assert "last limit or error 11:06: five_hour limit (HTTP 429)" in lines
    assert "11:06 second: five_hour limit (HTTP 429)" in lines
    assert any(line.startswith("anna: today 1 request, 10 tokens") for line in lines)
    assert "People" in lines
    assert "You" in shown(ANNA)
    assert lines[-1] == "What is known is shared through SQLite. Process running since 2026-11-17 11:06."


def test_who_is_not_asked_and_what_is_wrong_is_said():
    """What is wrong in the pool's files stands below the first; the paused and the expired say why they are not asked."""
    cooldowns = {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 5h")}
    pool = [closed("p", paused=True, cooldowns=cooldowns), closed("e", expires=NOW), closed("l", expires=NOW + HOUR)]
    data = report(pool, Book(clock=lambda: NOW), ADMIN, STORE_STATUS, NOW, problems=("credentials.yaml line 3, a: x",))
    lines = render(data, 120, colours=False, local=lambda at: datetime.fromtimestamp(at, UTC)).splitlines()
    assert lines[1] == "credentials.yaml line 3, a: x"
    assert "  paused" in lines
    assert "  rate-limited until 12:06: 5-hour window" in lines
    assert lines.count("  its login has expired: start Claude Code in that home") == 1
    assert "usable" not in [line.strip() for line in lines[: lines.index("l (OAuth token)")]]
    assert any(line.startswith("  its login expires at 2026-11-18") for line in lines)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 errors"), (1, "1 error"), (1.0, "1 error"), (2, "2 errors"), (1234, "1,234 errors")]
)
def test_a_number_has_its_plural(number, text):
    """One of a thing is named in the singular, any other number of it in the plural."""
    assert counted(number, "error") == text


@pytest.mark.parametrize("width", [1, 40, 60, 80, 1000])
def test_no_line_is_wider_than_the_terminal(width):
    """Lines are wrapped at the width that there is, but not below forty columns and not above a hundred and twenty."""
    assert max(len(line) for line in shown(width=width).splitlines()) <= min(max(width, 40), 120)


def test_colours_are_for_terminals_and_nothing_else_steers_them():
    """Colours are there only when they are asked for, and no name from outside brings its own control characters."""
    assert "\x1b" not in shown(model="a\x1b[2Jb")
    coloured = shown(colours=True, model="a\x1b[2Jb")
    assert "\x1b[31mrejected until" in coloured.replace("  ", "")
    assert "\x1b[2J" not in coloured


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"), ("0.0.0.0", "http://127.0.0.1:4000"), ("::", "http://127.0.0.1:4000"),
        ("::1", "http://[::1]:4000"), ("proxy.example", "http://proxy.example:4000"),
    ],
)  # fmt: skip
def test_where_the_proxy_is(host, url):
    """The running proxy is asked where HOST and PORT say, on this machine when it listens everywhere."""
    assert url_of(Settings.parse({"HOST": host})) == url


@pytest.mark.parametrize(("environ", "token"), [({"LITELLM_MASTER_KEY": MASTER}, MASTER), ({}, TOKEN)])
def test_the_master_key_is_used_where_there_is_one(environ, token):
    """The status is asked for with the master key, which sees everybody, and else with the static token."""
    settings = Settings.parse({"PROXY_STATIC_TOKEN": TOKEN} | environ)
    data = report([], Book(clock=lambda: NOW), ADMIN, STORE_STATUS, NOW)
    with respx.mock(using="httpx") as mock:
        route = mock.get(f"{URL}/pool").respond(json=data)
        out = io.StringIO()
        show_status(settings, None, watch=False, out=out)
    assert route.calls.last.request.headers["x-litellm-api-key"] == token
    assert out.getvalue().startswith("0 of 0 credentials usable")


def test_a_watch_goes_on_until_it_is_interrupted(monkeypatch):
    """With --watch the status is shown again and again, and an interrupt ends it without a word."""
    naps = iter([None, KeyboardInterrupt])

    def nap(_):
        if error := next(naps):
            raise error

    monkeypatch.setattr(terminal.time, "sleep", nap)
    data = report([], Book(clock=lambda: NOW), ADMIN, STORE_STATUS, NOW)
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/pool").respond(json=data)
        out = io.StringIO()
        show_status(Settings.parse({}), URL, watch=True, out=out)
    assert out.getvalue().count("credentials usable") == 2


def test_usage_as_csv_and_as_columns():
    """``--csv`` passes the CSV on as it is; without it the columns stand under each other, numbers to the right."""
    text = "period,user,requests\n2026-11-18,anna,5\n2026-11-18,b,1234\n"
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/usage.csv").respond(text=text)
        for as_csv, expected in (
            (True, text),
            (False, "period      user  requests\n2026-11-18  anna         5\n2026-11-18  b         1234\n"),
        ):
            out = io.StringIO()
            show_usage(Settings.parse({}), URL, as_csv=as_csv, out=out)
            assert out.getvalue() == expected
    assert aligned([]) == ""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(401), "does not take the token of .env (HTTP 401)"),
        (httpx.Response(403), "does not take the token of .env (HTTP 403)"),
        (httpx.Response(503), "answered with HTTP 503"),
        (httpx.ConnectError("refused"), "No proxy answers at http://127.0.0.1:4000 (ConnectError)"),
    ],
)
def test_a_proxy_that_does_not_answer(answer, says):
    """What went wrong is one sentence with the address in it and no token."""
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/pool").mock(side_effect=[answer])
        with pytest.raises(Unanswered) as caught:
            ask(URL, "/pool", Secret(TOKEN))
    assert says in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_what_is_no_proxy_is_told_apart():
    """An address where something else answers is an error and not a traceback."""
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/pool").respond(text="hello")
        with pytest.raises(Unanswered, match="no claude-proxy"):
            show_status(Settings.parse({}), URL, watch=False, out=io.StringIO())
