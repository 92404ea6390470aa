"""Each block that ``claude-proxy settings`` prints, given to the real Claude Code as its user would, with nothing else set."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import upstream as up
import yaml
from claude_code import NEWEST, OLDER, ClaudeCode, require
from conftest import PROVIDER_KEYS, TOKENS, by_provider, module_proxy, proxy_environment
from processes import STATIC_TOKEN, Proxy, clean_environment

from claude_proxy.cli import main
from claude_proxy.config.client_models import MODEL_VARIABLES

SDK = Path(__file__).parent / "sdk"
LOGIN = "sk-ant-oat01-made-up-logged-in"
ELSEWHERE = {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_AUTH_TOKEN": "sk-of-another-gateway"}}
# The user's own settings.json may hold, besides, this proxy's block of the other form, or of another model.
OTHER_BLOCKS = ELSEWHERE["env"] | dict.fromkeys(MODEL_VARIABLES, "gpt") | {
    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: sk-made-up-of-another\nx-claude-token-mode: passthrough",
    "CLAUDE_CODE_SUBAGENT_MODEL_FORCE": "1", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "32000", "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
    "CLAUDE_CODE_AUTO_MODE_MODEL": "gpt", "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "150000",
}  # fmt: skip
SIZES = {"small": 32_000, "middle": 128_000, "large": 400_000, "huge": 1_000_000}
# As in ``CONFIG``, braces are doubled where they are not a placeholder.
MODELS = "".join(
    f"""
  - model_name: {name}
    litellm_params: {{{{model: anthropic/{name}, api_base: "{{url}}/glm", api_key: os.environ/ZAI_API_KEY}}}}
    model_info: {{{{max_input_tokens: {size}}}}}"""
    for name, size in SIZES.items()
)


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    yield from module_proxy(shared_upstream, tmp_path_factory.mktemp("blocks"), models=MODELS)


@pytest.fixture
def printed(
    proxy: Proxy, upstream: up.Upstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Print a block in the proxy's own folder, as its operator does: by the command, in this process."""
    variables = proxy_environment(upstream) | {"PROXY_STATIC_TOKEN": STATIC_TOKEN, "PORT": str(proxy.port)}
    for name, value in clean_environment(proxy.home, **variables).items():
        monkeypatch.setenv(name, value)

    def show(*arguments: str) -> str:
        capsys.readouterr()
        main.main(["--project", str(proxy.home), "settings", *arguments])
        return capsys.readouterr().out

    return show


@pytest.fixture
def user(request: pytest.FixtureRequest, tmp_path: Path) -> ClaudeCode:
    """A user with an empty environment and an empty HOME."""
    user = ClaudeCode(tmp_path, "", package=getattr(request, "param", NEWEST))
    user.environment = {"DISABLE_AUTOUPDATER": "1"}
    return user


def put(user: ClaudeCode, settings: str) -> None:
    """Put settings where Claude Code reads them."""
    (user.home / ".claude").mkdir(exist_ok=True)
    (user.home / ".claude/settings.json").write_text(settings)


def asked_models(upstream: up.Upstream) -> set[tuple[str, str]]:
    return {(seen.path.split("/")[1], seen.json["model"]) for seen in upstream.asked}


def with_a_subagent(seen: up.Seen, kind: str = "Explore") -> list[dict[str, object]]:
    """Answer as a model that starts a subagent, and says at the end what it found."""
    said = json.dumps(seen.json["messages"])
    if not seen.json.get("tools"):
        return [up.text("a title")]
    if "tool_result" in said or '"role": "tool"' in said:
        return [up.text("it found 4711")]
    if "the made-up answer" in said:
        return [up.text("the answer is 4711")]
    task = {"description": "Find it", "prompt": "the made-up answer", "subagent_type": kind, "run_in_background": False}
    return [up.tool("Agent", task)]


@pytest.mark.parametrize("user", [NEWEST, OLDER], indirect=True)
def test_settings_json_of_another_model(printed, user, upstream):
    """With form A and another model, every request is for that model, subagents included, and its tools come from the start."""
    agent = "---\nname: finder\ndescription: Finds it\nmodel: claude-haiku-5-5\n---\nYou find it.\n"
    (user.project / ".claude/agents").mkdir(parents=True)
    (user.project / ".claude/agents/finder.md").write_text(agent)
    upstream.answer = by_provider(glm=lambda seen: up.anthropic_reply(seen, *with_a_subagent(seen, "finder")))
    put(user, printed("--model", "glm"))
    run = user.run("Use an agent", "--allowedTools", "Agent")
    assert (run.code, run.retries, run.result, run.errors) == (0, 0, "it found 4711", "")
    assert asked_models(upstream) == {("glm", "glm-5")}
    assert len(upstream.asked) >= 3
    tools = {tool["name"] for seen in upstream.asked for tool in seen.json.get("tools") or ()}
    assert {"WebFetch", "NotebookEdit"} <= tools
    assert "ToolSearch" not in tools


