"""upstream/search_client.py: one search, its request and its result."""

import json
import logging

import aiohttp
import pytest
from lanes import Response, Upstream

from claude_proxy.anthropic.search_blocks import Page
from claude_proxy.config.web_search import WebSearch
from claude_proxy.providers.search_tool import SearchTool
from claude_proxy.secret import Secret
from claude_proxy.upstream import search_client
from claude_proxy.upstream.client import TimedOutError, UnreachableError
from claude_proxy.upstream.search_client import SearchClient

pytestmark = pytest.mark.anyio

BRAVE = WebSearch("brave", "https://search.invalid/res/v1/web/search", Secret("made-up-search-key"), 5)
QUERY = "a made-up question"
FOUND = Response(json={"query": {}, "web": {"results": [{"title": "One", "url": "https://one.invalid/", "description": "x"}]}})
LARGE = Response(200, chunks=[b" " * search_client.MAX_BYTES, b" {}"])


async def ask(response, query=QUERY, endpoint=BRAVE, tool=SearchTool()):  # noqa: B008 - it is frozen
    upstream = Upstream(response)
    return await SearchClient(upstream, lambda: endpoint).search(query, tool), upstream


async def test_a_search():
    """One request with the key returns the pages; the connection is released."""
    found, upstream = await ask(FOUND)
    (sent,) = upstream.sent
    assert found == [Page("One", "https://one.invalid/", "x")]
    assert (sent.url, sent.header("x-subscription-token"), sent.header("accept-encoding")) == (
        BRAVE.url, "made-up-search-key", "gzip, deflate",
    )  # fmt: skip
    assert json.loads(sent.body)["q"] == QUERY
    assert sent.header("user-agent").startswith("claude-proxy/")
    assert sent.response.was_closed


async def test_an_endpoint_that_repeats_its_key():
    """An endpoint that repeats its key does not reveal it to the model or the client."""
    page = {
        "title": "made-up-search-key",
        "url": "https://one.invalid/?k=made-up-search-key",
        "description": "a made-up-search-key",
    }
    ((title, url, excerpt, _),) = (await ask(Response(json={"web": {"results": [page]}})))[0]
    assert (title, url, excerpt) == ("***", "https://one.invalid/?k=***", "a ***")


async def test_domains_are_kept_to():
    """Pages of other domains are left out."""
    assert (await ask(FOUND, tool=SearchTool(1, ("two.invalid",))))[0] == []


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (Response(429, headers={"retry-after": "7"}), "too_many_requests", "HTTP 429"),
        (Response(403), "unavailable", "HTTP 403"),
        (Response(500, body=b"made-up-search-key"), "unavailable", "HTTP 500"),
        (Response(302, headers={"location": "https://evil.invalid/"}), "unavailable", "HTTP 302, which"),
        (Response(200, headers={"content-encoding": "br"}), "unavailable", "content encoding that the proxy did not request"),
        (Response(200, body=b"<html>"), "unavailable", "no list of results"),
        (Response(200, json=["x"]), "unavailable", "no list of results"),
        (Response(200, body=b"[" * 100_000), "unavailable", "no list of results"),
        (Response(200, json={"web": {"results": 7}}), "unavailable", "no list of results"),
        (LARGE, "unavailable", "more than 2 MB"),
        (Response(200, chunks=[b"{", aiohttp.ClientPayloadError("made-up-search-key")]), "unavailable", "no response"),
        (UnreachableError("ClientConnectorError"), "unavailable", "no response: ClientConnectorError"),
        (TimedOutError("TimeoutError"), "unavailable", "no response: TimeoutError"),
    ],
)  # fmt: skip
async def test_a_search_that_fails(response, code, words, caplog):
    """A failed search is an error code for model and client, and a log line with the host, without query and key."""
    caplog.set_level(logging.DEBUG)
    found, upstream = await ask(response)
    assert found == code
    (line,) = [record.getMessage() for record in caplog.records if record.name == search_client.__name__]
    assert line.startswith("the web search at search.invalid failed: ")
    assert words in line
    assert not any(word in caplog.text for word in ("made-up", "evil"))
    assert all(sent.response is None or sent.response.was_closed for sent in upstream.sent)


async def test_a_search_that_does_not_end(monkeypatch, caplog):
    """A search has a total time limit, even if data keeps arriving."""
    monkeypatch.setattr(search_client, "SEARCH_SECONDS", 0.0)
    found, _ = await ask(FOUND)
    assert found == "unavailable"
    assert "no response within" in caplog.text


@pytest.mark.parametrize("query", ["x" * 401, "x " * 51])
async def test_a_query_that_is_too_long(query):
    """A query that the endpoint would reject is not sent."""
    found, upstream = await ask(FOUND, query)
    assert (found, upstream.sent) == ("query_too_long", [])


async def test_an_endpoint_of_ones_own():
    """A self-hosted endpoint needs no key and accepts longer queries."""
    own = WebSearch("searxng", "http://searxng:8080/search")
    found, upstream = await ask(Response(json={"results": []}), "x" * 401, own)
    assert (found, upstream.sent[0].header("authorization")) == ([], None)


async def test_no_endpoint():
    """If ``config.yaml`` no longer has an endpoint, the search fails."""
    upstream = Upstream(FOUND)
    assert SearchClient(upstream, lambda: BRAVE).is_ready
    gone = SearchClient(upstream, lambda: None)
    assert (gone.is_ready, await gone.search(QUERY, SearchTool()), upstream.sent) == (False, "unavailable", [])
