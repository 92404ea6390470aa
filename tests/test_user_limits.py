"""config/user_limits.py: how many requests a user may send, by config.yaml."""

import pytest

from claude_proxy.config.user_limits import NO_LIMIT, RequestLimit, UserLimits, mistakes

USERS = {
    "Anna": {"requests_per_minute": 60, "streams": 4},
    "ben": {"streams": 1},
    "carl": {"models": ["glm"]},
}


def config(users):
    return {"claude_proxy": {"users": users}}


def test_the_limits_of_a_user():
    """Each limit is optional, names are compared without case, and a user who is not listed has none."""
    limits = UserLimits.of(config(USERS))
    found = [limits.limit(name) for name in ("ANNA", "ben", "carl", "dora")]
    assert found == [RequestLimit(60, 4), RequestLimit(None, 1), NO_LIMIT, NO_LIMIT]
    assert [bool(limits), bool(UserLimits.of({})), bool(UserLimits.of(config({"carl": {"models": ["glm"]}})))] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "given", [{}, {"claude_proxy": None}, {"claude_proxy": ["x"]}, config(["x"]), config({"x": 1}), config(USERS)]
)
def test_what_is_right_or_another_checks_matter(given):
    """A configuration without limits, and one with valid limits, has no errors."""
    assert list(mistakes(given)) == []


@pytest.mark.parametrize("value", [0, -1, 1.5, "60", True, None, [60], 10**9])
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("requests_per_minute", "should be a whole number of requests in a minute, 1 or more; write requests_per_minute: 60"),
        ("streams", "should be a whole number of requests at the same time, 1 or more; write streams: 4"),
    ],
)
def test_a_mistake_in_a_limit(key, says, value):
    """A limit is a whole number from 1 on."""
    (mistake,) = mistakes(config({"anna": {key: value}}))
    assert mistake == f"claude_proxy: users: anna: {key}: {says}"
