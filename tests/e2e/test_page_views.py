"""The page /pool in a real browser, with ninety days of a made-up team of fifty users: every view."""

import csv
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import upstream as up
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from processes import MASTER_KEY, ROOT, Proxy, question
from test_status_through_the_proxy import browser, contrasts

from benchmarks.made_up_history import MODELS, USERS
from benchmarks.made_up_home import token_of

__all__ = ["browser"]  # a fixture

VIEWS = {
    "overview": "#/",
    "credentials": "#/credentials",
    "history": "#/history?range=90d&by=model",
    "requests": "#/requests",
    "budgets": "#/budgets",
}
# In which forms axe examines a view.
EXAMINED = {(1280, "light"), (360, "dark")}
FOCUSABLE = """[...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')]
    .filter((one) => one.checkVisibility()).length"""
LOADED = """["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
    .map((one) => [one.name, one.transferSize])"""
PAINTED = """new Promise((done) => new PerformanceObserver((list) => {
    for (const one of list.getEntriesByName("first-contentful-paint")) done(one.startTime);
}).observe({ type: "paint", buffered: true }))"""
# Of a page with everything that it loads, as it is transferred.
MAX_BYTES = 150_000
CHARTS = ("Requests", "Cost", "Tokens", "Cache hit rate", "First byte", "Errors and failovers")
CHARTS_OF_A_SPLIT = (
    "Requests", "Cost", "Tokens", "Cache hit rate", "First byte, p50", "First byte, p95", "Errors", "Failovers",
)  # fmt: skip


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("views")
    options = ["--requests", "5", "--upstream", shared_upstream.other_url]
    subprocess.run([sys.executable, "-m", "benchmarks.made_up_home", str(home), *options], cwd=ROOT, check=True)
    running = Proxy(home, None, ANTHROPIC_API_BASE=shared_upstream.url).wait_ready()
    yield running
    running.stop()


def get(proxy: Proxy, path: str, token: str = MASTER_KEY) -> httpx.Response:
    return httpx.get(f"{proxy.url}{path}", headers={"x-litellm-api-key": token}, trust_env=False, timeout=30)


def opened(
    browser: Browser, proxy: Proxy, view: str, token: str = MASTER_KEY, *, width: int = 1280, scheme: str = "light"
) -> tuple[Page, list[str]]:
    """Return a page with a view, and what its console says; every element of the view has its data."""
    said: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-GB", timezone_id="UTC", accept_downloads=True
    )
    context.add_init_script(f"sessionStorage.setItem('claude-proxy-token', '{token}')")
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{proxy.url}/pool{view}")
    ready(page)
    return page, said


def ready(page: Page) -> None:
    expect(page.locator("#view > section")).to_be_visible()
    expect(page.locator("[aria-busy]")).to_have_count(0)


def number(text: str | None) -> int:
    return int(re.sub(r"[^0-9]", "", text or ""))


def total(proxy: Proxy, query: str, token: str = MASTER_KEY) -> dict[str, Any]:
    return get(proxy, f"/pool/history?{query}", token).json()["total"]


def shown_reason(why: str) -> str:
    """Return a reason as the page shows it: limits and statuses in words."""
    words = why.replace("five_hour limit", "5-hour limit").replace("overloaded_error", "overloaded")
    return words if "overloaded" in words else words.replace("(HTTP 529)", "(HTTP 529: overloaded)")


def tile(page: Page, title: str):
    return page.locator(".tiles div", has=page.locator("dt", has_text=re.compile(f"^{title}$"))).locator("dd").first


