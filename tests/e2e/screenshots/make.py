"""Make the pictures in docs/screenshots: the page /pool, and what a user of the real Claude Code sees for each error.

A program: ``make screenshots``. It starts the real proxy, with a loopback upstream in Anthropic's place; every name,
credential and number is made up.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(folder) for folder in (Path(__file__).parents[3], *Path(__file__).parents[:3])]

import httpx
import page_pictures
import upstream as up
from claude_code import require
from database import Postgres, client
from interactive_client import InteractiveClient, approve, prove
from playwright.sync_api import Browser, sync_playwright
from png import reduce_colours
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment, question
from terminal import Terminal, draw, install

from claude_proxy.cli import onboarding

PICTURES = ROOT / "docs/screenshots"
UNIFIED = "anthropic-ratelimit-unified-"
ANNA = "sk-made-up-token-of-anna-0123456789"
CONFIG = """
model_list:
  - model_name: claude-*
    litellm_params: {{model: anthropic/claude-*}}
  - model_name: glm
    litellm_params: {{model: anthropic/glm-5.3, api_base: "{url}/glm", api_key: made-up-zai-key}}
  - model_name: kimi
    litellm_params: {{model: anthropic/kimi-for-coding, api_base: "{url}/glm", api_key: os.environ/KIMI_API_KEY}}
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
claude_proxy:
  users:
    anna: {{models: [glm, kimi]}}
