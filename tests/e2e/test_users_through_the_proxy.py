"""A token for each person, through the real proxy with two workers: who comes in, who no longer does, and to which models."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode, Run
from conftest import CONFIG, by_provider, proxy_environment
from processes import MASTER_KEY, Proxy, answer_text, clean_environment, question

from claude_proxy.cli import main

CARL = "sk-made-up-token-of-carl-in-the-variable"
DORA = "sk-made-up-token-of-dora-plain-in-the-file"
LIMITS = """
claude_proxy:
  users:
    ben: {models: ["claude-fallback-*", demo, cheap]}
    dora: {models: ["claude-*"]}
"""
# Writes down which process a request met, and what LiteLLM's own logs and spend would call its caller.
PROBE = """
import json, os
from pathlib import Path
from litellm.integrations.custom_logger import CustomLogger

class Probe(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        seen = {"pid": os.getpid(), "metadata": repr(data.get("litellm_metadata")), "user": user_api_key_dict.user_id}
        with Path(__file__).with_name("seen.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\\n")

probe = Probe()
"""


def run_cli(proxy: Proxy, *arguments: str) -> None:
    """Run a command as the operator does, beside the running proxy."""
    main.main(["--project", str(proxy.home), *arguments])


@pytest.fixture(scope="module")
def peopled(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A module's proxy with two workers and no static token: carl in the variable, dora in the file, a wordy log."""
    home = tmp_path_factory.mktemp("peopled")
    (home / ".state").mkdir()
    (home / ".state" / "users").write_text(f"dora={DORA}\nbroken-line-made-up\n")
    (home / "probe.py").write_text(PROBE)
    config = CONFIG.replace("  - model_name: gpt\n", "  - model_name: gpt\n    model_info: {{access_groups: [cheap]}}\n")
    config = config.replace("callbacks: [", "callbacks: [probe.probe, ").format(url=shared_upstream.other_url) + LIMITS
    variables = proxy_environment(shared_upstream) | {
        "PROXY_STATIC_TOKEN": "", "PROXY_USER_TOKENS": f"carl={CARL}", "NUM_WORKERS": "2", "LITELLM_LOG": "DEBUG",
        "CLAUDE_OAUTH_TOKENS": "only=sk-ant-oat01-made-up-only",
    }  # fmt: skip
    running = Proxy(home, config, **variables).wait_ready()
    yield running
    running.stop()


def seen(proxy: Proxy) -> list[dict[str, object]]:
    return [json.loads(line) for line in (proxy.home / "seen.jsonl").read_text().splitlines()]


@pytest.fixture
def added(peopled, capsys):
    """Add a person by the command, and return their token, which it printed in the block."""

    def add(name: str, *arguments: str) -> str:
        capsys.readouterr()
        run_cli(peopled, "user", "add", name, *arguments)
        return str(json.loads(capsys.readouterr().out)["env"]["ANTHROPIC_AUTH_TOKEN"])

    return add


def test_a_removed_person_is_refused_by_every_worker_at_once(peopled, added):
    """Of two people one is taken out while both workers hold connections: the very next request of theirs is a 401 in each."""
    tokens = {name: added(name) for name in ("anna", "anton")}
    with ExitStack() as stack:
        connections: dict[int, httpx.Client] = {}
        for _ in range(60):
            client = stack.enter_context(httpx.Client(base_url=peopled.url, trust_env=False, timeout=60))
            answer = client.post("/v1/messages", json=question("demo"), headers={"x-api-key": tokens["anna"]})
            assert answer.status_code == 200
            connections.setdefault(int(str(seen(peopled)[-1]["pid"])), client)
            if len(connections) == 2:
                break
        assert len(connections) == 2
        run_cli(peopled, "user", "remove", "anna")
        for client in connections.values():
            asked = {
                name: client.post("/v1/messages", json=question("demo"), headers={"x-api-key": token})
                for name, token in tokens.items()
            }
            assert {name: answer.status_code for name, answer in asked.items()} == {"anna": 401, "anton": 200}
            assert asked["anna"].headers["x-should-retry"] == "false"
            assert asked["anna"].json()["error"]["type"] == "authentication_error"
        assert {entry["pid"] for entry in seen(peopled)[-2:]} == set(connections)
    run_cli(peopled, "user", "remove", "anton")


@pytest.mark.parametrize("headers", [{}, {"x_api_key": "sk-not-the-token-of-anybody"}])
def test_a_proxy_with_people_is_not_open(peopled, headers):
    """Without PROXY_STATIC_TOKEN, but with people, nobody comes in without a token."""
    assert peopled.ask(question("demo"), token=None, **headers).status_code == 401
    assert "PROXY_STATIC_TOKEN is not set" not in peopled.output


REQUESTS = ["/v1/messages", "/v1/messages/count_tokens"]


@pytest.mark.parametrize("path", REQUESTS)
def test_a_model_that_a_person_may_not_use(peopled, added, upstream, path):
    """Another model is a 400 that names it and what is allowed, in Anthropic's shape, and no provider is asked."""
    token = added("ben")
    for model in ("glm", "claude-sonnet-5", "anthropic/claude-sonnet-5", "nobody-serves-this"):
        answer = peopled.ask(question(model), path=path, token=token)
        assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
        assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "invalid_request_error")
        assert f"ben may not use {model} on this proxy. Allowed: claude-fallback-*, demo, cheap." in answer.text
    assert upstream.seen == []
    for model in ("demo", "gpt", "claude-fallback-x"):
        assert peopled.ask(question(model), path=path, token=token).status_code == 200
    run_cli(peopled, "user", "remove", "ben")