# --- every view -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_for_everybody(browser, proxy, view):
    """By axe nothing is wrong, texts stand out, nothing is wider than the screen: wide and narrow, light and dark."""
    page, said = opened(browser, proxy, VIEWS[view])
    for width, scheme in itertools.product((1280, 360), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        expect(page.locator(f"html[data-theme={scheme}]")).to_have_count(1)
        if (width, scheme) in EXAMINED:
            found = Axe().run(page).response["violations"]
            assert not [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]
        assert contrasts(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    page.context.close()


def test_the_views_are_links(browser, proxy):
    """The address has the view: a link opens it, Back returns, a reload stays, and the title names it."""
    page, said = opened(browser, proxy, "")
    for view in VIEWS:
        page.get_by_role("navigation").get_by_role("link", name=view.capitalize()).click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        assert page.title() == f"claude-proxy: {view}"
        expect(page.locator("nav a[aria-current=page]")).to_have_text(view.capitalize())
    page.go_back()
    expect(page.locator("#view-requests")).to_be_visible()
    page.reload()
    expect(page.locator("#view-requests")).to_be_visible()
    assert said == []
    page.context.close()


def test_by_keyboard_alone(browser, proxy):
    """From the top of the page, Tab reaches every link, field and button, each with a visible focus; Enter opens a view."""
    page, said = opened(browser, proxy, VIEWS["history"])
    reached: list[str] = []
    wanted = page.evaluate(FOCUSABLE)
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => {
                const one = document.activeElement;
                if (one === document.body) return null;
                const style = getComputedStyle(one);
                return [one.outerHTML.slice(0, 120), style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
            }"""
        )
        if here is None:
            break
        assert here[1], here[0]
        reached.append(here[0])
    assert len(reached) >= wanted - 6, reached  # a date field has several places of its own
    page.locator("nav a[data-view=requests]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#view-requests")).to_be_visible()
    assert said == []
    page.context.close()


def test_the_page_is_small(browser, proxy):
    """All that the page loads, its charts included, is under 150 kB as it is transferred; later visits load only data."""
    page, said = opened(browser, proxy, VIEWS["history"])
    expect(page.locator("canvas").first).to_be_visible()
    for view in VIEWS:
        page.locator(f"nav a[data-view={view}]").click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
    loaded = page.evaluate(LOADED)
    files = [size for name, size in loaded if "/assets/" in name or name.endswith("/pool")]
    assert len(files) > 10
    assert sum(files) < MAX_BYTES
    assert not [name for name, _ in loaded if not name.startswith(proxy.url)]
    page.reload()
    expect(page.locator("#view > section")).to_be_visible()
    assert [size for name, size in page.evaluate(LOADED) if "/assets/" in name and size > 0] == []
    assert said == []
    page.context.close()


def test_scripts_do_not_delay_the_first_paint(browser, proxy):
    """With its scripts, styles and data, the page is painted about as soon as without any script."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _, scripted in itertools.product(range(5), times):
        page = browser.new_context().new_page()
        if not scripted:
            page.route("**/*.js", lambda route: route.abort())
        page.goto(f"{proxy.url}/pool")
        times[scripted].append(page.evaluate(PAINTED))
        page.context.close()
    assert min(times[True]) < 3 * min(times[False]), times


# --- history ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("range_", "step", "periods"), [("24h", "hour", 24), ("7d", "hour", 168), ("30d", "day", 30), ("90d", "day", 90)]
)
def test_the_history_is_the_data(browser, proxy, range_, step, periods):
    """The numbers of a range are those of GET /pool/history, by hour for a week and by day beyond; each chart has a course."""
    page, said = opened(browser, proxy, f"#/history?range={range_}")
    sums = total(proxy, f"range={range_}")
    assert number(tile(page, "requests").text_content()) == sums["requests"] > 0
    assert number(tile(page, "errors").text_content()) == sums["errors"]
    expect(tile(page, "cost")).to_have_text(f"${sums['usd']:,.2f}")
    expect(tile(page, "cache hit rate")).to_have_text(f"{round(100 * sums['cache_hit_rate'])} %")
    expect(page.locator(".chart canvas")).to_have_count(len(CHARTS))
    assert page.locator(".chart-title").all_text_contents() == [*CHARTS]
    expect(page.locator(".chart").first.locator("figcaption .soft")).to_have_text(f"{periods} {step}s")
    page.locator("summary", has_text=f"Numbers by {step}").click()
    rows = page.locator("details tbody tr")
    expect(rows).to_have_count(periods)
    shown = sum(number(text) for text in rows.locator("td:nth-child(2)").all_text_contents())
    assert shown == sums["requests"]
    assert said == []
    page.context.close()


def test_a_click_narrows(browser, proxy):
    """A click on a name narrows to it, and the address has it: Back widens, a reload stays, and a chip removes it."""
    page, said = opened(browser, proxy, "#/history?range=90d&by=user")
    rows = page.locator("table.numbers tbody tr")
    expect(rows).to_have_count(len(USERS))
    assert page.locator(".chart-title").all_text_contents() == [*CHARTS_OF_A_SPLIT]
    name = rows.first.get_by_role("button").first.text_content()
    rows.first.get_by_role("button").first.click()
    expect(page).to_have_url(re.compile(f"user={name}.*by=model|by=model.*user={name}"))
    ready(page)
    expect(page.locator("table.numbers thead th").first).to_have_text("model")
    sums = total(proxy, f"range=90d&user={name}")
    expect(tile(page, "requests")).to_have_text(f"{sums['requests']:,}")
    page.reload()
    ready(page)
    expect(tile(page, "requests")).to_have_text(f"{sums['requests']:,}")
    page.get_by_label("Only project").select_option(index=1)
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.get_by_label("Only project")).not_to_have_value("")
    page.locator(".chip", has_text="project").click()
    expect(page.locator(".chip")).to_have_count(1)
    page.get_by_role("button", name=f"user: {name}, remove").click()
    expect(page.locator(".chip")).to_have_count(0)
    for _ in range(4):
        page.go_back()
    expect(page.locator("table.numbers thead th").first).to_have_text("user")
    assert said == []
    page.context.close()


def test_the_legend_and_the_order(browser, proxy):
    """The legend of a chart narrows as the table does; a click on a column sorts by it, and the address keeps the order."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=model")
    rows = page.locator("table.numbers tbody tr")
    expect(rows).to_have_count(len(MODELS))
    page.get_by_role("columnheader", name="errors").get_by_role("button").click()
    expect(page.get_by_role("columnheader", name="errors")).to_have_attribute("aria-sort", "descending")
    errors = [number(text) for text in rows.locator("td:nth-last-child(2)").all_text_contents()]
    assert errors == sorted(errors, reverse=True)
    assert "sort=errors.down" in page.url
    page.locator(".legend").first.get_by_role("button", name="claude-opus-5-5").click()
    expect(page.locator(".chip")).to_have_text(re.compile("model: claude-opus-5-5"))
    assert said == []
    page.context.close()


def test_a_chart_without_a_pointer(browser, proxy):
    """A chart is a slider: the arrow keys name each period and its numbers, in its words and in all legends."""
    page, said = opened(browser, proxy, "#/history?range=30d")
    expect(page.locator(".chart canvas")).to_have_count(len(CHARTS))
    data = get(proxy, "/pool/history?range=30d").json()
    chart = page.get_by_role("slider", name="Requests, by period")
    chart.focus()
    page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "1")
    for place in range(1, 6):
        page.keyboard.press("ArrowRight")
        expect(chart).to_have_attribute("aria-valuenow", str(place + 1))
        value = f"{data['total']['series']['requests'][place]:,}"
        expect(chart).to_have_attribute("aria-valuetext", re.compile(f"requests {value}$"))
        expect(page.locator(".chart").first.locator(".legend strong")).to_have_text(value)
    day = int(data["periods"][5][-2:])
    expect(page.locator(".chart figcaption .soft").nth(1)).to_contain_text(f" {day} ")
    assert said == []
    page.context.close()


def test_a_range_that_is_drawn_over_a_chart(browser, proxy):
    """The pointer, drawn over some days of a chart, narrows the range to them."""
    page, said = opened(browser, proxy, "#/history?range=30d")
    box = page.locator(".chart .u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=\d{4}-\d\d-\d\d"))
    ready(page)
    query = page.url.partition("?")[2]
    data = get(proxy, f"/pool/history?{query}").json()
    assert 5 < len(data["periods"]) < 14
    expect(tile(page, "requests")).to_have_text(f"{data['total']['requests']:,}")
    assert said == []
    page.context.close()


def test_the_csv_is_what_is_shown(browser, proxy):
    """The button saves the lines of GET /pool/history.csv for the view, whose sums are those of the view."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=model&user=anna")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV: one row per model and day", exact=True).click()
    text = waiting.value.path().read_text(encoding="utf-8")
    assert text == get(proxy, "/pool/history.csv?range=30d&by=model&user=anna").text
    assert waiting.value.suggested_filename.endswith(".csv")
    lines = [*csv.DictReader(io.StringIO(text))]
    assert sum(int(line["requests"]) for line in lines) == total(proxy, "range=30d&user=anna")["requests"]
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV: one row per model", exact=True).click()
    sums = [*csv.DictReader(io.StringIO(waiting.value.path().read_text(encoding="utf-8")))]
    rows = page.locator("table.numbers").first.locator("tbody tr")
    assert [line["model"] for line in sums] == rows.locator("th button:first-child").all_text_contents()
    assert [f"{int(line['requests']):,}" for line in sums] == rows.locator("td:nth-child(2)").all_text_contents()
    assert "-sums-" in waiting.value.suggested_filename
    page.get_by_label("Split by").select_option("nothing")
    expect(page.get_by_role("button", name="CSV: one row with the sums")).to_be_visible()
    expect(page.get_by_role("button", name="CSV: one row per day")).to_be_visible()
    assert said == []
    page.context.close()


