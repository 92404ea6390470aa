"""history/highlights.py: what operators ask every day, with the numbers of the views that show all of it."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from test_history_queries import NOW, RECORD, fill, history, show

from claude_proxy.anthropic.usage import Usage
from claude_proxy.history.highlights import MIN_REQUESTS, highlights
from claude_proxy.history.view import MAX_FILTER

__all__ = ["history"]  # a fixture

pytestmark = pytest.mark.anyio

YESTERDAY = 24
OPUS, OLD, SONNET = ("claude-opus-5-5", "claude-opus-4-8", "claude-sonnet-5-5")


async def found(history, only_user=None, zone=UTC):
    return await history.read(lambda connection: highlights(connection, NOW, zone, only_user))


def used(model, user="anna", **more):
    return replace(RECORD, requested=model, user=user, **more)


async def test_without_usage_nothing_is_named(history):
    """What there is no usage of is None, and so is what was used at another time."""
    assert await found(history) == {"yesterday": None, "week": None, "project": None}
    fill(history, (24 * 40, RECORD))
    assert await found(history) == {"yesterday": None, "week": None, "project": None}


async def test_who_used_most_of_the_most_expensive_family(history):
    """Models of a family are one, and yesterday is the day before today: neither today nor the last 24 hours."""
    fill(
        history,
        (YESTERDAY, used(OPUS)),
        (YESTERDAY, used(OLD, "ben", cost=2_000_000)),
        (YESTERDAY, used(SONNET, "cleo", cost=3_000_000)),
        (YESTERDAY + 14, used(OPUS, "ben", cost=500_000)),
        (YESTERDAY + 15, used(OPUS, "dan", cost=90_000_000)),  # the day before yesterday
        (1, used(SONNET, "dan", cost=90_000_000)),
    )
    shown = (await found(history))["yesterday"]
    assert shown == {
        "day": "2026-11-17", "model": "Opus", "models": [OLD, OPUS], "usd": 4.0, "unpriced": 0, "requests": 3,
        "user": {"name": "ben", "usd": 2.5, "unpriced": 0, "requests": 2},
    }  # fmt: skip
    view = await show(history, from_=shown["day"], to=shown["day"], by="user", model=shown["models"])
    assert (view["rows"][0]["name"], view["rows"][0]["usd"], view["total"]["usd"]) == ("ben", 2.5, 4.0)


async def test_a_day_is_one_of_the_time_zone(history):
    """Yesterday is that of the configured zone, as in the view."""
    fill(history, (YESTERDAY + 15, used(OPUS)))
    assert (await found(history))["yesterday"] is None
    assert (await found(history, zone=ZoneInfo("Asia/Tokyo")))["yesterday"]["requests"] == 1


async def test_a_model_without_a_family(history):
    """Another provider's model is named as it is."""
    fill(history, (YESTERDAY, used("glm")))
    shown = (await found(history))["yesterday"]
    assert (shown["model"], shown["models"]) == ("glm", ["glm"])


async def test_the_worst_models_of_seven_days(history):
    """The lowest cache hit rate and the slowest first byte are those of the view; of few requests neither is compared."""
    slow = used(OLD, first_byte_seconds=30.0)
    cold = used(SONNET, usage=Usage(90, 20, 10, 0))
    few = used("rare", usage=Usage(100, 1, 0, 0), first_byte_seconds=90.0)
    fill(history, *[(2, one) for one in (used(OPUS), slow, cold) for _ in range(MIN_REQUESTS)], (3, few), (24 * 8, few))
    week = (await found(history))["week"]
    view = await show(history, range="7d", by="model")
    rows = {row["name"]: row for row in view["rows"]}
    assert week == {
        "cache_hit_rate": view["total"]["cache_hit_rate"],
        "first_byte_p95": view["total"]["first_byte_p95"],
        "lowest": {"name": SONNET, "cache_hit_rate": rows[SONNET]["cache_hit_rate"]},
        "slowest": {"name": OLD, "first_byte_p95": rows[OLD]["first_byte_p95"]},
    }
    assert rows["rare"]["cache_hit_rate"] == 0


async def test_few_requests_are_compared_if_there_are_no_others(history):
    """A small team has a worst model, too; one that had no input has no cache hit rate."""
    fill(history, (2, used(OPUS, first_byte_seconds=5.0)), (3, used(SONNET)), (3, used("silent", usage=Usage())))
    week = (await found(history))["week"]
    assert (week["lowest"]["name"], week["slowest"]["name"]) == (OPUS, OPUS)


async def test_the_costliest_project(history):
    """The project of 30 days is the one that cost the most, with who spent most of it; usage without a project is none."""
    fill(
        history,
        (24 * 20, used(OPUS, project="shop", cost=5_000_000)),
        (2, used(OPUS, "ben", project="shop", cost=9_000_000)),
        (2, used(OPUS, "ben", project="docs", cost=13_000_000)),
        (2, used(OPUS, "cleo", project="", cost=50_000_000)),
        (24 * 31, used(OPUS, "cleo", project="docs", cost=50_000_000)),
    )
    assert (await found(history))["project"] == {
        "name": "shop", "usd": 14.0, "unpriced": 0, "requests": 2,
        "user": {"name": "ben", "usd": 9.0, "unpriced": 0, "requests": 1},
    }  # fmt: skip


async def test_a_user_finds_only_their_own(history):
    """With an only user, neither a name nor a number of others is in any of them."""
    fill(history, (YESTERDAY, used(OPUS, "ben", project="shop", cost=9_000_000)), (YESTERDAY, used(SONNET, project="docs")))
    shown = await found(history, only_user="anna")
    assert (shown["yesterday"]["model"], shown["yesterday"]["user"]["name"]) == ("Sonnet", "anna")
    assert (shown["project"]["name"], shown["project"]["usd"]) == ("docs", 1.5)
    assert not [word for word in ("ben", "shop", OPUS) if word in str(shown)]


async def test_a_family_with_more_models_than_a_filter_has(history):
    """Of more models than a view can be narrowed to, those that cost the most are shown."""
    fill(history, *[(YESTERDAY, used(f"opus-{number}", cost=number)) for number in range(1, MAX_FILTER + 3)])
    shown = (await found(history))["yesterday"]
    assert len(shown["models"]) == shown["requests"] == MAX_FILTER
    assert "opus-2" not in shown["models"]
