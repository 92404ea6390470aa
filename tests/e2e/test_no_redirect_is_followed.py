"""A redirection of a provider's: whoever the provider is, the request, its key and its body go nowhere else."""

import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import upstream as up
import yaml
from conftest import CLIENT_TOKEN
from processes import Proxy, question
from test_dialects_through_the_proxy import EXAMPLE, documented, providers_environment, redirected, service_account

STATUSES = (301, 302, 303, 307, 308)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
PATHS = ("/v1/messages", "/v1/messages/count_tokens")
# Beside the example's providers those that LiteLLM serves with handlers of their own. Each has a base and a key of its own.
OTHERS = {
    "deepseek-chat": "deepseek/deepseek-chat",
    "mistral": "mistral/mistral-large-latest",
    "xai": "xai/grok-4",
    "ollama-generate": "ollama/qwen3",
    "ollama-chat": "ollama_chat/qwen3",
    "openrouter-chat": "openrouter/qwen/qwen3",
    "cohere": "cohere_chat/command-a-03-2025",
    "fireworks": "fireworks_ai/made-up",
    "cerebras": "cerebras/made-up",
    "perplexity": "perplexity/sonar",
    "databricks": "databricks/made-up",
    "hosted-vllm": "hosted_vllm/made-up",
    "lm-studio": "lm_studio/made-up",
    "aiohttp": "aiohttp_openai/made-up",
    "text": "text-completion-openai/made-up",
    "nvidia": "nvidia_nim/made-up",
    "vertex-gemini": "vertex_ai/gemini-2.5-pro",
    "vertex-mistral": "vertex_ai/mistral-large-2411",
}
BEDROCK = {
    "bedrock-converse": "bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock-invoke": "bedrock/invoke/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock-nova": "bedrock/amazon.nova-pro-v1:0",
    "bedrock-llama": "bedrock/invoke/meta.llama3-70b-instruct-v1:0",
}
# Its login is redirected, and not its answer.
LOGIN = "vertex-login"
VERTEX = {f"vertex_{name}": f"os.environ/VERTEX_{name.upper()}" for name in ("project", "location", "credentials")}
AWS = {
    "aws_access_key_id": "os.environ/AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "os.environ/AWS_SECRET_ACCESS_KEY",
    "aws_region_name": "os.environ/AWS_REGION",
}


def everybody(url: str) -> dict[str, Any]:
    """Every provider of the example and of the tables above, at one upstream."""
    config = redirected(documented(EXAMPLE), url)
    for name, model in OTHERS.items():
        params: dict[str, Any] = {"model": model, "api_base": f"{url}/{name}", "api_key": f"made-up-{name}-key"}
        if model.startswith("vertex_ai/"):
            params = {"model": model, "api_base": f"{url}/{name}", **VERTEX}
        config["model_list"].append({"model_name": name, "litellm_params": params})
    for name, model in BEDROCK.items():
        params = {"model": model, "aws_bedrock_runtime_endpoint": f"{url}/{name}", **AWS}
        config["model_list"].append({"model_name": name, "litellm_params": params})
    config["model_list"].append({"model_name": "copilot", "litellm_params": {"model": "github_copilot/gpt-5.2"}})
    login = {"model": "vertex_ai/gemini-2.5-pro", "api_base": f"{url}/vertex-login", **VERTEX}
    login["vertex_credentials"] = "os.environ/OTHER_CREDENTIALS"
    config["model_list"].append({"model_name": LOGIN, "litellm_params": login})
    return config


def copilot_login(home: Path, url: str) -> Path:
    """A login at GitHub that is still valid, with the address that LiteLLM is to ask."""
    home.mkdir()
    (home / "access-token").write_text("made-up-copilot-access", encoding="utf-8")
    login = {"token": "made-up-copilot-key", "expires_at": 4102444800, "endpoints": {"api": f"{url}/copilot"}}
    (home / "api-key.json").write_text(json.dumps(login), encoding="utf-8")
    return home


