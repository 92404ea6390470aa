"""config/managed_settings.py: which settings apply to a user, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_proxy.config.managed_settings import ManagedSettings, mistakes
from claude_proxy.config.settings_json import checksum


def section(**parts):
    return {"claude_proxy": {"managed_settings": parts}}


def settings_of(config, user="anna", groups=(), filled=None):
    policy = ManagedSettings.of(config).policy(user, groups, filled or {})
    return policy and dict(policy.settings)


def test_without_the_section():
    """Without the section there are no managed settings, and an empty section has none for anybody."""
    assert ManagedSettings.of({}) is None
    assert ManagedSettings.of({"claude_proxy": {"users": {}}}) is None
    assert settings_of(section()) is None


def test_later_entries_win():
    """A user's entry wins over their groups', these over the one of all, and that over what is filled in, key by key."""
    config = section(
        all={"model": "a", "language": "a", "permissions": {"deny": ["a"], "ask": ["a"]}, "env": {"A": "a", "B": "a"}},
        groups={"two": {"language": "two", "env": {"B": "two"}}, "one": {"language": "one"}},
        users={"anna": {"permissions": {"deny": ["u"]}, "env": {"C": "u"}}},
    )
    filled = {"model": "filled", "tui": "filled", "env": {"F": "filled", "A": "filled"}}
    assert settings_of(config, groups=("one", "two"), filled=filled) == {
        "model": "a", "tui": "filled", "language": "one", "permissions": {"deny": ["u"], "ask": ["a"]},
        "env": {"F": "filled", "A": "a", "B": "two", "C": "u"},
    }  # fmt: skip
    assert settings_of(config, "ben")["language"] == "a"
    assert settings_of(config, "ben", ("two",))["language"] == "two"


def test_null_takes_a_setting_away():
    """A null removes what an entry below has, or what is filled in, at any depth."""
    config = section(all={"model": None, "env": {"A": None}}, users={"anna": {"permissions": None}})
    filled = {"model": "x", "permissions": {"deny": []}, "env": {"A": "1", "B": "2"}}
    assert settings_of(config, filled=filled) == {"env": {"B": "2"}}


def test_names_of_users_and_groups_are_case_folded():
    """Upper and lower case make no difference in the names of users and groups."""
    config = section(groups={"Team-A": {"model": "g"}}, users={"Anna": {"language": "u"}})
    assert settings_of(config, "ANNA", ("team-a",)) == {"model": "g", "language": "u"}


def test_no_policy_and_an_empty_one():
    """A user to whom no entry applies has no policy; an entry with nothing in it is an empty policy."""
    config = section(users={"anna": None})
    assert settings_of(config) == {}
    assert settings_of(config, "ben") is None
    assert settings_of(section(all=None), "ben") == {}


def test_the_id_of_a_policy():
    """A policy's id depends on the entries that apply, not on what is in them; the checksum is that of its settings."""
    before, after = section(all={"model": "a"}, users={"anna": {}}), section(all={"model": "b"}, users={"anna": {}})
    one, two = (ManagedSettings.of(config).policy("anna", (), {}) for config in (before, after))
    assert one.uuid == two.uuid != ManagedSettings.of(before).policy("ben", (), {}).uuid
    assert one.checksum == checksum({"model": "a"}) != two.checksum
    assert f'"checksum":"{one.checksum}","settings":{{"model":"a"}},"uuid":"{one.uuid}"' in one.response()


def test_variables_are_texts():
    """Each value of env is sent as the text that Claude Code would make of it."""
    config = section(all={"env": {"A": 1, "B": True, "C": 1.50, "D": "x", "E": None}}, users={"anna": {"env": {"D": None}}})
    assert settings_of(config) == {"env": {"A": "1", "B": "true", "C": "1.5"}}
    assert settings_of(config, "ben") == {"env": {"A": "1", "B": "true", "C": "1.5", "D": "x"}}


