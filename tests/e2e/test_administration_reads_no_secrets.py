"""Administration with the master key: what it cannot read, and which hosts it cannot make the proxy ask."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import upstream as up
from conftest import API_KEY, CONFIG, PROVIDER_KEYS, TOKENS, module_proxy, proxy_environment
from database import Postgres, client
from forking import Forked
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, answer_text, clean_environment, free_port, question

PERSON_TOKEN = "sk-made-up-token-of-anna-0123"
REDIS_PASSWORD = "made-up-redis-password"
# By the variable that holds it. The database's address has no password in it.
SECRETS = {
    "CLAUDE_OAUTH_TOKENS": TOKENS["a"],
    "CLAUDE_API_KEYS": API_KEY,
    "PROXY_STATIC_TOKEN": STATIC_TOKEN,
    "PROXY_USER_TOKENS": PERSON_TOKEN,
    "LITELLM_MASTER_KEY": MASTER_KEY,
    **PROVIDER_KEYS,
}
OWN = {"CLAUDE_API_KEYS": API_KEY, "PROXY_USER_TOKENS": f"anna={PERSON_TOKEN}"}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every route that LiteLLM has."""
    folder = tmp_path_factory.mktemp("routes")
    found = folder / "routes.json"
    environment = clean_environment(folder, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MODE="PRODUCTION")
    with (folder / "log").open("wb") as log:
        program = Forked([str(found)], environment, log, Path(__file__).with_name("litellm_routes.py"))
    assert program.wait(60) == 0, (folder / "log").read_text()
    return [(method, path) for method, path in json.loads(found.read_text())]


@pytest.fixture(scope="module")
def attacker() -> Iterator[up.Upstream]:
    """A host that config.yaml does not name."""
    server = up.Upstream(lambda seen: up.openai_reply(seen, up.text("from nobody")))
    yield server
    server.close()


@pytest.fixture(scope="module", params=["database", "no-database"])
def proxy(
    request: pytest.FixtureRequest, shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    if request.param == "no-database":
        yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("administration"), **OWN)
        return
    postgres = Postgres()
    variables = {
        "DATABASE_URL": postgres.url,
        "CLAUDE_PROXY_DATABASE_CLIENT": str(client()),
        "DISABLE_SCHEMA_UPDATE": "true",
        "STORE_MODEL_IN_DB": "True",
    }
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("administration"), **OWN, **variables)
    postgres.remove()


def administrate(proxy: Proxy, method: str, path: str, body: Any = None, token: str = MASTER_KEY) -> httpx.Response:
    """Ask as whoever holds the token; ``body`` is JSON, or bytes as they are."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"x-litellm-api-key": token} | ({"content-type": "application/json"} if content else {})
    # Thousands of requests: httpx takes longer for one than the proxy. A connection may end after an error.
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)) as connection:
        with contextlib.suppress(BrokenPipeError):  # it is refused before it is read
            connection.request(method, path, content, headers)
        response = connection.getresponse()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())


def leaked(answer: httpx.Response) -> list[str]:
    everything = f"{answer.headers}\n{answer.text}"
    return [name for name, secret in SECRETS.items() if secret in everything]


def hostile_bodies(url: str) -> list[dict[str, Any]]:
    """What somebody would send who wants a secret: a reference in each place that LiteLLM looks at, or a host of their own."""
    target = {"model": "openai/gpt-x", "api_base": f"{url}/v1"}
    variables = {"langfuse_host": url, "langfuse_public_key": "x", "langfuse_secret_key": "ZAI_API_KEY"}
    callbacks = [{"callback_name": "langfuse", "callback_type": "success", "callback_vars": variables}]
    bodies: list[dict[str, Any]] = [
        {"litellm_params": target, "model_name": "made-up", "model_info": {"id": "made-up"}, "mode": "chat"},
        {"metadata": {"logging": callbacks}, "models": []},
        {"callback_name": "langfuse", "callback_type": "success", "callback_vars": variables},
        {"router_settings": {"fallbacks": [{"*": [target]}]}, "models": []},
        {"path": "/made-up", "target": url, "headers": {"authorization": "Bearer os.environ/ZAI_API_KEY"}},
        {"type": "redis", "host": url.split("//")[1].split(":", maxsplit=1)[0], "port": url.rsplit(":", 1)[1]},
        {"url": url, "webhook_url": url, "image_url": {"url": url}, "model": "gpt", "messages": [{"content": url}]},
    ]
    for name in SECRETS:
        guard = {"guardrail": "lakera_v2", "mode": "pre_call", "api_key": f"os.environ/{name}", "api_base": url}
        bodies.append({"guardrail": {"guardrail_name": f"made-up-{name}", "litellm_params": guard, "guardrail_info": {}}})
        bodies.append({"litellm_params": target | {"api_key": f"os.environ/{name}"}, "model_name": "made-up"})
        bodies.append({"key_alias": f"os.environ/{name}", "metadata": {"note": f"oidc/env/{name}"}, "user_email": name})
    return bodies


PLAUSIBLE = [
    {},
    {"models": ["claude-*"], "max_budget": 1, "key_alias": "made-up", "user_id": "made-up", "user_email": "a@example.org"},
    {"team_id": "made-up", "team_alias": "made-up", "user_id": "made-up", "budget_id": "made-up", "name": "made-up"},
    {"keys": ["made-up"], "user_ids": ["made-up"], "team_ids": ["made-up"], "id": "made-up", "key": "made-up"},
]
QUERIES = ["", "?start_date=2026-01-01&end_date=2026-01-02&user_id=made-up&team_id=made-up&key=made-up&model=demo&field_name=x"]


def of_administration(routes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out the routes that need no token or ask a model, and what belongs to no part of administration at all."""
    from claude_proxy.access.administration import CLOSED, SERVED  # noqa: PLC0415 - an older proxy has none

    paths = [*CLOSED, *(path for row in SERVED for listed in row.routes.values() for path in listed.split())]
    parts = {path.split("/")[1] for path in paths}
    return [(method, path) for method, path in routes if path.count("/") and path.split("/")[1] in parts]


