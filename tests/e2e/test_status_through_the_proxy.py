"""Quota and usage of a run against the loopback upstream: as JSON, metrics and CSV, in a terminal, and in a real browser."""

import csv
import functools
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
import upstream as up
from conftest import TOKENS, by_provider, module_proxy
from playwright.sync_api import Browser, Page, expect, sync_playwright
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment, question

UNIFIED = "anthropic-ratelimit-unified-"
LABELS = {"anna": TOKENS["a"], "ben": TOKENS["b"], "carla": TOKENS["c"]}
USED = {"anna": (0.62, 0.31), "ben": (0.2, 0.55)}
SCRIPT = "<script>document.title='run'</script>"
# Anthropic's message for Carla, with markup, line ends, codes for terminals and secrets; and how it is shown.
REVOKED = f"OAuth token has been revoked.\r\n{SCRIPT}\x1b]0;x\x07 {TOKENS['c']} {MASTER_KEY}"
SHOWN = rf'the account was rejected: "OAuth token has been revoked. {SCRIPT}\x1b]0;x\x07 *** ***"'


def windows(five_hours: float, seven_days: float) -> dict[str, str]:
    now = int(time.time())
    return {
        f"{UNIFIED}status": "allowed",
        f"{UNIFIED}5h-utilization": str(five_hours),
        f"{UNIFIED}5h-reset": str(now + 7200),
        f"{UNIFIED}7d-utilization": str(seven_days),
        f"{UNIFIED}7d-reset": str(now + 2 * 86400),
    }


def claude(seen: up.Seen) -> up.Reply:
    """Anna and Ben answer, Ben not for Opus; Carla is refused."""
    label = next((label for label, token in LABELS.items() if token == seen.credential), "")
    if label == "carla":
        return up.anthropic_error(403, "permission_error", REVOKED)
    if label == "ben" and "opus" in seen.json["model"]:
        limited = {
            f"{UNIFIED}status": "rejected",
            f"{UNIFIED}representative-claim": "seven_day_opus",
            f"{UNIFIED}7d_opus-status": "rejected",
            f"{UNIFIED}7d_opus-utilization": "1.0",
            f"{UNIFIED}7d_opus-reset": str(int(time.time()) + 86400),
        }
        refusal = up.anthropic_error(429, "rate_limit_error", "limit")
        return up.Reply(refusal.status, refusal.headers | limited, refusal.body)
    return up.anthropic_reply(seen, up.text("hello"), headers=windows(*USED.get(label, (0.0, 0.0))))


@pytest.fixture(scope="module")
def asked() -> Counter[str]:
    """What the fixture ``proxy`` has asked for, by the name under which it is shown."""
    return Counter()


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory, asked: Counter[str]) -> Iterator[Proxy]:
    """A proxy of two workers that has served Opus, Sonnet and another provider's model, and refused a model it has not.

    Opus is asked for until Ben has refused it: which request that is depends on which worker got which.
    """
    refused = threading.Event()

    def answer(seen: up.Seen) -> up.Reply:
        reply = claude(seen)
        if reply.status == 429:
            refused.set()
        return reply

    shared_upstream.answer = by_provider(claude=answer)
    tokens = f"anna@2020-01-02={LABELS['anna']},ben={LABELS['ben']},carla={LABELS['carla']}"
    for running in module_proxy(
        shared_upstream,
        tmp_path_factory.mktemp("status"),
        CLAUDE_OAUTH_TOKENS=tokens,
        NUM_WORKERS="2",
        PROXY_LOG_FORMAT="json",
    ):
        for number in range(40):
            if number >= 9 and refused.is_set():
                break
            model = "claude-opus-4-8" if number % 3 == 0 else "claude-sonnet-5"
            assert running.ask(question(model), x_claude_code_session_id=f"session-{number}").status_code == 200
            asked[model] += 1
        assert refused.is_set()
        assert running.ask(question("glm")).status_code == 200
        assert running.ask(question(SCRIPT)).status_code == 404
        asked.update(["glm", "unknown model"])
        yield running


@pytest.fixture(autouse=True)
def answering(shared_upstream: up.Upstream) -> None:
    shared_upstream.answer = by_provider(claude=claude)


def get(proxy: Proxy, path: str, token: str | None = MASTER_KEY, **headers: str) -> httpx.Response:
    named = headers | ({"x-litellm-api-key": token} if token else {})
    return httpx.get(f"{proxy.url}{path}", headers=named, trust_env=False)


