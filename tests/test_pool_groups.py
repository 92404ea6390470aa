"""config/pool_groups.py: the groups of credentials that a user and a model may use, by config.yaml."""

import pytest

from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups, mistakes, unknown
from claude_proxy.credentials.order import Requester

A, B, AB = frozenset({"a"}), frozenset({"b"}), frozenset({"a", "b"})
BLOCK = {
    "users": {"Anna": {"groups": ["a"]}, "ben": {"models": ["glm"], "groups": ["a", "b"]}, "carl": {"models": ["glm"]}},
    "models": {"claude-opus-4-8": {"groups": ["a"]}, "claude-opus-*": {"groups": ["b"]}},
}
CONFIG = {"claude_proxy": BLOCK}


@pytest.mark.parametrize(
    ("user", "models", "groups"),
    [
        ("anna", ["claude-sonnet-5"], (A,)),
        ("ANNA", ["claude-sonnet-5"], (A,)),
        ("ben", ["claude-sonnet-5"], (AB,)),
        ("carl", ["claude-sonnet-5"], ()),
        ("nobody", ["claude-sonnet-5"], ()),
        # Both restrict; of several patterns the first one, under whichever name of the model.
        ("carl", ["claude-opus-5"], (B,)),
        ("carl", ["claude-opus-4-8"], (A,)),
        ("anna", ["claude-opus-5"], (A, B)),
        ("carl", ["my-alias", "claude-opus-5"], (B,)),
    ],
)
def test_whose_a_request_is(user, models, groups):
    """The groups of the user and of the model are separate restrictions; without both there are none."""
    assert PoolGroups.of(CONFIG).requester(user, *models) == Requester(user.casefold(), groups)


def test_a_viewer_sees_what_any_of_the_models_may_use():
    """A user may view the credentials that it may use with any model."""
    groups = PoolGroups.of(CONFIG)
    assert groups.viewer("anna") == (Requester("anna", (A,)), Requester("anna", (A, A)), Requester("anna", (A, B)))
    assert groups.viewer("carl") == (Requester("carl"), Requester("carl", (A,)), Requester("carl", (B,)))
    assert NO_GROUPS.viewer("Carl") == (Requester("carl"),)


@pytest.mark.parametrize("given", [{}, {"claude_proxy": None}, {"claude_proxy": {}}, {"claude_proxy": ["x"]}, CONFIG])
def test_what_is_right_or_another_checks_matter(given):
    """Without groups, and with valid ones, there is no error."""
    assert list(mistakes(given)) == []


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"users": {"anna": {"groups": "a"}}}, "users: anna: groups should be a list"),
        ({"users": {"anna": {"groups": []}}}, "users: anna: groups should be a list"),
        ({"users": {"anna": {"groups": [1]}}}, "users: anna: groups should be a list"),
        ({"models": ["x"]}, "models: should hold names"),
        ({"models": {"x": None}}, "models: x: should hold groups"),
        ({"models": {"x": {"group": ["a"]}}}, "models: x: should hold groups"),
        ({"models": {"x": {"groups": ["a"], "weight": 2}}}, "models: x: should hold groups"),
        ({"models": {1: {"groups": ["a"]}}}, "models: 1: should hold groups"),
        ({"models": {"x": {"groups": {}}}}, "models: x: groups should be a list"),
    ],
)
def test_a_mistake_about_groups(block, says):
    """An invalid list of groups is an error, because it would open every credential."""
    (mistake,) = mistakes({"claude_proxy": block})
    assert says in mistake


def test_a_group_that_no_credential_has():
    """Such a group is reported with its place, for a user and for a model."""
    assert list(unknown(CONFIG, ["a", "other"])) == [
        (("claude_proxy", "users", "ben"), "b"),
        (("claude_proxy", "models", "claude-opus-*"), "b"),
    ]


DECLARED = PoolGroups.of(
    {
        "claude_proxy": {
            "users": {
                "anna": {"groups": ["Team-A"]},
                "ben": {"groups": ["budget"]},
                "carl": {"groups": ["team-a", "b"]},
                "dora": {"groups": ["budget", "b"]},
            },
            "models": {"opus": {"groups": ["team-a"]}, "haiku": {"groups": ["budget"]}},
            "groups": {"team-a": {"credentials": ["a", "one"]}, "Budget": {"budget": {"day": 1}}},
        }
    }
)
TEAM = frozenset({"a", "one", "=a", "=one"})


@pytest.mark.parametrize(
    ("user", "model", "groups", "known", "found"),
    [
        ("anna", "x", ["team-a"], {"a", "team-a"}, (TEAM,)),
        ("ben", "x", ["budget"], {"a"}, ()),
        ("ben", "x", ["budget"], {"budget"}, (frozenset({"budget"}),)),
        ("carl", "x", ["b", "team-a"], {"a"}, (TEAM | B,)),
        ("dora", "x", ["b", "budget"], {"a"}, (B,)),
        ("emma", "x", [], {"a"}, ()),
        # Groups of a sign-in.
        ("emma", "x", ["team-a"], {"a"}, (TEAM,)),
        ("emma", "x", ["a", "budget", "everyone"], {"a", "budget"}, ()),
        ("ben", "x", ["budget", "team-a"], {"a"}, (TEAM,)),
        # Models.
        ("emma", "opus", [], {"a"}, (TEAM,)),
        ("emma", "haiku", [], {"a"}, ()),
        ("dora", "opus", ["b", "budget"], {"a"}, (B, TEAM)),
    ],
)
def test_declared_groups(user, model, groups, known, found):
    """A declared group uses its credentials; without any it restricts only where a credential has the group itself."""
    assert DECLARED.requester(user, model, groups=groups, known=known) == Requester(user, found)


def test_a_viewer_of_a_declared_group():
    """A user may view the credentials of its declared groups."""
    assert DECLARED.viewer("emma", groups=["team-a"], known={"a"}) == (
        Requester("emma", (TEAM,)),
        Requester("emma", (TEAM, TEAM)),
    )


def test_a_declared_group_with_unknown_credentials():
    """A declared group needs no credential of its name, but the credentials that it names have to exist."""
    block = {"users": {"anna": {"groups": ["TEAM-a", "b"]}}, "groups": {"team-a": {"credentials": ["a", "one", "two"]}}}
    assert list(unknown({"claude_proxy": block}, ["a"], ["one"])) == [
        (("claude_proxy", "users", "anna"), "b"),
        (("claude_proxy", "groups", "team-a"), "two"),
    ]


def test_a_changed_config_changes_the_groups():
    """The groups of the active configuration apply."""
    active = ActiveConfig({"model_list": [], **CONFIG}, {})
    assert active.pool_groups.requester("anna").groups == (A,)
    active.replace({"model_list": []})
    assert active.pool_groups == NO_GROUPS