# --- requests ---------------------------------------------------------------------------------------------------------------


def test_the_last_requests(browser, proxy):
    """The newest hundred are shown, more on demand; filters, a search and an open request are in the address."""
    page, said = opened(browser, proxy, "#/requests")
    rows = page.locator("table.requests tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Show 100 more").click()
    expect(rows).to_have_count(200)
    times = rows.locator("time").evaluate_all(
        "all => all.map(one => [new Date(one.dateTime).toDateString() === new Date().toDateString(), one.textContent])"
    )
    assert [is_today for is_today, text in times] == [re.fullmatch(r"[0-9:]+", text) is not None for _, text in times]
    expect(page.locator("select[name=rule]")).to_be_visible()
    page.get_by_label("Status").select_option("error")
    expect(page).to_have_url(re.compile("status=error"))
    expect(page.locator("p.soft[role=status]")).to_contain_text("that match the filters")
    failed = get(proxy, "/pool/requests?limit=100&status=error").json()["requests"]
    expect(rows).to_have_count(len(failed))
    page.get_by_label("Status").select_option("failover")
    moved = get(proxy, "/pool/requests?limit=100&status=failover").json()["requests"]
    expect(rows).to_have_count(len(moved))
    assert 0 < len(moved) < 1000
    page.get_by_label("Status").select_option("")
    found = get(proxy, "/pool/requests?limit=1000").json()["requests"]
    assert len(found) == 1000
    one = next(entry for entry in found if len(entry["attempts"]) > 1)
    page.get_by_label("Search").fill(one["request_id"])
    expect(rows).to_have_count(1)
    rows.first.get_by_role("button").first.click()
    expect(page).to_have_url(re.compile("open="))
    details = page.locator("#open-request")
    for text in (
        one["request_id"],
        one["user"],
        one["project"],
        *(shown_reason(attempt["why"]) for attempt in one["attempts"]),
    ):
        expect(details).to_contain_text(text)
    page.reload()
    expect(details).to_contain_text(one["request_id"])
    details.get_by_role("button", name=f"Show only user {one['user']}").click()
    expect(page).to_have_url(re.compile(f"user={one['user']}"))
    page.get_by_role("button", name="Show all").click()
    expect(rows).to_have_count(100)
    assert said == []
    page.context.close()