# On lists of their own.
ELSEWHERE = {"/health/liveliness", "/health/liveness", "/health/readiness", "/v2/login", "/models"}


def test_somebody_has_decided_about_each_route(routes):
    """Each route of LiteLLM's that stands beside a served one is served itself, or closed for a reason that is written down."""
    from claude_proxy.access.administration import is_served, why_closed  # noqa: PLC0415 - an older proxy has none

    beside = [(method, path) for method, path in of_administration(routes) if path not in ELSEWHERE]
    assert len(beside) > 250
    shaped = [(method, path, re.sub(r"\{[^}]*\}", "x", path)) for method, path in beside]
    undecided = [
        (method, path) for method, path, one in shaped if not is_served(method, one, database=True) and not why_closed(one)
    ]
    assert undecided == []


def test_no_row_is_for_a_route_that_is_not_there(routes):
    """Each route of the table is one of LiteLLM's, or the book of usage."""
    from claude_proxy.access.administration import SERVED  # noqa: PLC0415 - an older proxy has none

    there = {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in routes} | {("GET", "/usage.csv")}
    named = [(method, path) for row in SERVED for method, listed in row.routes.items() for path in listed.split()]
    assert [one for one in named if one not in there] == []


def test_no_route_reads_a_secret_or_asks_another_host(proxy, routes, attacker):
    """Whatever the master key sends to any route: no answer and no log holds a secret, and no host of its choice is asked."""
    attacker.seen.clear()
    found: list[tuple[str, str, list[str]]] = []
    for method, path in sorted(of_administration(routes), key=lambda one: one[0] != "GET"):
        filled = re.sub(r"\{[^}]*\}", "made-up", path)
        for query in QUERIES:
            answer = administrate(proxy, method, f"{filled}{query}")
            found += [(method, path, leaked(answer))] if leaked(answer) else []
        if method == "GET":
            continue
        for body in [*PLAUSIBLE, *hostile_bodies(attacker.url)]:
            answer = administrate(proxy, method, filled, body)
            found += [(method, path, leaked(answer))] if leaked(answer) else []
    assert found == []
    # What an administrator has left behind is asked for, too.
    for path in ("/v2/guardrails/list", "/guardrails/list", "/model/info", "/v2/model/info", "/key/list", "/health"):
        assert leaked(administrate(proxy, "GET", path)) == []
    for model in ("claude-sonnet-5", "gpt", "made-up"):
        proxy.ask(question(model), token=MASTER_KEY)
    assert attacker.seen == []
    assert [name for name, secret in SECRETS.items() if secret in proxy.output] == []


