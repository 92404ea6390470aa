"""cli/code_snippets.py: code that is valid in its language, with the token read where it runs."""

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from claude_proxy.cli import code_snippets

TOKEN = "sk-made-up-token"
ODD = "a'b\"c\\d\ne${{f}}"
VARIABLES = {"PLAIN": TOKEN, "HEADERS": f"x-key: {TOKEN}\nx-mode: y", "ODD": ODD, "EMPTY": ""}
ROOT = Path(__file__).parent


def test_python():
    """The program is Python, and its variables are the given ones with the environment's token in them."""
    tree = ast.parse(code_snippets.python(VARIABLES, TOKEN))
    (call,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ClaudeAgentOptions"
    ]
    env = next(keyword.value for keyword in call.keywords if keyword.arg == "env")
    assert eval(compile(ast.Expression(env), "", "eval"), {"TOKEN": TOKEN}) == VARIABLES


def test_typescript(tmp_path):
    """The program is JavaScript as well, which Node runs, and its variables come on top of the environment's."""
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    package = tmp_path / "node_modules/@anthropic-ai/claude-agent-sdk"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "x", "main": "main.mjs", "type": "module"}')
    (package / "main.mjs").write_text("export async function* query({ options }) { yield JSON.stringify(options.env); }")
    (tmp_path / "main.mjs").write_text(code_snippets.typescript(VARIABLES, TOKEN))
    environ = {"CLAUDE_PROXY_TOKEN": TOKEN, "KEPT": "1"}
    done = subprocess.run([node, "main.mjs"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == environ | VARIABLES, done.stderr
    done = subprocess.run([node, "main.mjs"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert "CLAUDE_PROXY_TOKEN is not set" in done.stderr


@pytest.mark.parametrize("login", [False, True])
def test_github_actions(login):
    """The step is YAML; secrets are named where the token was, and the login's where there is one."""
    (step,) = yaml.safe_load(code_snippets.github_actions(VARIABLES, TOKEN, login=login))
    secret = "${{ secrets.CLAUDE_PROXY_TOKEN }}"
    expected = {name: value.replace(TOKEN, secret) for name, value in VARIABLES.items()}
    assert step["env"] == expected | ({"CLAUDE_CODE_OAUTH_TOKEN": "${{ secrets.CLAUDE_CODE_OAUTH_TOKEN }}"} if login else {})
    assert step["run"].splitlines()[1] == 'claude -p "Say hello"'


def test_the_release_is_the_tested_one():
    """The step installs the release of Claude Code that the end-to-end tests start."""
    package = json.loads((ROOT / "e2e/client/package.json").read_text(encoding="utf-8"))
    assert package["dependencies"]["@anthropic-ai/claude-code"] == code_snippets.CLAUDE_CODE_VERSION
