"""providers/search_formats.py: requests to search endpoints, and their responses."""

import json
from urllib.parse import parse_qs

import pytest

from claude_proxy.anthropic.search_blocks import Page
from claude_proxy.providers.search_formats import ADDRESS, EXCERPT, TITLE, address, is_web, pages, request
from claude_proxy.providers.search_tool import SearchTool

ANY = SearchTool()
SITES = SearchTool(1, ("a.invalid", "b.invalid/x"), ("c.invalid",))
FOUND = [Page("One", "https://one.invalid/", "first", "2026-11-01"), Page("Two", "https://two.invalid/", "", "")]
ANSWERS = {
    "searxng": {
        "query": "q", "number_of_results": 0,
        "results": [
            {"title": "One", "url": "https://one.invalid/", "content": "first", "publishedDate": "2026-11-01", "score": 1.0},
            {"title": "Two", "url": "https://two.invalid/", "content": None, "publishedDate": None},
        ],
    },
    "brave": {
        "type": "search", "query": {"original": "q"},
        "web": {"type": "search", "results": [
            {"title": "One", "url": "https://one.invalid/", "description": "first", "page_age": "2026-11-01"},
            {"title": "Two", "url": "https://two.invalid/"},
        ]},
    },
    "tavily": {
        "query": "q", "answer": None,
        "results": [
            {"title": "One", "url": "https://one.invalid/", "content": "first", "published_date": "2026-11-01", "score": 0.9},
            {"title": "Two", "url": "https://two.invalid/", "content": ""},
        ],
    },
}  # fmt: skip
EACH = pytest.mark.parametrize("provider", ANSWERS)


def answer(provider, *results):
    return {"query": "q", "web": {"results": [*results]}} if provider == "brave" else {"results": [*results]}


@pytest.mark.parametrize(
    ("provider", "base", "url"),
    [
        ("searxng", "http://searxng:8080", "http://searxng:8080/search"),
        ("searxng", "http://host.invalid/searx/", "http://host.invalid/searx/search"),
        ("searxng", "http://searxng:8080/search", "http://searxng:8080/search"),
        ("brave", None, "https://api.search.brave.com/res/v1/web/search"),
        ("brave", "http://127.0.0.1:1", "http://127.0.0.1:1/res/v1/web/search"),
        ("tavily", "", "https://api.tavily.com/search"),
    ],
)
def test_where_a_search_goes(provider, base, url):
    """The path is appended to the base URL unless it is already there."""
    assert address(provider, base) == url


@pytest.mark.parametrize(
    ("provider", "key", "header"),
    [
        ("searxng", "", None),
        ("searxng", "made-up", ("authorization", "Bearer made-up")),
        ("brave", "made-up", ("x-subscription-token", "made-up")),
        ("tavily", "made-up", ("authorization", "Bearer made-up")),
    ],
)
def test_the_key(provider, key, header):
    """The key is sent in the endpoint's header, not in the body."""
    headers, body = request(provider, key, "q", ANY, 5)
    kind = "application/x-www-form-urlencoded" if provider == "searxng" else "application/json"
    assert headers == [("accept", "application/json"), ("content-type", kind), *([header] if header else [])]
    assert b"made-up" not in body


def test_the_bodies():
    """The query and the number of results have each endpoint's own field names."""
    assert parse_qs(request("searxng", "", "a&b é", ANY, 5)[1].decode()) == {"q": ["a&b é"], "format": ["json"]}
    assert json.loads(request("brave", "k", "a", ANY, 5)[1]) == {"q": "a", "count": 5, "text_decorations": False}
    assert json.loads(request("tavily", "k", "a\ud83d", ANY, 5)[1]) == {"query": "a?", "max_results": 5}


def test_domains_in_a_request():
    """Tavily has fields for domains; for the others they become operators in the query, as long as they fit."""
    made = json.loads(request("tavily", "k", "q", SITES, 5)[1])
    assert (made["include_domains"], made["exclude_domains"]) == (["a.invalid", "b.invalid/x"], ["c.invalid"])
    query = "q (site:a.invalid OR site:b.invalid/x) -site:c.invalid"
    assert json.loads(request("brave", "k", "q", SITES, 5)[1])["q"] == query
    assert parse_qs(request("searxng", "", "q", SITES, 5)[1].decode())["q"] == [query]
    assert json.loads(request("brave", "k", "q", SearchTool(1, ("a.invalid",)), 5)[1])["q"] == "q site:a.invalid"
    long = "q" * 390
    assert json.loads(request("brave", "k", long, SITES, 5)[1])["q"] == long
    many = SearchTool(1, tuple(f"{number}.invalid" for number in range(50)))
    assert json.loads(request("brave", "k", "q", many, 5)[1])["q"] == "q"


@EACH
def test_what_was_found(provider):
    """Title, URL, excerpt and age are read from each format; the number is limited, and other domains are left out."""
    said = ANSWERS[provider]
    assert pages(provider, said, ANY, 10) == FOUND
    assert pages(provider, said, ANY, 1) == FOUND[:1]
    assert pages(provider, said, SearchTool(1, ("two.invalid",)), 1) == FOUND[1:]
    assert pages(provider, answer(provider), ANY, 10) == []


def test_braves_empty_answer():
    """Brave leaves out a section without results."""
    assert pages("brave", {"type": "search", "query": {"original": "q"}}, ANY, 10) == []


@EACH
@pytest.mark.parametrize(
    "said", [{}, {"results": None}, {"results": "x"}, {"web": []}, {"web": {"results": {}}}, {"error": "x"}]
)
def test_what_is_no_result(provider, said):
    """An invalid response is distinguished from a search without results."""
    assert pages(provider, said, ANY, 10) is None


@EACH
def test_what_somebody_wrote(provider):
    """Texts of pages are shortened and lose control characters; a page without a web URL is left out."""
    field = "description" if provider == "brave" else "content"
    hostile = {
        "title": "\x1b[31mA\x07 &lt;b&gt;\u202e\n" + "x" * 5000, "url": "https://one.invalid/",
        field: "a\x00b\r\n" + "y" * 50_000, "page_age": {"odd": 1}, "published_date": ["odd"], "publishedDate": 7,
    }  # fmt: skip
    bad = [{"title": "x", "url": url} for url in ("javascript:alert(1)", "file:///etc/passwd", "", 7, None)]
    (page,) = pages(provider, answer(provider, *bad, "odd", {"title": "no address"}, hostile), ANY, 10)
    assert page.title.isprintable()
    assert page.title.startswith("[31mA <b> xxx")
    assert (len(page.title), len(page.excerpt), page.age) == (TITLE, EXCERPT, "")
    assert page.excerpt.startswith("a b yyy")


@EACH
def test_a_page_without_a_title(provider):
    """A page without a title shows its URL, because a title is never empty."""
    assert (
        pages(provider, answer(provider, {"url": "https://one.invalid/", "title": " \n"}), ANY, 10)[0].title
        == "https://one.invalid/"
    )


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://one.invalid/a?b=c#d", True), ("http://one.invalid", True), ("https://münchen.invalid/", True),
        ("ftp://one.invalid/", False), ("//one.invalid/", False), ("https:///path", False), ("https://a@one.invalid/", False),
        ("https://one.invalid/a b", False), ("https://one.invalid/\x1b[2J", False), ("https://one.invalid/\n", False),
        ("https://[one.invalid/", False), ("https://one.invalid/" + "x" * ADDRESS, False), ("https://one.invalid/<b>", False),
    ],
)  # fmt: skip
def test_an_address(url, good):
    """A valid URL is a web URL with a host, on one line, and not too long."""
    assert is_web(url) == good
