"""The real Claude Code CLI, started with an empty environment and a HOME of its own."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import STATIC_TOKEN, clean_environment

CLIENT = Path(__file__).parent / "client"
NEWEST, OLDER = "@anthropic-ai/claude-code", "claude-code-2.1.197"


def require(package: str = NEWEST) -> Path:
    """Return the CLI's path, installed from its lock; skip, with the reason, on a machine that cannot have it.

    Each release is found by its package: both want to be ``.bin/claude``.
    """
    npm = shutil.which("npm")
    with (CLIENT / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests installs it, too
        if not _is_pinned(package):
            if npm is None:
                pytest.skip("Node and npm are not installed, so Claude Code cannot be")
            installed = subprocess.run([npm, "ci", "--silent"], cwd=CLIENT, capture_output=True, text=True, check=False)
            if installed.returncode != 0 or not _is_pinned(package):
                pytest.skip(f"npm could not install Claude Code: {installed.stderr[-300:]}")
    return _binary(package)


def _binary(package: str) -> Path:
    return CLIENT / "node_modules" / package / "bin" / "claude.exe"


def _is_pinned(package: str) -> bool:
    """Whether what is installed is the release that the lock has."""
    if not _binary(package).exists():
        return False
    place = f"node_modules/{package}"
    locked = json.loads((CLIENT / "package-lock.json").read_text(encoding="utf-8"))["packages"][place]
    installed = json.loads((CLIENT / place / "package.json").read_text(encoding="utf-8"))
    return bool(installed["version"] == locked["version"])


class ClaudeCode:
    """One user: a HOME, a project folder, and the settings that point at the proxy."""

    def __init__(self, folder: Path, base_url: str, token: str = STATIC_TOKEN, package: str = NEWEST) -> None:
        self.binary = require(package)
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir()
        self.project.mkdir()
        self.environment = {
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_AUTH_TOKEN": token,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def run(self, prompt: str, *arguments: str, model: str | None = None, **variables: str) -> "Run":
        """Run ``claude -p``; its answer and what it printed come back."""
        chosen = ["--model", model] if model else []
        command = [str(self.binary), "-p", prompt, *chosen, "--output-format", "stream-json", "--verbose", *arguments]
        environment = clean_environment(self.home, **(self.environment | variables))
        done = subprocess.run(
            command, cwd=self.project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        return Run(done)


class Run:
    """What one run of the CLI said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.errors = done.stderr
        self.events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    @property
    def result(self) -> str:
        """The final answer or error text."""
        found = [event for event in self.events if event.get("type") == "result"]
        return str(found[-1].get("result", "")) if found else f"no result: {self.errors}"

    @property
    def retries(self) -> int:
        """How many times the CLI repeated a request of its own accord."""
        return sum(event.get("subtype") == "api_retry" for event in self.events)
