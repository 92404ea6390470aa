"""Sends a search to the search endpoint, and returns the pages or one of Anthropic's error codes."""

import asyncio
import logging
from collections.abc import Callable

from claude_proxy import __version__
from claude_proxy.anthropic.search_blocks import TOO_LONG, TOO_MANY_REQUESTS, UNAVAILABLE, Page
from claude_proxy.anthropic.sse import json_object
from claude_proxy.config.web_search import WebSearch
from claude_proxy.credentials.redaction import MARK
from claude_proxy.providers.search_formats import FORMATS, pages, request
from claude_proxy.providers.search_tool import SearchTool
from claude_proxy.upstream.client import UpstreamClient, UpstreamError
from claude_proxy.upstream.response_bounds import CODINGS

logger = logging.getLogger(__name__)

# The time limit of one search, in seconds, and the maximum size of its decoded response.
SEARCH_SECONDS = 20.0
MAX_BYTES = 2 * 1024 * 1024
LIMITED = 429


class SearchClient:
    """One per process. ``endpoint`` returns the current search endpoint of ``config.yaml``; None without one."""

    def __init__(self, client: UpstreamClient, endpoint: Callable[[], WebSearch | None]) -> None:
        self._client = client
        self._endpoint = endpoint

    @property
    def is_ready(self) -> bool:
        """Whether there is a search endpoint."""
        return self._endpoint() is not None

    async def search(self, query: str, tool: SearchTool) -> list[Page] | str:
        """Return the pages for a query, or an error code. Redirects are not followed, so only the endpoint gets its key.

        A failure is logged with the host and the reason, without query and key.
        """
        endpoint = self._endpoint()
        if endpoint is None:
            return UNAVAILABLE
        if not FORMATS[endpoint.provider].takes(query):
            return TOO_LONG
        try:
            async with asyncio.timeout(SEARCH_SECONDS):
                found = await _search(self._client, endpoint, query, tool)
        except TimeoutError:
            found = f"no response within {SEARCH_SECONDS:.0f} s"
        except UpstreamError as error:
            found = f"no response: {error}"
        if not isinstance(found, str):
            return found
        logger.warning("the web search at %s failed: %s", endpoint.host, found)
        return TOO_MANY_REQUESTS if found == f"HTTP {LIMITED}" else UNAVAILABLE


async def _search(client: UpstreamClient, endpoint: WebSearch, query: str, tool: SearchTool) -> list[Page] | str:
    """Return the pages, or the problem in words."""
    key = endpoint.api_key.reveal() if endpoint.api_key else ""
    headers, body = request(endpoint.provider, key, query, tool, endpoint.max_results)
    named = [*headers, ("user-agent", f"claude-proxy/{__version__}"), ("accept-encoding", CODINGS)]
    response = await client.send(endpoint.url, named, body, read_seconds=SEARCH_SECONDS)
    try:
        if response.status >= 400:
            return f"HTTP {response.status}"
        if reason := response.rejection_reason:
            return f"it {reason}"
        content = await response.read(cut_at=MAX_BYTES + 1)
    finally:
        response.close()
    if len(content) > MAX_BYTES:
        return f"its response has more than {MAX_BYTES >> 20} MB"
    if key:  # an endpoint that repeats the key must not reveal it
        content = content.replace(key.encode(), MARK.encode())
    found = pages(endpoint.provider, json_object(content) or {}, tool, endpoint.max_results)
    return "its response is no list of results" if found is None else found
