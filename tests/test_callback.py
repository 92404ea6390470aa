"""The hooks, called directly with no network."""

import asyncio
import logging

import pytest
from litellm.proxy import proxy_server
from litellm.types.utils import CallTypes

from claude_proxy.config.settings import Settings
from claude_proxy.credentials.response_rules import Action, UpstreamResponse, Verdict
from claude_proxy.litellm import callback as module
from claude_proxy.litellm.callback import ClaudeProxy, as_chat_completions
from claude_proxy.litellm.clients import AttemptRefused, ClaudeClient
from claude_proxy.providers.endpoints import Provider
from claude_proxy.proxy.exchange import Exchange, current
from claude_proxy.state.memory import MemoryStore
from claude_proxy.upstream.headers import read, session_of
from claude_proxy.usage.record import Record

POOL = "sk-ant-oat01-made-up-pool"
OWN = "sk-ant-oat01-made-up-own"
DEPLOYMENT = "sk-ant-api03-made-up-deployment"


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch):
    """No config.yaml and no router, as before LiteLLM has started."""
    monkeypatch.setattr(proxy_server, "user_config_file_path", None)
    monkeypatch.setattr(proxy_server, "llm_router", None)
    module.active_config.cache_clear()
    yield
    module.active_config.cache_clear()


def exchange_of(body=None, **headers):
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    whole = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]} | (body or {})
    return Exchange(read(sent), sent, b"{}", whole)


def deploy(kwargs, exchange, call_type=CallTypes.anthropic_messages, **variables):
    proxy = ClaudeProxy(Settings.parse(variables), clock=lambda: 0.0)

    async def run():
        token = current.set(exchange)
        try:
            return await proxy.async_pre_call_deployment_hook(kwargs, call_type)
        finally:
            current.reset(token)

    return asyncio.run(run())


CLAUDE = {"model": "anthropic/claude-x", "custom_llm_provider": "anthropic", "messages": []}
OTHER = {
    "model": "anthropic/glm",
    "custom_llm_provider": "anthropic",
    "api_base": "https://api.z.ai/api/anthropic",
    "messages": [],
}


def credential_of(prepared):
    return prepared["client"]._rotation._source.choose(frozenset())