def until(condition: Callable[[], bool]) -> None:
    """Wait until what one worker knows has reached the others."""
    poll = threading.Event()
    for _ in range(200):
        if condition():
            return
        poll.wait(0.1)
    raise AssertionError("it did not come true")


def requests_in(data: dict[str, object]) -> dict[str, float]:
    return {row["name"]: row["today"]["requests"] for row in data["models"]}


def served(proxy: Proxy, asked: Counter[str]) -> dict[str, object]:
    """The status, once every worker's requests are in it, and the failover from Ben."""

    def is_whole() -> bool:
        data = get(proxy, "/pool").json()
        ben = [one for one in data["failovers"] if one["text"].startswith("ben: ")]
        return sum(requests_in(data).values()) >= asked.total() and bool(ben)

    until(is_whole)
    return get(proxy, "/pool").json()


def test_the_status_is_that_of_all_workers(proxy, asked):
    """Whichever worker is asked, the answer has the requests of all, the windows as Anthropic named them, and the states."""
    data = served(proxy, asked)
    for _ in range(6):
        assert requests_in(get(proxy, "/pool").json()) == requests_in(data)
    assert requests_in(data) == asked
    by_label = {one["label"]: one for one in data["credentials"]}
    for label, used in USED.items():
        assert tuple(window["utilization"] for window in by_label[label]["windows"][:2]) == used
    assert by_label["carla"]["state"]["name"] == "rejected"
    assert [cooldown["reason"] for cooldown in by_label["carla"]["state"]["cooldowns"]] == [SHOWN]
    assert by_label["carla"]["last_error"]["text"] == "the account was rejected (HTTP 403)"
    assert "ben: limit reached: 7d_opus (HTTP 429)" in [one["text"] for one in data["failovers"]]
    assert by_label["anna"]["setup_token"]["warning"] == 1
    assert data["store"]["kind"] == "SQLite"
    tokens = sum(row["today"]["input"] + row["today"]["output"] for row in data["models"])
    assert tokens == (asked.total() - asked["unknown model"]) * (10 + 5)


def test_a_report_that_a_browser_has_is_not_sent_again(proxy, asked):
    """The tag of an unchanged report gets a 304; a new request makes another report."""
    served(proxy, asked)
    headers = {"x-litellm-api-key": MASTER_KEY, "accept": "application/json"}
    with httpx.Client(base_url=proxy.url, headers=headers, trust_env=False) as one:  # on one connection, so of one worker

        def unchanged() -> bool:
            tag = one.get("/pool").headers["etag"]
            again = one.get("/pool", headers={"if-none-match": tag})
            return (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)

        until(unchanged)
        before = one.get("/pool")
        assert one.post("/v1/messages", json=question("glm"), timeout=30).status_code == 200
        asked["glm"] += 1
        until(lambda: one.get("/pool", headers={"if-none-match": before.headers["etag"]}).status_code == 200)


def test_a_user_sees_no_other_people(proxy):
    """With the static token the credentials are there and the master key's requests are not."""
    assert proxy.ask(question("demo"), token=MASTER_KEY).status_code == 200
    until(lambda: "demo" in requests_in(get(proxy, "/pool").json()))
    mine, all_people = get(proxy, "/pool", STATIC_TOKEN).json(), get(proxy, "/pool").json()
    assert [row["name"] for row in mine["users"]] == ["static"]
    assert sorted(row["name"] for row in all_people["users"]) == ["admin", "static"]
    assert "demo" not in requests_in(mine)
    assert [one["label"] for one in mine["credentials"]] == [one["label"] for one in all_people["credentials"]]
    metrics = get(proxy, "/metrics", STATIC_TOKEN).text
    assert ('user="static"' in metrics, 'user="admin"' in metrics, 'user="other"' in metrics) == (True, False, True)


@pytest.mark.parametrize("path", ["/pool", "/metrics", "/usage.csv"])
def test_nobody_sees_anything_without_a_token(proxy, path):
    """Without a token, and with a wrong one, there is a 401 and no data; the CSV needs the master key."""
    assert get(proxy, path, None).status_code == 401
    assert get(proxy, path, "sk-wrong").status_code == 401
    assert get(proxy, path, STATIC_TOKEN).status_code == (403 if path == "/usage.csv" else 200)


