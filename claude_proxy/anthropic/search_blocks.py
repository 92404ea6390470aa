"""Content blocks for web searches that the proxy makes for another model, in Anthropic's shape and as text. No I/O.

The shape: https://docs.claude.com/en/docs/agents-and-tools/tool-use/web-search-tool. Their ids start with ``PREFIX``, which
distinguishes them from Anthropic's own searches. Claude gets them back as text.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PREFIX = "srvtoolu_cpx_"
NAME = "web_search"
# Prefix of a page's excerpt in ``encrypted_content``, where Anthropic's own results have text that only Anthropic can read.
EXCERPT = "cpx_"
# Anthropic's error codes.
INVALID, TOO_LONG, TOO_MANY_USES, TOO_MANY_REQUESTS, UNAVAILABLE = (
    "invalid_tool_input", "query_too_long", "max_uses_exceeded", "too_many_requests", "unavailable",
)  # fmt: skip
BLOCKS = ("server_tool_use", "web_search_tool_result")


class Page(NamedTuple):
    """A page that a search found; ``age`` is its date or age in the endpoint's words."""

    title: str
    url: str
    excerpt: str = ""
    age: str = ""


def new_id() -> str:
    """Return a new id for a search."""
    return f"{PREFIX}{uuid.uuid4().hex}"


def call_block(search: str) -> dict[str, Any]:
    """Return the block of a search, with an empty input."""
    return {"type": "server_tool_use", "id": search, "name": NAME, "input": {}}


def result_block(search: str, found: Iterable[Page] | str) -> dict[str, Any]:
    """Return the result block of a search; ``found`` is its pages or an error code."""
    content: Any = (
        {"type": "web_search_tool_result_error", "error_code": found} if isinstance(found, str) else [*map(_result, found)]
    )
    return {"type": "web_search_tool_result", "tool_use_id": search, "content": content}


def _result(page: Page) -> dict[str, Any]:
    return {
        "type": "web_search_result",
        "title": page.title,
        "url": page.url,
        "encrypted_content": EXCERPT + page.excerpt,
        "page_age": page.age or None,
    }


def excerpt_of(result: Mapping[str, Any]) -> str:
    """Return the excerpt in a result of the proxy's search; empty for any other result."""
    content = result.get("encrypted_content")
    return content.removeprefix(EXCERPT) if isinstance(content, str) and content.startswith(EXCERPT) else ""


def found_words(result: Mapping[str, Any]) -> str:
    """Return a search result as text; of Anthropic's own results only the readable fields."""
    title, url, age = (str(result.get(name) or "") for name in ("title", "url", "page_age"))
    return page_words(Page(title, url, excerpt_of(result), age))


def page_words(page: Page) -> str:
    """Return a page as text: title, address, age and excerpt."""
    line = f"- {page.title or page.url}: {page.url}{f' ({page.age})' if page.age else ''}"
    return f"{line}\n  {page.excerpt}" if page.excerpt else line


def is_own(block: Mapping[str, Any]) -> bool:
    """Whether a block belongs to a search that the proxy made."""
    if block.get("type") not in BLOCKS:
        return False
    search = block.get("id" if block["type"] == "server_tool_use" else "tool_use_id")
    return isinstance(search, str) and search.startswith(PREFIX)


def as_text(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block of the proxy's search as a text block, because Claude cannot read the proxy's excerpts."""
    if block["type"] == "server_tool_use":
        words = f"[{NAME}: {json.dumps(block.get('input'), ensure_ascii=False)}]"
    else:
        content = block.get("content")
        results = content if isinstance(content, list) else []
        lines = [found_words(result) for result in results if isinstance(result, dict)]
        code = content.get("error_code") if isinstance(content, dict) else None
        words = "\n".join(lines) or f"(no result{f': {code}' if isinstance(code, str) else ''})"
    return {"type": "text", "text": words}
