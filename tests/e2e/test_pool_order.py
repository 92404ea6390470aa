"""Terms of credentials and groups of config.yaml, as clients meet them: one proxy with both of its files."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import upstream as up
from conftest import module_proxy
from processes import MASTER_KEY, Proxy, answer_text, question

USERS = {name: f"sk-made-up-token-of-{name}-0123456789" for name in ("anna", "ben", "carl")}
SECRETS = {label: f"sk-ant-oat01-made-up-{label}" for label in ("plain", "red", "narrow")}
LABELS = {secret: label for label, secret in SECRETS.items()}
CREDENTIALS = f"""credentials:
  - {{label: plain, secret: {SECRETS["plain"]}}}
  - {{label: red, secret: {SECRETS["red"]}, groups: [red]}}
  - {{label: narrow, secret: {SECRETS["narrow"]}, groups: [narrow], max_concurrency: 1}}
"""
GROUPS = """
claude_proxy:
  users:
    anna:
      groups: [red]
    carl:
      groups: [narrow]
  models:
    claude-haiku-*:
      groups: [red]
"""
OPUS, HAIKU = "claude-opus-4-8", "claude-haiku-4-5"


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("order")
    (home / "credentials.yaml").write_text(CREDENTIALS)
    (home / "credentials.yaml").chmod(0o600)
    tokens = ",".join(f"{name}={token}" for name, token in USERS.items())
    for running in module_proxy(
        shared_upstream,
        home,
        models=GROUPS,
        CLAUDE_OAUTH_TOKENS="",
        CLAUDE_API_KEYS="",
        PROXY_USER_TOKENS=tokens,
        CLAUDE_POOL_MAX_WAIT_SECONDS="60",
    ):
        yield running
        assert not [secret for secret in SECRETS.values() if secret in running.output]


def met(proxy: Proxy, upstream: up.Upstream, name: str, model: str) -> str | int:
    """Return the label of the credential that served a user, or the status of a refusal."""
    response = proxy.ask(question(model), token=USERS[name])
    return LABELS[upstream.asked[-1].credential or ""] if response.status_code == 200 else response.status_code


def test_users_and_models_use_only_their_groups(proxy: Proxy, upstream: up.Upstream) -> None:
    """A user's and a model's groups are strict, who has none uses what is nobody's, two without one in common get an error."""
    found = {(name, model): met(proxy, upstream, name, model) for name in USERS for model in (OPUS, HAIKU)}
    assert found == {
        ("anna", OPUS): "red",
        ("anna", HAIKU): "red",
        ("ben", OPUS): "plain",
        ("ben", HAIKU): "red",
        ("carl", OPUS): "narrow",
        ("carl", HAIKU): 400,
    }


def test_a_user_sees_only_credentials_that_it_may_use(proxy: Proxy) -> None:
    """The page's data and the metrics name no credential that is for others; the master key sees all."""

    def shown(token: str) -> set[str]:
        headers = {"x-litellm-api-key": token, "accept": "application/json"}
        asked, metrics = (httpx.get(f"{proxy.url}{path}", headers=headers, trust_env=False) for path in ("/pool", "/metrics"))
        asked, metrics = asked.json(), metrics.text
        assert {label for label in SECRETS if f'credential="{label}"' in metrics} == {
            one["label"] for one in asked["credentials"]
        }
        assert asked["pool"]["credentials"] == len(asked["credentials"])
        return {one["label"] for one in asked["credentials"]}

    assert shown(USERS["anna"]) == {"red"}
    assert shown(USERS["ben"]) == {"plain", "red"}
    assert shown(USERS["carl"]) == {"narrow"}
    assert shown(MASTER_KEY) == {*SECRETS}


def test_requests_at_once_wait_for_their_turn(proxy: Proxy, upstream: up.Upstream) -> None:
    """Of six streams at once on a credential that may have one, the upstream never sees two, and all are answered whole."""
    lock, under_way, most = threading.Lock(), 0, 0

    def answer(seen: up.Seen) -> up.Reply:
        nonlocal under_way, most
        if not seen.is_claude or seen.method != "POST":
            return up.anthropic_reply(seen, up.text("hello"))
        with lock:
            under_way += 1
            most = max(most, under_way)

        def chunks() -> Iterator[bytes]:
            nonlocal under_way
            pieces = up.sse(*up.events_of(up.message(up.text("hello"), model=OPUS)))
            yield from pieces[:-1]
            with lock:
                under_way -= 1
            yield pieces[-1]

        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=chunks())

    upstream.answer = answer
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(proxy.ask, question(OPUS, stream=True), token=USERS["carl"]) for _ in range(6)]
        responses = [one.result() for one in asked]
    assert [one.status_code for one in responses] == [200] * 6
    assert {answer_text(one) for one in responses} == {"hello"}
    assert most == 1
