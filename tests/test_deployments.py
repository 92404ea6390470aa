"""config/deployments.py: a deployment's provider and endpoint, and why it may need LiteLLM."""

import dataclasses

import pytest

from claude_proxy.config.deployments import (
    CHAT_EXTRAS,
    CHAT_UNDERSTOOD,
    DEFAULTS,
    OF_ROUTER,
    UNDERSTOOD,
    ChatEndpoint,
    Deployment,
    Lane,
    deployment,
    parameters,
)
from claude_proxy.providers.compatibility import STRICT, dialect
from claude_proxy.providers.endpoints import Hosts, Provider
from claude_proxy.secret import Secret

ZAI = "https://api.z.ai/api/anthropic"
CLAUDE = {"model": "anthropic/claude-opus-4-8"}
GLM = {"model": "anthropic/glm-5", "api_base": ZAI, "api_key": "made-up"}
GPT = {"model": "openai/gpt", "api_key": "made-up"}


def of(params, **more):
    return deployment(params, Hosts("https://claude.example"), **more)


@pytest.mark.parametrize(
    ("params", "lane", "provider"),
    [
        (CLAUDE, Lane.CLAUDE, Provider.CLAUDE),
        (CLAUDE | {"api_base": "https://claude.example"}, Lane.CLAUDE, Provider.CLAUDE),
        ({"model": "claude-x", "custom_llm_provider": "anthropic"}, Lane.CLAUDE, Provider.CLAUDE),
        (GLM, Lane.MESSAGES, Provider.ANTHROPIC_FORMAT),
        ({"model": "anthropic/demo", "api_base": "http://demo.invalid"}, Lane.DEMO, Provider.DEMO),
        (GPT, Lane.COMPLETION, Provider.OPENAI),
        ({"model": "gemini/x"}, Lane.COMPLETION, Provider.OTHER),
        ({"model": "vertex_ai/gemini-x"}, Lane.COMPLETION, Provider.OTHER),
        ({"model": "bedrock/amazon.nova-x"}, Lane.COMPLETION, Provider.OTHER),
        ({"model": "bedrock/anthropic.claude-x"}, Lane.LITELLM, Provider.OTHER),
        ({"model": "vertex_ai/claude-x"}, Lane.LITELLM, Provider.OTHER),
        ({}, Lane.COMPLETION, Provider.OTHER),
    ],
)
def test_lanes(params, lane, provider):
    """LiteLLM handles Claude on a cloud; a lane handles every other format, directly or through LiteLLM."""
    one = of(params)
    assert (one.lane, one.provider) == (lane, provider)
    assert one.reason == ("LiteLLM knows this provider's format" if lane is Lane.LITELLM else "")


@pytest.mark.parametrize(
    ("params", "served", "model"),
    [
        (CLAUDE, "anthropic/claude-opus-4-8", "claude-opus-4-8"),
        ({"model": "claude-x", "custom_llm_provider": "anthropic"}, "anthropic/claude-x", "claude-x"),
        ({"model": "anthropic/claude-x", "custom_llm_provider": "anthropic"}, "anthropic/claude-x", "claude-x"),
        ({"model": "anthropic/z-ai/glm", "api_base": ZAI}, "anthropic/z-ai/glm", "z-ai/glm"),
        ({"model": "groq/x", "custom_llm_provider": None}, "groq/x", "groq/x"),
    ],
)
def test_names(params, served, model):
    """LiteLLM's name is for the record, and the name without its prefix is sent."""
    one = of(params)
    assert (one.served, one.model) == (served, model)


def test_what_a_deployment_says():
    """Address, key, headers, timeouts and defaults are taken unchanged; LiteLLM's values apply to the rest."""
    one = of(
        GLM
        | {
            "api_base": f"{ZAI}/", "extra_headers": {"x-team": "a", "x-number": 7}, "timeout": "60", "stream_timeout": 10,
            "num_retries": 3, "weight": 2, "max_tokens": 9, "top_k": 0, "thinking": {"type": "enabled"}, "drop_params": True,
        }
    )  # fmt: skip
    assert (one.api_base, one.api_key.reveal(), one.lane) == (ZAI, "made-up", Lane.MESSAGES)
    assert one.extra_headers == (("x-team", "a"), ("x-number", "7"))
    assert (one.timeout, one.stream_timeout, one.num_retries, one.weight) == (60.0, 10.0, 3, 2.0)
    assert (one.defaults, one.thinking) == ({"max_tokens": 9, "top_k": 0}, {"thinking": {"type": "enabled"}})
    assert one.row == dialect("anthropic/glm-5", None, f"{ZAI}/") != STRICT


def test_what_a_deployment_does_not_say():
    """Timeouts, retries, weight and address come from the configuration, and there is no key."""
    one = of(CLAUDE | {"api_base": None, "api_key": "", "timeout": None, "weight": None, "max_tokens": None})
    assert one == Deployment(
        Lane.CLAUDE, Provider.CLAUDE, "anthropic/claude-opus-4-8", "claude-opus-4-8", row=one.row, defaults={}, thinking={}
    )
    assert (one.api_base, one.api_key, one.timeout, one.stream_timeout, one.num_retries, one.weight) == (*[None] * 5, 0.0)