def test_litellms_other_names_open_nothing(peopled, upstream):
    """Whoever may use Claude only reaches nobody else by the names under which LiteLLM knows a model, too."""
    listed = httpx.get(f"{peopled.url}/model/info", headers={"x-litellm-api-key": MASTER_KEY}, trust_env=False).json()["data"]
    (number,) = [entry["model_info"]["id"] for entry in listed if entry["model_name"] == "glm"]
    for name in (f"claude-router-{b'glm'.hex()}", f"claude-router-{b'glm'.hex()}[1m]", "glm[1m]", number):
        peopled.ask(question(name), token=DORA)
    assert all(seen.is_claude for seen in upstream.seen)
    assert peopled.ask(question(number), token=DORA).status_code == 400


def test_the_fallback_of_an_allowed_model_is_allowed(peopled, added, upstream):
    """A person gets the answer of a fallback that they could not ask for."""
    token = added("ben")
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(429, "rate_limit_error", "limit", retry_after="1"))
    answer = peopled.ask(question("claude-fallback-x"), token=token)
    assert (answer.status_code, answer_text(answer)) == (200, "from glm")
    assert peopled.ask(question("glm"), token=token).status_code == 400
    run_cli(peopled, "user", "remove", "ben")


@pytest.mark.parametrize("agent", ["curl/8", "claude-code/2.1.197"])
def test_the_list_of_models_is_the_persons(peopled, added, agent):
    """GET /v1/models lists what the person may use, whoever asks: everything for carl, less for ben and dora."""
    lists = {}
    for name, token in (("ben", added("ben")), ("dora", DORA), ("carl", CARL)):
        headers = {"authorization": f"Bearer {token}", "anthropic-version": "2023-06-01", "user-agent": agent}
        answer = httpx.get(f"{peopled.url}/v1/models?limit=1000", headers=headers, trust_env=False)
        lists[name] = {model["id"] for model in answer.json()["data"]}
    assert len(lists["ben"]) == 2
    assert lists["ben"] <= {"claude-proxy/demo", "claude-proxy/gpt"}
    assert {"claude-demo", "claude-keyed"} <= lists["dora"]
    assert not any(name.startswith("claude-proxy/") for name in lists["dora"])
    assert lists["ben"] | lists["dora"] < lists["carl"]
    run_cli(peopled, "user", "remove", "ben")


def test_names_are_known_and_tokens_are_not(peopled, added, upstream, capsys):
    """LiteLLM's metadata holds each person's name; no token is in it, in the log, in an answer or at an upstream."""
    tokens = {"anna": added("anna"), "carl": CARL, "dora": DORA, "admin": MASTER_KEY}
    answers = []
    for token in tokens.values():
        for model in ("claude-demo", "claude-sonnet-5", "glm", "nobody-serves-this"):
            answer = peopled.ask(question(model, stream=True), token=token)
            answers.append(f"{answer.headers} {answer.text}")
    entries = seen(peopled)[-len(answers) :]
    assert {entry["user"] for entry in entries} == set(tokens)
    assert all(f"'user_api_key_user_id': '{entry['user']}'" in str(entry["metadata"]) for entry in entries)
    run_cli(peopled, "user", "list")
    run_cli(peopled, "user", "remove", "anna")
    everything = {
        "metadata": str(entries), "log": peopled.output, "answers": str(answers), "output": "".join(capsys.readouterr()),
        "upstream": "".join(request.everything for request in upstream.seen),
    }  # fmt: skip
    assert {(where, name) for where, text in everything.items() for name, token in tokens.items() if token in text} == set()
    assert "line 2: expected name=token" in peopled.output
    assert "broken-line-made-up" not in peopled.output
    assert "anna  20" in everything["output"]


