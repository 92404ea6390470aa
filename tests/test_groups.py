"""config/groups.py: the groups of users, by config.yaml."""

import pytest

from claude_proxy.config.groups import Groups, mistakes

RIGHT = {
    "team-a": {"budget": {"month": 500}, "credentials": ["pool-a"]},
    "b": {"budget": {"day": 1}},
    "c": {"credentials": ["x"]},
}


def test_the_groups_of_a_user():
    """The groups of config.yaml and those of the sign-in together, case-folded and sorted, each once."""
    users = {"Anna": {"groups": ["Team-B", "team-a"]}, "ben": {"models": ["glm"]}}
    groups = Groups.of({"claude_proxy": {"users": users}})
    assert groups.of_user("anna") == ("team-a", "team-b")
    assert groups.of_user("ANNA", ("Staff", "TEAM-A")) == ("staff", "team-a", "team-b")
    assert [groups.of_user("ben"), groups.of_user("ben", ("x",)), groups.of_user("nobody")] == [(), ("x",), ()]
    assert Groups.of({}).of_user("anna") == ()


@pytest.mark.parametrize("given", [{}, {"claude_proxy": None}, {"claude_proxy": ["x"]}, {"claude_proxy": {"groups": RIGHT}}])
def test_what_is_right_or_another_checks_matter(given):
    """A configuration without groups, and one with valid groups, has no errors."""
    assert list(mistakes(given)) == []


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (None, "groups: should hold names of groups, and under each a budget, credentials or both; write team-a: {budget"),
        (["b"], "groups: should hold names of groups, and under each a budget, credentials or both; write b: {budget"),
        ({"b": None}, "groups: b: should hold a budget, credentials or both; write b: {budget: {month: 500}}"),
        ({"b": {}}, "groups: b: should hold a budget"),
        ({1: {"credentials": ["x"]}}, 'groups: 1: should hold a budget, credentials or both; write "1": {'),
        ({"b": {"credential": ["x"]}}, "groups: b: credential is not known; did you mean credentials?"),
        ({"b": {"users": ["x"]}}, "groups: b: users is not known; the keys are budget, credentials"),
        (
            {"b": {"credentials": "pool-a"}},
            "groups: b: credentials: should be a list of labels or groups of credentials; write credentials: [pool-a]",
        ),
        ({"b": {"credentials": []}}, "write credentials: [NAME]"),
        ({"b": {"credentials": [1]}}, "write credentials: [NAME]"),
        ({"b": {"credentials": ["x"]}, "B": {"credentials": ["y"]}}, "groups: B: is the same group as b above"),
    ],
)
def test_a_mistake_in_the_block(groups, says):
    """An invalid group is an error that says what to write, because its users would be limited by nothing."""
    (mistake,) = mistakes({"claude_proxy": {"groups": groups}})
    assert says in mistake


def test_groups_without_their_block():
    """Groups at the top level would limit nobody, so the file is rejected."""
    (mistake,) = mistakes({"groups": RIGHT})
    assert mistake.startswith("groups: belongs under claude_proxy")