def test_settings_json_of_claude(printed, user, upstream):
    """With form A and Claude, Claude Code chooses Claude's models, and every subagent has the model that is named for them."""
    upstream.answer = by_provider(
        claude=lambda seen: up.anthropic_reply(seen, *with_a_subagent(seen)),
        gpt=lambda seen: up.openai_reply(seen, *with_a_subagent(seen)),
    )
    put(user, printed("--subagent-model", "gpt"))
    run = user.run("Use an agent", "--allowedTools", "Agent")
    assert (run.code, run.retries, run.result) == (0, 0, "it found 4711")
    models = asked_models(upstream)
    assert ("openai", "gpt-x") in models
    assert [name.startswith("claude-") for place, name in models if place == "v1"] == [True]
    assert {seen.credential for seen in upstream.asked if seen.is_claude} <= {*TOKENS.values()}


@pytest.mark.parametrize(
    ("block", "model", "window"),
    [
        ("glm", None, "200k"), ("glm", "large", "200k"), ("glm", "huge", "1m"),
        ("large", None, "400k"), ("large", "glm", "200k"), ("middle", None, "128k"),
        ("small", None, "32k"), ("small[1m]", None, "32k"),
        (None, "small", "32k"), (None, "glm", "200k"), (None, "huge", "1m"),
    ],
)  # fmt: skip
def test_the_window_of_each_model(printed, user, block, model, window):
    """Claude Code takes for each model a window that is not larger than the model's own, whichever block is used."""
    put(user, printed(*(["--model", block] if block else [])))
    run = user.run("/context", model=model)
    assert re.findall(r"\*\*Tokens:\*\* \S+ / (\w+)", run.result) == [window], run.result


@pytest.mark.parametrize(
    ("block", "warning"),
    [("gpt", False), ("middle", False), ("large", False), ("huge", False), (None, False), ("small", True)],
)
def test_claude_code_knows_the_model_of_a_block(printed, user, block, warning):
    """Claude Code prints nothing about the block's model, except for one with a window of less than 100,000 tokens."""
    put(user, printed(*(["--model", block] if block else [])))
    run = user.run("Hello")
    assert (run.code, run.retries) == (0, 0), run.result
    assert ("unrecognized_model" in run.errors) is warning
    assert warning or run.errors == ""


@pytest.mark.parametrize(("model", "credential"), [(None, LOGIN), ("glm", PROVIDER_KEYS["ZAI_API_KEY"])])
def test_form_b(printed, user, upstream, model, credential):
    """With form B the user's own login goes to Claude and to nobody else, and no token of the proxy's goes anywhere."""
    put(user, printed("--form", "b", *(["--model", model] if model else [])))
    run = user.run("Hello", CLAUDE_CODE_OAUTH_TOKEN=LOGIN)
    assert (run.code, run.retries) == (0, 0), run.result
    assert {seen.credential for seen in upstream.asked} == {credential}
    everything = "".join(seen.everything for seen in upstream.seen)
    assert STATIC_TOKEN not in everything
    assert (LOGIN in everything) is (model is None)


