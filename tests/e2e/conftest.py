"""One proxy and one upstream for the tests that can share them; each test sets how the upstream answers."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import upstream as up
from processes import Proxy

TOKENS = {"a": "sk-ant-oat01-made-up-alpha", "b": "sk-ant-oat01-made-up-bravo", "c": "sk-ant-oat01-made-up-charlie"}
API_KEY = "sk-ant-api03-made-up-delta"
CLIENT_TOKEN = "sk-ant-oat01-made-up-client"
PROVIDER_KEYS = {"ZAI_API_KEY": "made-up-zai-key-0123", "OPENAI_API_KEY": "made-up-openai-key-0123"}

CONFIG = """
model_list:
  - model_name: demo
    litellm_params: {{model: anthropic/demo, api_base: "http://demo.invalid"}}
  - model_name: claude-demo
    litellm_params: {{model: anthropic/demo, api_base: "http://demo.invalid"}}
  - model_name: anthropic/*
    litellm_params: {{model: anthropic/*}}
  - model_name: claude-*
    litellm_params: {{model: anthropic/claude-*}}
  - model_name: claude-keyed
    litellm_params: {{model: anthropic/claude-keyed, api_key: "sk-ant-api03-made-up-deployment"}}
  - model_name: glm
    litellm_params: {{model: anthropic/glm-5, api_base: "{url}/glm", api_key: os.environ/ZAI_API_KEY}}
  - model_name: glm-fast
    litellm_params: {{model: anthropic/glm-5-fast, api_base: "{url}/glm", api_key: os.environ/ZAI_API_KEY}}
  - model_name: claude-looks-like-it
    litellm_params: {{model: anthropic/claude-sonnet-5, api_base: "{url}/other", api_key: os.environ/ZAI_API_KEY}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/openai/v1", api_key: os.environ/OPENAI_API_KEY}}
  - model_name: gpt-codex
    litellm_params: {{model: openai/gpt-5-codex, api_base: "{url}/openai/v1", api_key: os.environ/OPENAI_API_KEY}}
  - model_name: gpt-effort
    litellm_params:
      model: openai/gpt-x
      api_base: "{url}/openai/v1"
      api_key: os.environ/OPENAI_API_KEY
      reasoning_effort: high
  - model_name: keyless
    litellm_params: {{model: openai/gpt-x, api_base: "{url}/openai/v1", api_key: os.environ/NEVER_SET_API_KEY}}
router_settings:
  fallbacks:
    - anthropic/*: [glm]
    - anthropic/claude-haiku-*: [glm-fast]
    - claude-fallback-*: [glm]
    - claude-fallback-fast-*: [glm-fast]
    - claude-unready-*: [keyless]
  num_retries: 2
  retry_policy:
    RateLimitErrorRetries: 0
    AuthenticationErrorRetries: 0
    BadRequestErrorRetries: 0
    ContentPolicyViolationErrorRetries: 0
    TimeoutErrorRetries: 1
    InternalServerErrorRetries: 2
  disable_cooldowns: true
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
  use_chat_completions_url_for_anthropic_messages: false
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""


def by_provider(
    claude: Callable[[up.Seen], up.Reply] | None = None,
    glm: Callable[[up.Seen], up.Reply] | None = None,
    gpt: Callable[[up.Seen], up.Reply] | None = None,
) -> Callable[[up.Seen], up.Reply]:
    """Answer by the path that each provider of ``CONFIG`` has."""

    def answer(seen: up.Seen) -> up.Reply:
        if seen.method == "GET":  # LiteLLM looks for model lists of its own accord
            return up.Reply(404)
        if seen.path.startswith(("/glm", "/other")):
            return glm(seen) if glm else up.anthropic_reply(seen, up.text("from glm"))
        if seen.path.startswith("/openai"):
            return gpt(seen) if gpt else up.openai_reply(seen, up.text("from gpt"))
        if seen.path == "/v1/messages/count_tokens":
            return up.Reply(headers={"content-type": "application/json"}, body=b'{"input_tokens":4711}')
        return claude(seen) if claude else up.anthropic_reply(seen, up.text("from claude"))

    return answer


def by_credential(**replies: Callable[[up.Seen], up.Reply]) -> Callable[[up.Seen], up.Reply]:
    """Answer for Claude by the label of the pooled credential; who is not named succeeds."""
    labels = {token: label for label, token in TOKENS.items()}

    def answer(seen: up.Seen) -> up.Reply:
        label = labels.get(seen.credential or "", "")
        return replies[label](seen) if label in replies else up.anthropic_reply(seen, up.text(f"from {label or 'nobody'}"))

    return by_provider(claude=answer)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Try what LiteLLM translates once: its requests go through LiteLLM at either entrance."""
    twice = {item for item in items if getattr(item.module, "THROUGH_LITELLM", False) and _kind_of(item) == "gpt"}
    config.hook.pytest_deselected(items=[*twice])
    items[:] = [item for item in items if item not in twice]


def _kind_of(item: pytest.Item) -> str | None:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return getattr(parameters.get("each"), "kind", None)


@pytest.fixture(scope="module", autouse=True)
def entrance(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every proxy of a module that says so take its requests through LiteLLM."""
    Proxy.through_litellm = getattr(request.module, "THROUGH_LITELLM", False)
    yield
    Proxy.through_litellm = False


@pytest.fixture(scope="session", autouse=True)
def fresh_processes(request: pytest.FixtureRequest) -> None:
    """Let every proxy be an interpreter of its own where that is asked for."""
    Proxy.fresh = request.config.getoption("--fresh-processes")


@pytest.fixture(scope="session", autouse=True)
def one_trust_store() -> Iterator[None]:
    """Read the authorities' certificates once: httpx does so for each client, for 25 ms, even to ask over plain HTTP."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(httpx._transports.default, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[up.Upstream]:
    server = up.Upstream(by_provider())
    yield server
    server.close()


@pytest.fixture
def upstream(shared_upstream: up.Upstream) -> Iterator[up.Upstream]:
    """The upstream, with nothing seen and every provider answering well, as it does again after the test."""
    shared_upstream.seen.clear()
    shared_upstream.answer = by_provider()
    yield shared_upstream
    shared_upstream.answer = by_provider()


@pytest.fixture
def start_proxy(tmp_path: Path, upstream: up.Upstream) -> Iterator[Callable[..., Proxy]]:
    """Start a proxy with a pool of three tokens and one API key, or with what is given; it is stopped at the end."""
    started: list[Proxy] = []

    def start(name: str = "proxy", config: str | None = None, **variables: str) -> Proxy:
        proxy = Proxy(
            tmp_path / name, config or CONFIG.format(url=upstream.other_url), **(proxy_environment(upstream) | variables)
        )
        started.append(proxy)
        proxy.wait_ready()
        upstream.seen.clear()
        return proxy

    yield start
    for proxy in started:
        if proxy.process.poll() is None:
            proxy.stop()


def proxy_environment(upstream: up.Upstream) -> dict[str, str]:
    return {
        "ANTHROPIC_API_BASE": upstream.url,
        "CLAUDE_OAUTH_TOKENS": ",".join(f"{label}={token}" for label, token in TOKENS.items()),
        **PROVIDER_KEYS,
    }


def module_proxy(upstream: up.Upstream, home: Path, *, models: str = "", **variables: str) -> Iterator[Proxy]:
    """Start a proxy with the configuration of all, and with these models beside its own."""
    environment = proxy_environment(upstream) | variables
    config = CONFIG.replace("\nrouter_settings:", f"{models}\nrouter_settings:").format(url=upstream.other_url)
    running = Proxy(home, config, **environment).wait_ready()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def shared_proxies(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Proxy]]:
    """Return a getter of proxies that modules share, one for each entrance: for tests that leave a proxy's state alone."""
    running: dict[tuple[str, bool], Proxy] = {}

    def get(name: str, **variables: str) -> Proxy:
        key = name, Proxy.through_litellm
        if key not in running:
            config = CONFIG.format(url=shared_upstream.other_url)
            environment = proxy_environment(shared_upstream) | variables
            running[key] = Proxy(tmp_path_factory.mktemp(name), config, **environment).wait_ready()
        return running[key]

    yield get
    for proxy in running.values():
        proxy.stop()


@pytest.fixture(scope="module")
def poolless(shared_proxies: Callable[..., Proxy]) -> Proxy:
    """A shared proxy without a pool: Claude is asked on the client's own credential."""
    return shared_proxies("poolless", CLAUDE_OAUTH_TOKENS="")


@pytest.fixture(scope="module")
def pooled(shared_proxies: Callable[..., Proxy]) -> Proxy:
    """A shared proxy with a pool."""
    return shared_proxies("pooled")


@pytest.fixture(scope="module")
def own_pooled(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A module's own proxy with a pool, for tests that count what it logs or change how it treats their address."""
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("pooled"))


@pytest.fixture(scope="module")
def exhausted(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A module's proxy for tests in which every pooled credential is limited."""
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("exhausted"))
