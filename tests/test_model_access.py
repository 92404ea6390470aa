"""config/model_access.py: the models that a user may use, by config.yaml."""

import json

import pytest

from claude_proxy.config.model_access import SWITCH, Limits, mistakes


def model(name, *groups):
    info = {"model_info": {"access_groups": list(groups)}} if groups else {}
    return {"model_name": name, "litellm_params": {"model": f"anthropic/{name}"}, **info}


MODELS = [model("claude-*"), model("glm", "cheap"), model("glm-fast", "cheap", "fast"), model("gpt", "fast")]


def config(**users):
    return {"model_list": MODELS, "claude_proxy": {"users": users}}


ANNA = config(anna={"models": ["glm", "claude-opus-*"]}, ben={"models": ["cheap"]}, static={"models": ["*"]})


@pytest.mark.parametrize(
    ("user", "allowed", "refused"),
    [
        (
            "anna",
            ["glm", "claude-opus-4-8"],
            ["glm-fast", "gpt", "claude-sonnet-5", "anthropic/claude-opus-4-8", "", "GLM", "cheap"],
        ),
        ("ben", ["glm", "glm-fast"], ["gpt", "claude-opus-4-8"]),
        ("static", ["glm", "claude-opus-4-8", "anything"], []),
        ("carl", ["glm", "gpt", "anything"], []),
    ],
)
def test_what_a_user_may_ask_for(user, allowed, refused):
    """A name, a pattern or a group allows exactly its models; a user who is not listed may use every model."""
    limits = Limits.of(ANNA)
    assert [name for name in (*allowed, *refused) if limits.allows(user, name)] == [*allowed]


@pytest.mark.parametrize("given", [{}, {"claude_proxy": None}, {"claude_proxy": {}}, {"claude_proxy": {"users": {}}}])
def test_no_block_is_no_limit(given):
    """A configuration without the block limits nobody and is valid."""
    assert list(mistakes(given)) == []
    assert Limits.of(given).allows("anna", "anything")


def test_the_refusal_names_the_model_and_what_is_allowed():
    """The message names the requested model and the allowed ones, as the operator wrote them."""
    assert Limits.of(ANNA).refusal("ben", "gpt") == f"model: ben may not use gpt on this proxy. Allowed: cheap. {SWITCH}"


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (["x"], "should hold users"),
        ({"users": ["anna"]}, "should hold users"),
        ({"users": {"anna": None}}, "anna: should hold models"),
        ({"users": {"anna": {}}}, "anna: should hold models"),
        ({"users": {"anna": ["glm"]}}, "and nothing else; write anna: {models: [glm]}"),
        ({"users": {"anna": ["glm", "gpt"]}}, "; write anna: {models: [glm, gpt]}"),
        ({"users": {"anna": "glm"}}, "; write anna: {models: [glm]}"),
        ({"users": {"anna": {"model": ["glm"]}}}, "anna: model is not known; did you mean models?"),
        ({"users": {"anna": {"models": ["glm"], "Group": ["a"]}}}, "anna: Group is not known; did you mean groups?"),
        (
            {"users": {"anna": {"models": ["glm"], "x": 1}}},
            "anna: x is not known; the keys are models, groups, budget, requests_per_minute, streams",
        ),
        ({"users": {1: {"models": ["glm"]}}}, "1: should hold models"),
        ({"users": {"admin": {"models": ["glm"]}}}, "admin: is the master key"),
        ({"users": {"anna": {"models": "glm"}}}, "anna: models should be a list"),
        ({"users": {"anna": {"models": []}}}, "anna: models should be a list"),
        ({"users": {"anna": {"models": [3]}}}, "anna: models should be a list"),
        ({"users": {"anna": {"models": ["glm", "glmm"]}}}, "anna: glmm is neither"),
    ],
)
def test_a_mistake_in_the_block(block, says):
    """An invalid limit is an error, because it would allow nothing."""
    (mistake,) = mistakes({"model_list": MODELS, "claude_proxy": block})
    assert says in mistake


