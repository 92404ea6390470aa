"""cli/status_command.py: what ``status`` and ``usage`` ask the running proxy, and what they print."""

import json
import socket

import pytest
import respx
from command_line import parsed, run
from recorded import Recorded, report
from test_report import ADMIN, NOW, STORE_STATUS, record

from claude_proxy.cli import main, status_command

URL = "http://127.0.0.1:4000"
NUMBERS = "requests,errors,input,output,cache_read,cache_write,failovers,usd,unpriced"
SHOWN = NUMBERS.removesuffix(",unpriced").replace(",", "  ")
TOKEN, MASTER = "sk-made-up-token", "sk-made-up-master"


@pytest.fixture
def closed_port():
    """A port that is taken, and where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.fixture
def proxy():
    """A proxy with one user's request in its history, asked without a network."""
    recorded = Recorded(clock=lambda: NOW)
    recorded.record(record())
    with respx.mock(using="httpx", assert_all_called=False) as mock:
        mock.get(f"{URL}/pool").respond(json=report([], recorded, ADMIN, STORE_STATUS, NOW))
        mock.get(f"{URL}/usage.csv").respond(text=recorded.csv())
        yield mock


@pytest.mark.parametrize("command", ["status", "usage"])
def test_a_proxy_that_does_not_run(project, command, capsys, closed_port):
    """A proxy that does not respond is one sentence with its address, and the exit code is 1."""
    with pytest.raises(SystemExit) as caught:
        run(project, command, "--url", f"http://127.0.0.1:{closed_port}")
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    (line,) = printed.err.splitlines()
    assert line.startswith(f"Error: No proxy responds at http://127.0.0.1:{closed_port} (connection refused). Start it with")


@pytest.mark.parametrize("command", [["status"], ["usage"], ["status", "--json"], ["usage", "--csv"]], ids=" ".join)
@pytest.mark.parametrize("body", ["hello", '{"pool": 1}', "[]", '"x"', "a,b\n1,2\n", ""])
def test_a_program_that_is_not_the_proxy(project, command, body, capsys):
    """An address where something else responds is an error in one line."""
    with respx.mock(using="httpx") as mock:
        mock.get(url__startswith=URL).respond(text=body)
        with pytest.raises(SystemExit) as caught:
            run(project, *command)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (1, "")
    assert printed.err.count("\n") == 1
    assert "The program at http://127.0.0.1:4000 is not claude-proxy, or it has another version" in printed.err


@pytest.mark.parametrize(("lines", "token"), [([f"LITELLM_MASTER_KEY={MASTER}"], MASTER), ([], TOKEN)])
def test_the_master_key_is_used_if_there_is_one(project, proxy, capsys, lines, token):
    """The request has the master key, which sees every user, and else the static token."""
    (project / ".env").write_text("\n".join([f"PROXY_STATIC_TOKEN={TOKEN}", *lines]))
    run(project, "status")
    assert proxy.calls.last.request.headers["x-litellm-api-key"] == token
    assert capsys.readouterr().out.startswith("0 of 0 credentials usable")


def test_the_status_as_json(project, proxy, capsys):
    """``status --json`` is what the proxy responded."""
    run(project, "status", "--json")
    assert json.loads(capsys.readouterr().out)["users"][0]["name"] == "anna"


@pytest.mark.parametrize(("options", "lines"), [([], None), (["--json"], 2)])
def test_a_watch_goes_on_until_ctrl_c(project, proxy, monkeypatch, capsys, options, lines):
    """With --watch the status is shown again and again; Ctrl-C ends it without a word and with 130."""
    naps = iter([None, KeyboardInterrupt])

    def nap(_):
        if error := next(naps):
            raise error

    monkeypatch.setattr(status_command.time, "sleep", nap)
    with pytest.raises(SystemExit) as caught:
        run(project, "status", "--watch", *options)
    printed = capsys.readouterr()
    assert (caught.value.code, printed.err) == (130, "")
    assert printed.out.count('"usable"' if options else "credentials usable") == 2
    assert lines is None or printed.out.count("\n") == lines


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ([], f"user   {SHOWN}"),
        (["--by", "day", "--by", "model"], f"day         model  {SHOWN}"),
        (["--csv"], f"period,user,model,served,credential,{NUMBERS},groups,project"),
        (["--csv", "--by", "user"], f"user,{NUMBERS}"),
        (["--csv", "--by", "user", "--by", "user"], f"user,{NUMBERS}"),
        (["--json", "--by", "user"], "{"),
    ],
)  # fmt: skip
def test_usage_in_every_form(project, proxy, capsys, options, first):
    """Without options the sums of each user are shown; CSV without ``--by`` is the whole history."""
    run(project, "usage", *options)
    assert capsys.readouterr().out.splitlines()[0] == first


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ([], "by=user"), (["--csv"], ""), (["--json", "--by", "group"], "by=groups"),
        (["--by", "day", "--by", "project"], "by=period&by=project"), (["--since", "2026-11-01", "--csv"], "from=2026-11-01"),
        (["--since", "2026-11-01"], "from=2026-11-01&by=period&by=user"),
    ],
)  # fmt: skip
def test_the_proxy_sums(project, proxy, options, query):
    """The proxy is asked for what is shown, and not for a year of lines."""
    run(project, "usage", *options)
    assert proxy.calls.last.request.url.query.decode() == query


def test_usage_since(project, proxy, capsys):
    """``--since`` leaves out what is older, also without ``--by``."""
    run(project, "usage", "--json", "--since", "2026-11-30")
    assert json.loads(capsys.readouterr().out)["rows"] == []
    run(project, "usage", "--json", "--since", "2026-11-01")
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["period"], row["served"], row["requests"]) == ("2026-11-18", "anthropic/m", 1)


def test_a_month_that_is_counted_whole_is_named(project, capsys):
    """A first day inside a month whose days are no longer known is reported beside the numbers."""
    with respx.mock(using="httpx") as mock:
        mock.get(f"{URL}/usage.csv").respond(
            text=f"period,user,model,served,credential,{NUMBERS}\n2026-03,a,m,s,c,1,0,0,0,0,0,0,0.00,0\n"
        )
        for day, noted in (("2026-03-02", True), ("2026-03-01", False), ("2026-02-02", False)):
            run(project, "usage", "--since", day)
            assert ("2026-03 is counted from its first day" in capsys.readouterr().err) is noted


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--since", "week"],
            "'week' is not today, yesterday, a number of days such as 7d, or a date such as 2026-11-01.",
        ),
        (["--by", "users"], "'users' is not one of"),
        (["--csv", "--json"], "--csv and --json exclude each other."),
    ],
)
def test_options_that_are_wrong(project, capsys, options, says):
    """A wrong value is reported before the proxy is asked, with what is right, and the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        run(project, "usage", *options)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_the_address_is_an_option_of_each_command():
    """``--url`` names the running proxy for every command that asks it."""
    for command in (["status"], ["usage"], ["pool", "list"]):
        assert parsed([*command, "--url", URL]).url == URL
    assert set(main.COMMANDS) >= {"status", "usage"}
