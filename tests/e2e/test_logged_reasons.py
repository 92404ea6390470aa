"""What the log and the lists say of requests that were refused, failed over, or are no login, through a proxy of its own."""

from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from conftest import by_provider, module_proxy
from processes import Proxy, new_question

MASTER_KEY, ANNA = "sk-made-up-master-key-0123", "sk-made-up-token-of-anna-0123456789"
LIMITS = "\nclaude_proxy: {{users: {{anna: {{models: [glm]}}}}}}"


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    users = {"PROXY_USER_TOKENS": f"anna={ANNA}", "LITELLM_MASTER_KEY": MASTER_KEY}
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("reasons"), models=LIMITS, **users)


def get(proxy: Proxy, path: str) -> str:
    return httpx.get(f"{proxy.url}{path}", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False, timeout=60).text


@pytest.mark.parametrize(
    ("model", "status", "reason", "listed"),
    [
        ("gpt-of-nobody", 404, "unknown_model", "unknown model"),
        ("claude-opus-4-8", 400, "model_not_allowed", "model not allowed"),
        ("gpt", 400, "model_not_allowed", "gpt"),
        ("keyless", 400, "model_not_ready", "keyless"),
    ],
)
def test_a_refused_model_has_a_reason_of_its_own(proxy, upstream, model, status, reason, listed):
    """The log has the reason and the model's name; the lists have the reason, or the name of a model of config.yaml."""
    token = {"token": ANNA} if reason == "model_not_allowed" else {}
    assert proxy.ask(new_question(model), **token).status_code == status
    assert f" error={reason}" in proxy.logged(f"model={model} ")[0]
    user = "anna" if token else "static"
    (line,) = (line for line in get(proxy, "/usage.csv").splitlines() if f",{user},{listed},," in line)
    assert line.split(",")[5:7] == ["1", "1"], "one request, one error"
    assert f'claude_proxy_errors_total{{credential="",model="{listed}",served="",user="{user}"}} 1.0' in get(proxy, "/metrics")
    assert upstream.asked == []


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/api/hello"), ("GET", "/api/hello"), ("HEAD", "/a/base/of/a/user")])
def test_a_probe_without_a_token_is_no_failed_login(proxy, method, path):
    """Claude Code tests its connection before it sends a token: nothing is logged, so the next failed login has its line."""
    assert httpx.request(method, f"{proxy.url}{path}", trust_env=False, timeout=60).status_code in (200, 401)
    assert f"{method} '{path}'" not in proxy.output


def test_a_failover_has_its_cause(proxy, upstream):
    """The line of a request names the model that failed, why, and the model that responded instead."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"))
    assert proxy.ask(new_question("claude-fallback-x")).status_code == 200
    assert (
        "anthropic/claude-fallback-x: failed over to anthropic/glm-5 (HTTP 529 overloaded_error)"
        in proxy.logged("model=claude-fallback-x")[0]
    )
