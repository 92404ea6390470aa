"""providers/model_names.py: the list of models."""

import pytest

from claude_proxy.providers.model_names import CLAUDE_CODE_MODELS, PREFIX, is_name, listing, served_name


def test_every_model_has_an_id_that_claude_code_keeps():
    """Each model is listed once, in the file's order, under an id that Claude Code accepts, with its own name shown."""
    found = listing(["demo", "claude-demo", "Anthropic-x", "glm", "glm"])
    shown = {model["id"]: model["display_name"] for model in found["data"]}
    assert shown == {f"{PREFIX}demo": "demo", "claude-demo": "claude-demo", "Anthropic-x": "Anthropic-x", f"{PREFIX}glm": "glm"}
    assert (found["has_more"], found["first_id"], found["last_id"]) == (False, f"{PREFIX}demo", f"{PREFIX}glm")
    assert all(model["type"] == model["object"] == "model" for model in found["data"])


def test_a_pattern_lists_what_claude_code_asks_for():
    """A pattern is listed as the models of Claude Code's aliases that match it; other patterns list nothing."""
    assert [model["id"] for model in listing(["claude-*"])["data"]] == list(CLAUDE_CODE_MODELS)
    assert [model["id"] for model in listing(["claude-opus-*", "other/*"])["data"]] == ["claude-opus-5-5"]
    assert listing([])["data"] == []


@pytest.mark.parametrize("name", ["glm", "claude-demo", "a/b"])
def test_a_listed_id_finds_its_model(name):
    """The listed id and the model's own name both find the model of config.yaml."""
    assert served_name(listing([name])["data"][0]["id"]) == served_name(name) == name


def test_the_list_holds_what_is_allowed():
    """Models that a user may not use are not listed, including those of a pattern."""
    found = listing(["glm", "claude-*"], lambda name: name in ("claude-sonnet-5-5", "gpt"))
    assert [model["id"] for model in found["data"]] == ["claude-sonnet-5-5"]
    assert found["first_id"] == found["last_id"] == "claude-sonnet-5-5"


def test_what_is_shown_beside_a_model():
    """Each model has the description of its name in config.yaml, which Claude Code shows."""
    found = listing(["glm", "claude-opus-*"], describe=lambda name: f"about {name}")
    assert [model["description"] for model in found["data"]] == ["about glm", "about claude-opus-5-5"]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_name_is_read_once(times):
    """A checked name is the served name, however often it is read, because no prefix is left."""
    name = served_name(PREFIX * times + "glm")
    assert name == served_name(name) == "glm"


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        ("claude-sonnet-5", True), ("openrouter/x:free@eu (a b)", True), ("m\u00e9", True), ("x" * 256, True),
        ("x" * 257, False), ("\ud800", False), ("a\x00", False),
        ("a\nb", False), ("a\r", False), ("a\u2028", False), ("a\x85", False), ("\x1b[2J", False),
    ],
)  # fmt: skip
def test_is_name(model, is_one):
    """A model's name is printable and has a maximum length."""
    assert is_name(model) == is_one
