"""The real Claude Code in a terminal: a user who signs in with ``/login`` at a gateway's address, and asks."""

import json
from pathlib import Path
from typing import Any

from claude_code import require
from playwright.sync_api import Browser, Page, expect
from processes import clean_environment
from pseudo_terminal import Terminal

MARK = "\N{HEAVY RIGHT-POINTING ANGLE QUOTATION MARK ORNAMENT}"
UP, DOWN, ENTER = "\x1b[A", "\x1b[B", "\r"
CODE_SCREEN = "Waiting for sign-in to complete in your browser"
TRUST = "Yes, I trust these settings"


class InteractiveClient:
    """One user: a HOME, a project, and the gateway's address in the user's own settings.

    On a machine without managed settings, Claude Code 2.1.332 takes ``forceLoginMethod`` and ``forceLoginGatewayUrl`` from
    there.
    """

    def __init__(self, folder: Path, gateway: str, **settings: Any) -> None:
        self.home, self.project = folder / "home", folder / "home/shop"
        (self.home / ".claude").mkdir(parents=True)
        self.project.mkdir()
        self.gateway = gateway
        own = {"forceLoginMethod": "gateway", "forceLoginGatewayUrl": gateway}
        # Nobody is asked about auto mode, and the screen does not say that the proxy's settings changed it.
        calm = {"permissions": {"defaultMode": "default"}, "skipAutoPermissionPrompt": True, "theme": "dark"}
        (self.home / ".claude/settings.json").write_text(json.dumps(own | calm | settings))
        trusted = {str(self.project): {"hasTrustDialogAccepted": True}}
        first = {"hasCompletedOnboarding": True, "theme": "dark", "projects": trusted}
        (self.home / ".claude.json").write_text(json.dumps(first))
        # What opens the verification page keeps its address.
        self._opened = self.home / "opened"
        browser = self.home / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" > {self._opened}\n')
        browser.chmod(0o755)
        self.environment = clean_environment(self.home, DISABLE_AUTOUPDATER="1", BROWSER=str(browser))
        self._start("run /login")

    def _start(self, words: str) -> None:
        self.terminal = Terminal([str(require())], self.project, self.environment)
        self.terminal.wait_for(words)

    def restart(self) -> None:
        """Start anew as the same user, who stays signed in."""
        self.close()
        self._start("· Cloud gateway")

    @property
    def page(self) -> str:
        """The address of the verification page that the client has opened, with the code."""
        return self._opened.read_text().strip()

    def type(self, words: str) -> None:
        """Type a line, and send it once the client has it: keys that come in one piece are a paste."""
        self.terminal.send(words)
        self.terminal.wait_for(words, quiet=0.5)
        self.terminal.send(ENTER)

    def choose(self, marked: str, key: str) -> None:
        """Move to an entry of a menu with a key, and take it."""
        self.terminal.send(key)
        self.terminal.wait_for(f"{MARK} {marked}", quiet=0.2)
        self.terminal.send(ENTER)

    def start_login(self) -> None:
        """Go to the screen with the code."""
        self.type("/login")
        self.terminal.wait_for("Enter to connect", quiet=0.5)
        self.terminal.send(ENTER)
        self.terminal.wait_for("No, cancel login", quiet=0.5)
        self.choose("Yes, trust this gateway", UP)
        self.terminal.wait_for(CODE_SCREEN, quiet=0.5)

    def finish_login(self, *, asks: bool = False) -> None:
        """Go on once the code is approved; ``asks``: the client wants managed settings to be approved, and starts anew."""
        self.terminal.wait_for("Connected to Cloud gateway", quiet=0.5)
        self.terminal.send(ENTER)
        if asks:
            self.terminal.wait_for(TRUST, quiet=0.5)
            self.choose(TRUST, DOWN)
        self.terminal.wait_for("· Cloud gateway")

    def ask(self, words: str, answer: str) -> None:
        """Ask, and wait for words of the response or of an error."""
        self.type(words)
        self.terminal.wait_for(answer)

    def close(self) -> None:
        self.terminal.close()


def approve(browser: Browser, address: str, token: str) -> None:
    """Confirm the code in a browser, with a personal token."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    prove(page, token)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You are signed in")
    context.close()


def prove(page: Page, token: str) -> None:
    """Go from the page with the code to the one that asks for a confirmation."""
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Your personal token for this proxy").fill(token)
    page.get_by_role("button", name="Continue with the token").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm the sign-in")