"""
POOL = ("anna", "ben", "carla")
# The line above Claude Code's input, with which what a picture shows ends; a hint on effort may stand above it.
INPUT = re.compile(r"/effort$|^─{20}")


@dataclass(frozen=True)
class Scene:
    """One error: what leads to it, and words of it by which it is known that it is on the screen."""

    name: str
    words: str
    model: str = "claude-opus-5-5"
    token: str = STATIC_TOKEN
    answer: Callable[[up.Seen], up.Reply] = lambda seen: up.anthropic_reply(seen, up.text("hello"))
    pool: tuple[str, ...] = POOL


def limited(seen: up.Seen) -> up.Reply:
    """Answer as Anthropic does when an account has used up its five hours."""
    reply = up.anthropic_error(429, "rate_limit_error", "This request would exceed your account's rate limit.")
    said = {"status": "rejected", "representative-claim": "five_hour", "5h-status": "rejected", "5h-utilization": "1.0"}
    said |= {"reset": str(int(time.time()) + 42 * 60), "5h-reset": str(int(time.time()) + 42 * 60)}
    return up.Reply(reply.status, reply.headers | {f"{UNIFIED}{name}": value for name, value in said.items()}, reply.body)


def rejected(seen: up.Seen) -> up.Reply:
    return up.anthropic_error(401, "authentication_error", "OAuth token has been revoked. Please obtain a new token.")


SCENES = (
    Scene("exhausted-pool", "Claude credentials are rate-limited until", answer=limited),
    Scene("rejected-pool", "Anthropic rejected every Claude credential of this proxy", answer=rejected),
    Scene("empty-pool", "claude-proxy pool add LABEL", pool=()),
    Scene("missing-key", "kimi is not ready: set KIMI_API_KEY", model="kimi"),
    Scene("unknown-model", "There's an issue with the selected model (gml)", model="gml"),
    Scene("forbidden-model", "anna may not use claude-opus-5-5 on this proxy", token=ANNA),
)


def main() -> None:
    wanted = set(sys.argv[1:])
    if not wanted or wanted - {"page", *page_pictures.SHOTS}:
        install()
    PICTURES.mkdir(exist_ok=True)
    upstream = up.Upstream(lambda seen: up.anthropic_reply(seen, up.text("hello")))
    try:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            # Under its root user, Chromium starts only without its sandbox.
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
            for scene in SCENES:
                if not wanted or scene.name in wanted:
                    upstream.answer = answering(scene.answer)
                    variables = {"PROXY_USER_TOKENS": f"anna={ANNA}"}
                    with proxy(upstream, Path(folder) / scene.name, scene.pool, **variables) as running:
                        screenshot(browser, running, Path(folder) / f"{scene.name}-user", scene)
            if not wanted or "full-budget" in wanted:
                full_budget(browser, upstream, Path(folder))
            if not wanted or "model-picker" in wanted:
                model_picker(browser, upstream, Path(folder))
            if not wanted or "sign-in" in wanted:
                sign_in(browser, upstream, Path(folder))
            views = [name for name in page_pictures.SHOTS if not wanted or {"page", name} & wanted]
            if views:
                upstream.answer = answering(lambda seen: with_usage(seen, {}))
                page_pictures.draw(browser, upstream, Path(folder), views)
            browser.close()
    finally:
        upstream.close()


def answering(claude: Callable[[up.Seen], up.Reply]) -> Callable[[up.Seen], up.Reply]:
    return lambda seen: up.Reply(404) if seen.method == "GET" else claude(seen)


@contextmanager
def proxy(upstream: up.Upstream, home: Path, pool: tuple[str, ...], config: str = CONFIG, **variables: str) -> Iterator[Proxy]:
    """A proxy with these labels in its pool."""
    tokens = ",".join(f"{label}=sk-ant-oat01-made-up-{label}" for label in pool)
    named = {"ANTHROPIC_API_BASE": upstream.url, "CLAUDE_OAUTH_TOKENS": tokens}
    running = Proxy(home, config.format(url=upstream.other_url), **(named | variables))
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def screenshot(browser: Browser, running: Proxy, folder: Path, scene: Scene) -> None:
    """Ask in the real Claude Code, with the block that is printed for the model; keep the picture and its text."""
    is_claude = scene.model.startswith("claude-")
    settings = onboarding.Setup(running.url, scene.token, scene.model, is_claude=is_claude).settings()
    terminal = claude_code(folder, settings, "Why does the test of the cart fail?")
    try:
        terminal.wait_for(scene.words)
        keep(browser, terminal, scene.name, INPUT)
    finally:
        terminal.close()


def claude_code(folder: Path, settings: dict[str, object], *arguments: str) -> Terminal:
    """Start Claude Code with these settings for a user who has seen its first screens, and trusts the folder."""
    home, project = folder / "home", folder / "home/shop"
    (home / ".claude").mkdir(parents=True)
    project.mkdir()
    calm = {"permissions": {"defaultMode": "default"}, "theme": "dark"}
    (home / ".claude/settings.json").write_text(json.dumps(settings | calm))
    trusted = {str(project): {"hasTrustDialogAccepted": True}}
    (home / ".claude.json").write_text(json.dumps({"hasCompletedOnboarding": True, "theme": "dark", "projects": trusted}))
    return Terminal([str(require()), *arguments], project, clean_environment(home, DISABLE_AUTOUPDATER="1"))


def keep(browser: Browser, terminal: Terminal, name: str, until: re.Pattern[str]) -> None:
    """Keep the picture of a terminal, and the words in it."""
    text = draw(browser, terminal, PICTURES / f"{name}.png", until)
    (PICTURES / f"{name}.txt").write_text(text, encoding="utf-8")


def model_picker(browser: Browser, upstream: up.Upstream, folder: Path) -> None:
    """Open /model with the block that the command prints."""
    variables = {"KIMI_API_KEY": "made-up-kimi-key"}
    with proxy(upstream, folder / "picker", POOL, **variables) as running:
        command = [sys.executable, "-m", "claude_proxy", "--project", str(running.home), "settings", "--url", running.url]
        environment = clean_environment(running.home, PROXY_STATIC_TOKEN=STATIC_TOKEN, **variables)
        printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        terminal = claude_code(folder / "picker-user", json.loads(printed))
        try:
            terminal.wait_for("/effort")
            terminal.send("/model")
            terminal.wait_for("/model")
            terminal.send("\r")
            terminal.wait_for("Through claude-proxy")
            keep(browser, terminal, "model-picker", re.compile("(?!)"))
        finally:
            terminal.close()


def full_budget(browser: Browser, upstream: up.Upstream, folder: Path) -> None:
    """Use up the budget of a virtual key, which needs a database."""
    upstream.answer = answering(lambda seen: with_usage(seen, {}))
    database = Postgres()
    try:
        # The tables are there; Prisma would want a program to look.
        variables = {
            "DATABASE_URL": database.url,
            "CLAUDE_PROXY_DATABASE_CLIENT": str(client()),
            "DISABLE_SCHEMA_UPDATE": "true",
        }
        with proxy(upstream, folder / "full-budget", POOL, **variables) as running:
            headers = {"x-litellm-api-key": MASTER_KEY}
            body = {"key_alias": "anna", "max_budget": 0.25, "budget_duration": "30d"}
            made = httpx.post(f"{running.url}/key/generate", json=body, headers=headers, trust_env=False, timeout=30)
            key = made.json()["key"]
            for _ in range(200):
                if running.ask(question("claude-opus-4-8"), token=key).status_code != 200:
                    break
                time.sleep(0.2)
            scene = Scene("full-budget", "Budget has been exceeded", model="claude-opus-4-8", token=key)
            screenshot(browser, running, folder / "full-budget-user", scene)
    finally:
        database.remove()


# Nothing is cut off below.
WHOLE = re.compile("(?!)")
BUDGET = """  default_budget: {{day: 1}}
  budget: {{timezone: Europe/Berlin}}
  sign_in: {{notice: Use your work account.}}
  prices: {{"claude-*": {{input: 1000, output: 0}}}}