def test_which_server_is_there():
    """``model_info`` names the server, whose row applies to chat completions."""
    own = {"model": "openai/m", "api_base": "http://127.0.0.1:8000/v1"}
    said = parameters(own, {"chat_server": "sglang", "mode": "chat"})
    one = of(said, endpoint_lookup=lambda _: ChatEndpoint("http://127.0.0.1:8000/v1", model="m"))
    assert (one.row.name, one.lane, one.extra) == ("sglang", Lane.CHAT, {})
    assert of(parameters(GLM, {"chat_server": "sglang"}), endpoint_lookup=lambda _: None).row == of(GLM).row
    for info in (None, {}, {"mode": "chat"}, "sglang"):
        assert parameters(own, info) is own


def test_a_key_hides_itself():
    """The printed form of a deployment shows no key."""
    assert isinstance(of(GLM).api_key, Secret)
    assert "made-up" not in repr(of(GLM))


def test_a_deployment_does_not_change():
    """A deployment is frozen, because it is kept for many requests."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        of(CLAUDE).model = "other"


@pytest.mark.parametrize("retries", [("3", 3), (0, 0), ("x", None), (-1, None), (True, None), (None, None), (2.5, None)])
def test_retries_are_read_as_litellm_reads_them(retries):
    """Retries are a whole number, possibly as text."""
    value, read = retries
    assert of(CLAUDE | {"num_retries": value}).num_retries == read


# --- what needs LiteLLM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"rpm": 10}, "litellm_params: rpm"),
        ({"tpm": 10, "rpm": 10}, "litellm_params: rpm, tpm"),
        ({"max_parallel_requests": 1}, "litellm_params: max_parallel_requests"),
        ({"max_budget": 1.0, "budget_duration": "1d"}, "litellm_params: budget_duration, max_budget"),
        ({"guardrails": ["x"]}, "litellm_params: guardrails"),
        ({"tags": ["x"]}, "litellm_params: tags"),
        ({"extra_body": {}}, "litellm_params: extra_body"),
        ({"a_parameter_of_tomorrow": 0}, "litellm_params: a_parameter_of_tomorrow"),
        ({"extra_headers": ["x"]}, "litellm_params: extra_headers"),
        ({"timeout": "soon"}, "litellm_params: timeout"),
        ({"timeout": -1, "weight": "heavy"}, "litellm_params: timeout, weight"),
        ({"weight": float("nan")}, "litellm_params: weight"),
        ({"weight": float("inf")}, "litellm_params: weight"),
        ({"stream_timeout": {"read": 1}}, "litellm_params: stream_timeout"),
    ],
)
@pytest.mark.parametrize("params", [CLAUDE, GLM])
def test_what_sends_a_deployment_through_litellm(params, more, reason):
    """A limit, a budget, and anything unknown or unreadable needs LiteLLM, and the reason names it."""
    one = of(params | more)
    assert (one.lane, one.reason) == (Lane.LITELLM, reason)
    assert one.provider is of(params).provider


@pytest.mark.parametrize("value", [None, False])
def test_a_parameter_without_a_value_asks_for_nothing(value):
    """A parameter without a value has no effect; LiteLLM's router adds such parameters."""
    assert of(CLAUDE | {"rpm": value, "use_in_pass_through": value}) == of(CLAUDE)


@pytest.mark.parametrize("name", sorted(UNDERSTOOD - {"model", "api_base", "custom_llm_provider"}))
def test_what_is_understood_needs_no_litellm(name):
    """The lane handles each of these, or it has no effect on the lane."""
    assert of(GLM | {name: {} if name == "extra_headers" else 1}).lane is Lane.MESSAGES


def test_one_that_litellm_has_chosen():
    """A deployment that LiteLLM has chosen uses its lane; Claude on a cloud still has none."""
    odd = {"rpm": 10, "weight": "heavy", "extra_headers": ["x"]}
    one = of(GLM | odd, chosen_by_litellm=True)
    assert (one.lane, one.reason, one.weight, one.extra_headers) == (Lane.MESSAGES, "", 0.0, ())
    assert of({"model": "gemini/x"} | odd, chosen_by_litellm=True).lane is Lane.COMPLETION
    assert of({"model": "bedrock/anthropic.claude-x"}, chosen_by_litellm=True).lane is Lane.LITELLM


def test_defaults_are_fields_of_a_request():
    """Request fields for which a deployment may set a default are understood."""
    assert set(DEFAULTS) < UNDERSTOOD


# --- a provider of chat completions ------------------------------------------------------------------------------------------

WIRE = ChatEndpoint("https://gpt.invalid/v1", "made-up-env", "api-key", "2025-01-01", "gpt-on-the-wire")


def chat(params, endpoint=WIRE, **more):
    return of(params, endpoint_lookup=lambda _: endpoint, **more)