def test_the_metrics_and_the_csv_say_the_same_as_the_status(proxy, asked):
    """Prometheus and a spreadsheet get the numbers of the status; a token in ``authorization`` is enough for the former."""
    data = served(proxy, asked)
    lines = httpx.get(f"{proxy.url}/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"}, trust_env=False).text
    total = sum(float(line.split()[-1]) for line in lines.splitlines() if line.startswith("claude_proxy_requests_total{"))
    rows = [*csv.DictReader(io.StringIO(get(proxy, "/usage.csv").text))]
    assert total == sum(int(row["requests"]) for row in rows) == sum(requests_in(data).values())
    assert 'claude_proxy_credential_utilization_ratio{credential="anna",window="5h"} 0.62' in lines
    assert 'claude_proxy_credential_state{credential="carla",state="rejected"} 1.0' in lines


def test_each_request_is_a_line_in_the_log(proxy, asked):
    """A request's line in JSON says who asked for what and how it ended; a client's text for a model breaks no line."""
    served(proxy, asked)
    lines = [json.loads(line) for line in proxy.output.splitlines() if line.startswith('{"time"')]
    requests = [line for line in lines if line["logger"] == "claude_proxy.requests"]
    opus = next(line for line in requests if line["model"] == "claude-opus-4-8")
    assert (opus["user"], opus["status"], opus["served"]) == ("static", 200, "anthropic/claude-opus-4-8")
    assert any("carla: the account was rejected (HTTP 403)" in line.get("failovers", ()) for line in requests)
    assert next(line for line in requests if line["model"] == SCRIPT)["status"] == 404
    assert [line["message"] for line in lines if "setup token expired" in line["message"]]