def in_a_shell(user: ClaudeCode, command: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with ``claude`` in the path and nothing else set; the user's own settings are those of other blocks."""
    put(user, json.dumps({"env": OTHER_BLOCKS}))
    bin_folder = user.home / "bin"
    bin_folder.mkdir()
    (bin_folder / "claude").symlink_to(user.binary)
    environment = clean_environment(user.home, **(user.environment | variables))
    environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=user.project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("form", ["a", "b"])
def test_the_command_of_a_shell(printed, user, upstream, shell, form):
    """The command wins over the user's own settings.json and over a key and a token in the environment, and takes arguments."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    functions = printed("--format", "fish" if shell == "fish" else "shell", "--form", form)
    assert "claude-via-proxy" in functions
    start = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    beside = {"ANTHROPIC_API_KEY": "sk-ant-api03-made-up"} if form == "a" else {"CLAUDE_CODE_OAUTH_TOKEN": LOGIN}
    beside |= {"ANTHROPIC_AUTH_TOKEN": "sk-made-up-of-the-shell"}
    done = in_a_shell(user, [*start, f"{functions}\nclaude-glm -p 'two words'\nclaude-via-proxy -p 'two words'"], **beside)
    assert (done.returncode, done.stdout) == (0, "from glm\nfrom claude\n"), done.stderr
    assert all("two words" in seen.body.decode() for seen in upstream.asked)
    own = {LOGIN} if form == "b" else {*TOKENS.values()}
    assert {seen.credential for seen in upstream.asked if seen.is_claude} <= own
    assert {place for place, _ in asked_models(upstream)} == {"glm", "v1"}
    assert "sk-ant-api03-made-up" not in "".join(seen.everything for seen in upstream.seen)


def test_the_variables_of_vs_code(printed, user, upstream):
    """What VS Code's extension puts into the environment of Claude Code is enough for it."""
    block = json.loads(printed("--format", "vscode", "--model", "gpt"))
    variables = {entry["name"]: entry["value"] for entry in block["claudeCode.environmentVariables"]}
    run = user.run("Hello", **variables)
    assert (run.code, run.retries, run.result) == (0, 0, "from gpt")
    assert asked_models(upstream) == {("openai", "gpt-x")}


@pytest.mark.parametrize("form", ["a", "b"])
def test_the_step_of_github_actions(printed, user, upstream, form):
    """The step's command answers with its own variables, once its secrets are filled in and Claude Code is installed."""
    (step,) = yaml.safe_load(printed("--format", "github", "--form", form))
    install, command = step["run"].splitlines()
    release = json.loads((require().parents[1] / "package.json").read_text())["version"]
    assert install == f"npm install --global @anthropic-ai/claude-code@{release}"
    secrets = {"CLAUDE_PROXY_TOKEN": STATIC_TOKEN, "CLAUDE_CODE_OAUTH_TOKEN": LOGIN}
    filled = {
        name: re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda found: secrets[found[1]], value)
        for name, value in step["env"].items()
    }
    user.environment |= filled
    put(user, "{}")
    done = subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=user.project,
        env=clean_environment(user.home, **user.environment) | {"PATH": f"{on_path(user)}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "from claude\n"), done.stderr
    assert {seen.credential for seen in upstream.asked} <= ({LOGIN} if form == "b" else {*TOKENS.values()})


def on_path(user: ClaudeCode) -> Path:
    (user.home / "bin").mkdir(exist_ok=True)
    if not (user.home / "bin/claude").exists():
        (user.home / "bin/claude").symlink_to(user.binary)
    return user.home / "bin"


@pytest.fixture(scope="module")
def sdk() -> Path:
    """Where the Agent SDK is, which starts the tests' Claude Code in place of the copy that it would bring."""
    npm = shutil.which("npm")
    if not (SDK / "node_modules/@anthropic-ai/claude-agent-sdk").exists():
        if npm is None:
            pytest.skip("Node and npm are not installed, so the Agent SDK cannot be")
        command = [npm, "ci", "--silent", "--omit=optional"]
        installed = subprocess.run(command, cwd=SDK, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            pytest.skip(f"npm could not install the Agent SDK: {installed.stderr[-300:]}")
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"@anthropic-ai/claude-agent-sdk-{sys.platform}-{machine}"
    copy = SDK / "node_modules" / name
    if not copy.exists():
        copy.mkdir()
        (copy / "package.json").write_text(json.dumps({"name": name, "version": "0.3.332"}))
        (copy / "claude").symlink_to(require())
    return SDK


@pytest.mark.parametrize(("form", "model"), [("a", "glm"), ("b", None)])
def test_the_agent_sdk_for_typescript(printed, user, upstream, sdk, form, model):
    """The printed program answers as it is, with the token from the environment, whatever the user's own settings say."""
    program = sdk / f"printed-{form}.mjs"
    program.write_text(printed("--format", "typescript", "--form", form, *(["--model", model] if model else [])))
    try:
        login = {"CLAUDE_CODE_OAUTH_TOKEN": LOGIN} if form == "b" else {}
        done = in_a_shell(user, ["node", str(program)], CLAUDE_PROXY_TOKEN=STATIC_TOKEN, **login)
    finally:
        program.unlink()
    assert done.returncode == 0, done.stderr
    assert f"result: 'from {model or 'claude'}'" in done.stdout
    assert {seen.credential for seen in upstream.asked} == {LOGIN if form == "b" else PROVIDER_KEYS["ZAI_API_KEY"]}
