"""config/openai_routes.py: the word that opens OpenAI's routes, and its errors."""

import pytest

from claude_proxy.config.openai_routes import mistakes, openai_routes


@pytest.mark.parametrize(
    ("config", "served"),
    [
        ({}, False),
        ({"claude_proxy": None}, False),
        ({"claude_proxy": {"openai_routes": None}}, False),
        ({"claude_proxy": {"openai_routes": False}}, False),
        ({"claude_proxy": {"openai_routes": True}}, True),
    ],
)
def test_the_word(config, served):
    """The routes are closed without the word."""
    assert openai_routes(config) is served
    assert [*mistakes(config)] == []


@pytest.mark.parametrize("value", ["true", "on", 1, [], {}])
def test_a_value_that_is_neither(value):
    """A value that looks like the word opens nothing, and is an error."""
    assert openai_routes({"claude_proxy": {"openai_routes": value}}) is False
    (found,) = mistakes({"claude_proxy": {"openai_routes": value}})
    assert "should be true or false" in found


def test_a_word_in_another_place():
    """At the top level the word is an error."""
    (found,) = mistakes({"openai_routes": True})
    assert "belongs under claude_proxy" in found