def test_one_of_chat_completions():
    """Address, key, key header, version and name come from the endpoint; everything else from config.yaml."""
    one = chat(GPT | {"timeout": 60, "weight": 2, "max_tokens": 9, "extra_headers": {"x-team": "a"}})
    assert (one.lane, one.provider, one.served, one.reason) == (Lane.CHAT, Provider.OPENAI, "openai/gpt", "")
    assert (one.api_base, one.api_key.reveal(), one.key_header) == (WIRE.base, "made-up-env", "api-key")
    assert (one.api_version, one.model) == ("2025-01-01", "gpt-on-the-wire")
    assert (one.timeout, one.weight, one.defaults, one.extra_headers) == (60.0, 2.0, {"max_tokens": 9}, (("x-team", "a"),))
    assert chat(GPT, WIRE._replace(key=None)).api_key is None


@pytest.mark.parametrize(
    ("params", "base", "row"),
    [
        (GPT, "https://api.openai.com/v1", "openai"),
        (GPT, "http://127.0.0.1:8000/v1", "openai-compatible"),
        (GPT, "https://api.groq.com/openai/v1", "groq"),
        ({"model": "x", "custom_llm_provider": "groq"}, "https://own.invalid", "groq"),
    ],
)
def test_its_row_is_that_of_its_address(params, base, row):
    """The row is that of the endpoint's address, even if a variable sets the address."""
    assert chat(params, WIRE._replace(base=base)).row.name == row


def test_what_goes_into_its_requests():
    """Parameters of the format, thinking, and ``extra_body``, which has priority; nothing that is off."""
    extra = {"reasoning_effort": "low", "seed": 7, "verbosity": None, "thinking": {"type": "enabled"}}
    one = chat(GPT | extra | {"drop_params": True, "extra_body": {"seed": 8, "chat_template_kwargs": {"a": 1}}})
    assert one.extra == {
        "reasoning_effort": "low", "seed": 8, "thinking": {"type": "enabled"}, "chat_template_kwargs": {"a": 1},
    }  # fmt: skip
    assert of(GLM).extra is None


@pytest.mark.parametrize("params", [CLAUDE, GLM, {"model": "anthropic/demo", "api_base": "http://demo.invalid"}])
def test_who_has_a_lane_needs_no_wire(params):
    """No endpoint is looked up for a deployment under ``anthropic/``."""
    asked = []
    assert of(params, endpoint_lookup=asked.append).lane is of(params).lane
    assert asked == []


@pytest.mark.parametrize("name", sorted(CHAT_UNDERSTOOD | UNDERSTOOD - {"model", "api_base", "custom_llm_provider"}))
def test_what_is_understood_of_chat_completions(name):
    """The lane handles each of these, or it has no effect on the lane."""
    assert chat(GPT | {name: {} if name in ("extra_headers", "extra_body") else 1}).lane is Lane.CHAT


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"rpm": 10}, "litellm_params: rpm"),
        ({"a_parameter_of_tomorrow": 0}, "litellm_params: a_parameter_of_tomorrow"),
        ({"extra_headers": ["x"]}, "litellm_params: extra_headers"),
        ({"timeout": "soon"}, "litellm_params: timeout"),
    ],
)
def test_what_sends_one_of_chat_completions_through_litellm(more, reason):
    """Anything unknown or unreadable needs LiteLLM, unless LiteLLM has already chosen the deployment."""
    one = chat(GPT | more)
    assert (one.lane, one.reason) == (Lane.LITELLM, reason)
    assert chat(GPT | more, chosen_by_litellm=True).lane is Lane.CHAT


def test_extras_are_for_chat_completions_alone():
    """Extra parameters are not sent to a provider with Anthropic's format."""
    assert not set(CHAT_EXTRAS) & UNDERSTOOD


# --- a provider whose format LiteLLM alone knows -----------------------------------------------------------------------------

GEMINI = {"model": "gemini/gemini-x", "api_key": "made-up-gemini"}


def test_what_litellm_is_asked_with():
    """LiteLLM gets the whole entry with the provider's parameters; the printed form shows none of it."""
    one = of(GEMINI | {"vertex_project": "p", "drop_params": False, "rpm": None})
    assert (one.lane, one.params) == (Lane.COMPLETION, GEMINI | {"vertex_project": "p", "drop_params": False})
    assert "made-up-gemini" not in repr(one)
    assert of({"model": "bedrock/anthropic.claude-x", "aws_region_name": "r"}).params["aws_region_name"] == "r"
    assert of(GLM).params is None
    assert chat(GPT).params is None


@pytest.mark.parametrize("name", sorted(OF_ROUTER))
def test_what_litellm_chooses_by(name):
    """If LiteLLM's router counts or chooses, the request goes through LiteLLM."""
    one = of(GEMINI | {name: 1})
    assert (one.lane, one.reason) == (Lane.LITELLM, f"litellm_params: {name}")
    assert of(GEMINI | {name: 1}, chosen_by_litellm=True).lane is Lane.COMPLETION
