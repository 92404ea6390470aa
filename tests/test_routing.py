"""config/routing.py: retries and fallbacks by LiteLLM's rules, compared with LiteLLM itself."""

import copy

import litellm
import pytest
from litellm.litellm_core_utils.exception_mapping_utils import exception_type
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.types.router import RetryPolicy, RoutingStrategy
from litellm.utils import calculate_retry_after, get_num_retries_from_retry_policy, should_retry

from claude_proxy.config.routing import NUM_RETRIES, STRATEGIES, Routing, is_entry, mistakes, number, pause

# A number of its own for each of LiteLLM's keys.
POLICY = {key: count for count, key in enumerate(RetryPolicy.model_fields, start=10)}
STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 500, 501, 502, 503, 504, 520, 529)


def router(**settings):
    return Routing.of({"router_settings": settings})


# --- what config.yaml says ---------------------------------------------------------------------------------------------------


def test_without_settings_it_is_litellms_own():
    """The defaults are two retries, no fallback and no timeout."""
    assert Routing.of({}) == Routing() == Routing.of({"router_settings": None, "litellm_settings": None})
    assert (Routing().num_retries, Routing().fallbacks, Routing().timeout) == (NUM_RETRIES, (), None)
    assert litellm.num_retries is None, "LiteLLM's default is that of the package openai"


@pytest.mark.parametrize(
    ("own", "general", "found"),
    [
        ({"num_retries": 0}, {"num_retries": 5}, {"num_retries": 0}),
        ({}, {"num_retries": 5}, {"num_retries": 5}),
        ({"num_retries": "3"}, {}, {"num_retries": 3}),
        ({"timeout": 60}, {"request_timeout": 30}, {"timeout": 60.0}),
        ({}, {"request_timeout": 30}, {"timeout": 30.0}),
        ({"timeout": 0}, {"request_timeout": 30}, {"timeout": 30.0}),
        ({"timeout": "60"}, {}, {"timeout": 60.0}),
        ({"stream_timeout": 10}, {"stream_timeout": 9}, {"stream_timeout": 10.0}),
        ({"retry_after": 3}, {"retry_after": 9}, {"retry_after": 3.0}),
        ({}, {"stream_timeout": 9, "retry_after": 9}, {}),
        ({"fallbacks": [{"a": ["b"]}]}, {"fallbacks": [{"c": ["d"]}]}, {"fallbacks": ({"a": ["b"]},)}),
        ({"fallbacks": []}, {"fallbacks": [{"c": ["d"]}]}, {"fallbacks": ({"c": ["d"]},)}),
        ({"fallbacks": [{"a": ["b"]}], "default_fallbacks": ["x"]}, {}, {"fallbacks": ({"a": ["b"]}, {"*": ["x"]})}),
        ({}, {"default_fallbacks": ["x"]}, {"fallbacks": ({"*": ["x"]},)}),
        ({"context_window_fallbacks": [{"a": ["b"]}]}, {}, {"context_window_fallbacks": ({"a": ["b"]},)}),
        ({"context_window_fallbacks": []}, {}, {"context_window_fallbacks": None}),
        ({}, {"content_policy_fallbacks": [{"a": ["b"]}]}, {"content_policy_fallbacks": ({"a": ["b"]},)}),
        (
            {"retry_policy": {"TimeoutErrorRetries": 1, "BadRequestErrorRetries": None}}, {},
            {"retry_policy": {"TimeoutErrorRetries": 1}},
        ),
        (
            {"model_group_retry_policy": {"a": {"DefaultRetries": "1"}}}, {},
            {"model_group_retry_policy": {"a": {"DefaultRetries": 1}}},
        ),
    ],
)  # fmt: skip
def test_whose_setting_is_taken(own, general, found):
    """``router_settings`` has priority over ``litellm_settings``, and numbers may be texts."""
    assert Routing.of({"router_settings": own, "litellm_settings": general}) == Routing(**found)


