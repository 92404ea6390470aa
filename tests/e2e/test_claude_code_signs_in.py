"""The real Claude Code signs in with ``/login`` in a terminal: the code on its screen, the work, and the end."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import upstream as up
from claude_code import require
from conftest import CONFIG, proxy_environment
from processes import Proxy, clean_environment
from test_sign_in_through_the_proxy import Client, command, personal_token

from claude_proxy.config.users import digest_of
from claude_proxy.secret import Secret
from claude_proxy.signin.device_codes import LETTERS
from claude_proxy.signin.identity import Identity

sys.path.append(str(Path(__file__).parent / "screenshots"))

from terminal import Terminal

CODE = re.compile(rf"Code:([{LETTERS}]{{4}}-[{LETTERS}]{{4}})")
NOTICE = "Use your work account."
UP, DOWN, ENTER = "\x1b[A", "\x1b[B", "\r"


class Screen:
    """What the client shows: each step waits for words that came after those of the last one."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.seen = 0

    def expect(self, words: str) -> str:
        """Wait for words, and return what came with them."""
        wanted = re.sub(r"\s+", "", words)
        return self.until(lambda: wanted in self.terminal.words[self.seen :], words)

    def until(self, happened: Callable[[], bool], what: str, seconds: float = 120) -> str:
        """Read until something has happened, and then until the screen is quiet, or busy for a moment: some always move."""
        end = time.monotonic() + seconds
        while not happened():
            if not self.terminal._read(1) and (self.terminal.process.poll() is not None or time.monotonic() > end):
                raise RuntimeError(f"{what!r} did not happen: {self.terminal.words[-2000:]}")
        for _ in range(20):
            if not self.terminal._read(1):
                break
        shown = self.terminal.words[self.seen :]
        self.seen += len(shown)
        return shown

    def press(self, *keys: str) -> None:
        for key in keys:
            self.terminal.send(key)
            self.terminal._read(1)  # the client reads keys that come together as pasted text


@pytest.fixture
def proxy(shared_upstream: up.Upstream, tmp_path: Path) -> Iterator[Proxy]:
    home = tmp_path / "proxy"
    (home / ".state").mkdir(parents=True, mode=0o700)
    (home / ".state" / "users").write_text(f"anna={personal_token('anna')}\n")
    config = CONFIG.format(url=shared_upstream.other_url) + f'\nclaude_proxy:\n  sign_in: {{notice: "{NOTICE}"}}\n'
    running = Proxy(home, config, NUM_WORKERS="2", **proxy_environment(shared_upstream)).wait_ready()
    yield running
    running.stop()


@pytest.fixture
def screen(proxy: Proxy, tmp_path: Path) -> Iterator[Screen]:
    """A client that was never used, whose settings name the proxy as its gateway."""
    home, project = tmp_path / "home", tmp_path / "project"
    (home / ".claude").mkdir(parents=True)
    project.mkdir()
    gateway = {"forceLoginMethod": "gateway", "forceLoginGatewayUrl": proxy.url}
    (home / ".claude" / "settings.json").write_text(json.dumps(gateway))
    quiet = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    terminal = Terminal([str(require()), "--model", "demo"], project, clean_environment(home, **quiet))
    yield Screen(terminal)
    terminal.close()


def test_the_client_signs_in_and_out(proxy, screen):
    """It shows the code and the notice, works once that is approved, also with a new key, and asks to sign in at the end."""
    screen.expect("Choose the text style")
    screen.press(ENTER)
    screen.expect("Enter to connect")
    screen.press(ENTER)
    screen.expect("Yes, trust this gateway")
    screen.press(UP, ENTER)
    shown = screen.expect("Waiting for sign-in")
    assert re.sub(r"\s+", "", NOTICE) in shown
    assert f"{proxy.url}/signin" in shown
    code = CODE.search(shown)
    assert code
    anna = Identity("anna", (), "anna@example.org", digest_of(Secret(personal_token("anna"))))
    Client(proxy).approve(code[1], anna)
    screen.expect("anna@example.org")
    screen.press(UP, ENTER)
    screen.expect("Connected to")
    screen.press(ENTER)
    screen.expect("Press Enter to continue")
    screen.press(ENTER)
    screen.expect("Yes, I trust this folder")
    screen.press(DOWN, ENTER)
    screen.expect("auto mode on")

    def served(times: int) -> None:
        screen.until(lambda: proxy.output.count("user=anna model=demo served=") >= times, f"{times} responses")

    screen.press("hello", ENTER)
    served(1)
    command(proxy, "sign-in", "rotate-keys")
    screen.press("and again", ENTER)
    served(2)
    command(proxy, "sign-in", "revoke", "anna")
    screen.press("and once more", ENTER)
    screen.expect("Please run /login")
