"""The home of a proxy with ninety days of made-up history: its files, and what its processes would have left in them.

Everything is written by the parts of the proxy that write it while it runs, with a made-up clock. A program:
``python -m benchmarks.made_up_home FOLDER`` fills a folder for ``claude-proxy --project FOLDER serve``, and prints its keys.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import made_up_pool
from benchmarks.made_up_history import GROUPS, MODELS, RULE, Team, members_of, records
from claude_proxy.config.budgets import Period
from claude_proxy.config.money import MICRO_USD
from claude_proxy.history.service import History
from claude_proxy.state.replication import SALT
from claude_proxy.state.rows import Row
from claude_proxy.state.sqlite import SqliteStore
from claude_proxy.usage.events import RecentEvents
from claude_proxy.usage.recent_requests import MOST, RecentRequests
from claude_proxy.usage.record import Record
from claude_proxy.usage.spend import SpendBook, scopes_of

MADE_UP_SALT = "made-up-salt"
MASTER_KEY = "sk-made-up-master-key-of-a-home-0123456789"
# An address where nothing responds: no made-up credential leaves the machine.
NOWHERE = "http://127.0.0.1:9"
# Names of files as the proxy has them in a home.
STATE, HISTORY = ".state/pool.sqlite3", ".state/history.sqlite"
# How often the history is written; a running proxy writes it every second.
HALF_DAY = 43200
# How much of each budget is spent, by its scope and period.
SHARES = dict(zip(GROUPS, (0.41, 0.66, 0.52, 0.34, 0.58, 0.96), strict=True))
SPENT = {"all": {Period.WEEK: 0.42, Period.MONTH: 0.78}} | {
    f"group:{name}": {Period.MONTH: share} for name, share in SHARES.items()
}
# The budget of each user, in USD.
DAILY = {"day": 6}


class Clock:
    """Returns the time that was set."""

    now = 0.0

    def __call__(self) -> float:
        """Return it."""
        return self.now


def token_of(user: str) -> str:
    """Return the made-up token of a user."""
    return f"sk-made-up-token-of-{user}-0123456789"


def variables(team: Team) -> dict[str, str]:
    """Return the environment of the proxy: the users with their tokens."""
    return {"PROXY_USER_TOKENS": ",".join(f"{member.name}={token_of(member.name)}" for member in members_of(team))}


def budgets(spend: SpendBook, now: float) -> dict[str, dict[str, int]]:
    """Return the budgets, in USD, of which ``SPENT`` is spent."""
    today = datetime.fromtimestamp(now, UTC).date()
    return {
        scope: {
            period.value: max(10, round(spend.spent(scope, period, today) / MICRO_USD / share))
            for period, share in shares.items()
        }
        for scope, shares in SPENT.items()
    }


def config(team: Team, upstream: str, limits: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return ``config.yaml``: every model at an address, the groups of every user, prices and budgets."""
    deployments = []
    prices = {}
    for name, model in MODELS.items():
        parameters = {"model": f"{model.provider}/{name}"}
        if model.provider != "anthropic":
            parameters = {"model": f"openai/{name}" if model.lane == "chat" else f"anthropic/{name}", "api_key": "made-up-key"}
            parameters |= {"api_base": f"{upstream}/{name}"}
        deployments.append({"model_name": name, "litellm_params": parameters})
        if model.prices:
            prices[name] = dict(zip(("input", "output", "cache_read", "cache_write"), model.prices, strict=True))
    block = {
        "users": {member.name: {"groups": [*member.groups]} for member in members_of(team)},
        "groups": {name: {"budget": limits[f"group:{name}"]} for name in GROUPS},
        "default_budget": DAILY,
        "budget": {**limits["all"], "timezone": "UTC"},
        "prices": prices,
        "rules": [{"name": RULE, "when": {"time": "03:00-03:01", "timezone": "UTC"}, "model": "kimi"}],
    }
    return {
        "model_list": deployments,
        "litellm_settings": {"callbacks": ["request_transformer.proxy_handler_instance"]},
        "general_settings": {
            "custom_auth": "custom_auth.user_api_key_auth",
            "master_key": "os.environ/LITELLM_MASTER_KEY",
        },
        "claude_proxy": block,
    }


async def write(home: Path, now: float, team: Team = Team(), upstream: str = NOWHERE) -> list[Record]:  # noqa: B008
    """Write the files of a home; return its latest requests."""
    (home / ".state").mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "credentials.yaml").write_text(json.dumps({"credentials": made_up_pool.entries(now)}), encoding="utf-8")
    with _silence():
        latest, spend = await write_history(home / HISTORY, now, team)
        pool = made_up_pool.pool(now, MADE_UP_SALT)
    (home / "config.yaml").write_text(json.dumps(config(team, upstream, budgets(spend, now))), encoding="utf-8")
    clock = Clock()
    recent, events = RecentRequests(clock=clock, writer="madeup"), RecentEvents(clock=clock, writer="madeup")
    for record in latest:
        clock.now = _end(record)
        recent.record(record)
        recent.latest()
        events.record(record, record.requested)
    rows = [Row(SALT, 0.0, json.dumps(MADE_UP_SALT))]
    rows += [row for part in (pool, recent, events, spend) for row in part.everything()]
    store = SqliteStore(home / STATE)
    await store.push(rows)
    await store.close()
    return [*latest]


async def write_history(path: Path | None, now: float, team: Team) -> tuple[Sequence[Record], SpendBook]:
    """Write the history's file; return the latest requests, in the order of their end, and what was spent."""
    clock = Clock()
    history = History(path, clock=clock)
    spend = SpendBook(clock=clock, writer="madeup")
    latest: deque[Record] = deque(maxlen=MOST)
    half_day = None
    ended = sorted((record for record in records(team, now) if record.at + record.seconds < now), key=_end)
    for record in ended:
        clock.now = _end(record)
        if half_day != clock.now // HALF_DAY:
            half_day = clock.now // HALF_DAY
            await history.flush()
        history.record(record)
        day = datetime.fromtimestamp(record.at, UTC).date()
        spend.add(scopes_of(record.user, record.groups), record.cost or 0, day=day.isoformat())
        latest.append(record)
    await history.close()
    return latest, spend


def _end(record: Record) -> float:
    return record.at + record.seconds


@contextmanager
def _silence() -> Iterator[None]:
    """Silence thousands of log lines about cooldowns."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def main() -> None:
    """Fill a folder, and print its keys, which are made up, and how to start the proxy of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=float, default=Team().requests, help="of an average user on an ordinary day")
    parser.add_argument("--days", type=int, default=Team().days)
    parser.add_argument("--upstream", default=NOWHERE, help="the address of all models but Claude")
    arguments = parser.parse_args()
    team = Team(days=arguments.days, requests=arguments.requests)
    os.umask(0o077)
    asyncio.run(write(arguments.folder, time.time(), team, arguments.upstream))
    environment = variables(team) | {"LITELLM_MASTER_KEY": MASTER_KEY}
    lines = "".join(f"{name}={value}\n" for name, value in environment.items())
    (arguments.folder / ".env").write_text(lines, encoding="utf-8")
    user = members_of(team)[0].name
    sys.stdout.write(
        f"start:       ANTHROPIC_API_BASE={NOWHERE} {sys.executable} -m claude_proxy --project {arguments.folder} serve\n"
        "open:        http://127.0.0.1:4000/pool\n"
        f"master key:  {MASTER_KEY}\n"
        f"token:       {token_of(user)} (of {user})\n"
    )


if __name__ == "__main__":
    main()
