"""The request and response formats of the search endpoints. Values in, values out, no I/O.

Their references: https://docs.searxng.org/dev/search_api.html, https://api-dashboard.search.brave.com/api-reference/web,
https://docs.tavily.com/documentation/api-reference/endpoint/search. All three accept a POST.
"""

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from claude_proxy.anthropic.search_blocks import Page
from claude_proxy.asgi import Headers
from claude_proxy.providers.search_tool import SearchTool

# The kept length of each page's fields. Claude Code accepts titles of 2,000 characters and URLs of 8,192.
TITLE = 300
EXCERPT = 1_500
AGE = 40
ADDRESS = 2_000
# The maximum number of domains that become operators in the query. Beyond it, and beyond the query's maximum length, only the
# results are filtered.
MAX_OPERATORS = 8
# SearXNG has no limit of its own.
LONGEST_OWN = 1_000
JSON_TYPE = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Format:
    """One kind of endpoint."""

    # The path below the base URL. `base` is the default URL; a self-hosted endpoint has none.
    path: str
    body: Callable[[str, SearchTool, int], tuple[str, bytes]]
    # The path to the list of results in the response, and the fields of a result with its excerpt and its age.
    results: tuple[str, ...]
    excerpt: str
    age: str
    base: str = ""
    # The longest query, in characters and in words.
    longest: int = 400
    words: int = 400
    key: Callable[[str], tuple[str, str]] = lambda key: ("authorization", f"Bearer {key}")

    @property
    def needs_key(self) -> bool:
        """Whether a key is required; a self-hosted endpoint may have none."""
        return bool(self.base)

    def takes(self, query: str) -> bool:
        """Whether a query is short enough."""
        return len(query) <= self.longest and len(query.split()) <= self.words


def _searxng(query: str, tool: SearchTool, _: int) -> tuple[str, bytes]:
    return FORM, urlencode({"q": with_operators("searxng", query, tool), "format": "json"}).encode()


def _brave(query: str, tool: SearchTool, most: int) -> tuple[str, bytes]:
    return JSON_TYPE, _json({"q": with_operators("brave", query, tool), "count": most, "text_decorations": False})


def _tavily(query: str, tool: SearchTool, most: int) -> tuple[str, bytes]:
    made: dict[str, Any] = {"query": query, "max_results": most}
    made |= {"include_domains": [*tool.allowed]} if tool.allowed else {}
    made |= {"exclude_domains": [*tool.blocked]} if tool.blocked else {}
    return JSON_TYPE, _json(made)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


FORMATS: Mapping[str, Format] = {
    "searxng": Format("/search", _searxng, ("results",), "content", "publishedDate", longest=LONGEST_OWN, words=LONGEST_OWN),
    "brave": Format(
        "/res/v1/web/search", _brave, ("web", "results"), "description", "page_age", "https://api.search.brave.com",
        words=50, key=lambda key: ("x-subscription-token", key),
    ),
    "tavily": Format("/search", _tavily, ("results",), "content", "published_date", "https://api.tavily.com"),
}  # fmt: skip


def address(provider: str, base: str | None) -> str:
    """Return the URL for searches. The base may already contain the path."""
    known = FORMATS[provider]
    found = (base or known.base).rstrip("/")
    return found if found.endswith(known.path) else f"{found}{known.path}"


def request(provider: str, key: str, query: str, tool: SearchTool, most: int) -> tuple[Headers, bytes]:
    """Return the headers and the body of a search."""
    known = FORMATS[provider]
    kind, body = known.body(query, tool, most)
    headers = [("accept", JSON_TYPE), ("content-type", kind)]
    return [*headers, known.key(key)] if key else headers, body


def pages(provider: str, response: Mapping[str, Any], tool: SearchTool, most: int) -> list[Page] | None:
    """Return the pages that were found and are allowed; None if the response is not a search result.

    Titles, URLs and excerpts are untrusted: control characters are removed, long texts are cut, and a page without a valid web
    URL is left out.
    """
    known = FORMATS[provider]
    found: Any = response
    for name in known.results:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None and known.results[0] != "results" and "query" in response:
        return []  # Brave leaves out a section without results
    if not isinstance(found, list):
        return None
    made = (_page(result, known) for result in found if isinstance(result, dict))
    return [page for page in made if page is not None and tool.allows(page.url)][:most]


def _page(result: Mapping[str, Any], known: Format) -> Page | None:
    url = result.get("url")
    if not isinstance(url, str) or not is_web(url):
        return None
    title = _line(result.get("title"), TITLE)
    return Page(title or url, url, _line(result.get(known.excerpt), EXCERPT), _line(result.get(known.age), AGE))


def is_web(url: str) -> bool:
    """Whether a URL is http or https, with a host and without user information."""
    if len(url) > ADDRESS or not url.isprintable() or {*' \\<>"'} & {*url}:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False


def _line(value: object, longest: int) -> str:
    """Return a text on one line, with printable characters only."""
    if not isinstance(value, str):
        return ""
    plain = html.unescape(value[: 4 * longest])
    line = " ".join("".join(one if one.isprintable() else " " for one in plain).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def with_operators(provider: str, query: str, tool: SearchTool) -> str:
    """Return a query with the tool's domains as search operators, as far as they fit."""
    allowed = [f"site:{domain}" for domain in tool.allowed]
    blocked = "".join(f" -site:{domain}" for domain in tool.blocked[:MAX_OPERATORS])
    only = f" ({' OR '.join(allowed)})" if len(allowed) > 1 else "".join(f" {one}" for one in allowed)
    made = f"{query}{only if len(allowed) <= MAX_OPERATORS else ''}{blocked}"
    return made if FORMATS[provider].takes(made) else query