@pytest.mark.parametrize(
    ("headers", "kwargs", "variables", "value"),
    [
        ({}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
        ({"authorization": f"Bearer {OWN}"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
        ({"authorization": f"Bearer {OWN}"}, {}, {}, OWN),
        ({"authorization": f"Bearer {OWN}"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL, "CLAUDE_TOKEN_MODE": "passthrough"}, OWN),
        ({"authorization": f"Bearer {OWN}", "x_claude_token_mode": "passthrough"}, {}, {"CLAUDE_OAUTH_TOKENS": POOL}, OWN),
        (
            {"authorization": f"Bearer {OWN}", "x_claude_token_mode": "rotate"},
            {},
            {"CLAUDE_OAUTH_TOKENS": POOL, "CLAUDE_TOKEN_MODE": "passthrough"},
            POOL,
        ),
        ({}, {"api_key": DEPLOYMENT}, {}, DEPLOYMENT),
        ({}, {"api_key": DEPLOYMENT}, {"CLAUDE_OAUTH_TOKENS": POOL}, POOL),
    ],
    ids=[
        "pool",
        "pool-before-own",
        "empty-pool",
        "passthrough",
        "header-passthrough",
        "header-rotate",
        "key",
        "pool-before-key",
    ],
)
def test_whose_credential_goes_to_claude(headers, kwargs, variables, value):
    """The mode, the pool, the client's credential and the deployment's key decide, in this order."""
    prepared = deploy(CLAUDE | kwargs, exchange_of(**headers), **variables)
    assert credential_of(prepared).secret.reveal() == value
    assert prepared["api_key"] == module.PLACEHOLDER_KEY
    assert isinstance(prepared["client"], ClaudeClient)


@pytest.mark.parametrize(
    ("headers", "body", "model", "wanted"),
    [
        ({}, {}, "anthropic/claude-opus-4-8", (None, "opus")),
        ({"x_claude_code_session_id": "s"}, {}, "anthropic/claude-sonnet-5", ("s", "sonnet")),
        ({}, {"metadata": {"user_id": '{"session_id": "b"}'}}, "anthropic/claude-fable-5-1", ("b", "fable")),
        # A subagent's own id is not its session.
        (
            {"x_claude_code_session_id": "s", "x_claude_code_agent_id": "a"},
            {},
            "anthropic/claude-haiku-4-5",
            ("s", "haiku"),
        ),
    ],
    ids=["none", "header", "body", "subagent"],
)
def test_what_a_request_wants_of_the_pool(headers, body, model, wanted):
    """The session is the client's and the family is the deployment's model's; a subagent stays with its session."""
    exchange = exchange_of({"model": "an-alias"} | body, **headers)
    variables = {"CLAUDE_OAUTH_TOKENS": POOL, "CLAUDE_POOL_MAX_WAIT_SECONDS": "7"}
    rotation = deploy(CLAUDE | {"model": model}, exchange, **variables)["client"]._rotation
    session, family = wanted
    named = session_of(read([("x-claude-code-session-id", session)]), {}) if session else None
    assert (rotation._source._wanted, rotation._source._wait_left, rotation._family) == ((named, family), 7, family)


NOW = 1_800_000_000.0


def proxy_of(store=None, **variables):
    return ClaudeProxy(Settings.parse({"CLAUDE_OAUTH_TOKENS": f"a={POOL},b={POOL}2"} | variables), store, clock=lambda: NOW)


def limit(proxy, label, verdict):
    credential = proxy.pool.state(label).credential
    proxy.pool.note(credential, verdict, UpstreamResponse(429, {}))


OUT = Verdict(Action.NEXT, "refused", out=True)


def test_a_pool_that_rests_is_a_429_with_its_return():
    """When every credential rests the client is told when the first one is back, and by which of its limits."""
    proxy = proxy_of()
    limit(proxy, "a", Verdict(Action.NEXT, "limit", NOW + 7200))
    limit(proxy, "b", Verdict(Action.NEXT, "limit", None, "opus", NOW + 86400))
    assert proxy._nobody("opus").status == 429
    headers = dict(proxy._nobody("opus").headers)
    assert 7200 <= int(headers["retry-after"]) <= 7211
    assert int(headers["anthropic-ratelimit-unified-reset"]) == NOW + int(headers["retry-after"])
    assert headers["anthropic-ratelimit-unified-representative-claim"] == "five_hour"
    limit(proxy, "a", Verdict(Action.NEXT, "limit", NOW + 3 * 86400))
    assert dict(proxy._nobody("opus").headers)["anthropic-ratelimit-unified-representative-claim"] == "seven_day"


def test_a_pool_that_is_out_is_a_503():
    """When it is refusals that keep every credential away, the operator has to act; one limit among them makes it a 429."""
    proxy = proxy_of()
    limit(proxy, "a", OUT)
    limit(proxy, "b", OUT)
    refusal = proxy._nobody("opus")
    assert (refusal.status, int(dict(refusal.headers)["retry-after"]) >= 900) == (503, True)
    limit(proxy, "b", Verdict(Action.NEXT, "limit", NOW + 3600))
    assert proxy._nobody("opus").status == 429


class SlowStore(MemoryStore):
    """A store that answers when it is told to."""

    def __init__(self):
        super().__init__()
        self.ready = asyncio.Event()

    async def pull(self, cursor):
        await self.ready.wait()
        return await super().pull(cursor)


def test_what_others_know_is_there_at_the_first_request():
    """A rest that another process told holds from the very first request on."""

    async def run():
        store = MemoryStore()
        first, second = proxy_of(store), proxy_of(store)
        await first.learn_from_others()
        limit(first, "a", Verdict(Action.NEXT, "limit", NOW + 3600))
        await first._sync.exchange()
        await second.learn_from_others()
        assert second.pool.resting("") == {"a"}
        for proxy in (first, second):
            proxy._running.cancel()

    asyncio.run(run())


def test_all_of_the_first_requests_wait_for_what_others_know():
    """After a restart many clients come at once, and none of them is served before the state is there."""

    async def run():
        store = SlowStore()
        proxy = proxy_of(store)
        requests = [asyncio.ensure_future(proxy.learn_from_others()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(request.done() for request in requests)
        store.ready.set()
        await asyncio.gather(*requests)
        await proxy.learn_from_others()
        proxy._running.cancel()

    asyncio.run(run())


def test_a_store_that_does_not_answer_holds_nobody_up(monkeypatch):
    """A request waits for the store for so long and no longer."""
    monkeypatch.setattr(module, "LOAD_SECONDS", 0.001)

    async def run():
        proxy = proxy_of(SlowStore())
        async with asyncio.timeout(5):
            await proxy.learn_from_others()
        assert not proxy._syncing.done()
        proxy._syncing.cancel()

    asyncio.run(run())


def test_no_credential_is_a_401_that_no_fallback_replaces():
    """With no credential anywhere the attempt is refused, the client's answer stands, and no other attempt is made."""
    exchange = exchange_of()
    with pytest.raises(AttemptRefused):
        deploy(CLAUDE, exchange)
    assert exchange.refusal.status == 401
    with pytest.raises(AttemptRefused):
        deploy(OTHER, exchange)


@pytest.mark.parametrize(
    ("exchange", "call_type"), [(None, CallTypes.anthropic_messages), (exchange_of(), CallTypes.acompletion)]
)
def test_claude_is_asked_only_for_a_client(exchange, call_type):
    """No health check and no other route of LiteLLM's sends a request to Claude."""
    with pytest.raises(AttemptRefused):
        deploy(CLAUDE, exchange, call_type, CLAUDE_OAUTH_TOKENS=POOL)


def test_nothing_is_changed_in_place():
    """LiteLLM hands the same messages to the next attempt, so the hook builds new values."""
    thought, words = {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "text", "text": "x"}
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [thought, words]}]
    kwargs = OTHER | {"messages": history, "thinking": {"type": "adaptive"}}
    prepared = deploy(kwargs, exchange_of())
    assert prepared["messages"] == [history[0], {"role": "assistant", "content": [words]}]
    assert "thinking" not in prepared
    assert kwargs["thinking"] == {"type": "adaptive"}
    assert history[1]["content"] == [thought, words]


def test_a_provider_of_another_name_gets_no_claude_client():
    """Z.AI under the prefix anthropic/ keeps its own key, whatever the pool and the client hold."""
    exchange = exchange_of(authorization=f"Bearer {OWN}")
    prepared = deploy(OTHER | {"api_key": "made-up-zai"}, exchange, CLAUDE_OAUTH_TOKENS=POOL)
    assert exchange.provider is Provider.ANTHROPIC_FORMAT
    assert prepared["api_key"] == "made-up-zai"
    assert not isinstance(prepared["client"], ClaudeClient)


BETA = "context-1m-2025-08-07"


@pytest.mark.parametrize(
    ("kwargs", "header"),
    [
        (OTHER, None),
        ({"model": "groq/x", "custom_llm_provider": "groq"}, None),
        (
            {"model": "bedrock/us.anthropic.claude-x", "custom_llm_provider": "bedrock"},
            {"custom_llm_provider": "bedrock", "extra_headers": {"anthropic-beta": BETA}},
        ),
    ],
    ids=["anthropic-format", "translated", "bedrock"],
)
def test_betas_of_the_client(kwargs, header):
    """Of the client's betas LiteLLM is left with those that the provider's row allows."""
    exchange = exchange_of(anthropic_beta=f"claude-code-20250219,{BETA}")
    theirs = {"custom_llm_provider": "anthropic,bedrock", "extra_headers": {"anthropic-beta": "claude-code-20250219"}}
    prepared = deploy(kwargs | {"messages": [], "provider_specific_header": theirs}, exchange)
    assert prepared["provider_specific_header"] == header


@pytest.mark.parametrize(
    ("kwargs", "has_key"),
    [
        ({"model": "azure/x", "custom_llm_provider": "azure"}, True),
        ({"model": "openai/x", "custom_llm_provider": "openai"}, True),
        ({"model": "openai/x", "custom_llm_provider": "openai", "api_base": "http://127.0.0.1:8000/v1"}, False),
        ({"model": "groq/x", "custom_llm_provider": "groq"}, False),
    ],
    ids=["azure", "openai", "compatible", "groq"],
)
def test_a_prompt_cache_key(kwargs, has_key):
    """Where the format has a key for the prompt cache it is a digest of the session; who is asking goes nowhere."""
    exchange = exchange_of({"metadata": {"user_id": '{"session_id": "made-up"}'}})
    prepared = deploy(kwargs | {"messages": [], "metadata": exchange.body["metadata"]}, exchange)
    assert prepared.get("prompt_cache_key") == (session_of(exchange.client, exchange.body) if has_key else None)
    assert "metadata" not in prepared


@pytest.mark.parametrize(
    ("kwargs", "changed"),
    [
        ({"model": "openai/gpt", "api_base": None}, {"thinking": None}),
        ({"model": "openai/gpt", "api_base": "https://api.openai.com/v1", "reasoning_effort": "low"}, {"thinking": None}),
        (
            {"model": "openai/m", "api_base": "http://127.0.0.1:8000/v1"},
            {"thinking": None, "model": "custom_openai/m", "custom_llm_provider": "custom_openai"},
        ),
        (
            {"model": "openai/m", "api_base": "http://127.0.0.1:8000/v1", "reasoning_effort": "low", "extra_body": {"a": 1}},
            {"reasoning_effort": None, "extra_body": {"a": 1, "reasoning_effort": "low"}},
        ),
    ],
    ids=["openai", "openai-by-url", "compatible", "compatible-effort"],
)
def test_the_chat_completions_path(kwargs, changed):
    """OpenAI's own models stay with LiteLLM's knowledge of them, a compatible endpoint always gets chat completions."""
    result = as_chat_completions(kwargs)
    assert {name: result[name] for name in changed} == changed
    assert ("custom_llm_provider" in result) == (kwargs["api_base"] is not None and "openai.com" not in kwargs["api_base"])


def test_a_request_that_is_over_is_counted_and_logged(caplog):
    """What the gateway hands out after an answer is in the book of usage, and the end of a setup token is told."""
    tokens = "anna@2000-01-01=sk-ant-oat01-made-up-anna"
    callback = ClaudeProxy(Settings.parse({"CLAUDE_OAUTH_TOKENS": tokens}))
    record = Record(0.0, "ben", "nobody-serves-this", "", "", 404, 0.1, 0.1, error="not_found_error")
    with caplog.at_level(logging.INFO):
        callback.remember(record)
        callback.remember(record)
    (names,) = callback.book.taken()
    assert (names.user, names.model, callback.book.taken()[names].errors) == ("ben", "other", 2)
    assert [message for message in caplog.messages if "its year was over" in message] == [
        "credential anna: its year was over on 2000-12-31; make a new one with `claude setup-token`"
    ]
    assert sum("status=404" in message for message in caplog.messages) == 2


class FakeRouter:
    """A router that serves what it is given."""

    def __init__(self, models, fallbacks):
        self.models, self.fallbacks = models, fallbacks

    def get_model_list(self, model_name):
        return [{"litellm_params": params} for name, params in self.models if name == model_name]


@pytest.mark.parametrize(
    ("ready", "fallbacks", "retries"),
    [
        ({"ONE_KEY": "made-up", "TWO_KEY": "made-up"}, ["one", "two"], None),
        ({"TWO_KEY": "made-up"}, ["two"], None),
        ({}, [], 0),
    ],
)
def test_only_fallbacks_that_could_answer_are_named(monkeypatch, ready, fallbacks, retries):
    """A fallback without its key is left out; with none left LiteLLM looks for no other and does not repeat either."""
    entries = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": f"os.environ/{name.upper()}_KEY"}}
        for name in ("one", "two")
    ]
    for name in ("ONE_KEY", "TWO_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ready.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "load_config", lambda: {"model_list": entries})
    models = [("claude-x", {"model": "anthropic/claude-x"})]
    models += [(name, {"model": f"openai/{name}", "api_key": ready.get(f"{name.upper()}_KEY")}) for name in ("one", "two")]
    monkeypatch.setattr(proxy_server, "llm_router", FakeRouter(models, [{"claude-*": ["one", "two", "nobody"]}]))

    async def run():
        token = current.set(exchange_of())
        try:
            return await ClaudeProxy(Settings.parse({})).async_pre_call_hook(None, None, {"model": "claude-x"}, "")
        finally:
            current.reset(token)

    data = asyncio.run(run())
    assert (data["fallbacks"], data.get("num_retries")) == (fallbacks, retries)


def test_an_outlined_conversation_is_whole_again_for_others():
    """Who is not Claude gets what the client said, also where LiteLLM had only an outline of it."""
    said = {"messages": [{"role": "user", "content": "hi"}], "system": "be brief", "tools": [{"name": "Read"}]}
    exchange = exchange_of({"model": "glm"} | said)
    exchange.booked = False
    outlined = OTHER | {"messages": [{"role": "user", "content": "."}]}
    prepared = deploy(outlined, exchange)
    assert prepared["messages"] == said["messages"]
    assert [tool["name"] for tool in prepared["tools"]] == ["Read"]
    assert "be brief" in str(prepared["system"])


def test_a_client_that_leaves_before_the_first_event_closes_the_stream():
    """LiteLLM 1.106.2 would let the provider go on, whose stream nobody has begun to read."""
    closed = []

    class Silent:
        """A stream of LiteLLM's without an event yet."""

        def __aiter__(self):
            return self

        async def __anext__(self):
            await asyncio.Event().wait()

        async def aclose(self):
            closed.append(True)

    async def run():
        hook = ClaudeProxy(Settings.parse({})).async_post_call_streaming_iterator_hook(None, Silent(), {})
        reading = asyncio.ensure_future(anext(hook))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(run())
    assert closed == [True]
