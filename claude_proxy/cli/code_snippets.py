"""Code and a CI step that start Claude Code with variables of their own: the Agent SDK and GitHub Actions. No I/O.

What is printed here is committed with a project, so no secret is in it: it reads them where it runs.
"""

import json
from collections.abc import Mapping

# Where the code reads the proxy's token, and, beside it, the user's own login.
TOKEN_VARIABLE, LOGIN_VARIABLE = "CLAUDE_PROXY_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"
# The release that the blocks are tested with.
CLAUDE_CODE_VERSION = "2.1.332"
# An ``env`` in the user's own settings.json would win over the variables here.
SOURCES_REASON = 'Without "user": `env` in ~/.claude/settings.json would win over these variables.'


def python(variables: Mapping[str, str], token: str) -> str:
    """Return a program for the Agent SDK for Python. ``token`` is what the variables hold in the token's place."""
    return "\n".join([
        "# pip install claude-agent-sdk",
        "import asyncio",
        "import os",
        "",
        "from claude_agent_sdk import ClaudeAgentOptions, query",
        "",
        f'TOKEN = os.environ["{TOKEN_VARIABLE}"]',
        "OPTIONS = ClaudeAgentOptions(",
        "    env={",
        *(f"        {json.dumps(name)}: {_joined(value, token, 'TOKEN')}," for name, value in variables.items()),
        "    },",
        f"    # {SOURCES_REASON}",
        '    setting_sources=["project"],',
        ")",
        "",
        "",
        "async def main() -> None:",
        '    async for message in query(prompt="Say hello", options=OPTIONS):',
        "        print(message)",
        "",
        "",
        "asyncio.run(main())",
    ])  # fmt: skip


def typescript(variables: Mapping[str, str], token: str) -> str:
    """Return a program for the Agent SDK for TypeScript, whose ``env`` replaces the environment and does not add to it."""
    return "\n".join([
        "// npm install @anthropic-ai/claude-agent-sdk",
        'import { query } from "@anthropic-ai/claude-agent-sdk";',
        "",
        f"const token = process.env.{TOKEN_VARIABLE};",
        f'if (!token) throw new Error("{TOKEN_VARIABLE} is not set");',
        "",
        "const messages = query({",
        '  prompt: "Say hello",',
        "  options: {",
        "    env: {",
        "      ...process.env,",
        *(f"      {name}: {_joined(value, token, 'token')}," for name, value in variables.items()),
        "    },",
        f"    // {SOURCES_REASON}",
        '    settingSources: ["project"],',
        "  },",
        "});",
        "for await (const message of messages) console.log(message);",
    ])  # fmt: skip


def github_actions(variables: Mapping[str, str], token: str, *, login: bool) -> str:
    """Return a step for a job. With ``login`` the user's own token for Claude goes beside the proxy's."""
    secret = f"${{{{ secrets.{TOKEN_VARIABLE} }}}}"
    shown = {name: value.replace(token, secret) if token else value for name, value in variables.items()}
    shown |= {LOGIN_VARIABLE: f"${{{{ secrets.{LOGIN_VARIABLE} }}}}"} if login else {}
    return "\n".join([
        "# A step of a job in .github/workflows/*.yml; the runner must reach the address.",
        *(f"# gh secret set {name}" for name in (TOKEN_VARIABLE, LOGIN_VARIABLE)[: 1 + login]),
        "- name: Claude Code",
        "  env:",
        *(f"    {name}: {json.dumps(value)}" for name, value in shown.items()),
        "  run: |",
        f"    npm install --global @anthropic-ai/claude-code@{CLAUDE_CODE_VERSION}",
        '    claude -p "Say hello"',
    ])  # fmt: skip


def _joined(value: str, token: str, name: str) -> str:
    """Return an expression for a value in which a variable's name is in the token's place."""
    before, found, after = value.partition(token) if token else (value, "", "")
    parts = [json.dumps(before) if before else "", name if found else "", json.dumps(after) if after else ""]
    return " + ".join(part for part in parts if part) or '""'
