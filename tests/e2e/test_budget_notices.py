"""The real Claude Code in a terminal, as a client of a gateway: what it shows its user of a budget, in its own words."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import upstream as up
from claude_code import require
from conftest import CONFIG, proxy_environment
from processes import Proxy, clean_environment, new_question

TOKEN = "made-up-token-of-anna-0123456789"
# Twenty responses, each of ten tokens of input and five of output.
BUDGETS = """
claude_proxy:
  users:
    anna: {budget: {day: 0.40}}
  prices:
    "claude-*": {input: 1000, output: 2000}
"""
MODEL = "claude-sonnet-5"
# What the client writes before the line that its user enters.
PROMPT = "\u276f"


class Terminal:
    """A terminal of its own in which the client runs; nothing of this machine's settings reaches it."""

    def __init__(self, folder: Path, proxy: Proxy) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed")
        binary = require()
        home, project = folder / "home", folder / "project"
        home.mkdir()
        project.mkdir()
        trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        settings = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(project): trusted}}
        (home / ".claude.json").write_text(json.dumps(settings))
        self._socket = folder / "tmux"
        self._environment = clean_environment(
            home,
            TERM="xterm-256color",
            LANG="C.UTF-8",
            # With these, the client takes the proxy for a gateway to which its user has signed in.
            CLAUDE_CODE_USE_GATEWAY="1",
            ANTHROPIC_BASE_URL=proxy.url,
            ANTHROPIC_AUTH_TOKEN=TOKEN,
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
        )
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "50", "-c", str(project), str(binary), "--model", MODEL
        )

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def wait_for(self, *words: str, shown: bool = True) -> None:
        """Wait until the screen shows every text, whatever its line breaks; or none of them."""
        poll = threading.Event()
        for _ in range(600):
            screen = " ".join(self._tmux("capture-pane", "-p").split())
            if all((text in screen) is shown for text in words):
                return
            poll.wait(0.1)
        raise AssertionError(f"the screen does not have {words}:\n{self._tmux('capture-pane', '-p')}")

    def enter(self, line: str) -> None:
        """Write a line, and press Enter once the client has it: at first it takes both at once for a pasted text."""
        self._tmux("send-keys", "-l", line)
        self.wait_for(f"{PROMPT} {line}")
        self._tmux("send-keys", "Enter")

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def proxy(shared_upstream: up.Upstream, tmp_path: Path) -> Iterator[Proxy]:
    config = CONFIG.format(url=shared_upstream.other_url) + BUDGETS
    variables = proxy_environment(shared_upstream) | {"PROXY_USER_TOKENS": f"anna={TOKEN}"}
    running = Proxy(tmp_path / "proxy", config, **variables).wait_ready()
    yield running
    running.stop()


def test_claude_code_shows_the_budget_at_75_and_95_per_cent_and_the_refusal(proxy, upstream, tmp_path):
    """The client shows its own notices at 75 and 95 per cent, our sentence at the cap, and the budget in /usage."""

    def spend(times: int) -> None:
        for _ in range(times):
            assert proxy.ask(new_question(MODEL), token=TOKEN).status_code == 200

    terminal = Terminal(tmp_path, proxy)
    try:
        answers = count_of(lambda: len(upstream.asked))
        terminal.wait_for(PROMPT, "shift+tab")
        spend(14)
        terminal.enter("below")
        terminal.wait_for("from claude")
        terminal.enter("three quarters")
        terminal.wait_for("You've used 75% of your usage credits · resets")
        terminal.wait_for("You've used", shown=False)  # a notice that is shown is not replaced
        spend(3)
        terminal.enter("nearly all")
        terminal.wait_for("You've used 95% of your usage credits · resets")
        terminal.enter("more")
        terminal.wait_for("Your daily budget ($0.40) is spent; it resets on", "and the proxy's operator can raise it.")
        terminal.enter("/usage")
        terminal.wait_for("Spend limit", "$0.40 / $0.40 spent today")
        assert answers() == 20
    finally:
        terminal.close()


def count_of(current: Callable[[], int]) -> Callable[[], int]:
    """Return how many more there are since now."""
    before = current()
    return lambda: current() - before