@pytest.mark.parametrize(
    "settings",
    [
        ["x"],
        {"fallbacks": "x", "default_fallbacks": "x", "context_window_fallbacks": {"a": ["b"]}},
        {"fallbacks": ["x", {"a": "b"}, {"a": [{"model": "b"}]}, None]},
        {"num_retries": "x", "retry_after": [], "timeout": "os.environ/X", "stream_timeout": float("inf")},
        {"num_retries": -1, "timeout": -1, "retry_after": float("nan")},
        {"num_retries": True, "timeout": True},
        {"retry_policy": ["x"], "model_group_retry_policy": ["x"]},
        {"retry_policy": {"DefaultRetries": "x"}},
    ],
)
def test_what_is_not_as_it_should_be_is_left_out(settings):
    """An invalid value is ignored, because config/features.py sends such requests through LiteLLM."""
    assert Routing.of({"router_settings": settings}) == Routing()


@pytest.mark.parametrize(
    ("value", "read"),
    [(1, 1.0), ("1.5", 1.5), (0, 0.0), (-1, None), ("x", None), (None, None), (True, None), ([], None), ("nan", None),
     (float("inf"), None), (10**400, None)],
)  # fmt: skip
def test_a_number(value, read):
    """A finite number that is not negative is valid, also as text."""
    assert number(value) == read


@pytest.mark.parametrize(
    ("value", "fits"),
    [({"a": ["b", "c"]}, True), ({}, True), ({"a": []}, True), ({"a": "b"}, False), ({"a": [{}]}, False), ("a", False)],
)
def test_an_entry_of_fallbacks(value, fits):
    """An entry has a list of names for each pattern."""
    assert is_entry(value) is fits


# --- fallbacks ---------------------------------------------------------------------------------------------------------------

RULES = [{"claude-*": ["glm", "kimi"]}, {"claude-opus-*": ["kimi", "claude-opus-9"]}]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("claude-sonnet-5", ["glm", "kimi"]),
        ("claude-opus-4", ["kimi", "claude-opus-9"]),
        ("claude-opus-9", ["kimi"]),
        ("glm", []),
    ],
)
def test_fallbacks(model, found):
    """The fallbacks are those of the most specific pattern, in order, without the model itself."""
    assert router(fallbacks=RULES).fallbacks_of(model) == found


def test_default_fallbacks_are_for_models_without_a_rule():
    """Default fallbacks do not apply to a model with its own rule."""
    routing = router(fallbacks=RULES, default_fallbacks=["last"])
    assert (routing.fallbacks_of("claude-x"), routing.fallbacks_of("glm")) == (["glm", "kimi"], ["last"])


def test_special_fallbacks_are_a_rule_of_their_own():
    """Without special rules the general ones apply (None); with rules, a model without one has no fallback."""
    without, special = router(fallbacks=RULES), router(context_window_fallbacks=RULES, content_policy_fallbacks=RULES)
    assert without.context_window_fallbacks_of("claude-x") is None
    assert without.content_policy_fallbacks_of("claude-x") is None
    for found in (special.context_window_fallbacks_of, special.content_policy_fallbacks_of):
        assert found("claude-x") == ["glm", "kimi"]
        assert found("gpt") == []


# --- retries -----------------------------------------------------------------------------------------------------------------


def litellms_retries(status, policy):
    """Return how often LiteLLM's router would retry a request to a provider with Anthropic's format."""
    with pytest.raises(Exception, match="made up") as caught:
        exception_type(model="m", original_exception=BaseLLMException(status, "made up", {}), custom_llm_provider="anthropic")
    return get_num_retries_from_retry_policy(caught.value, policy)


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """Keep LiteLLM from printing advice beside an error."""
    monkeypatch.setattr(litellm, "suppress_debug_info", True)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("absent", ["nothing", "own", "default", "both"])
def test_a_policy_means_what_it_means_to_litellm(status, absent):
    """For each status the same key of ``retry_policy`` applies, and ``DefaultRetries`` if that is not set."""
    own = next(key for key, count in POLICY.items() if count == litellms_retries(status, POLICY))
    left_out = {"nothing": (), "own": (own,), "default": ("DefaultRetries",), "both": (own, "DefaultRetries")}[absent]
    policy = {key: count for key, count in POLICY.items() if key not in left_out}
    expected = litellms_retries(status, policy)
    plain = 7 if should_retry(status) else 0
    assert router(retry_policy=policy, num_retries=7).retries("m", status, None) == (plain if expected is None else expected)