def read_terminal(descriptor: int) -> bytes:
    """Return what is written next; nothing when the program has closed its terminal."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_the_terminal_shows_it(proxy, asked):
    """``claude-proxy status`` and ``usage`` ask the running proxy with the environment's token, without colours in a pipe."""
    served(proxy, asked)
    environment = clean_environment(proxy.home, PORT=str(proxy.port), LITELLM_MASTER_KEY=MASTER_KEY, COLUMNS="60")

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment | more, capture_output=True, text=True, check=False)

    def on_a_terminal(*arguments: str, **more: str) -> str:
        """Return what a terminal of sixty columns shows, without the colours, which are there unless they are not wanted."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), *arguments]
        with subprocess.Popen(command, cwd=ROOT, env=environment | more, stdout=theirs, stderr=subprocess.DEVNULL) as running:
            os.close(theirs)
            seen = b"".join(iter(functools.partial(read_terminal, ours), b"")).decode().replace("\r", "")
            assert running.wait() == 0
        os.close(ours)
        assert ("\x1b[" in seen) is not bool(more.get("NO_COLOR"))
        bare = re.sub(r"\x1b\[\d*m", "", seen)
        assert max(len(line) for line in bare.splitlines()) <= 60
        return bare

    shown = run("status")
    assert shown.returncode == 0, shown.stderr
    assert "carla (OAuth token)" in shown.stdout
    assert " 62% 5-hour window" in shown.stdout
    assert SHOWN in shown.stdout
    assert SHOWN in run("pool", "list", CLAUDE_OAUTH_TOKENS=f"carla={TOKENS['c']}").stdout
    assert "\x1b" not in shown.stdout
    assert "…" not in shown.stdout
    assert json.loads(run("status", "--json").stdout)["pool"] == get(proxy, "/pool").json()["pool"]
    assert all(" 62% 5-hour window" in on_a_terminal("status", TERM="xterm", **more) for more in ({}, {"NO_COLOR": "1"}))
    sums = json.loads(run("usage", "--json", "--by", "user", "--by", "credential").stdout)
    assert sums["total"]["requests"] == sum(row["requests"] for row in sums["rows"])
    lines = [*csv.DictReader(io.StringIO(get(proxy, "/usage.csv").text))]
    assert sums["total"]["requests"] == sum(int(line["requests"]) for line in lines) > 0
    assert run("usage", "--csv").stdout == get(proxy, "/usage.csv").text
    refused = run("status", LITELLM_MASTER_KEY="sk-made-up-wrong-key")
    assert (refused.returncode, "rejects the token of .env" in refused.stderr) == (1, True)
    away = run("status", "--url", "http://127.0.0.1:1")
    assert (away.returncode, "No proxy responds" in away.stderr) == (1, True)


# --- in a browser ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    # Under its root user, as in CI, Chromium starts only without its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=binary, args=arguments)
        yield running
        running.close()


def opened(
    browser: Browser, proxy: Proxy, said: list[str], width: int = 1280, scheme: str = "light", view: str = "credentials"
) -> Page:
    """A view of the page after the token was typed in; ``said`` collects what the console says."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, timezone_id="Asia/Tokyo", locale="en-GB"
    )
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{proxy.url}/pool#/{view}")
    expect(page.locator("section")).to_have_count(0)
    page.get_by_label("The proxy's token").fill(MASTER_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("main section").first).to_be_visible()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_the_data(browser, proxy, width, scheme, asked):
    """On a desk and on a phone, light and dark: the bars are the data's, nothing is wider than the screen, nothing fails."""
    data, said = served(proxy, asked), []
    page = opened(browser, proxy, said, width, scheme)
    expect(page.locator("article")).to_have_count(3)
    assert [one.get_attribute("data-label") for one in page.locator("article").all()] == ["carla", "ben", "anna"]
    for one in data["credentials"]:
        card = page.locator(f"article[data-label={one['label']}]")
        meters = card.get_by_role("meter")
        assert [meters.nth(place).get_attribute("aria-valuenow") for place in range(meters.count())] == [
            str(round(100 * window["utilization"])) for window in one["windows"]
        ]
        widths = card.locator(".fill").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
        assert widths == [pytest.approx(min(100, 100 * window["utilization"])) for window in one["windows"]]
    expect(page.locator("article[data-label=carla]")).to_contain_text(SHOWN)
    expect(page.locator("article[data-label=ben]")).to_contain_text("7-day window of Opus at 100 %")
    first = [page.locator(f"article[data-label={label}] .state strong").first for label in ("ben", "anna")]
    assert [one.text_content() for one in first] == ["partly rate-limited", "usable"]
    until_hour = time.strftime("%H:", time.gmtime(data["credentials"][2]["state"]["cooldowns"][0]["until"] + 9 * 3600))
    rejected = re.compile(f"rejected since .* tried again at ([^:]*, )?{until_hour}.*; needs a new token: ")
    expect(page.locator("article[data-label=carla]")).to_contain_text(rejected)
    expect(page.locator("article[data-label=carla]")).to_contain_text("last limit or error")
    fits(page, width)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#models")).to_contain_text("claude-opus-4-8")
    expect(page.locator("#failovers")).to_contain_text(re.compile(r"carla( → \w+)?: the account was rejected \(HTTP 403\)"))
    fits(page, width)
    page.get_by_role("link", name="Budgets").click()
    expect(page.locator("#users")).to_contain_text("static")
    heads = [head for head in page.locator("#users thead th").all() if head.is_visible()]
    today = ["requests today", "tokens today", "errors today"][: 3 if width > 800 else 1]
    week = ["requests, 7 days", "tokens, 7 days", "errors, 7 days"][: 3 if width > 800 else 2]
    assert [head.text_content() for head in heads] == ["user", *today, *week]
    fits(page, width)
    assert said == []
    page.context.close()


def fits(page: Page, width: int) -> None:
    """Nothing is wider than the screen, no word of a table is broken, every text can be read."""
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert broken_words(page) == []
    assert contrasts(page) == []


def test_the_address_is_the_view(browser, proxy):
    """The address bar keeps the view through a reload, Back goes to the one before, and an unknown one is the overview."""
    page = opened(browser, proxy, [])
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#verdict")).to_be_visible()
    page.go_back()
    expect(page.locator("article").first).to_be_visible()
    assert page.title() == "claude-proxy: credentials"
    page.reload()
    expect(page.locator("article").first).to_be_visible()
    for unknown in ("no-such-view", "toString", "constructor?x=1", "%", "//"):
        page.goto(f"{proxy.url}/pool#/credentials")
        expect(page.locator("article").first).to_be_visible()
        page.goto(f"{proxy.url}/pool#/{unknown}")
        expect(page.locator("#verdict")).to_be_visible()
    expect(page.get_by_role("navigation").locator("[aria-current]")).to_have_text("Overview")
    page.goto(f"{proxy.url}/pool/#/credentials")
    expect(page.locator("article").first).to_be_visible()
    assert page.url == f"{proxy.url}/pool#/credentials"
    page.context.close()