SPELLINGS = [
    b"os.environ/%s",
    b"os.environ\\/%s",
    b"\\u006f\\u0073\\u002eenviron\\u002f%s",
    b"os%%2eenviron%%2F%s",
    b'{\\"x\\": \\"os.environ/%s\\"}',
    b"oidc/env/%s",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_reference_is_refused_in_words(proxy, spelling):
    """A reference to a variable is a 403 in Anthropic's shape, in each spelling; in an address as in a body."""
    for body in (b'{"metadata": {"x": "%s"}}' % (spelling % b"ZAI_API_KEY"), b"key_alias=" + spelling % b"ZAI_API_KEY"):
        answer = administrate(proxy, "POST", "/key/generate", body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
        assert answer.headers["x-should-retry"] == "false"
    assert administrate(proxy, "GET", "/key/info?key=os.environ%2FZAI_API_KEY").status_code == 403


@pytest.mark.parametrize("path", ["/key/generate", "/v2/login"])
def test_a_body_of_administration_is_bounded(proxy, path):
    """More than administration needs is refused before LiteLLM reads it; of a sign-in, which needs no token, as well."""
    served = administrate(proxy, "POST", path, b"{}").status_code != 404
    answer = administrate(proxy, "POST", path, b'{"x": "%s"}' % (b"x" * 1024 * 1024))
    assert answer.status_code == (413 if served else 404)
    assert served or path == "/v2/login"


SPY = """
import json, os
from pathlib import Path
from litellm.integrations.custom_logger import CustomLogger

class Spy(CustomLogger):
    async def async_log_success_event(self, *_, **__):
        with Path(__file__).with_name("seen").open("a") as file:
            file.write(json.dumps(dict(os.environ)) + "\\n")

instance = Spy()
"""
SPIED_CONFIG = CONFIG.replace(
    "[request_transformer.proxy_handler_instance]", "[request_transformer.proxy_handler_instance, spy.instance]"
)


def spied(path: Path) -> list[dict[str, str]]:
    """What the spy has seen of the environment, once for each request."""
    poll = threading.Event()
    for _ in range(100):
        if path.exists() and (lines := path.read_text().splitlines()):
            return [json.loads(line) for line in lines]
        poll.wait(0.1)
    raise AssertionError("nothing was seen")


def check_environment(seen: dict[str, str]) -> None:
    hidden = [secret for name, secret in SECRETS.items() if name not in PROVIDER_KEYS and name != "LITELLM_MASTER_KEY"]
    hidden += [*TOKENS.values(), REDIS_PASSWORD]
    assert [name for name, value in seen.items() if any(secret in value for secret in hidden)] == []
    assert PROVIDER_KEYS.items() <= seen.items()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_environment_of_a_serving_process_has_no_secret_of_the_proxy_s(start_proxy, upstream, tmp_path, workers):
    """In each process that serves, other code finds the providers' keys in the environment, and none of the proxy's own."""
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "spy.py").write_text(SPY)
    key_file = tmp_path / "keys"
    key_file.write_text(API_KEY)
    proxy = start_proxy(
        config=SPIED_CONFIG.format(url=upstream.other_url),
        NUM_WORKERS=workers,
        PROXY_USER_TOKENS=OWN["PROXY_USER_TOKENS"],
        CLAUDE_API_KEYS_FILE=str(key_file),
        REDIS_URL=f"redis://:{REDIS_PASSWORD}@127.0.0.1:9/0",
    )
    for _ in range(4):
        assert answer_text(proxy.ask(question("claude-sonnet-5"), token=PERSON_TOKEN)) == "from claude"
    for seen in spied(tmp_path / "proxy" / "seen"):
        check_environment(seen)
        assert not [name for name in seen if name.endswith("_FILE") and seen[name] == str(key_file)]


def test_the_environment_of_a_plain_litellm_has_no_secret_of_the_proxy_s(upstream, tmp_path):
    """LiteLLM's own command with the two entry files keeps the pool's credentials out of its environment as well."""
    home = tmp_path / "plain"
    home.mkdir()
    for name in ("request_transformer.py", "custom_auth.py"):
        (home / name).symlink_to(ROOT / name)
    (home / "spy.py").write_text(SPY)
    (home / "config.yaml").write_text(SPIED_CONFIG.format(url=upstream.other_url))
    port = free_port()
    variables = (
        proxy_environment(upstream)
        | OWN
        | {
            "PROXY_STATIC_TOKEN": STATIC_TOKEN,
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
    )
    command = [
        str(Path(sys.executable).parent / "litellm"),
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=clean_environment(home, **variables),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        answer = ask_plain(f"http://127.0.0.1:{port}", process)
        assert answer_text(answer) == "from claude"
        for seen in spied(home / "seen"):
            check_environment(seen)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask_plain(url: str, process: "subprocess.Popen[bytes]") -> httpx.Response:
    poll = threading.Event()
    for _ in range(300):
        assert process.poll() is None
        try:
            httpx.get(f"{url}/health/readiness", trust_env=False)
        except httpx.TransportError:
            poll.wait(0.2)
            continue
        return httpx.post(
            f"{url}/v1/messages",
            json=question("claude-sonnet-5"),
            headers={"x-litellm-api-key": STATIC_TOKEN},
            trust_env=False,
            timeout=60,
        )
    raise AssertionError("LiteLLM does not start")