@pytest.mark.parametrize("status", STATUSES)
def test_without_a_policy_errors_of_the_provider_are_repeated(status):
    """Timeouts, conflicts, rate limits and the provider's errors are retried; a client's error would repeat."""
    assert router(num_retries=7).retries("m", status, None) == (7 if should_retry(status) else 0)


@pytest.mark.parametrize(("requested", "made"), [(None, 7), (0, 0), (3, 3)])
def test_a_deployments_own_number(requested, made):
    """A deployment's number has priority over the router's, and a policy over both."""
    assert router(num_retries=7).retries("m", 500, requested) == made
    assert router(num_retries=7).retries("m", 400, requested) == 0
    assert router(num_retries=7, retry_policy={"InternalServerErrorRetries": 1}).retries("m", 500, requested) == 1
    assert router(num_retries=7, retry_policy={"TimeoutErrorRetries": 1}).retries("m", 500, requested) == made


def test_a_models_own_policy():
    """A model's own policy replaces the general one completely."""
    routing = router(
        num_retries=7, retry_policy={"RateLimitErrorRetries": 1}, model_group_retry_policy={"m": {"TimeoutErrorRetries": 3}}
    )
    assert [routing.retries("m", status, None) for status in (408, 429)] == [3, 7]
    assert [routing.retries("n", status, None) for status in (408, 429)] == [7, 1]


@pytest.mark.parametrize("attempt", range(8))
@pytest.mark.parametrize("least", [0.0, 3.0, 100.0])
def test_pauses_grow_as_litellms(monkeypatch, attempt, least):
    """Pauses double from half a second to eight, are at least ``retry_after``, and vary by a quarter."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    assert pause(attempt, least) == calculate_retry_after(10 - attempt, 10, min_timeout=least)
    spread = pause(attempt, least)
    monkeypatch.setattr("random.random", lambda: 1.0)
    assert pause(attempt, least) == 1.25 * spread


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (60.0, 60.0), (61.0, 0.5), (0.0, 0.5), (None, 0.5)])
def test_a_provider_s_own_time_goes_first(monkeypatch, asked, waited):
    """An error's ``retry-after`` of up to a minute applies, like in LiteLLM; any other one is ignored."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    assert pause(0, 0.0, asked) == waited


ROUTED = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "made-up"}} for name in "ab"]


@pytest.mark.parametrize(
    "settings",
    [
        {"fallbacks": {"a": ["b"]}},
        {"fallbacks": ["b"]},
        {"fallbacks": "b"},
        {"fallbacks": [{"a": ["b"], "b": ["a"]}]},
        {"content_policy_fallbacks": {"a": ["b"]}},
        {"model_group_alias": ["a"]},
        {"routing_strategy": "round-robin"},
        {"retry_policy": {"RateLimitErrorRetries": "none"}},
    ],
    ids=str,
)
def test_settings_with_which_litellm_does_not_start(settings):
    """LiteLLM's router refuses them, and there is a sentence for each that names the setting."""
    with pytest.raises(Exception, match=r".*"):  # of five classes, one of them pydantic's
        litellm.Router(model_list=copy.deepcopy(ROUTED), **copy.deepcopy(settings))
    (sentence,) = mistakes({"router_settings": settings})
    assert sentence.startswith(f"router_settings: {next(iter(settings))}")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_litellm_knows(strategy):
    """There is no sentence about a value that LiteLLM accepts."""
    assert strategy in {one.value for one in RoutingStrategy} | {"simple-shuffle", "lar1"}
    assert [*mistakes({"router_settings": {"routing_strategy": strategy, "fallbacks": [{"a": ["b"]}]}})] == []


def test_all_strategies_are_known():
    """Each strategy of LiteLLM is in the table."""
    assert {one.value for one in RoutingStrategy} <= {*STRATEGIES}


def test_fallbacks_of_litellm_settings():
    """They are validated as those of the router, because LiteLLM's router takes them over."""
    (sentence,) = mistakes({"litellm_settings": {"fallbacks": {"a": ["b"]}}})
    assert sentence.startswith("litellm_settings: fallbacks: is a mapping")
    assert [*mistakes({})] == []
    assert [*mistakes({"router_settings": ["x"]})] == [
        "router_settings: should be a mapping of settings, such as num_retries: 2"
    ]
