"""litellm/callback.py: the hooks, called directly with no network."""

import asyncio
import json

import litellm
import pytest
from lanes import Received, Response, Upstream
from litellm.proxy import proxy_server
from litellm.types.router import Deployment as LitellmDeployment
from litellm.types.utils import CallTypes

from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.config.deployments import ChatEndpoint, Lane
from claude_proxy.config.models import ActiveConfig
from claude_proxy.config.settings import Settings
from claude_proxy.credentials.redaction import Redactor
from claude_proxy.litellm import callback as module
from claude_proxy.litellm.callback import ClaudeProxy
from claude_proxy.litellm.lane_client import AttemptRefused, BetasInBody, LaneClient
from claude_proxy.providers.call_ids import safe_id
from claude_proxy.providers.compatibility import dialect
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.entrance import Entrance, current
from claude_proxy.proxy.lanes.chat_lane import HttpEndpoint
from claude_proxy.proxy.outcome import failed
from claude_proxy.server.application import App

# Pydantic warns of LiteLLM's own types.
pytestmark = pytest.mark.filterwarnings("ignore:.* using the `ReadOnly` qualifier:UserWarning")
POOL = "sk-ant-oat01-made-up-pool"
OWN = "sk-ant-oat01-made-up-own"
CLAUDE = {"model": "anthropic/claude-x", "custom_llm_provider": "anthropic", "messages": []}
OTHER = {
    "model": "anthropic/glm",
    "custom_llm_provider": "anthropic",
    "api_base": "https://api.z.ai/api/anthropic",
    "messages": [],
}
GROQ = {"model": "groq/x", "custom_llm_provider": "groq", "messages": []}
CLOUD = {"model": "bedrock/us.anthropic.claude-x", "custom_llm_provider": "bedrock", "messages": []}
DEMO = {"model": "anthropic/demo", "custom_llm_provider": "anthropic", "api_base": "http://demo.invalid", "messages": []}
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _no_router(monkeypatch):
    """As before LiteLLM has started."""
    monkeypatch.setattr(proxy_server, "llm_router", None)


def entrance_of(body=None, *, planned=False, model="", user="", **headers):
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    raw = json.dumps({"model": "claude-x", "messages": HELLO} | (body or {})).encode()
    client = Received(raw, sent, user=user)
    return Entrance(client.request, client.outlet, client.journal, planned, model)


def proxy_of(loaded=None, models=None, environ=None, endpoint=None, **variables):
    """Return the callback of a process with this configuration, router and pool, and an endpoint for chat completions."""
    config = ActiveConfig(
        loaded or {}, environ or {}, lookup=lambda name: (models or {}).get(name, ()), endpoint_lookup=lambda _: endpoint
    )
    return ClaudeProxy(App(Settings.parse(variables), config, Redactor([]), clock=lambda: 0.0))


def call(hook, entrance):
    """Await a hook like LiteLLM, in the context of a request."""

    async def run():
        token = current.set(entrance)
        try:
            return await hook
        finally:
            current.reset(token)

    return asyncio.run(run())


def deploy(kwargs, entrance, call_type=CallTypes.anthropic_messages, proxy=None):
    return call((proxy or proxy_of()).async_pre_call_deployment_hook(kwargs, call_type), entrance)


# --- before a deployment is chosen -------------------------------------------------------------------------------------------

