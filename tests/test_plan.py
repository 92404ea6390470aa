"""proxy/plan.py: where a request goes, from a configuration and what LiteLLM's router finds for a name."""

from collections import Counter

import pytest

from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.deployments import Deployment, Lane
from claude_proxy.config.models import ActiveConfig, Fallbacks
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.plan import Plan, Target, plan

CLAUDE = {"model": "anthropic/claude-x"}
GLM = {"model": "anthropic/glm", "api_base": "https://api.z.ai/api/anthropic"}
CLOUD = {"model": "bedrock/anthropic.claude-x"}
MODELS = {"claude-x": [CLAUDE], "glm": [GLM], "cloud": [CLOUD], "both": [GLM, CLOUD], "unready": [GLM]}
ENTRIES = [
    {"model_name": "unready", "litellm_params": {"model": "anthropic/glm", "b": "os.environ/B_KEY", "a": "os.environ/A_KEY"}}
]
RULES = [{"claude-*": ["glm", "unready", "nobody", "cloud"]}]


def config(models=MODELS, **settings):
    return ActiveConfig(
        {"model_list": ENTRIES, "router_settings": settings}, {}, lookup=lambda name: models.get(name, ())
    )  # fmt: skip


def target(*weights, lane=Lane.MESSAGES, provider=Provider.ANTHROPIC_FORMAT):
    return Target("m", tuple(Deployment(lane, provider, str(place), "m", weight=w) for place, w in enumerate(weights)))


# --- the plan ----------------------------------------------------------------------------------------------------------------


def test_a_model_without_rules():
    """Its own deployments, and nothing after them."""
    active = config()
    assert plan("glm", active) == Plan(Target("glm", active.deployments("glm")), Fallbacks((), None, None))


def test_only_fallbacks_that_could_answer_are_in_it():
    """A fallback that nobody serves, or that lacks a key, is left out; the others keep their order."""
    assert plan("claude-x", config(fallbacks=RULES)).fallbacks.general == ("glm", "cloud")
    assert plan("claude-x", config(fallbacks=[{"claude-*": ["unready", "nobody"]}])).fallbacks.general == ()


def test_special_fallbacks():
    """Where there are rules for them they are a list, even an empty one; without rules the ordinary ones apply."""
    rules = {"context_window_fallbacks": RULES, "content_policy_fallbacks": RULES}
    found = plan("claude-x", config(**rules))
    assert found.fallbacks == ((), *[("glm", "cloud")] * 2)
    found = plan("glm", config(**rules))
    assert found.fallbacks == ((), (), ())


def test_a_model_that_nobody_serves():
    """It is a 404, as Anthropic says it, which Claude Code does not repeat."""
    with pytest.raises(Refused, match="model: nobody is not served by this proxy") as caught:
        plan("nobody", config(fallbacks=[{"*": ["glm"]}]))
    assert caught.value.refusal().reason == "unknown_model"
    assert caught.value.status == 404


def test_a_model_that_lacks_its_key():
    """It is a 400 that names the variables to set; no fallback hides it."""
    with pytest.raises(
        Refused, match=r"unready is not ready: set A_KEY and B_KEY on the proxy \(\.env\) and restart it\."
    ) as caught:
        plan("unready", config(fallbacks=[{"*": ["glm"]}]))
    assert caught.value.status == 400


# --- a target ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "enters", "is_claude"),
    [("claude-x", False, True), ("glm", False, False), ("cloud", True, False), ("both", True, False)],
)
def test_who_asks_a_target(name, enters, is_claude):
    """LiteLLM asks one of which a lane cannot ask every deployment."""
    found = plan(name, config()).first
    assert (found.enters_litellm, found.is_claude) == (enters, is_claude)


def test_one_deployment_is_the_order():
    """Whatever its weight."""
    for weight in (0.0, 1.0):
        assert [one.served for one in target(weight).in_order()] == ["0"]


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 0, 0), (5, 0, 1)])
def test_each_deployment_is_asked_once(weights):
    """Whatever the weights are."""
    for _ in range(50):
        assert sorted(one.served for one in target(*weights).in_order()) == ["0", "1", "2"]


def test_load_is_spread_by_weight():
    """The first one is drawn by the weights; one without a weight comes after those with one."""
    drawn = Counter(target(3, 1, 0).in_order()[0].served for _ in range(4000))
    assert set(drawn) == {"0", "1"}
    assert 0.7 < drawn["0"] / 4000 < 0.8


def test_without_weights_load_is_spread_evenly():
    """Each one is the first equally often."""
    drawn = Counter(target(0, 0).in_order()[0].served for _ in range(4000))
    assert 0.45 < drawn["0"] / 4000 < 0.55


def test_an_order_leaves_the_target_as_it_is():
    """A target is kept for many requests."""
    one = target(1, 2, 3)
    before = one.deployments
    one.in_order()
    assert one.deployments == before