def other_login(home: Path, url: str) -> Path:
    """A second service account, whose tokens come from another path."""
    (home / "other").mkdir()
    path = service_account(home / "other", url)
    account = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(account | {"token_uri": f"{url}/login"}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def attacker() -> Iterator[up.Upstream]:
    """The origin that every redirection names. It answers well, and must never be asked."""
    body = json.dumps(up.message(up.text("from the attacker"))).encode()
    server = up.Upstream(lambda _: up.Reply(headers={"content-type": "application/json"}, body=body))
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy with all providers, each of which is a path of the shared upstream."""
    home = tmp_path_factory.mktemp("redirected")
    url = shared_upstream.other_url
    shared_upstream.answer = lambda _: up.Reply(404)
    environment = providers_environment(home, shared_upstream) | {
        "OTHER_CREDENTIALS": str(other_login(home, url)),
        "GITHUB_COPILOT_TOKEN_DIR": str(copilot_login(home / "copilot", url)),
    }
    running = Proxy(home / "proxy", yaml.safe_dump(everybody(url)), **environment).wait_ready()
    yield running
    running.stop()


NAMES = sorted({entry["model_name"].replace("*", "sonnet-5") for entry in everybody("http://x.invalid")["model_list"]})
SERVED = [name for name in NAMES if "demo" not in name and name != LOGIN]


@STREAMS
@pytest.mark.parametrize("model", SERVED)
def test_a_redirection_is_not_followed(proxy, upstream, attacker, model, stream):
    """Another origin is never asked on a provider's word, and the client gets an error in words, without key or address."""
    attacker.seen.clear()
    location = f"{attacker.url}/stolen"
    redirected_with = set()

    def answer(seen: up.Seen) -> up.Reply:
        if seen.path == "/token":
            body = b'{"access_token":"made-up-access","expires_in":3600,"token_type":"Bearer"}'
            return up.Reply(headers={"content-type": "application/json"}, body=body)
        asked_for = re.search(rb"status (\d+)", seen.body)
        status = int(asked_for[1]) if asked_for else STATUSES[0]
        redirected_with.add(status)
        return up.Reply(status, {"location": location, "content-type": "text/html"}, b"moved")

    def ask(path: str, status: int) -> httpx.Response:
        return proxy.ask(question(model, f"status {status}", stream=stream), path, authorization=f"Bearer {CLIENT_TOKEN}")

    upstream.answer = answer
    asked = [*itertools.product(PATHS[:1], STATUSES), (PATHS[1], STATUSES[0])]
    # All at once: some providers are asked several times, with pauses.
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = [*threads.map(ask, *zip(*asked, strict=True))]
    assert attacker.seen == []
    for (path, status), said in zip(asked, answers, strict=True):
        assert path != PATHS[0] or said.status_code >= 500, (status, said.text)
        everything = f"{said.headers}\n{said.text}"
        assert "/stolen" not in everything
        assert "location" not in said.headers
        assert "made-up" not in said.text.replace("made-up-project", "")
        if said.status_code >= 400:
            assert said.json()["type"] == "error"
    assert redirected_with == {*STATUSES}, "the provider was not asked"
    assert "made-up-copilot-key" not in proxy.output


@pytest.mark.parametrize("status", STATUSES)
def test_a_redirected_login_is_not_followed(proxy, upstream, attacker, status):
    """A token endpoint that names another one gets no second request: what proves a service account stays where it is."""
    attacker.seen.clear()
    upstream.answer = lambda _: up.Reply(status, {"location": f"{attacker.url}/stolen"})
    said = proxy.ask(question(LOGIN))
    assert [seen.path for seen in upstream.asked][:1] == ["/login"]
    assert attacker.seen == []
    assert said.status_code >= 400
    assert "/stolen" not in f"{said.headers}\n{said.text}"
