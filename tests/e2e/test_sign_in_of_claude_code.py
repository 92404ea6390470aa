"""The real Claude Code signs in with ``/login`` at the proxy, works, and is refreshed; it shows a budget, and a removal."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
import upstream as up
from claude_code import require
from conftest import CONFIG, by_provider, proxy_environment
from interactive_client import InteractiveClient, approve
from processes import ROOT, Proxy
from recorder import Exchange, Recorder
from test_status_through_the_proxy import browser

from claude_proxy.cli import main

__all__ = ["browser"]  # a fixture

MESSAGES, REFRESH = "/v1/messages", "refresh_token"
USERS = ("anna", "ben", "carla", "dora")
# Claude Code refreshes a token of a minute before each request.
SECTION = """
claude_proxy:
  project_tag: project
  sign_in: {{notice: Use your work account., access_token_minutes: 1}}
  users:
    ben: {{budget: {{day: 1}}}}
  prices:
    "claude-*": {{input: 1000, output: 1000}}
  telemetry: {{collector: "{url}/collector"}}
  managed_settings:
    users:
      anna:
        model: claude-haiku-5-5
        env:
          CLAUDE_CODE_ENABLE_TELEMETRY: "1"
          OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf
          OTEL_METRICS_EXPORTER: otlp
          OTEL_LOGS_EXPORTER: otlp
          OTEL_METRIC_EXPORT_INTERVAL: "500"
          OTEL_LOGS_EXPORT_INTERVAL: "500"
"""
NOTICE = "of your usage credits"
UNIFIED = "anthropic-ratelimit-unified-"


def token_of(user: str) -> str:
    return f"sk-made-up-token-of-{user}-0123456789"


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("sign-in")
    (home / ".state").mkdir(mode=0o700)
    (home / ".state/users").write_text("".join(f"{user}={token_of(user)}\n" for user in USERS))
    config = (CONFIG + SECTION).format(url=shared_upstream.other_url)
    running = Proxy(home, config, **proxy_environment(shared_upstream)).wait_ready()
    yield running
    running.stop()
    assert "Traceback" not in running.output


@pytest.fixture
def recorder(proxy: Proxy) -> Iterator[Recorder]:
    recording = Recorder(proxy.url)
    yield recording
    recording.close()


@pytest.fixture
def client(tmp_path: Path, recorder: Recorder) -> Iterator[InteractiveClient]:
    user = InteractiveClient(tmp_path, recorder.url, attributionProject="shop")
    yield user
    user.close()


class Model:
    """Claude: responds with the words, and with so many tokens, of which one costs 0.001 USD."""

    def __init__(self, upstream: up.Upstream) -> None:
        self.upstream = upstream
        self.words, self.tokens = "from claude", 1
        models = by_provider(claude=self.respond)
        upstream.answer = lambda seen: up.Reply(200) if seen.path.startswith("/collector") else models(seen)

    def respond(self, seen: up.Seen) -> up.Reply:
        # Beside the conversation the client sends small requests, for a title for example.
        tokens = self.tokens if len(seen.body) > 20_000 else 0
        whole = up.message(up.text(self.words), model=seen.json["model"])
        whole["usage"] = {"input_tokens": tokens, "output_tokens": 0}
        if seen.json.get("stream"):
            return up.Reply(headers={"content-type": "text/event-stream"}, chunks=up.sse(*up.events_of(whole)))
        return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(whole).encode())


@pytest.fixture
def model(upstream: up.Upstream) -> Model:
    return Model(upstream)


def refreshes(recorder: Recorder) -> list[Exchange]:
    return [one for one in recorder.of("/oauth/token") if one.form["grant_type"] == REFRESH]


def access_tokens(recorder: Recorder) -> list[str]:
    """The access tokens that the proxy has given, in their order."""
    return [one.reply_json["access_token"] for one in recorder.of("/oauth/token") if one.status == 200]


def main_requests(recorder: Recorder) -> list[Exchange]:
    """The requests of the conversation itself."""
    return [one for one in recorder.of(MESSAGES) if len(one.body) > 20_000]


def command(proxy: Proxy, *arguments: str) -> None:
    """Run ``claude-proxy sign-in`` beside the proxy, in a process of its own: a browser's loop runs in this one."""
    whole = [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), "sign-in", *arguments]
    subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, timeout=120)


def eventually(holds: Callable[[], bool]) -> bool:
    poll = threading.Event()
    return any(holds() or poll.wait(0.05) for _ in range(1200))