def test_a_right_block_has_no_mistakes():
    """Names, groups, patterns, and names that match a pattern of model_list, are valid."""
    assert list(mistakes(ANNA)) == []
    assert list(mistakes(config(anna={"models": ["claude-opus-4-8", "fast", "gl*"]}))) == []


@pytest.mark.parametrize(
    ("models", "found"),
    [
        (None, 0),
        ("x", 0),
        (["x"], 0),
        ([{"model_name": 1}], 0),
        ([{"model_name": "x", "model_info": {"access_groups": "y"}}], 1),
    ],
)
def test_a_broken_model_list_is_not_this_checks_matter(models, found):
    """An invalid model_list does not break the check; without models no name is reported."""
    given = {"model_list": models, "claude_proxy": {"users": {"anna": {"models": ["glm"]}}}}
    assert len(list(mistakes(given))) == found


@pytest.mark.parametrize("users", [{"anna": {"models": ["glm"]}}, None])
def test_a_block_without_its_parent(users):
    """Limits at the top level would apply to nobody, so the file is rejected."""
    (mistake,) = mistakes({"model_list": MODELS, "claude_proxy": None, "users": users})
    assert mistake.startswith("users: belongs under claude_proxy")


OPUS = {"model": "claude-opus-4-8"}


@pytest.mark.parametrize(
    ("body", "forbidden"),
    [
        ({"model": "glm"}, None),
        ({"model": "gpt"}, "gpt"),
        ({"model": "glm", "fallbacks": [OPUS, {"model": "gpt"}, "gpt"], "tools": [{"name": "x"}]}, "gpt"),
        ({"model": "glm", "tools": [{"type": "advisor_20260301", "model": "claude-sonnet-5"}]}, "claude-sonnet-5"),
        ({"model": "glm", "fallbacks": [OPUS], "tools": [{**OPUS, "input_schema": {"model": "gpt"}}]}, None),
        ({"model": "glm", "fallbacks": {"model": "gpt"}, "messages": [{"content": [{"model": "gpt"}]}]}, None),
    ],
)
def test_what_a_request_makes_claude_use(body, forbidden):
    """The request's model, server-side fallbacks and a tool's own model are checked, and no other field."""
    limits = Limits.of(ANNA)
    assert limits.forbidden("anna", body["model"], json.dumps(body).encode()) == forbidden
    assert limits.forbidden("carl", body["model"], json.dumps(body).encode()) is None


def test_a_body_names_one_model():
    """A limited user may not name the model twice, because Claude could read the other name."""
    limits = Limits.of(ANNA)
    assert limits.forbidden("anna", "glm", b'{"model":"gpt","model":"glm"}') == "several models at once"
    assert limits.forbidden("carl", "glm", b'{"model":"gpt","model":"glm"}') is None


def test_limits_hold_in_any_case():
    """A limit applies to every spelling of a user's name."""
    limits = Limits.of(config(Anna={"models": ["glm"]}))
    for name in ("anna", "Anna", "ANNA"):
        assert (limits.allows(name, "glm"), limits.allows(name, "gpt")) == (True, False)
        assert limits.forbidden(name, "gpt", b"{}") == "gpt"
        assert "Allowed: glm." in limits.refusal(name, "gpt")


def test_two_spellings_of_a_name_are_a_mistake():
    """Two limits for one user are reported, because it is unclear which one is meant."""
    (mistake,) = mistakes(config(anna={"models": ["glm"]}, Anna={"models": ["gpt"]}))
    assert mistake == "claude_proxy: users: Anna: is the same user as anna above; upper and lower case make no difference"
    (mistake,) = mistakes(config(Admin={"models": ["glm"]}))
    assert "is the master key" in mistake


def test_a_body_without_a_model():
    """Where the path names the model, the body names none; what it names besides is checked all the same."""
    limits = Limits.of(ANNA)
    messages = '"messages": []'
    for body, forbidden in (
        (f"{{{messages}}}", None),
        (f'{{{messages}, "model": "glm"}}', "several models at once"),
        (f'{{{messages}, "fallbacks": [{{"model": "gpt"}}]}}', "gpt"),
    ):
        assert limits.forbidden("anna", "glm", body.encode(), named_in_body=False) == forbidden
