"""The history of the page /pool in a real browser: its menus, a day, its legends and columns; and the way to the requests."""

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Route, expect
from test_page_views import opened, proxy, ready
from test_status_through_the_proxy import browser

__all__ = ["browser", "proxy"]  # fixtures


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
    earlier = (datetime.now(UTC) - timedelta(20)).date().isoformat()
    page.goto(f"{proxy.url}/pool#/history?from={earlier}&to={earlier}")
    expect(page.locator(".chart").first.locator("figcaption .soft")).to_have_text("1 day")
    expect(page.get_by_label("Step").locator("option:checked")).to_have_text("by day")
    assert said == []
    page.context.close()


def test_an_unknown_price(browser, proxy):
    """The legend of the costs says of a model without a price what the table says; each has a column of the sort on a phone."""
    page, said = opened(browser, proxy, "#/history?range=30d&by=model&sort=cache_hit_rate.down", width=390)
    row = page.locator("table.numbers tbody tr", has_text="not known").first
    name = row.get_by_role("button").text_content() or ""
    costs = page.locator(".chart", has=page.locator(".chart-title", has_text=re.compile("^Cost$")))
    expect(costs.locator(".legend li", has_text=name)).to_contain_text("not known")
    expect(page.get_by_role("columnheader", name="cache hits")).to_have_attribute("aria-sort", "descending")
    assert said == []
    page.context.close()


def test_a_failover_is_a_link_to_its_requests(browser, proxy):
    """The name that a failover left is a link to the requests with it."""
    page, said = opened(browser, proxy, "#/")
    link = page.locator("#failovers a").first
    name = link.text_content() or ""
    link.click()
    expect(page).to_have_url(re.compile(f"#/requests[?]q={name}"))
    expect(page.locator("table.requests tbody tr").first).to_be_visible()
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
