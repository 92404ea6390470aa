"""config/request_rules.py: the rules ``claude_proxy: rules:``, their conditions, and their errors."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from claude_proxy.config.request_rules import REQUEST_CLASSES, Rule, mistakes, rules

BERLIN = ZoneInfo("Europe/Berlin")
# A Saturday.
NOON = datetime(2026, 3, 28, 12, 0, tzinfo=BERLIN)


def under(*entries, models=("glm", "claude-*")):
    return {"model_list": [{"model_name": name} for name in models], "claude_proxy": {"rules": [*entries]}}


def concerns(when, request_class="main", model="claude-opus-4-8", user="anna", groups=(), at=NOON):
    config = under({"when": when, "model": "glm"})
    assert [*mistakes(config)] == []
    return rules(config)[0].concerns(request_class, model, user, groups, at.timestamp())


@pytest.mark.parametrize("config", [{}, {"claude_proxy": None}, {"claude_proxy": {"rules": None}}, under()])
def test_without_rules(config):
    """Without rules there is no error."""
    assert rules(config) == ()
    assert [*mistakes(config)] == []


def test_names():
    """A rule without a name is called by its place."""
    first, second = rules(under({"model": "glm"}, {"model": "glm", "name": "titles", "when": {"request": "auxiliary"}}))
    assert (first.name, second.name) == ("rule-1", "titles")
    assert (first.is_unconditional, second.is_unconditional) == (True, False)
    assert first == Rule("rule-1", "glm")


@pytest.mark.parametrize(
    ("when", "request_class", "holds"),
    [
        ({}, "", True),
        ({"request": "auxiliary"}, "auxiliary", True),
        ({"request": "auxiliary"}, "main", False),
        ({"request": "main"}, "", False),  # a client that says nothing
        ({"request": [*REQUEST_CLASSES]}, "compaction", True),
    ],
)
def test_the_kind_of_a_request(when, request_class, holds):
    """A rule may be for some kinds of requests, as the client names them."""
    assert concerns(when, request_class=request_class) is holds


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"model": "claude-opus-*"}, True),
        ({"model": ["claude-haiku-*", "claude-opus-4-8"]}, True),
        ({"model": "claude-haiku-*"}, False),
        ({"user": "Anna"}, True),
        ({"user": ["ben", "cleo"]}, False),
        ({"group": "Team-A"}, True),
        ({"group": "team-b"}, False),
        ({"group": ["team-b", "team-c"], "user": "ben"}, False),
        ({"model": "claude-*", "user": "anna", "group": "team-a"}, True),
    ],
)
def test_model_user_and_group(when, holds):
    """Names of users and groups are compared without case; every condition has to hold."""
    assert concerns(when, groups=("team-a", "team-c")) is holds


@pytest.mark.parametrize(
    ("when", "at", "holds"),
    [
        ({"time": "09:00-17:00", "timezone": "Europe/Berlin"}, NOON, True),
        ({"time": "09:00-12:00", "timezone": "Europe/Berlin"}, NOON, False),
        ({"time": "9:00-11:30"}, NOON, True),  # UTC
        ({"days": ["sat", "sun"], "timezone": "Europe/Berlin"}, NOON, True),
        ({"days": "fri", "timezone": "Europe/Berlin"}, NOON, False),
        ({"time": "22:00-06:00", "timezone": "Europe/Berlin"}, NOON.replace(hour=23), True),
        ({"time": "22:00-06:00", "timezone": "Europe/Berlin"}, NOON.replace(hour=5), True),
        ({"time": "22:00-06:00", "timezone": "Europe/Berlin"}, NOON, False),
        # The night of a Friday ends on Saturday.
        ({"time": "22:00-06:00", "days": "fri", "timezone": "Europe/Berlin"}, NOON.replace(hour=5), True),
        ({"time": "22:00-06:00", "days": "sat", "timezone": "Europe/Berlin"}, NOON.replace(hour=5), False),
        ({"time": "22:00-06:00", "days": "fri", "timezone": "Europe/Berlin"}, NOON.replace(hour=23), False),
        # 02:30 does not exist on the next day, when summer time starts.
        ({"time": "02:00-03:00", "timezone": "Europe/Berlin"}, NOON.replace(day=29, hour=3, minute=1), False),
    ],
)
def test_hours_and_days(when, at, holds):
    """Hours are those of the rule's zone; a night belongs to the day of its beginning."""
    assert concerns(when, at=at) is holds


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("glm", "should be a mapping with when and model"),
        ({}, "model should be the name of the model that responds"),
        ({"model": "gml"}, "model: gml is not a model of model_list; did you mean glm?"),
        ({"model": "glm", "whn": {}}, "whn is not known; did you mean when?"),
        ({"model": "glm", "name": "a b"}, "name should have 1 to 64 letters"),
        ({"model": "glm", "when": "auxiliary"}, "when should be a mapping of conditions"),
        ({"model": "glm", "when": {"request": "title"}}, "when: request should be one or a list of main, subagent"),
        ({"model": "glm", "when": {"request": []}}, "when: request should be one or a list of"),
        ({"model": "glm", "when": {"usr": "anna"}}, "when: usr is not known; did you mean user?"),
        ({"model": "glm", "when": {"xyz": 1}}, "when: xyz is not known; the keys are request, model"),
        ({"model": "glm", "when": {"tokens_above": True}}, "when: tokens_above should be a number"),
        ({"model": "glm", "when": {"images": "yes"}}, "when: images should be true or false"),
        ({"model": "glm", "when": {"time": "25:00-26:00"}}, "when: time should be hours of a day"),
        ({"model": "glm", "when": {"time": 1320}}, "when: time should be hours of a day"),
        ({"model": "glm", "when": {"days": "Saturday"}}, "when: days should be one or a list of mon"),
        ({"model": "glm", "when": {"timezone": "Berlin"}}, "when: timezone should be the name of a time zone"),
        ({"model": "glm", "when": {"timezone": "../etc"}}, "when: timezone should be the name of a time zone"),
        ({"model": "glm", "when": {"pool_above": 80}}, "when: pool_above should be a percentage for five_hours or week"),
        ({"model": "glm", "when": {"pool_above": {"week": 180}}}, "when: pool_above should be a percentage"),
    ],
)
def test_errors(entry, words):
    """Each error names the entry and what to write."""
    found = [*mistakes(under(entry))]
    assert len(found) == 1
    assert found[0].startswith(f"claude_proxy: rules: entry 1: {words}")


def test_errors_of_the_list():
    """Rules are a list, and each name is used once."""
    assert "should be a list" in next(mistakes({"claude_proxy": {"rules": {"model": "glm"}}}))
    twice = {"model": "glm", "name": "same"}
    assert [*mistakes(under(twice, twice))] == ["claude_proxy: rules: entry 2: the name same is also that of entry 1"]