def test_a_user_signs_in_and_works(browser, client, recorder, proxy, model, upstream):
    """A user signs in with a code and a personal token, gets managed settings, and works; project and telemetry have a name."""
    client.start_login()
    assert "Use your work account." in client.terminal.screen.text
    (started,) = recorder.of("/oauth/device_authorization")
    assert started.form == {"surface": "claude_code"}
    assert f"Code: {started.reply_json['user_code']}" in " ".join(client.terminal.screen.text.split())
    assert client.page == started.reply_json["verification_uri_complete"]
    assert {one.reply_json["error"] for one in recorder.of("/oauth/token")} <= {"authorization_pending"}
    approve(browser, client.page, token_of("anna"))
    client.finish_login(asks=True)
    # The client started anew with the settings, and asked for them with their checksum.
    first, second = recorder.of("/managed/settings")[:2]
    assert (first.status, second.status) == (200, 304)
    assert second.headers["if-none-match"] == first.reply_headers["etag"]
    assert "Haiku 5.5" in client.terminal.screen.text
    model.words = "It compares pennies with euros."
    client.ask("Why does the test of the cart fail?", model.words)

    asked = main_requests(recorder)[-1]
    assert asked.json["model"] == "claude-haiku-5-5"
    assert asked.bearer in access_tokens(recorder)
    claims = jwt.decode(asked.bearer, options={"verify_signature": False})
    assert (claims["sub"], claims["billing_group_tag"]) == ("anna", "project")
    assert asked.json["tags"] == {"project": "shop"}
    assert not [seen for seen in upstream.asked if not seen.path.startswith("/collector") and b'"tags"' in seen.body]
    assert proxy.logged("user=anna model=claude-haiku-5-5 project=shop")
    # What the settings turn on is in the request: what it is for, and which settings apply.
    assert asked.headers["x-claude-code-request-class"] == "main"
    assert asked.headers["x-claude-code-managed-settings-checksum"] == first.reply_json["checksum"]
    assert recorder.of("/v1/models")[0].status == 200
    for signal in ("metrics", "logs"):
        assert recorder.wait_for(f"/v1/{signal}")[0].status == 200
        assert eventually(lambda path=f"/collector/v1/{signal}": any(seen.path == path for seen in upstream.seen))
    assert not [seen for seen in upstream.seen if seen.credential in access_tokens(recorder)]


def test_a_budget_in_the_clients_words(browser, client, recorder, model):
    """A user is shown 75 % and 95 % of the budget and the refusal in the client's own words, and the money in /usage."""
    client.start_login()
    approve(browser, client.page, token_of("ben"))
    client.finish_login()
    assert recorder.of("/managed/settings")[0].status == 404
    steps = (("Pennies first.", 760, ""), ("Then the euros.", 200, "76%"), ("Now the quantity.", 100, "96%"))
    for number, (words, tokens, share) in enumerate(steps):
        model.words, model.tokens = words, tokens
        client.ask(f"Question {number}", f"● {words}")
        if share:  # it is one of several notices that take turns
            client.terminal.wait_for(f"You've used {share} {NOTICE} · resets")
            client.restart()  # a session shows the notice once
        else:
            assert NOTICE not in client.terminal.screen.text
    thresholds = [one.reply_headers.get(f"{UNIFIED}overage-surpassed-threshold") for one in main_requests(recorder)]
    assert thresholds == [None, "0.75", "0.95"]

    client.ask("And now?", "● Your daily budget ($1.00) is spent; it resets on")
    refused = main_requests(recorder)[3:]
    assert [one.status for one in refused] == [429]
    message = refused[0].reply_json["error"]["message"]
    assert "".join(message.split()) in client.terminal.words
    client.type("/usage")
    client.terminal.wait_for("$1.06 / $1.00 spent today · Resets")


def test_two_sessions_of_one_user(browser, client, recorder, proxy, model):
    """A session goes on after others have refreshed the sign-in that they share, also with a new key, until it is revoked."""
    client.start_login()
    approve(browser, client.page, token_of("dora"))
    client.finish_login()
    model.words = "The first answer."
    client.ask("The first question", "● The first answer.")
    before = len(refreshes(recorder))
    command(proxy, "rotate-keys")
    for number in range(2):
        model.words = f"The {number}. answer beside it."
        done = subprocess.run(
            [str(require()), "-p", "A question beside it"], cwd=client.project, env=client.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip
        assert model.words in done.stdout
    assert len(refreshes(recorder)) >= before + 2
    model.words = "The last answer."
    client.ask("The last question", "● The last answer.")
    assert "Please run /login" not in client.terminal.screen.text
    command(proxy, "revoke", "dora")
    client.ask("And now?", "Please run /login")


def test_a_user_who_is_removed(browser, client, recorder, proxy, model):
    """The client is refreshed with a new token each time; after the removal it asks its user to sign in."""
    client.start_login()
    approve(browser, client.page, token_of("carla"))
    client.finish_login()
    for number in range(2):
        model.words = f"The {number}. answer."
        client.ask(f"The {number}. question", f"● {model.words}")
    used = refreshes(recorder)
    assert {one.status for one in used} == {200}
    assert len(used) == len({one.form[REFRESH] for one in used}) > 1
    assert main_requests(recorder)[-1].bearer == access_tokens(recorder)[-1]

    # Without managed settings, the client's own default: docs/sign-in.md names it.
    assert main_requests(recorder)[-1].json["model"] == "claude-opus-4-7"

    before = len(recorder.exchanges)
    main.main(["--project", str(proxy.home), "user", "remove", "carla"])
    client.ask("And now?", "Please run /login")
    after = recorder.exchanges[before:]
    assert [one.status for one in after if one.path == "/oauth/token"] == [401]
    assert {one.status for one in after if one.path == MESSAGES} == {401}
    client.terminal.wait_for("sign in again with /login")
