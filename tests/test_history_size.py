"""The size of the history of a team: a made-up week, of which a year is made."""

import random
from datetime import UTC, datetime

import pytest
from test_history_closing import settle
from test_history_queries import DAY, HOUR, NOW, Clock

from claude_proxy.anthropic.usage import Usage
from claude_proxy.history.periods import DAY_DAYS, HOUR_DAYS
from claude_proxy.history.service import History
from claude_proxy.usage.record import Record

pytestmark = pytest.mark.anyio

USERS, MODELS, CREDENTIALS, PROJECTS, DAYS = 50, ("opus", "sonnet", "haiku", "glm"), 12, 10, 14
LARGEST = 200e6


def requests_of(hour, chance):
    """What a team sends in an hour of work: each of most users one or two sessions, each with one credential and two models."""
    for user in range(USERS):
        for _ in range(chance.choice((0, 1, 1, 1, 2)) if 8 <= hour < 19 else chance.choice((0,) * 15 + (1,))):
            credential, project = chance.randrange(CREDENTIALS), (user + chance.randrange(2)) % PROJECTS
            for model in (chance.choice(MODELS), "haiku"):
                yield Record(
                    0.0, f"user-{user}@example.org", f"claude-{model}-4-8", f"anthropic/claude-{model}-4-8",
                    f"credential-{credential}", 200, chance.lognormvariate(0, 1), chance.lognormvariate(2, 1),
                    Usage(*(chance.randrange(200_000) for _ in range(4))), cost=chance.randrange(10**6),
                    groups=(f"team-{user % 6}",), project=f"project-{project}",
                )  # fmt: skip


async def test_a_year_of_a_team_has_a_bounded_size(tmp_path):
    """Fifty users leave less than 200 MB in a year: the days of two weeks as they are kept, and eight days of hours."""
    chance, clock = random.Random(1), Clock(NOW - DAYS * DAY)
    one = History(tmp_path / "history.sqlite", clock=clock)
    one.clock = clock
    while clock.now < NOW:
        for _ in range(3):  # different requests of the same sessions' kind, so that hours have as many lines as they can
            for record in requests_of(datetime.fromtimestamp(clock.now, UTC).hour, chance):
                one.record(record)
        await one.flush()
        clock.now += HOUR
    await settle(one)
    with_hours = await size(one)
    clock.now += (HOUR_DAYS + 1) * DAY
    await settle(one)
    of_days = await size(one)
    await one.close()
    year = of_days / DAYS * DAY_DAYS + with_hours
    a_day, hours, a_year = (f"{number / 1e6:.1f} MB" for number in (of_days / DAYS, with_hours, year))
    assert year < LARGEST, f"a day has {a_day}, eight days of hours {hours}, a year {a_year}"


async def size(history):
    """The bytes of a history, without what SQLite keeps for later."""
    return await history.read(
        lambda connection: (
            (connection.execute("PRAGMA page_count").fetchone()[0] - connection.execute("PRAGMA freelist_count").fetchone()[0])
            * connection.execute("PRAGMA page_size").fetchone()[0]
        )
    )
