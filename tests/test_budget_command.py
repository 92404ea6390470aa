"""cli/budget_command.py: the budgets of the running proxy, shown and changed."""

import json

import httpx
import pytest
import respx
from command_line import refused, run

from claude_proxy.cli import budget_command, main
from claude_proxy.cli.tables import Style

URL = "http://127.0.0.1:4000"
MASTER = "sk-made-up-master"
ROW = {
    "scope": "user:anna", "period": "month", "limit": 150.0, "spent": 12.345, "percent": 8, "resets_at": 1796079600.0,
    "timezone": "Europe/Berlin", "soft": False, "configured": 120.0, "override": True, "until": None,
}  # fmt: skip
SHARED = ROW | {"scope": "all", "limit": 2000.0, "configured": 2000.0, "override": False, "soft": True}
ADDED = ROW | {"scope": "group:team-a", "period": "day", "configured": None, "until": 1796079600.0}


@pytest.fixture
def proxy(project):
    """A running proxy with budgets, asked without a network."""
    (project / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER}\n")
    with respx.mock(using="httpx", assert_all_called=False) as mock:
        mock.get(f"{URL}/pool").respond(json={"budgets": [SHARED, ADDED, ROW]})
        mock.post(f"{URL}/budget").respond(json={"scope": "user:anna", "done": "set", "until": None, "budgets": [ROW]})
        yield mock


def sent(proxy):
    request = proxy.calls.last.request
    assert request.headers["x-litellm-api-key"] == MASTER
    return json.loads(request.content)


def test_budgets_are_a_table(project, proxy, capsys):
    """Each amount has a row with what is spent, its reset in the time zone of the budgets, and what was changed."""
    run(project, "budget")
    printed = capsys.readouterr()
    assert [" ".join(line.split()) for line in printed.out.splitlines()] == [
        "scope period spent_USD of_USD used resets notes",
        "all month 12.35 2000.00 8 % 2026-12-01 00:00 soft",
        "group:team-a day 12.35 150.00 8 % 2026-12-01 00:00 changed, until 2026-12-01 00:00",
        "user:anna month 12.35 150.00 8 % 2026-12-01 00:00 config.yaml: 120.00",
    ]
    assert "Europe/Berlin" in printed.err


def test_a_table_fits_80_columns(project, proxy, capsys, monkeypatch):
    """In a terminal of 80 columns no line is longer, and every amount is whole."""
    monkeypatch.setattr(Style, "of", lambda *_: Style(80))
    run(project, "budget")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(text in out for text in ("2000.00", "150.00", "12.35", "2026-12-01 00:00"))


@pytest.mark.parametrize(("zone", "named"), [("UTC", "UTC"), ("Moon/Crater", "UTC"), ("Asia/Tokyo", "Asia/Tokyo")])
def test_the_time_zone_of_the_table_is_named(project, proxy, capsys, zone, named):
    """The times are in the proxy's time zone, or in UTC if this machine does not know it; and the zone is named."""
    proxy.get(f"{URL}/pool").respond(json={"budgets": [ROW | {"timezone": zone}]})
    run(project, "budget")
    printed = capsys.readouterr()
    assert ("2026-11-30 23:00" if named == "UTC" else "2026-12-01 08:00") in printed.out
    assert printed.err == f"The times are those of {named}.\n"


def test_budgets_as_json(project, proxy, capsys):
    """``--json`` prints what the proxy responded."""
    run(project, "budget", "--json")
    assert json.loads(capsys.readouterr().out) == [SHARED, ADDED, ROW]


def test_no_budgets(project, proxy, capsys):
    """Without budgets a sentence says how to set one."""
    proxy.get(f"{URL}/pool").respond(json={"budgets": []})
    run(project, "budget")
    printed = capsys.readouterr()
    assert (printed.out, printed.err.strip()) == ("", budget_command.NONE)


