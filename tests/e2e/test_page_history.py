"""The history of the page /pool in a real browser: its menus, a day, its legends and columns; and the way to the requests."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from playwright.sync_api import Page, Route, expect
from processes import MASTER_KEY
from test_page_views import get, opened, proxy, ready
from test_status_through_the_proxy import browser

from benchmarks.made_up_history import MODELS, USERS
from benchmarks.made_up_home import token_of

__all__ = ["browser", "proxy"]  # fixtures

# Keeps the last texts that are drawn on each canvas: text, place of its middle and length, in the canvas's pixels.
DRAWN_TEXTS = """
window.drawn = new Map();
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, ...more) {
    const found = window.drawn.get(this.canvas) ?? [];
    window.drawn.set(this.canvas, [...found, [text, x, this.measureText(text).width]].slice(-40));
    return draw.call(this, text, x, ...more);
};
const clear = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function (...all) {
    window.drawn.delete(this.canvas);
    return clear.apply(this, all);
};
"""


def test_a_menu_shows_and_removes_its_filter(browser, proxy):
    """The menu of a filter shows the chosen name, or how many there are; "all" removes them."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=group&user=anna")
    expect(page.get_by_text("the rows can add up to more than the total")).to_be_visible()
    menu = page.get_by_label("Only user")
    expect(menu).to_have_value("anna")
    menu.select_option("ben")
    expect(page.locator(".chip")).to_have_count(2)
    expect(menu.locator("option:checked")).to_have_text("2 names")
    ready(page)
    menu.select_option("all")
    expect(page.locator(".chip")).to_have_count(0)
    expect(menu.locator("option:checked")).to_have_text("all")
    menu.select_option("ben")
    expect(page.locator(".chip")).to_have_count(1)
    menu.select_option("all")
    expect(page.locator(".chip")).to_have_count(0)
    assert said == []
    page.context.close()