ENTRIES = [
    {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": f"os.environ/{name.upper()}_KEY"}}
    for name in ("one", "two")
]
FALLBACKS = {"fallbacks": [{"claude-*": ["one", "two", "nobody"]}]}


def pre_call(data, entrance, *, ready=(), loaded=None, proxy=None):
    keys = {f"{name.upper()}_KEY": "made-up" for name in ready}
    models = {"claude-x": [{"model": "anthropic/claude-x"}], "glm": [OTHER]}
    models |= {name: [{"model": f"openai/{name}", "api_key": "made-up" if name in ready else None}] for name in ("one", "two")}
    proxy = proxy or proxy_of({"model_list": ENTRIES} | (loaded or {}), models, keys)
    return call(proxy.async_pre_call_hook(None, None, data, "anthropic_messages"), entrance)


@pytest.mark.parametrize(
    ("ready", "fallbacks", "retries"),
    [(("one", "two"), ["one", "two"], None), (("two",), ["two"], None), ((), [], 0)],
)
def test_only_fallbacks_that_could_answer_are_named(ready, fallbacks, retries):
    """A fallback without its key is left out; without any fallback LiteLLM does not retry either."""
    data = pre_call({"model": "claude-x"}, entrance_of(), ready=ready, loaded={"router_settings": FALLBACKS})
    assert (data["fallbacks"], data.get("num_retries")) == (fallbacks, retries)


def test_without_rules_nothing_is_said_of_fallbacks():
    """Without rules LiteLLM finds no fallbacks; requests to other providers than Claude are retried as config.yaml says."""
    assert pre_call({"model": "glm"}, entrance_of()) == {"model": "glm"}
    assert pre_call({"model": "claude-x"}, entrance_of()) == {"model": "claude-x", "num_retries": 0}


def test_a_model_without_a_rule_has_no_fallback():
    """An empty list is set, because LiteLLM would otherwise use fallbacks of its own."""
    assert pre_call({"model": "glm"}, entrance_of(), loaded={"router_settings": FALLBACKS})["fallbacks"] == []


@pytest.mark.parametrize("model", ["claude-proxy/glm", "claude-proxy/claude-proxy/glm"])
def test_a_name_of_the_list_is_that_of_the_configuration(model):
    """LiteLLM gets the model's name in config.yaml, also without a client's request."""
    assert pre_call({"model": model}, entrance_of())["model"] == "glm"
    assert pre_call({"model": model}, None) == {"model": "glm"}


def test_a_step_of_the_proxys_plan():
    """LiteLLM gets the plan's model, whatever the body names, and no fallback."""
    entrance = entrance_of(planned=True, model="one")
    data = pre_call({"model": "claude-x"}, entrance, ready=("one", "two"), loaded={"router_settings": FALLBACKS})
    assert data == {"model": "one", "fallbacks": []}


@pytest.mark.parametrize(
    ("body", "user", "status", "words"),
    [
        ({"model": "nobody"}, "anna", 404, "model: nobody is not served by this proxy"),
        ({"model": "one"}, "anna", 400, "one is not ready: set ONE_KEY on the proxy (.env) and restart it."),
        ({"model": "claude-x"}, "ben", 400, "claude-x"),
        (
            {"model": "glm", "tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-x"}]},
            "ben",
            400,
            "claude-x",
        ),
    ],
    ids=["unknown", "without-key", "forbidden", "forbidden-for-a-tool"],
)
def test_what_is_refused_before_an_attempt(body, user, status, words):
    """The error is kept for the client and no attempt is made, because LiteLLM would look for the model for nine seconds."""
    entrance = entrance_of(body, user=user)
    users = {"claude_proxy": {"users": {"ben": {"models": ["glm"]}}}}
    with pytest.raises(AttemptRefused):
        pre_call({"model": body["model"]}, entrance, loaded=users)
    assert entrance.refusal.status == status
    assert words in json.loads(entrance.refusal.body)["error"]["message"]
    assert entrance.outcome(failed(500, own_refusal(500, "LiteLLM's"))).refusal is entrance.refusal


def test_the_model_of_a_rule():
    """LiteLLM gets the rule's model, whatever the body names, its fallbacks, and as the last one the requested model."""
    entrance = entrance_of(model="one")
    router = {"fallbacks": [{"one": ["two", "nobody"]}]}
    data = pre_call({"model": "claude-x"}, entrance, ready=("one", "two"), loaded={"router_settings": router})
    assert (data["model"], data["fallbacks"]) == ("one", ["two", "claude-x"])
    named = pre_call({"model": "two"}, entrance_of(model="claude-x"), ready=("two",), loaded={"router_settings": router})
    assert (named["model"], named["fallbacks"]) == ("two", []), "an alias of a virtual key stays"


UNPRICED = {
    "model_list": [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in ("one", "two")],
    "claude_proxy": {
        "users": {"anna": {"budget": {"day": 1}}},
        "prices": {name: {"input": 1, "output": 1} for name in ("claude-*", "one")},
        "unpriced_models": "refuse",
    },
    "router_settings": FALLBACKS,
}


