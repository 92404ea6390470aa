"""config/settings_json.py: the checksum of settings, byte for byte as JavaScript would write them."""

import datetime as dt
import hashlib
import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_proxy.config.settings_json import canonical, checksum, number, problem

# In Claude Code 2.1.332, whose own runtime is not at hand here: the keys sorted, at each level, and then JSON.stringify.
SCRIPT = """
const sorted = value => Array.isArray(value) ? value.map(sorted)
  : value !== null && typeof value === "object"
    ? Object.fromEntries(Object.keys(value).sort().map(key => [key, sorted(value[key])])) : value;
const lines = require("fs").readFileSync(0, "utf8").split("\\n").filter(Boolean);
for (const line of lines) process.stdout.write(JSON.stringify(sorted(JSON.parse(line))) + "\\n");
"""
AWKWARD = [
    {"b": 1, "a": {"d": [], "c": {}}, "10": 1, "9": 2, "01": 3, "-1": 4, "4294967294": 5, "4294967295": 6},
    {"é": "ü", "z": "\u2028\u2029\x7f</script>", "\U0001f600": "\U0001f600", "\uff5e": 1, "A": '"\\\b\f\n\r\t\x00\x1f/'},
    [
        0,
        -0.0,
        1.0,
        -1.5,
        0.1,
        1e-6,
        1e-7,
        -1.25e-9,
        1e20,
        1e21,
        123456789012345680000,
        2**53 + 1,
        5e-324,
        1.7976931348623157e308,
    ],
    {"on": True, "off": False, "none": None, "": ""},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(0, 2**33).map(str), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


def in_node(values):
    """What Node makes of the same values."""
    text = "\n".join(json.dumps(value) for value in values)
    done = subprocess.run(["node", "-e", SCRIPT], input=text, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout.split("\n")[:-1]


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


@needs_node
def test_awkward_values_as_node_writes_them():
    """Keys, numbers and characters on which the two languages differ come out as JavaScript writes them."""
    assert [canonical(value) for value in AWKWARD] == in_node(AWKWARD)


@needs_node
@settings(max_examples=5, deadline=None)
@given(st.lists(VALUES, min_size=60, max_size=60))
def test_any_value_as_node_writes_it(values):
    """Each value that is JSON comes out as JavaScript writes it."""
    assert [canonical(value) for value in values] == in_node(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (-0.0, "0"), (1.0, "1"), (0.000001, "0.000001"), (1e-7, "1e-7"), (1e21, "1e+21"), (100, "100"), (-2.50, "-2.5"),
     (1e20, "100000000000000000000"), (2**53 + 1, "9007199254740992"), (1.25e-9, "1.25e-9")],
)  # fmt: skip
def test_a_number(value, expected):
    """A number is written as a double of JavaScript."""
    assert number(value) == expected


def test_the_checksum():
    """The checksum is the SHA-256 of the JSON, with its name in front."""
    text = '{"a":[1,"é"],"b":{}}'
    assert checksum({"b": {}, "a": [1.0, "é"]}) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_half_a_character_is_replaced():
    """Two halves of a character become that character, as in the client; a half alone cannot be sent and is replaced."""
    assert canonical("\ud83d\ude00 \ud83d") == '"\U0001f600 \ufffd"'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": dt.date(2026, 1, 2)}}, "a: b: should be a text; write it in quotes"),
        ({"a": [1, float("nan")]}, "a: entry 2: should be a number that JSON has"),
        ({"a": {1: 2}}, "a: 1 should be a text; write it in quotes"),
        ({"__proto__": {}}, "__proto__ is no key that Claude Code can read"),
        ({"a": {"x", "y"}}, "a: should be a text; write it in quotes"),
        ({"a": 10**400}, "a: should be a number that JSON has"),
        ({"a": [True, None, 1.5, "x", {}]}, ""),
    ],
)
def test_what_is_no_json(value, words):
    """What YAML has and JSON has not is named with its place, and with what to write."""
    assert problem(value).startswith(words)
    assert bool(problem(value)) is bool(words)