def test_a_day(browser, proxy):
    """Yesterday is shown by hour, which the menu of the steps says; a day before those with hours is shown by day."""
    page, said = opened(browser, proxy, "#/history?range=30d&step=day")
    page.get_by_role("button", name="yesterday").click()
    expect(page).to_have_url(re.compile("from="))
    ready(page)
    expect(page.get_by_role("button", name="yesterday")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Step").locator("option:checked")).to_have_text("by hour")
    expect(page.locator(".chart").first.locator("figcaption .soft")).to_have_text("24 hours")
    shown = page.locator(".view-head .soft")
    expect(shown).to_have_text(re.compile(r"^\w+,? \d+ \w+ \d{4}, all day, by hour, UTC$"))
    earlier = (datetime.now(UTC) - timedelta(20)).date().isoformat()
    page.goto(f"{proxy.url}/pool#/history?from={earlier}&to={earlier}")
    expect(page.locator(".chart").first.locator("figcaption .soft")).to_have_text("1 day")
    expect(page.get_by_label("Step").locator("option:checked")).to_have_text("by day")
    expect(shown).to_have_text(re.compile(r"^\w+,? \d+ \w+ \d{4}, by day, UTC$"))
    page.goto(f"{proxy.url}/pool#/history?range=24h")
    expect(shown).to_have_text(re.compile(r" to now, by hour, UTC$"))
    assert said == []
    page.context.close()


def test_an_unknown_price(browser, proxy):
    """The legend of the costs says of a model without a price what the table says; each has a column of the sort on a phone."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=model&sort=cache_hit_rate.down", width=390)
    row = page.locator("table.numbers tbody tr", has_text="not known").first
    name = row.get_by_role("button").first.text_content() or ""
    costs = page.locator(".chart", has=page.locator(".chart-title", has_text=re.compile("^Cost$")))
    expect(costs.locator(".legend li", has_text=name)).to_contain_text("not known")
    page.goto(f"{proxy.url}/pool#/history?range=30d&by=user")
    cost = page.locator("table.numbers td", has_text=re.compile(r"^at least \$[0-9]")).first
    expect(cost).to_have_attribute("title", re.compile(r"^[0-9,]+ requests? without a known price$"))
    page.go_back()
    expect(page.get_by_role("columnheader", name="cache hits")).to_have_attribute("aria-sort", "descending")
    assert said == []
    page.context.close()


def test_a_failover_is_a_link_to_its_request(browser, proxy):
    """A failover says which credential was used next, and is a link to its request, whose row says the same."""
    page, said = opened(browser, proxy, "#/")
    link = page.locator("#failovers a", has_text=re.compile("^[a-z]+ → [a-z]+$")).first
    names = (link.text_content() or "").split(" → ")
    link.click()
    expect(page).to_have_url(re.compile("#/requests[?]status=failover&open="))
    expect(page.locator("tr.open")).to_contain_text(" → ".join(names))
    attempts = page.locator("#open-request .attempts li strong").all_text_contents()
    assert names in [attempts[place : place + 2] for place in range(len(attempts))]
    words = "The last [0-9]+ requests that match the filters.* Kept since .*; older numbers are in History"
    expect(page.get_by_text(re.compile(words))).to_be_visible()
    page.get_by_role("button", name="Pause the list").click()
    expect(page.get_by_role("button", name="Continue the list")).to_be_visible()
    assert said == []
    page.context.close()


def test_a_failover_of_a_model_is_a_link_to_its_request(browser, proxy):
    """A failover to another model opens its request, and names the attempts as its row does; without one, its user's."""
    page, said = opened(browser, proxy, "#/credentials")
    one = next(one for one in get(proxy, "/pool/requests?status=failover&limit=50").json()["requests"] if one["credential"])
    left, *_ = [attempt["target"] for attempt in one["attempts"]]
    text = "anthropic/claude-opus-5-5: failed over to zai/glm (HTTP 529)"
    events = [
        {"at": at, "user": one["user"], "model": one["requested"], "text": text}
        for at in (one["at"] + one["seconds"], one["at"] - 600_000)
    ]

    def changed(route: Route) -> None:
        if route.request.resource_type != "fetch":
            route.continue_()
            return
        headers = {name: value for name, value in route.request.headers.items() if name != "if-none-match"}
        response = route.fetch(headers=headers)
        found = response.json()
        for request in found.get("requests", ()):
            if request["id"] == one["id"]:
                request["attempts"][-1]["target"] = "zai/glm"
        if "failovers" in found:
            found["failovers"] = events
        route.fulfill(status=response.status, json=found)

    page.route(re.compile("/pool(/requests.*)?$"), changed)
    page.reload()
    ready(page)
    page.locator("nav a[data-view=overview]").click()
    for place in (line(page, "failover"), page.locator("#failovers li").first):
        expect(place.get_by_role("link")).to_have_text(f"{left} → zai/glm")
        expect(place).to_contain_text(": anthropic/claude-opus-5-5 failed over (HTTP 529: overloaded)")
        place.get_by_role("link").click()
        expect(page).to_have_url(re.compile(re.escape(f"#/requests?status=failover&open={one['id']}")))
        expect(page.locator("tr.open")).to_contain_text(f"{left} → zai/glm")
        expect(page.locator("#open-request .attempts li strong").first).to_have_text(left)
        page.go_back()
    other = page.locator("#failovers li").nth(1).get_by_role("link")
    expect(other).to_have_text("anthropic/claude-opus-5-5 → zai/glm")
    expect(other).to_have_attribute("href", f"#/requests?status=failover&user={one['user']}")
    page.unroute_all(behavior="ignoreErrors")
    assert said == []
    page.context.close()


def test_a_price_that_is_missing_is_missing_in_the_same_days(browser, proxy):
    """The alert about a model without a price opens the days of its number, and both have the same number."""
    page, said = opened(browser, proxy, "#/")
    row = page.locator(".alerts li", has_text="No price is known")
    number = re.search(r": ([0-9]+) responses? of the last seven days", row.inner_text())
    assert number is not None
    row.get_by_role("link", name="Who uses it").click()
    expect(page).to_have_url(re.compile(r"from=\d{4}-\d\d-\d\d&to=\d{4}-\d\d-\d\d&by=user&model=local-coder"))
    ready(page)
    cost = page.locator(".tiles div", has=page.locator("dt", has_text=re.compile("^cost$"))).locator("dd")
    expect(cost).to_have_text(["not known", re.compile(f"^{number[1]} requests? without a known price$")])
    assert said == []
    page.context.close()


def test_a_family_and_what_is_not_drawn(browser, proxy):
    """One entry of the menu has all models of a family; charts with fewer lines than names say so; a click splits by user."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=model")
    rates = page.locator(".chart", has=page.locator(".chart-title", has_text="Cache hit rate"))
    names = page.locator("table.numbers tbody th button:first-child")
    expect(names).to_have_count(len(MODELS))
    shares = ", ".join(f"{name} [0-9]+ %" for name in names.all_text_contents()[4:])
    expect(rates.locator(".legend li").last).to_have_text(re.compile(f"^no line: {shares}$"))
    menu = page.get_by_label("Only model")
    menu.select_option("all Opus")
    expect(page.locator(".chip")).to_have_count(2)
    expect(menu.locator("option", has_text="haiku")).to_have_text("add claude-haiku-5-5")
    expect(menu.locator("option", has_text="all Opus")).to_have_count(0)
    ready(page)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV: one row per model and day", exact=True).click()
    assert waiting.value.suggested_filename.startswith("claude-proxy-model-claude-opus-4-8-claude-opus-5-5-2")
    page.get_by_role("button", name="claude-opus-5-5 by user").click()
    expect(page).to_have_url(re.compile("by=user"))
    ready(page)
    expect(page.locator("table.numbers thead th").first).to_have_text("user")
    expect(page.get_by_role("button", name="anna by model", exact=True)).to_be_visible()
    assert said == []
    page.context.close()


def test_the_labels_of_hours_are_apart(browser, proxy):
    """With a clock of twelve hours, and on a narrow screen, no label of an axis runs into the next one."""
    context = browser.new_context(viewport={"width": 360, "height": 900}, locale="en-US", timezone_id="UTC")
    context.add_init_script(f"sessionStorage.setItem('claude-proxy-token', '{MASTER_KEY}'); {DRAWN_TEXTS}")
    page = context.new_page()
    page.goto(f"{proxy.url}/pool#/history?range=24h")
    expect(page.locator(".chart canvas").first).to_be_visible()
    for width in (360, 1280, 1900):
        page.set_viewport_size({"width": width, "height": 900})
        wanted = page.evaluate("document.querySelector('.plot').clientWidth")
        expect(page.locator(".chart canvas").first).to_have_js_property("clientWidth", wanted)
        drawn = page.evaluate("window.drawn.get(document.querySelector('.chart canvas'))")
        labels = [(place, length) for text, place, length in drawn if re.search("[AP]M$", text)]
        assert len(labels) >= 2
        assert [one for one, next_ in pairwise(labels) if one[0] < next_[0] < one[0] + one[1] + 6] == []
    context.close()


def test_the_worst_credentials(browser, proxy):
    """Of usable credentials the fullest is first. A rejected one says when it is tried again, and what it needs."""
    page, said = opened(browser, proxy, "#/credentials")
    found = get(proxy, "/pool").json()["credentials"]
    usable = [one for one in found if one["state"]["name"] == "usable"]
    fullness = {one["label"]: max((window["utilization"] for window in one["windows"]), default=0) for one in usable}
    labels = page.locator("article").evaluate_all("nodes => nodes.map(node => node.dataset.label)")
    shown = [fullness[label] for label in labels if label in fullness]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == len(usable) > 5
    expect(page.locator("article.paused .state").first).to_contain_text("paused by the operator since ")
    rejected = re.compile("will be tried again at .*; needs a new token: ")
    expect(page.locator("article.rejected .state").first).to_contain_text(rejected)
    paused = sum(one["state"]["name"] == "paused" for one in found)
    assert paused > 0
    summary = re.compile(rf"^[0-9]+ of {len(found)} usable \(.*\b{paused} paused\b.*\), worst first$")
    expect(page.locator("#pool-summary")).to_have_text(summary)
    reserved = page.locator("article", has_text="for fatima")
    expect(reserved).to_contain_text("the last 20 % of each window are kept for fatima")
    assert said == []
    page.context.close()


def test_a_sign_in_says_that_it_is_checked(browser, proxy):
    """While the proxy is asked about a token the button says so, and after a wrong one it is as before."""
    page = browser.new_context().new_page()
    page.goto(f"{proxy.url}/pool")
    button = page.locator("#login button")
    seen: list[str | None] = []

    def asked(route: Route) -> None:
        seen.append(button.text_content())
        route.continue_()

    page.route("**/pool", asked)
    page.get_by_label("The proxy's token").fill("sk-wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not a token of this proxy.")
    expect(button).to_have_text("Sign in")
    assert seen == ["Checking ..."]
    page.context.close()


# --- at a glance ------------------------------------------------------------------------------------------------------------


def line(page: Page, name: str):
    return page.locator(f"#glance [data-line={name}] dd")


def test_the_first_screen_answers_what_is_asked_daily(browser, proxy):
    """Without a click or a scroll the first screen has each answer, and each is that of the data."""
    page, said = opened(browser, proxy, "#/")
    found = get(proxy, "/pool/highlights").json()
    pool = get(proxy, "/pool").json()
    day, user = found["yesterday"], found["yesterday"]["user"]
    expect(page.locator("#glance [data-line=model] dt")).to_have_text(f"Most {day['model']} yesterday")
    expect(line(page, "model")).to_contain_text(f"{user['name']} ${user['usd']:,.2f} of ${day['usd']:,.2f}")
    week = found["week"]
    worst = week["lowest"]
    expect(line(page, "cache")).to_contain_text(
        f"{round(100 * week['cache_hit_rate'])} % of the input; the worst is {worst['name']}"
    )
    expect(line(page, "first")).to_contain_text(
        f"{week['slowest']['name']} is slowest, p95 {week['slowest']['first_byte_p95']:.1f} s"
    )
    project = found["project"]
    without = f"{project['unpriced']:,} request{'' if project['unpriced'] == 1 else 's'} without a price"
    expect(line(page, "project")).to_contain_text(
        f"{project['name']} cost most: at least ${project['usd']:,.2f} ({without}), {project['user']['name']}"
    )
    budget = max(pool["budgets"], key=lambda one: one["spent"] / one["limit"])
    expect(line(page, "budget")).to_contain_text(f"{budget['scope']}, {budget['period']} {budget['percent']} % of $")
    last = pool["failovers"][0]
    expect(line(page, "failover")).to_contain_text(last["user"])
    expect(line(page, "failover")).to_contain_text(last["text"].partition(":")[0])
    closed = [one for one in pool["credentials"] if one["state"]["name"] != "usable"]
    for one in closed:
        expect(line(page, "closed")).to_contain_text(re.compile(f"{one['label']} (rejected|rate-limited|paused).* since "))
    weeks = {one["label"]: window["utilization"] for one in pool["credentials"] for window in one["windows"]
             if window["name"] == "7d" and one["state"]["name"] not in {"rejected", "paused"}}  # fmt: skip
    fullest = max(weeks, key=lambda label: weeks[label])
    outcome = "(will not last: full at|lasts until then)"
    expect(line(page, "week")).to_contain_text(re.compile(f"{fullest} [0-9]+ %, resets .*{outcome}"))
    expect(page.locator("#glance [data-line=week] dt")).to_have_text("Fullest week (all models)")
    paused = sum(one["state"]["name"] == "paused" for one in pool["credentials"])
    usable, every = pool["pool"]["usable"], len(pool["credentials"])
    free = f"mean of the fullest windows, without {paused} paused; {usable} of {every} usable"
    expect(page.locator("#summary")).to_contain_text(free)
    box = page.locator("#glance").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900
    assert "five_hour" not in page.locator("#view").inner_text()
    expect(page.locator("#zone")).to_have_text("times in UTC")
    assert said == []
    page.context.close()


def test_a_line_leads_to_the_view_that_shows_all_of_it(browser, proxy):
    """Each line is a link to a view whose filters are set, and whose first row is the answer of the line."""
    found = get(proxy, "/pool/highlights").json()
    firsts = {
        "model": found["yesterday"]["user"]["name"], "cache": found["week"]["lowest"]["name"],
        "first": found["week"]["slowest"]["name"], "project": found["project"]["user"]["name"],
    }  # fmt: skip
    page, said = opened(browser, proxy, "#/")
    for name, answer in firsts.items():
        link = line(page, name).get_by_role("link").first
        expect(link).to_be_visible()
        link.click()
        ready(page)
        rows = page.locator("table.numbers tbody tr")
        expect(rows.first.get_by_role("button").first).to_have_text(answer)
        expect(rows.first).to_be_in_viewport()
        page.go_back()
        ready(page)
    line(page, "failover").get_by_role("link").first.click()
    expect(page.locator("#open-request")).to_be_visible()
    page.go_back()
    line(page, "budget").get_by_role("link").first.click()
    expect(page.locator("#budgets tbody tr").first).to_contain_text(re.compile("[0-9] %"))
    assert said == []
    page.context.close()


def test_budgets_are_in_the_order_of_their_use(browser, proxy):
    """The fullest budget is first, whoever it is for, and the page says which budgets overlap."""
    page, said = opened(browser, proxy, "#/budgets")
    budgets = get(proxy, "/pool").json()["budgets"]
    shares = sorted((one["percent"] for one in budgets), reverse=True)
    assert [int(text.split()[0]) for text in page.locator("#budgets .used span").all_text_contents()] == shares
    expect(page.locator("#budgets-hint")).to_contain_text("A user with several groups counts in each of them.")
    assert said == []
    page.context.close()


def test_an_alert_leads_to_where_it_is_mended(browser, proxy):
    """An alert names no command for what the page can do, and its link opens the credential that it is about."""
    page, said = opened(browser, proxy, "#/")
    pool = get(proxy, "/pool").json()
    rejected = next(one for one in pool["credentials"] if one["state"]["name"] == "rejected")
    row = page.locator(".alerts li", has_text="Anthropic rejects the credential")
    expect(row).to_contain_text(f"and remove {rejected['label']}")
    assert "claude-proxy pool" not in page.locator(".alerts").inner_text()
    began = (row.locator("time").get_attribute("datetime") or "")[:16]
    assert began == datetime.fromtimestamp(rejected["state"]["cooldowns"][0]["since"], UTC).isoformat()[:16]
    row.get_by_role("link", name=f"Open {rejected['label']}").click()
    card = page.locator("article.wanted")
    expect(card).to_have_attribute("data-label", rejected["label"])
    expect(card).to_be_in_viewport()
    expect(card.get_by_role("button", name="Try now")).to_be_visible()
    expect(card.get_by_role("button", name="Resume")).to_have_count(0)
    card.get_by_role("button", name="Try now").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"Try {rejected['label']} now?")
    page.keyboard.press("Escape")
    assert said == []
    page.context.close()


def test_a_search_for_what_the_page_says(browser, proxy):
    """A limit is found by the words in which the page shows it."""
    page, said = opened(browser, proxy, "#/requests")
    page.get_by_label("Search").fill("5-hour limit")
    expect(page).to_have_url(re.compile("q=5-hour"))
    wanted = get(proxy, "/pool/requests?limit=100&q=five_hour limit").json()["requests"]
    rows = page.locator("table.requests tbody tr")
    expect(rows).to_have_count(len(wanted))
    assert len(wanted) > 0
    rows.first.get_by_role("button").first.click()
    expect(page.locator("#open-request .attempts")).to_contain_text("5-hour limit")
    assert said == []
    page.context.close()


def test_a_history_that_is_not_available(browser, proxy):
    """Without the history the first screen says so in one line, and all that does not need it is there."""
    page, _ = opened(browser, proxy, "#/credentials")
    page.route("**/pool/highlights", lambda route: route.fulfill(status=503, json={"error": {"message": "not now"}}))
    page.locator("nav a[data-view=overview]").click()
    expect(line(page, "failure")).to_have_text("not available: not now")
    expect(line(page, "week")).to_be_visible()
    expect(page.locator("#glance [data-line=cache]")).to_have_count(0)
    page.context.close()


def test_a_user_at_a_glance(browser, proxy):
    """A user's lines are about their own use, and name no other user."""
    page, said = opened(browser, proxy, "#/", token_of("anna"))
    expect(page.locator("#glance [data-line=cache] dt")).to_have_text("Your cache hits, 7 days")
    text = page.locator("#glance").inner_text()
    assert [name for name in USERS if name != "anna" and re.search(rf"\b{name}\b", text)] == []
    assert said == []
    page.context.close()
