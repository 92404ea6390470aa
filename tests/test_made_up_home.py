"""benchmarks/made_up_home.py: what a proxy finds in a made-up home is what the made-up team did."""

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import made_up_home
from benchmarks.made_up_history import Team, records
from claude_proxy.config.money import MICRO_USD
from claude_proxy.history.queries import shown
from claude_proxy.history.service import History
from claude_proxy.history.view import read_view
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.usage.recent_requests import MOST, RecentRequests

# A Monday, 14:50 UTC.
END = 1796050200.0
TEAM = Team(users=12, days=12, requests=12)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made-up")
    asyncio.run(made_up_home.write(folder, END, TEAM))
    return folder


def test_the_history_has_every_request(home):
    """The sums of the history are those of the records, in hours of the last week and in days before it."""
    ended = [record for record in records(TEAM, END) if record.at + record.seconds < END]

    async def read(query):
        history = History(home / made_up_home.HISTORY, clock=lambda: END)
        view = read_view(query.items(), END, history.zone)
        found = shown(view, await history.find(view))
        await history.close()
        return found

    days = asyncio.run(read({"range": "30d", "by": "user"}))
    assert days["total"]["requests"] == len(ended) == sum(days["total"]["series"]["requests"])
    assert days["total"]["usd"] == pytest.approx(sum(record.cost or 0 for record in ended) / MICRO_USD)
    assert {row["name"] for row in days["rows"]} == {record.user for record in ended}
    hours = asyncio.run(read({"range": "24h", "user": "anna"}))
    assert hours["total"]["requests"] == sum(hours["total"]["series"]["requests"]) > 0


def test_the_state_has_the_last_requests_and_the_pool(home):
    """The store has the thousand last requests, what was spent, and the windows of the credentials with their course."""

    async def read():
        store = SqliteStore(home / made_up_home.STATE)
        rows, _ = await store.pull(0)
        await store.close()
        return rows

    rows = asyncio.run(read())
    recent = RecentRequests(clock=lambda: END)
    recent.merge(rows)
    assert 0 < len(recent.latest()) <= MOST
    assert {row.key.partition(":")[0] for row in rows} >= {"salt", "credential", "recent", "events", "spend"}
    assert any(":course:" in row.key for row in rows)


def test_the_budgets_are_spent_as_planned(home):
    """``config.yaml`` has budgets of which a known share is spent."""
    block = json.loads((home / "config.yaml").read_text(encoding="utf-8"))["claude_proxy"]
    assert block["budget"]["month"] >= 10
    assert block["default_budget"] == made_up_home.DAILY
    assert stat.S_IMODE((home / ".state").stat().st_mode) == 0o700


def test_the_program_says_how_to_start(tmp_path):
    """The program prints the master key and a token that are in the home's ``.env``, and a command that starts its proxy."""
    command = [sys.executable, "-m", "benchmarks.made_up_home", str(tmp_path), "--days", "2", "--requests", "1"]
    root = Path(made_up_home.__file__).resolve().parents[1]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    lines = dict(line.split(":", 1) for line in said.splitlines())
    environment = (tmp_path / ".env").read_text(encoding="utf-8")
    assert f"LITELLM_MASTER_KEY={lines['master key'].strip()}\n" in environment
    assert lines["token"].split()[0] in environment
    assert f"--project {tmp_path} serve" in lines["start"]