def test_claude_code_with_the_printed_block(peopled, tmp_path, upstream, capsys):
    """The block in ~/.claude/settings.json of a fresh HOME is all that Claude Code needs, and it asks for no other model."""
    capsys.readouterr()
    run_cli(peopled, "user", "add", "emil", "--model", "glm", "--url", peopled.url)
    block = capsys.readouterr().out
    user = ClaudeCode(tmp_path, peopled.url)
    user.environment = {"DISABLE_AUTOUPDATER": "1"}
    (user.home / ".claude").mkdir()
    (user.home / ".claude" / "settings.json").write_text(block)
    run = user.run("Please say hello to me and to everybody else")
    assert (run.code, run.result, run.retries) == (0, "from glm", 0), run.errors
    assert {request.json["model"] for request in upstream.seen} == {"glm-5"}
    assert seen(peopled)[-1]["user"] == "emil"
    run_cli(peopled, "user", "remove", "emil")
    refused = user.run("Hello")
    assert (refused.code, refused.retries) == (1, 0)
    assert "The token is not this proxy's" in refused.result


def test_auto_mode_with_the_printed_block(peopled, tmp_path, upstream, capsys):
    """With the printed block a model that is not Claude works in auto mode: Claude Code checks a call by that same model."""
    capsys.readouterr()
    run_cli(peopled, "user", "add", "emil", "--model", "glm", "--url", peopled.url)
    block = json.loads(capsys.readouterr().out)

    refusal = "Auto mode is unavailable"

    def glm(request):
        said = json.dumps(request.json["messages"])
        if not request.json.get("tools"):
            return up.anthropic_reply(request, up.text("<block>no</block>" if "<block>" in said else "?"))
        if "forty-two" in said or refusal in said:
            return up.anthropic_reply(request, up.text("refused" if refusal in said else "counted"))
        count = {"command": 'python3 -c \'print("forty" + "-two")\'', "description": "Count"}
        return up.anthropic_reply(request, up.tool("Bash", count))

    upstream.answer = by_provider(glm=glm)
    user = ClaudeCode(tmp_path, peopled.url)
    user.environment = {"DISABLE_AUTOUPDATER": "1"}
    (user.home / ".claude").mkdir()
    settings = user.home / ".claude" / "settings.json"
    settings.write_text(json.dumps(block))
    run = user.run("Count", "--permission-mode", "auto")
    assert (run.code, run.result, run.retries) == (0, "counted", 0), run.events
    assert [bool(request.json.get("tools")) for request in upstream.asked] == [True, False, True]
    assert {request.json["model"] for request in upstream.asked} == {"glm-5"}
    # Without the two variables the call is refused, which is what they are printed for.
    settings.write_text(json.dumps({"env": {name: value for name, value in block["env"].items() if "AUTO_MODE" not in name}}))
    assert user.run("Count", "--permission-mode", "auto").result == "refused"
    run_cli(peopled, "user", "remove", "emil")


def test_claude_code_with_the_printed_command(peopled, tmp_path, upstream, capsys):
    """The shell's command wins over a settings.json that says otherwise, and over a key in the environment."""
    capsys.readouterr()
    run_cli(peopled, "user", "add", "emil", "--model", "glm", "--url", peopled.url, "--format", "shell")
    functions = capsys.readouterr().out
    user = ClaudeCode(tmp_path, peopled.url)
    (user.home / ".claude").mkdir()
    other = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_AUTH_TOKEN": "made-up", "ANTHROPIC_MODEL": "other"}
    (user.home / ".claude" / "settings.json").write_text(json.dumps({"env": other}))
    environment = clean_environment(user.home, DISABLE_AUTOUPDATER="1", ANTHROPIC_API_KEY="sk-made-up-key-of-the-shell")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "claude").symlink_to(user.binary)
    environment["PATH"] = os.pathsep.join([str(tmp_path / "bin"), environment["PATH"]])
    command = f"{functions}\nclaude-glm -p Hello --output-format stream-json --verbose"
    run = Run(
        subprocess.run(
            ["bash", "-c", command], cwd=user.project, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=240, check=False,
        )
    )  # fmt: skip
    assert (run.code, run.result, run.retries) == (0, "from glm", 0), run.errors
    assert {request.json["model"] for request in upstream.seen} == {"glm-5"}
    assert seen(peopled)[-1]["user"] == "emil"
    run_cli(peopled, "user", "remove", "emil")