def test_a_new_request_appears(browser, proxy, upstream):
    """A request that ends while the view is open is at its top within seconds, and an open row stays open."""
    page, said = opened(browser, proxy, "#/requests")
    rows = page.locator("table.requests tbody tr")
    rows.nth(2).get_by_role("button").first.click()
    before = page.locator("#open-request code").text_content()
    assert proxy.ask(question("glm"), token=token_of("zoe")).status_code == 200
    expect(rows.first).to_contain_text("zoe", timeout=20_000)
    assert page.locator("#open-request code").text_content() == before
    assert said == []
    page.context.close()


# --- a user -----------------------------------------------------------------------------------------------------------------


def test_a_user_sees_only_themselves(browser, proxy):
    """With an own token the views are the same, with one's own numbers; no other user's name is in any of them."""
    shown = ""
    for view in (*VIEWS.values(), "#/history?range=90d&by=user"):
        page, said = opened(browser, proxy, view, token_of("anna"))
        shown += page.locator("body").inner_text()
        if "by=user" in view:
            expect(page.locator("table.numbers tbody th")).to_have_text("annaby model")
            assert number(tile(page, "requests").text_content()) == total(proxy, "range=90d&user=anna")["requests"]
            expect(page.get_by_label("Only user")).to_have_count(0)
        assert said == []
        page.context.close()
    assert "anna" in shown
    others = [name for name in USERS if name != "anna" and re.search(rf"\b{name}\b", shown)]
    assert others == []


def test_no_secret_is_in_any_view(browser, proxy):
    """No credential and no token is in what a view shows or keeps."""
    for view in VIEWS.values():
        page, _ = opened(browser, proxy, view)
        content = page.content()
        assert not [word for word in ("sk-ant-", MASTER_KEY, token_of("anna")) if word in content]
        page.context.close()
    assert "sk-ant-" not in proxy.output
