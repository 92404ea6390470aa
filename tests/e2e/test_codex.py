"""The real Codex CLI on OpenAI's routes, with an empty HOME, on a model of chat completions and on Claude with an API key."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import upstream as up
from conftest import CONFIG, by_provider, proxy_environment
from processes import STATIC_TOKEN, Proxy, clean_environment

CODEX = Path(__file__).parent / "codex"
BINARY = CODEX / "node_modules" / "@openai" / "codex" / "bin" / "codex.js"
KEY = "sk-ant-api03-made-up-codex"
SETTINGS = """
model = "{model}"
model_provider = "claude-proxy"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.claude-proxy]
name = "claude-proxy"
base_url = "{url}/v1"
env_key = "MY_PROXY_TOKEN"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
# Whatever else it wants to reach is not there.
LOOPBACK = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
MODELS = pytest.mark.parametrize("model", ["gpt", "claude-sonnet-5-5"])


def require() -> Path:
    """Return the CLI, installed from its lock; skip, with the reason, on a machine that cannot have it."""
    npm = shutil.which("npm")
    with (CODEX / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests installs it, too
        if not BINARY.exists():
            if npm is None:
                pytest.skip("Node and npm are not installed, so Codex cannot be")
            installed = subprocess.run([npm, "ci", "--silent"], cwd=CODEX, capture_output=True, text=True, check=False)
            if installed.returncode != 0 or not BINARY.exists():
                pytest.skip(f"npm could not install Codex: {installed.stderr[-300:]}")
    return BINARY


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    config = CONFIG.format(url=shared_upstream.other_url) + "\nclaude_proxy: {openai_routes: true}\n"
    environment = proxy_environment(shared_upstream) | {"CLAUDE_API_KEYS": f"key={KEY}"}
    running = Proxy(tmp_path_factory.mktemp("codex"), config, **environment).wait_ready()
    yield running
    running.stop()


def run(folder: Path, proxy: Proxy, model: str, token: str = STATIC_TOKEN) -> tuple[int, list[dict[str, Any]]]:
    """Run ``codex exec`` once; return its exit code and its events."""
    project = folder / "project"
    project.mkdir()
    (folder / ".codex").mkdir()
    (folder / ".codex" / "config.toml").write_text(SETTINGS.format(model=model, url=proxy.url))
    command = [
        str(require()), "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "look at it",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=project, env=clean_environment(folder, MY_PROXY_TOKEN=token, **LOOPBACK), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, events or [{"type": "nothing", "text": done.stderr}]


def said(events: list[dict[str, Any]]) -> list[str]:
    items = [event.get("item", {}) for event in events if event["type"] == "item.completed"]
    return [item["text"] for item in items if item.get("type") == "agent_message"]


@MODELS
def test_a_turn_with_a_command(proxy, upstream, tmp_path, model):
    """Codex runs the command that the model calls for, sends its output, and prints the text that follows."""

    def answer(seen: up.Seen) -> up.Reply:
        reply = up.anthropic_reply if seen.is_claude else up.openai_reply
        if "made-up-output" in json.dumps(seen.json["messages"][-1]):
            return reply(seen, up.text("it says so"))
        tools = [tool.get("function", tool)["name"] for tool in seen.json["tools"]]
        name = next(name for name in ("exec_command", "shell_command", "shell") if name in tools)
        words = "echo made-up-output"
        arguments = {"exec_command": {"cmd": words}, "shell_command": {"command": words}}
        return reply(seen, up.tool(name, arguments.get(name, {"command": ["sh", "-c", words]})))

    upstream.answer = by_provider(claude=answer, gpt=answer)
    code, events = run(tmp_path, proxy, model)
    assert (code, said(events)) == (0, ["it says so"]), (events, proxy.output)
    assert len(upstream.asked) == 2
    assert {seen.credential for seen in upstream.asked} == {KEY if model != "gpt" else "made-up-openai-key-0123"}
    (usage,) = [event["usage"] for event in events if event["type"] == "turn.completed"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (20, 10)


@MODELS
def test_a_stream_that_breaks_off(proxy, upstream, tmp_path, model):
    """Codex reports a response that its provider cuts as a failure."""

    def cut(seen: up.Seen) -> up.Reply:
        whole = (up.anthropic_reply if seen.is_claude else up.openai_reply)(seen, up.text("half of it"))
        return up.Reply(headers=whole.headers, chunks=list(whole.chunks or ())[:3], drop=True)

    upstream.answer = by_provider(claude=cut, gpt=cut)
    code, events = run(tmp_path, proxy, model)
    assert code != 0
    assert events[-1]["type"] == "turn.failed", events
    assert "broke off" in json.dumps(events)


def test_a_wrong_token(proxy, upstream, tmp_path):
    """Codex shows its user what is wrong with the token."""
    code, events = run(tmp_path, proxy, "gpt", token="made-up-wrong")
    assert code != 0
    assert "as the API key of your client" in json.dumps(events), events
    assert not upstream.asked