def test_a_model_without_a_price_is_refused():
    """A user with a budget gets the error, and no fallback without a price; LiteLLM's own fallbacks are refused, too."""
    entrance = entrance_of({"model": "two"}, user="anna")
    with pytest.raises(AttemptRefused):
        pre_call({"model": "two"}, entrance, ready=("one", "two"), loaded=UNPRICED)
    assert "No price is known for the model two" in json.loads(entrance.refusal.body)["error"]["message"]
    for user, left in (("anna", ["one"]), ("ben", ["one", "two"])):
        data = pre_call({"model": "claude-x"}, entrance_of(user=user), ready=("one", "two"), loaded=UNPRICED)
        assert data["fallbacks"] == left
    kwargs = {
        "model": "openai/two",
        "custom_llm_provider": "openai",
        "messages": [],
        "litellm_metadata": {"model_group": "two"},
    }
    proxy = proxy_of(UNPRICED, {"two": [{"model": "openai/two"}]})
    with pytest.raises(AttemptRefused, match="No price is known for the model two"):
        deploy(kwargs, entrance_of(user="anna"), proxy=proxy)
    assert "client" in deploy(kwargs, entrance_of(user="ben"), proxy=proxy)


def test_deployments_without_their_key_are_left_out():
    """Of several deployments with one name the ready ones stay; without any, all stay, and LiteLLM reports the error."""
    proxy = proxy_of({"model_list": ENTRIES})
    ready, lacking = ({"model_name": "one", "litellm_params": {"api_key": key}} for key in ("made-up", None))
    assert call(proxy.async_filter_deployments("one", [ready, lacking], None), None) == [ready]
    assert call(proxy.async_filter_deployments("one", [lacking], None), None) == [lacking]


# --- an attempt --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "lane", "fields"),
    [
        (CLAUDE, Lane.CLAUDE, None),
        (OTHER, Lane.MESSAGES, {"model": "anthropic/glm", "messages": []}),
        (DEMO, Lane.DEMO, {"model": "anthropic/demo", "messages": []}),
    ],
    ids=["claude", "anthropic-format", "demo"],
)
def test_an_attempt_that_a_lane_makes(kwargs, lane, fields):
    """LiteLLM gets the lane as its client, and no credential; other providers get only their part of the request."""
    entrance = entrance_of()
    prepared = deploy(kwargs, entrance, proxy=proxy_of(CLAUDE_OAUTH_TOKENS=POOL))
    client = prepared["client"]
    assert isinstance(client, LaneClient)
    assert prepared["api_key"] == module.PLACEHOLDER_KEY
    assert client._deployment.lane is lane
    assert client._fields == fields
    assert entrance.row == client._deployment.row
    assert POOL not in str(prepared)
    assert entrance.journal.attempts == 0, "the lane's own beginning counts"


def test_what_litellm_changed_of_a_request_goes_to_a_provider():
    """Only the fields of the Messages API are taken from LiteLLM's copy of a request, with LiteLLM's changes."""
    changed = OTHER | {"messages": HELLO, "system": "by a guardrail", "max_tokens": 7, "litellm_metadata": {}, "num_retries": 1}
    assert deploy(changed, entrance_of())["client"]._fields == {
        "model": "anthropic/glm", "messages": HELLO, "system": "by a guardrail", "max_tokens": 7,
    }  # fmt: skip


ENDPOINT = ChatEndpoint("https://api.groq.com/openai/v1", "made-up-groq", model="x")
CALL = {"id": "functions.Read:0", "function": {"name": "Read", "arguments": "{}"}}


def test_an_attempt_at_chat_completions():
    """LiteLLM gets the lane as its client, and the response is in Anthropic's format."""
    entrance = entrance_of()
    prepared = deploy(GROQ | {"api_base": None, "max_tokens": 7}, entrance, proxy=proxy_of(endpoint=ENDPOINT))
    assert (prepared["model"], prepared["custom_llm_provider"]) == ("anthropic/x", "anthropic")
    assert prepared["api_key"] == module.PLACEHOLDER_KEY
    client = prepared["client"]
    assert isinstance(client, LaneClient)
    assert (client._deployment.lane, client._deployment.served) == (Lane.CHAT, "groq/x")
    assert client._deployment.api_key.reveal() == "made-up-groq"
    assert client._fields == {"model": "groq/x", "messages": [], "max_tokens": 7}
    assert entrance.row == dialect("groq/x", None, None)
    assert "made-up-groq" not in str(prepared)