"""


def sign_in(browser: Browser, upstream: up.Upstream, folder: Path) -> None:
    """Sign in with /login, use up a budget, and be removed."""
    (folder / "sign-in/.state").mkdir(mode=0o700, parents=True)
    (folder / "sign-in/.state/users").write_text(f"ben={ANNA}\n")
    with proxy(upstream, folder / "sign-in", POOL, config=CONFIG + BUDGET) as running:
        user = InteractiveClient(folder / "sign-in-user", running.url)
        try:
            user.start_login()
            keep(browser, user.terminal, "sign-in", WHOLE)
            for name, size in (("sign-in-page", (900, 700)), ("sign-in-phone", (360, 740))):
                page = browser.new_page(viewport={"width": size[0], "height": size[1]}, locale="en-GB")
                page.goto(user.page)
                prove(page, ANNA)
                page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
                reduce_colours(PICTURES / f"{name}.png")
                (PICTURES / f"{name}.txt").write_text(page.locator("body").inner_text() + "\n", encoding="utf-8")
                page.close()
            approve(browser, user.page, ANNA)
            user.finish_login()
            for name, tokens, share in (("", 760, ""), ("budget-75", 200, "76%"), ("budget-95", 100, "96%")):
                upstream.answer = answering(costing(tokens))
                user.ask("Why does the test of the cart fail?", "euros.")
                if name:
                    user.terminal.wait_for(f"You've used {share} of your usage credits")
                    keep(browser, user.terminal, name, WHOLE)
                    user.restart()
            user.ask("And the quantity?", "Your daily budget")
            keep(browser, user.terminal, "budget-spent", INPUT)
            command = [sys.executable, "-m", "claude_proxy", "--project", str(running.home), "user", "remove", "ben"]
            subprocess.run(command, cwd=ROOT, env=clean_environment(running.home), capture_output=True, check=True)
            user.ask("Are you there?", "Please run /login")
            keep(browser, user.terminal, "signed-out", INPUT)
        finally:
            user.close()


def costing(tokens: int) -> Callable[[up.Seen], up.Reply]:
    """Claude, with so many tokens for a request of the conversation; the client sends small ones beside it."""

    def answer(seen: up.Seen) -> up.Reply:
        whole = up.message(up.text("It compares pennies with euros."), model=seen.json["model"])
        whole["usage"] = {"input_tokens": tokens if len(seen.body) > 20_000 else 0, "output_tokens": 0}
        return up.Reply(headers={"content-type": "text/event-stream"}, chunks=up.sse(*up.events_of(whole)))

    return answer


def with_usage(seen: up.Seen, headers: dict[str, str]) -> up.Reply:
    """Answer with the tokens of a turn of real work."""
    whole = up.message(up.text("done"), model=seen.json["model"])
    whole["usage"] = {
        "input_tokens": 2_140, "cache_read_input_tokens": 61_300, "cache_creation_input_tokens": 3_800, "output_tokens": 1_260,
    }  # fmt: skip
    return up.Reply(headers={"content-type": "application/json"} | headers, body=json.dumps(whole).encode())


if __name__ == "__main__":
    main()