def test_the_colours_are_those_of_the_browser_or_chosen(browser, proxy):
    """The page follows the browser's scheme until one is chosen, which is kept."""
    page = opened(browser, proxy, [], scheme="dark")
    theme = page.get_by_role("button", name="Theme")

    def is_shown(words: str, scheme: str) -> None:
        expect(theme).to_have_text(words)
        expect(page.locator("body")).to_have_css("color-scheme", scheme)

    is_shown("Theme: auto", "dark")
    page.emulate_media(color_scheme="light")
    is_shown("Theme: auto", "light")
    theme.click()
    theme.click()
    is_shown("Theme: dark", "dark")
    page.reload()
    is_shown("Theme: dark", "dark")
    page.context.close()


def broken_words(page: Page) -> list[str]:
    """The words of the tables that begin on one line and end on another; a hyphen ends a word."""
    return page.evaluate(
        """() => [...document.querySelectorAll("th, td, th *, td *")].filter((one) => one.checkVisibility())
            .flatMap((one) => [...one.childNodes].filter((child) => child.nodeType === 3)).flatMap((text) => {
            return [...text.data.matchAll(/[^\\s-]+/g)].filter((word) => {
                const range = document.createRange();
                range.setStart(text, word.index);
                range.setEnd(text, word.index + word[0].length);
                return range.getClientRects().length > 1;
            }).map((word) => word[0]);
        })"""
    )


def contrasts(page: Page) -> list[str]:
    """The texts whose colour stands out from their ground by less than 4.5 to 1 (WCAG AA)."""
    return page.evaluate(
        """() => {
            const parse = (colour) => colour.match(/[0-9.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
                .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
                .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
            const ground = (node) => {
                for (let at = node; at; at = at.parentElement) {
                    const colour = parse(getComputedStyle(at).backgroundColor);
                    if (colour[3] !== 0) return colour;
                }
                return [255, 255, 255];
            };
            return [...document.querySelectorAll("body *")]
                .filter((node) => node.checkVisibility())
                .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
                .map((node) => {
                    const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
                    return [node.textContent, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
                })
                .filter(([, contrast]) => contrast < 4.5).map(([text, contrast]) => `${contrast.toFixed(2)} ${text}`);
        }"""
    )


def test_the_page_follows_the_data(browser, proxy, asked):
    """New requests appear without a reload, in the elements that are there already, and nothing moves."""
    data, said = served(proxy, asked), []
    page = opened(browser, proxy, said, view="")
    page.evaluate("window.stayed = document.querySelector('.fill')")
    place = page.locator("#models").bounding_box()
    before = sum(requests_in(data).values())
    assert proxy.ask(question("glm")).status_code == 200
    tile = page.locator("#summary div", has_text="Requests today").locator("dd").first
    expect(tile).to_have_text(str(int(before)))
    expect(tile).not_to_have_text(str(int(before)), timeout=20_000)
    assert page.evaluate("window.stayed.isConnected")
    assert page.locator("#models").bounding_box() == place
    assert said == []
    page.context.close()


def test_the_page_keeps_its_token_to_itself(browser, proxy):
    """The shell holds no data and no secret, its policy lets nothing else run, a wrong token is refused, and a tab forgets."""
    shell = get(proxy, "/pool", None, accept="text/html")
    assert shell.status_code == 200
    assert "'unsafe" not in shell.headers["content-security-policy"]
    assert not any(word in shell.text for word in (*LABELS, *LABELS.values(), STATIC_TOKEN, MASTER_KEY, "://"))
    said = []
    page = opened(browser, proxy, said)
    assert MASTER_KEY not in page.url
    assert page.title() == "claude-proxy: credentials"
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    expect(page.locator("article")).to_have_count(3)
    assert not any(word in page.url for word in (MASTER_KEY, STATIC_TOKEN))
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("The proxy's token")).to_be_visible()
    assert said == []
    page.get_by_label("The proxy's token").fill("sk-wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not a token of this proxy.")
    expect(page.locator("main section")).to_have_count(0)
    page.context.close()


def test_no_secret_is_in_anything_that_is_shown(proxy, asked):
    """Neither a credential nor a token is in any answer or in the log."""
    served(proxy, asked)
    shown = proxy.output + "".join(get(proxy, path).text for path in ("/pool", "/metrics", "/usage.csv"))
    assert not [secret for secret in (*LABELS.values(), STATIC_TOKEN, MASTER_KEY) if secret in shown]
