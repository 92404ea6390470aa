"""cli/terminal.py: rate limits and usage as text."""

from datetime import UTC, datetime

import pytest
from recorded import Recorded, report
from test_report import ADMIN, ANNA, DAY, HOUR, NOW, OPUS, STORE_STATUS, closed, record, snapshot

from claude_proxy.cli.terminal import counted, render
from claude_proxy.credentials.rate_limits import Cooldown, Window
from claude_proxy.credentials.scope import EVERYTHING, Scope


def shown(viewer=ADMIN, width=80, *, colours=False, **record_more):
    recorded = Recorded(clock=lambda: NOW)
    recorded.record(record(failovers=("second: five_hour limit (HTTP 429)",), **record_more))
    pool = [
        snapshot(
            windows={("", "5h"): Window(0.5, NOW + 4 * HOUR, NOW), **OPUS}, cooldowns={Scope("opus"): Cooldown(NOW + DAY, "x")}
        ),
        snapshot("second", cooldowns={EVERYTHING: Cooldown(NOW + HOUR, "the credential was refused", rejected=True)}),
    ]
    data = report(pool, recorded, viewer, STORE_STATUS, NOW)
    return render(data, width, colours=colours, local=lambda at: datetime.fromtimestamp(at, UTC))


def test_everything_is_said():
    """The text holds states, windows with a bar and their times, sums, the last error and the failovers, in local time."""
    lines = [line.strip() for line in shown(width=120).splitlines()]
    assert lines[0] == "1 of 2 credentials usable, 25% of the rate limits left"
    assert "2 sessions; today 0 requests, 0 tokens; 7 days 0 requests, 0 tokens" in lines
    assert "##########.......... 50% 5-hour window, full at about 12:06; resets 15:06" in " ".join(lines).replace("  ", " ")
    assert any(line.startswith("rate-limited for Opus until ") for line in lines)
    assert any(line.startswith("rejected until 12:06: the credential was refused") for line in lines)
    assert "last error 11:06: five_hour limit (HTTP 429)" in lines
    assert "11:06 second: five_hour limit (HTTP 429)" in lines
    head, anna = (lines.index(next(line for line in lines if line.startswith(word))) for word in ("Users", "anna"))
    assert lines[head - 1].split() == ["requests", "errors", "tokens"] * 2
    assert lines[head].split() == ["Users", *["today"] * 3, *["7", "days"] * 3]
    assert lines[anna].split() == ["anna", "1", "0", "10", "1", "0", "10"]
    assert "Users" not in shown(ANNA)
    assert "\nYou " in shown(ANNA)
    assert lines[-1] == "State shared through SQLite. Process running since 2026-11-17 11:06. Times are in UTC."


def test_a_credential_that_was_never_used():
    """Without a response from Anthropic no limit is known: neither a credential's nor the room of the pool."""
    text = render(report([snapshot()], Recorded(clock=lambda: NOW), ADMIN, STORE_STATUS, NOW), 120, colours=False)
    assert text.splitlines()[0] == "1 of 1 credential usable, rate limits not known yet"
    assert "\n  not used yet; Anthropic reports its limits with the first response\n" in text
    assert "not used yet" not in shown()


def test_who_is_not_asked_and_what_is_wrong_is_said():
    """What is wrong in the pool's files stands below the first; the paused and the expired say why they are not asked."""
    cooldowns = {EVERYTHING: Cooldown(NOW + HOUR, "limit reached: 5h")}
    pool = [closed("p", paused=True, cooldowns=cooldowns), closed("e", expires=NOW), closed("l", expires=NOW + HOUR)]
    data = report(pool, Recorded(clock=lambda: NOW), ADMIN, STORE_STATUS, NOW, problems=("credentials.yaml line 3, a: x",))
    lines = render(data, 120, colours=False, local=lambda at: datetime.fromtimestamp(at, UTC)).splitlines()
    assert lines[1] == "credentials.yaml line 3, a: x"
    assert "  paused" in lines
    assert "  rate-limited until 12:06: 5-hour window" in lines
    assert lines.count("  login expired: start Claude Code in its home folder") == 1
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


def test_a_pipe_gets_whole_lines():
    """In a pipe no line is wrapped, no title has a space, and nothing is coloured: each line is for other programs."""
    piped = shown(width=None, credential="first" * 20)
    assert "\x1b" not in piped
    assert max(len(line) for line in piped.splitlines()) > 80
    assert "Users  requests_today  errors_today  tokens_today  requests_7_days  errors_7_days  tokens_7_days" in piped


def test_several_users_have_a_total():
    """A table of several rows ends with their sums; one row needs none."""
    recorded = Recorded(clock=lambda: NOW)
    for user in ("anna", "ben"):
        recorded.record(record(user=user))
    text = render(report([], recorded, ADMIN, STORE_STATUS, NOW), None, colours=False)
    users, models = (part.splitlines() for part in text.split("\n\n")[1:3])
    assert [line.split() for line in users[1:]] == [
        ["anna", "1", "0", "10", "1", "0", "10"],
        ["ben", "1", "0", "10", "1", "0", "10"],
        ["Total", "2", "0", "20", "2", "0", "20"],
    ]
    assert [line.split()[0] for line in models] == ["Models", "m"]