AT = "claude_proxy: managed_settings: "
REASON = "and managed settings go to the users' machines"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"al": {}}, ["al is not known; did you mean all?"]),
        ({"model": "opus"}, ["model is not known; settings belong under all, groups or users"]),
        ({"zzz": 1}, ["zzz is not known; the keys are fill, all, groups, users"]),
        ({"fill": "no"}, ["fill should be true or false"]),
        ({"all": ["model"]}, ["all: should hold settings of Claude Code; write all: {model: opus}"]),
        ({"groups": {"a": 1}}, ["groups: a: should hold settings of Claude Code; write a: {model: opus}"]),
        ({"groups": ["a"]}, ["groups: should hold names, and under each settings of Claude Code; write NAME: {model: opus}"]),
        ({"users": {1: {}}}, ['users: 1: should be a name; write it in quotes: "1"']),
        ({"users": {"a": {}, "A": {}}},
         ["users: A: is the same name as a above; upper and lower case make no difference"]),
        ({"all": {"model": 1}}, ["all: model: should be a text; write it in quotes"]),
        ({"all": {"x": {1: 2}}}, ["all: x: 1 should be a text; write it in quotes"]),
        ({"all": {"env": {"A": "os.environ/B"}}},
         [f"all: env: A: refers to a variable, {REASON}; write the value, if it is no secret"]),
        ({"users": {"a": {"hooks": {"x": [{"y": "curl -H os.environ/B"}]}}}},
         [f"users: a: hooks: x: entry 1: y: refers to a variable, {REASON}; write the value, if it is no secret"]),
        ({"all": {"language": "in: sk-ant-oat01-made-up"}}, [f"all: language: holds a Claude credential, {REASON}; remove it"]),
        ({"all": {"env": {"ANTHROPIC_AUTH_TOKEN": "x"}}},
         [f"all: env: ANTHROPIC_AUTH_TOKEN: is a credential, {REASON}; remove it"]),
        ({"all": {"managedMcpServers": {"a": {"headers": {"Authorization": "Bearer x"}}}}},
         [f"all: managedMcpServers: a: headers: Authorization: is a credential, {REASON}; remove it"]),
        ({"all": {"env": {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": 5}, "model": None, "new": [1]}}, []),
        ({"fill": False, "all": None, "groups": {"a": None}, "users": None}, []),
    ],
)  # fmt: skip
def test_what_is_refused(parts, words):
    """An error is one sentence with its place; a secret is refused, and its value is not in the sentence."""
    assert [*mistakes(section(**parts))] == [f"{AT}{one}" for one in words]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"managed_settings": {}}, "managed_settings: belongs under claude_proxy; at the beginning of a line it does nothing"),
        ({"claude_proxy": {"managed_settings": "x"}},
         f"{AT[:-2]}: should hold all, groups or users, and under each settings of Claude Code; write all: {{model: opus}}"),
    ],
)  # fmt: skip
def test_the_section_itself(config, words):
    """A section in another place or of another shape is an error."""
    assert [*mistakes(config)] == [words]


KEYS = [
    "fill",
    "all",
    "groups",
    "users",
    "env",
    "permissions",
    "modelPicker",
    "options",
    "verbose",
    "team-a",
    "anna",
    "A",
    "__proto__",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
    | st.sampled_from(["os.environ/X", "sk-ant-oat01-x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.integers(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(VALUES)
def test_any_section_is_refused_or_sent(value):
    """Whatever the section holds, it is refused in words, or each user's settings are JSON with the checksum beside them."""
    config = {"claude_proxy": {"managed_settings": value}}
    words = [*mistakes(config)]
    assert all(one.startswith(AT[:-2]) for one in words)
    managed = None if words else ManagedSettings.of(config)
    for groups in ((), ("team-a",)) if managed else ():
        policy = managed.policy("anna", groups, {"env": {"F": "1"}})
        if policy is not None:
            found = json.loads(policy.response())
            assert found["checksum"] == checksum(found["settings"])
            assert "os.environ/" not in policy.response()
            assert "sk-ant-" not in policy.response()
