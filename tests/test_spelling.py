"""config/spelling.py: what a key that is not known was meant to be."""

import pytest

from claude_proxy.config.spelling import MAX_SHOWN, nearest, unknown

KEYS = ("models", "groups", "budget")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "model is not known; did you mean models?"),
        ("Budgets", "Budgets is not known; did you mean budget?"),
        ("xyz", "xyz is not known; the keys are models, groups, budget"),
        (3, "3 is not known; the keys are models, groups, budget"),
        ("x" * 1000, f"{'x' * MAX_SHOWN} is not known; the keys are models, groups, budget"),
    ],
)
def test_unknown_keys(name, words):
    """The key that was probably meant is named, else all keys; a long text is cut."""
    assert unknown(name, KEYS) == words


def test_other_words():
    """A caller may know better what to do where no key is alike."""
    assert unknown("xyz", KEYS, "settings belong elsewhere") == "xyz is not known; settings belong elsewhere"
    assert (nearest("group", KEYS), nearest("xyz", KEYS)) == ("groups", None)