def test_an_attempt_at_a_provider_whose_format_litellm_knows(monkeypatch):
    """A lane makes the attempt through LiteLLM with the deployment's own parameters; the price is found under the new name."""
    monkeypatch.setattr(litellm, "model_cost", {"gemini-x": {"input_cost_per_token": 7.0, "litellm_provider": "gemini"}})
    monkeypatch.setattr(
        proxy_server, "llm_router", FakeRouter(model="gemini/gemini-x", api_key="made-up-gemini", rpm=10, seed=7)
    )
    entrance = entrance_of()
    kwargs = {"model": "gemini/gemini-x", "custom_llm_provider": "gemini", "messages": HELLO, "model_info": {"id": "1"}}
    prepared = deploy(kwargs | {"api_key": "made-up-gemini"}, entrance)
    client = prepared["client"]
    assert (client._deployment.lane, client._deployment.params["seed"], entrance.is_clean) == (Lane.COMPLETION, 7, True)
    assert (prepared["custom_llm_provider"], prepared["api_key"]) == ("anthropic", module.PLACEHOLDER_KEY)
    assert litellm.model_cost[prepared["model"]]["input_cost_per_token"] == 7.0


def test_what_a_chat_lane_made_of_a_response_stays():
    """A chat lane's response keeps its ids and thinking; a later attempt's response is adapted."""
    entrance, proxy = entrance_of(), proxy_of(endpoint=ENDPOINT)
    said = {"choices": [{"message": {"content": "one", "tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}
    upstream = Upstream(Response(json=said))
    proxy.app.serving._lanes[Lane.CHAT]._endpoint = HttpEndpoint(upstream)
    client = deploy(GROQ | {"messages": HELLO}, entrance, proxy=proxy)["client"]
    response = call(client.post("https://api.groq.com"), entrance).json()
    assert call(proxy.async_post_call_success_hook({}, None, response), entrance) is response
    assert response["content"][1]["id"] == safe_id("functions.Read:0")
    assert upstream.sent[0].header("authorization") == "Bearer made-up-groq"
    entrance.last = None  # as if nothing had come of it
    deploy(CLOUD, entrance)
    assert call(proxy.async_post_call_success_hook({}, None, response), entrance) is not response


class FakeRouter:
    """A router with one deployment."""

    def __init__(self, **params):
        self._params = params

    def get_deployment(self, model_id):
        return LitellmDeployment(model_name="m", litellm_params=self._params, model_info={"id": model_id})


def test_a_deployments_own_parameters_reach_its_lane(monkeypatch):
    """The lane gets headers, timeouts and defaults from config.yaml for the deployment that LiteLLM has chosen."""
    router = FakeRouter(
        model="anthropic/glm",
        api_base="https://elsewhere.invalid",
        rpm=10,
        timeout=7,
        extra_headers={"x-team": "a"},
        max_tokens=9,
    )
    monkeypatch.setattr(proxy_server, "llm_router", router)
    one = deploy(OTHER | {"model_info": {"id": "1"}, "api_key": "made-up-zai"}, entrance_of())["client"]._deployment
    assert (one.lane, one.timeout, one.extra_headers, one.defaults) == (
        Lane.MESSAGES, 7.0, (("x-team", "a"),), {"max_tokens": 9},
    )  # fmt: skip
    assert (one.api_base, one.api_key.reveal()) == (OTHER["api_base"], "made-up-zai")


def test_a_provider_of_another_name_gets_no_claude_credential():
    """Z.AI under the prefix anthropic/ keeps its own key, whatever credentials the pool and the client have."""
    entrance = entrance_of(authorization=f"Bearer {OWN}")
    proxy = proxy_of(CLAUDE_OAUTH_TOKENS=POOL)
    proxy.app.serving._lanes[Lane.MESSAGES]._client = upstream = Upstream(Response(json={"type": "message", "content": []}))
    client = deploy(OTHER | {"messages": HELLO, "api_key": "made-up-zai"}, entrance, proxy=proxy)["client"]
    call(client.post("https://api.z.ai/api/anthropic/v1/messages"), entrance)
    assert entrance.journal.provider is Provider.ANTHROPIC_FORMAT
    (sent,) = upstream.sent
    assert (sent.header("x-api-key"), sent.header("authorization")) == ("made-up-zai", "Bearer made-up-zai")
    assert "made-up-pool" not in str(sent.headers)
    assert "made-up-own" not in str(sent.headers)


@pytest.mark.parametrize(("mode", "status", "falls_back"), [("rotate", 400, True), ("passthrough", 401, False)])
def test_no_credential_is_an_error_that_a_fallback_replaces_where_the_pool_is_empty(mode, status, falls_back):
    """For an empty pool, LiteLLM may try a fallback; for a missing login, no other attempt is made. The error is the lane's."""
    entrance, proxy = entrance_of(), proxy_of(CLAUDE_TOKEN_MODE=mode)
    client = deploy(CLAUDE, entrance, proxy=proxy)["client"]
    with pytest.raises(Exception, match="No Claude credential"):
        call(client.post("https://api.anthropic.com/v1/messages"), entrance)
    assert entrance.last.status == status
    if falls_back:
        assert deploy(OTHER, entrance, proxy=proxy)["client"]
        assert entrance.outcome(failed(400, own_refusal(400, "LiteLLM's"))) is entrance.last
        return
    for kwargs in (CLAUDE, OTHER, GROQ):
        with pytest.raises(AttemptRefused):
            deploy(kwargs, entrance, proxy=proxy)
    assert entrance.outcome(failed(400, own_refusal(400, "LiteLLM's"))) is entrance.last


def begun(entrance):
    asyncio.run(entrance.outlet.begin(200, []))


def refused(entrance):
    entrance.refusal = own_refusal(400, "made up")


def final(entrance):
    entrance.last = failed(400, own_refusal(400, "made up"), final=True)


@pytest.mark.parametrize("happen", [begun, refused, final])
@pytest.mark.parametrize("kwargs", [CLAUDE, OTHER, GROQ], ids=["claude", "anthropic-format", "translated"])
def test_what_is_the_clients_is_not_replaced(happen, kwargs):
    """After a response has started, or after an error about the request, no other attempt is made."""
    entrance = entrance_of()
    happen(entrance)
    with pytest.raises(AttemptRefused):
        deploy(kwargs, entrance)
    assert entrance.journal.attempts == 0


def test_an_error_that_another_model_may_spare_the_client():
    """After such an error LiteLLM makes its next attempt, whose result is the client's unless Claude was the first choice."""
    for first, kept in ((Provider.CLAUDE, True), (Provider.ANTHROPIC_FORMAT, False)):
        entrance = entrance_of()
        entrance.journal.begin(first, "first")
        entrance.last = failed(500, own_refusal(500, "the first's"))
        deploy(CLOUD, entrance)
        assert (entrance.last is not None) is kept


@pytest.mark.parametrize(
    ("entrance", "call_type"), [(None, CallTypes.anthropic_messages), (entrance_of(), CallTypes.acompletion)]
)
def test_claude_is_asked_only_for_a_client(entrance, call_type):
    """Claude gets no health checks and no requests of LiteLLM's other routes."""
    with pytest.raises(AttemptRefused):
        deploy(CLAUDE, entrance, call_type, proxy_of(CLAUDE_OAUTH_TOKENS=POOL))


@pytest.mark.parametrize(
    ("entrance", "call_type"), [(None, CallTypes.anthropic_messages), (entrance_of(), CallTypes.acompletion)]
)
def test_others_are_left_as_litellm_has_them_without_a_client(entrance, call_type):
    """LiteLLM calls the hook again if it translates, and for its own requests; these are unchanged."""
    assert deploy(GROQ, entrance, call_type) is GROQ


# --- Claude on a cloud, which LiteLLM asks in its own format -----------------------------------------------------------------


def test_nothing_is_changed_in_place():
    """The hook builds new values, because LiteLLM passes the same messages to the next attempt."""
    thought, words = {"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "x"}
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [thought, words]}]
    kwargs = CLOUD | {"messages": history, "context_management": {"edits": []}}
    prepared = deploy(kwargs, entrance_of())
    assert prepared["messages"] == [history[0], {"role": "assistant", "content": [words]}]
    assert "context_management" not in prepared
    assert kwargs["context_management"] == {"edits": []}
    assert history[1]["content"] == [thought, words]


def test_an_attempt_of_litellms_is_in_the_journal():
    """An attempt of LiteLLM is counted when it starts, with LiteLLM's name and its provider's row."""
    entrance = entrance_of()
    deploy(CLOUD | {"model": "us.anthropic.claude-x"}, entrance)
    served = "bedrock/us.anthropic.claude-x"
    assert (entrance.journal.attempts, entrance.journal.served, entrance.journal.provider) == (1, served, Provider.OTHER)
    assert entrance.row == dialect("us.anthropic.claude-x", "bedrock", None)


@pytest.mark.parametrize(("before", "status"), [(0, 400), (1, None)])
def test_a_request_that_is_too_large_for_a_provider(monkeypatch, before, status):
    """For the requested model it is the client's error; for a fallback the attempt is not made."""

    def translated(*_, **__):
        raise module.TooLarge("made up")

    monkeypatch.setattr(module.request_fields, "translated", translated)
    entrance = entrance_of()
    for _ in range(before):
        entrance.journal.begin(Provider.ANTHROPIC_FORMAT, "first")
    with pytest.raises(AttemptRefused):
        deploy(CLOUD, entrance)
    assert (entrance.refusal and entrance.refusal.status) == status


def test_thinking_that_a_deployment_asks_for(monkeypatch):
    """The deployment's own thinking parameters have priority over the client's."""
    monkeypatch.setattr(
        proxy_server, "llm_router", FakeRouter(model=CLOUD["model"], thinking={"type": "enabled", "budget_tokens": 1024})
    )
    prepared = deploy(CLOUD | {"model_info": {"id": "1"}, "thinking": {"type": "adaptive"}}, entrance_of())
    assert prepared["thinking"] == {"type": "enabled", "budget_tokens": 1024}


def test_vertex_reads_betas_from_the_body():
    """A special client for Vertex puts the betas into the body; other attempts use LiteLLM's own client."""
    vertex = {"model": "vertex_ai/claude-x", "custom_llm_provider": "vertex_ai", "messages": []}
    assert isinstance(deploy(vertex, entrance_of())["client"], BetasInBody)
    assert "client" not in deploy(CLOUD, entrance_of())


BETA = "context-1m-2025-08-07"


@pytest.mark.parametrize(
    ("kwargs", "header"),
    [
        (
            {"model": "vertex_ai/claude-x", "custom_llm_provider": "vertex_ai"},
            {"custom_llm_provider": "vertex_ai", "extra_headers": {"anthropic-beta": BETA}},
        ),
        (
            {"model": "bedrock/us.anthropic.claude-x", "custom_llm_provider": "bedrock"},
            {"custom_llm_provider": "bedrock", "extra_headers": {"anthropic-beta": BETA}},
        ),
    ],
    ids=["vertex", "bedrock"],
)
def test_betas_of_the_client(kwargs, header):
    """LiteLLM gets only the client's betas that the provider's row allows."""
    entrance = entrance_of(anthropic_beta=f"claude-code-20250219,{BETA}")
    theirs = {"custom_llm_provider": "anthropic,bedrock", "extra_headers": {"anthropic-beta": "claude-code-20250219"}}
    prepared = deploy(kwargs | {"messages": [], "provider_specific_header": theirs}, entrance)
    assert prepared["provider_specific_header"] == header


def test_who_is_asking_goes_nowhere():
    """Metadata names a user and is not sent; LiteLLM's own metadata is not the client's."""
    entrance = entrance_of({"metadata": {"user_id": '{"session_id": "made-up"}'}})
    assert "metadata" not in deploy(CLOUD | {"metadata": entrance.request.body["metadata"]}, entrance)


# --- what comes back ---------------------------------------------------------------------------------------------------------

THOUGHT = {"type": "thinking", "thinking": "t", "signature": "s"}
WORDS = {"type": "text", "text": "x"}


def served_by(provider, kwargs=GROQ):
    entrance = entrance_of({"model": "asked"})
    entrance.journal.begin(provider, "made/up")
    entrance.row = dialect(kwargs["model"], kwargs["custom_llm_provider"], None)
    return entrance


@pytest.mark.parametrize(
    ("provider", "is_changed"),
    [
        (Provider.OTHER, True),
        (Provider.OPENAI, True),
        (Provider.ANTHROPIC_FORMAT, True),
        (Provider.CLAUDE, False),
        (Provider.DEMO, False),
    ],
)
def test_a_whole_response(provider, is_changed):
    """Another provider's response loses its thinking and gets the requested model's name; Claude's is the same object."""
    response = {"type": "message", "model": "made-up", "content": [THOUGHT, WORDS]}
    got = call(proxy_of().async_post_call_success_hook({}, None, response), served_by(provider))
    if not is_changed:
        assert got is response
        return
    assert (got["model"], got["content"]) == ("asked", [WORDS])
    assert got["id"].startswith("msg_")
    assert response["content"] == [THOUGHT, WORDS]


@pytest.mark.parametrize("response", ["text", None, []])
def test_a_response_of_another_kind(response):
    """Anything but a message, and a response without a client's request, is unchanged."""
    proxy = proxy_of()
    assert call(proxy.async_post_call_success_hook({}, None, response), served_by(Provider.OTHER)) is response
    message = {"content": [THOUGHT]}
    assert call(proxy.async_post_call_success_hook({}, None, message), None) is message


EVENTS = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "made-up", "content": [], "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "secretly"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]
CHUNKS = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]


def stream(chunks, entrance):
    async def given():
        for chunk in chunks:
            yield chunk

    async def read():
        return [chunk async for chunk in proxy_of().async_post_call_streaming_iterator_hook(None, given(), {})]

    return call(read(), entrance)


def test_a_stream_of_another_provider():
    """The stream loses its thinking and gets the requested model's name."""
    got = b"".join(stream(CHUNKS, served_by(Provider.OTHER)))
    assert b"secretly" not in got
    assert b"hello" in got
    assert b'"asked"' in got
    assert b"made-up" not in got


@pytest.mark.parametrize("entrance", [None, served_by(Provider.CLAUDE), served_by(Provider.DEMO), entrance_of()])
def test_a_stream_that_is_not_another_providers(entrance):
    """The copy of a lane's response, and a stream without a client's request, are unchanged."""
    assert stream(CHUNKS, entrance) == CHUNKS


@pytest.mark.parametrize("entrance", [None, served_by(Provider.OTHER)])
def test_an_empty_stream_stays_one(entrance):
    """An empty stream stays empty, because LiteLLM has already sent the error to the client."""
    assert stream([], entrance) == []


def test_who_serves_a_stream_is_known_at_its_first_chunk():
    """The provider is known at the first chunk, because LiteLLM may still use a fallback before it."""
    entrance = served_by(Provider.CLAUDE)

    async def given():
        entrance.journal.begin(Provider.OTHER, "groq/x")
        for chunk in CHUNKS:
            yield chunk

    async def read():
        return [chunk async for chunk in proxy_of().async_post_call_streaming_iterator_hook(None, given(), {})]

    assert b"secretly" not in b"".join(call(read(), entrance))


def test_a_client_that_leaves_before_the_first_event_closes_the_stream():
    """The stream is closed, because LiteLLM 1.106.2 would let the provider continue."""
    closed = []

    class Silent:
        """A stream of LiteLLM that sends no event."""

        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.Event().wait()

        async def aclose(self):
            closed.append(True)

    async def run():
        hook = proxy_of().async_post_call_streaming_iterator_hook(None, Silent(), {})
        reading = asyncio.ensure_future(anext(hook))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())
    assert closed == [True]