def test_a_budget_is_set(project, proxy, capsys):
    """``set`` sends the amounts by period, as they are written, and says what applies now."""
    run(project, "budget", "set", "user:anna", "month=150", "day=none")
    assert sent(proxy) == {"scope": "user:anna", "limits": {"month": "150", "day": None}}
    assert capsys.readouterr().err.strip() == "The budget of user:anna is now 150.00 USD a month."


def test_a_budget_of_nobody(project, proxy, capsys):
    """A warning of the proxy is printed, with the command that removes the budget again."""
    nobody = ROW | {"scope": "user:nobody"}
    answer = {"scope": "user:nobody", "until": None, "budgets": [nobody], "warning": "No user is called nobody. \x1b[2J"}
    proxy.post(f"{URL}/budget").respond(json=answer)
    run(project, "budget", "set", "user:nobody", "day=2")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("The budget of user:nobody is now ")
    assert second.startswith("No user is called nobody. ")
    assert second.endswith("To undo it, run `claude-proxy budget unset user:nobody`.")
    assert "\x1b" not in second


def test_a_budget_is_set_for_some_time(project, proxy, capsys):
    """``--until`` is sent as it is written, and the end that the proxy has understood is printed with its time zone."""
    changed = {"scope": "user:anna", "done": "set", "until": 1796079600.0, "timezone": "Europe/Berlin", "budgets": [ROW]}
    proxy.post(f"{URL}/budget").respond(json=changed)
    run(project, "budget", "set", "user:anna", "month=150", "--until", "tomorrow")
    assert sent(proxy) == {"scope": "user:anna", "limits": {"month": "150"}, "until": "tomorrow"}
    assert capsys.readouterr().err.splitlines() == [
        "The budget of user:anna is now 150.00 USD a month.", "The change ends on 2026-12-01 00:00 (Europe/Berlin).",
    ]  # fmt: skip


def test_a_change_is_removed(project, proxy, capsys):
    """``unset`` removes every changed amount of the scope."""
    proxy.post(f"{URL}/budget").respond(json={"scope": "user:anna", "done": "unset", "budgets": []})
    run(project, "budget", "unset", "user:anna", "--json")
    assert sent(proxy) == {"scope": "user:anna", "limits": {}}
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err.strip()) == ([], "user:anna has no budget now.")


@pytest.mark.parametrize("text", ["150", "year=5", "month", "month=", "month=-1", "month=0", "month=much", "=5"])
def test_a_wrong_amount_is_not_sent(project, proxy, capsys, text):
    """A text that is no period and amount ends the command with 2 and an example, before anything is sent."""
    with pytest.raises(SystemExit) as caught:
        run(project, "budget", "set", "user:anna", text)
    assert caught.value.code == 2
    assert repr(text) in capsys.readouterr().err
    assert not proxy.calls


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, {"error": {"message": "scope: should be user:NAME"}}, "scope: should be user:NAME"),
        (409, {"error": {"message": "no\x1b[31m store"}}, "no?[31m store"),
        (503, "nonsense", "responded with HTTP 503"),
        (403, {"error": {"message": "x"}}, "/budget needs the master key"),
    ],
)
def test_a_refused_change_is_said_in_the_proxys_words(project, proxy, capsys, status, body, says):
    """The error of a change that the proxy refuses is its own sentence, without characters that control a terminal."""
    proxy.post(f"{URL}/budget").mock(return_value=httpx.Response(status, json=body))
    (line,) = refused(capsys, project, "budget", "set", "anna", "month=5")
    assert says in line


@pytest.mark.parametrize(
    "body", [{}, [], {"budgets": 5}, {"budgets": [{"scope": "x"}]}, {"budgets": [ROW | {"resets_at": "x"}]}]
)
def test_a_program_that_is_not_the_proxy(project, proxy, capsys, body):
    """A response of another form is one sentence."""
    proxy.get(f"{URL}/pool").respond(json=body)
    (line,) = refused(capsys, project, "budget")
    assert "is not claude-proxy, or it has another version" in line


def test_the_help_names_the_actions(capsys):
    """``budget --help`` shows what it prints and its actions."""
    main.main(["budget", "--help"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("set", "unset", "--json", "--url"))
