"""Draw the page /pool with ninety days of a made-up team: each view, wide and narrow, light and dark."""

import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import upstream as up
from playwright.sync_api import Browser, Page, expect
from png import reduce_colours
from processes import MASTER_KEY, ROOT, Proxy, question

from benchmarks.made_up_home import token_of

PICTURES = ROOT / "docs/screenshots"
WIDE, NARROW = (1280, 1500), (390, 1500)


def nothing(page: Page) -> None:
    """Leave the view as it is."""


def open_a_failed_one(page: Page) -> None:
    """Open the first request that needed several attempts."""
    expect(page.locator("table.requests tbody tr").first).to_be_visible()
    row = page.locator("table.requests tbody tr", has_text="2 attempts")
    for _ in range(9):
        if row.count():
            break
        page.get_by_role("button", name="Show 100 more").click()
        page.wait_for_load_state("networkidle")
    row.first.get_by_role("button").first.click()
    expect(page.locator("#open-request")).to_be_visible()


# Users with a request in progress.
WAITING = [("anna", "glm"), ("anna", "kimi"), ("ben", "glm"), ("dora", "kimi"), ("nora", "glm")]
# Each picture: its view, the size of the screen, the colour scheme, and what is done before.
SHOTS: dict[str, tuple[str, tuple[int, int], str, Callable[[Page], None]]] = {
    "pool": ("#/", WIDE, "light", nothing),
    "pool-phone": ("#/", NARROW, "dark", nothing),
    "credentials": ("#/credentials", WIDE, "dark", nothing),
    "credentials-phone": ("#/credentials", NARROW, "light", nothing),
    "history": ("#/history?range=90d&by=model", WIDE, "light", nothing),
    "history-dark": ("#/history?range=7d", WIDE, "dark", nothing),
    "history-phone": ("#/history?range=30d", NARROW, "light", nothing),
    "requests": ("#/requests", WIDE, "light", open_a_failed_one),
    "requests-phone": ("#/requests", NARROW, "dark", nothing),
    "budgets": ("#/budgets", WIDE, "dark", nothing),
    "budgets-phone": ("#/budgets", NARROW, "light", nothing),
}


def draw(browser: Browser, upstream: up.Upstream, folder: Path, names: Collection[str]) -> None:
    """Keep the pictures of these names, and the words in them."""
    home = folder / "page"
    options = ["--upstream", upstream.other_url]
    subprocess.run([sys.executable, "-m", "benchmarks.made_up_home", str(home), *options], cwd=ROOT, check=True)
    running = Proxy(home, None, ANTHROPIC_API_BASE=upstream.url)
    try:
        running.wait_ready()
        with under_way(upstream, running):
            for name in names:
                keep(browser, running, name, *SHOTS[name])
        for name in names:
            reduce_colours(PICTURES / f"{name}.png")
    finally:
        running.stop()


@contextmanager
def under_way(upstream: up.Upstream, running: Proxy) -> Iterator[None]:
    """Let some users wait for a response."""
    arrived, done = threading.Semaphore(0), threading.Event()

    def held(seen: up.Seen) -> up.Reply:
        if seen.method == "GET":
            return up.Reply(404)
        arrived.release()
        done.wait(300)
        return up.anthropic_reply(seen, up.text("done"))

    upstream.answer = held
    with ThreadPoolExecutor(len(WAITING)) as pool:
        waiting = [pool.submit(running.ask, question(model), token=token_of(user)) for user, model in WAITING]
        try:
            for _ in WAITING:
                assert arrived.acquire(timeout=30)
            yield
        finally:
            done.set()
            for one in waiting:
                one.result()


def keep(
    browser: Browser, running: Proxy, name: str, view: str, size: tuple[int, int], scheme: str, before: Callable[[Page], None]
) -> None:
    """Keep the picture of a view; what is below the screen is cut off."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, locale="en-GB", timezone_id="UTC"
    )
    context.add_init_script(f"sessionStorage.setItem('claude-proxy-token', '{MASTER_KEY}')")
    page = context.new_page()
    page.goto(f"{running.url}/pool{view}")
    expect(page.locator("#view > section")).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    if "history" in view:
        expect(page.locator("canvas").first).to_be_visible()
    before(page)
    height = page.evaluate("Math.ceil(document.body.getBoundingClientRect().bottom)")
    page.screenshot(path=PICTURES / f"{name}.png", clip={"x": 0, "y": 0, "width": size[0], "height": min(size[1], height)})
    (PICTURES / f"{name}.txt").write_text(page.locator("body").inner_text() + "\n", encoding="utf-8")
    context.close()
