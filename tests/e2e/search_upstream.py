"""Search endpoints on loopback, in the documented formats of SearXNG, Brave and Tavily: what each is asked and answers."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import upstream as up

KEY = "made-up-search-key-0123"
PATHS = {"searxng": "/search", "brave": "/res/v1/web/search", "tavily": "/search"}
FIELDS = {
    "searxng": ("content", "publishedDate"),
    "brave": ("description", "page_age"),
    "tavily": ("content", "published_date"),
}
PEARS = {"title": "All about pears", "url": "https://pears.example/ripe", "text": "They ripen in autumn.", "age": "2026-10-01"}


def config(provider: str, base: str) -> str:
    """The section of config.yaml that names an endpoint."""
    return (
        f'\nclaude_proxy:\n  web_search:\n    provider: {provider}\n    api_base: "{base}"\n'
        "    api_key: os.environ/MADE_UP_SEARCH_KEY\n    max_results: 3\n"
    )


def query(provider: str, seen: up.Seen) -> str:
    """What was searched for; raises for a request that the endpoint would refuse."""
    assert (seen.method, seen.path) == ("POST", PATHS[provider])
    if provider == "searxng":
        assert seen.header("content-type") == "application/x-www-form-urlencoded"
        form = parse_qs(seen.body.decode())
        assert form["format"] == ["json"]
        return form["q"][0]
    assert seen.header("content-type") == "application/json"
    assert seen.json.get("count", seen.json.get("max_results")) == 3
    return str(seen.json["q" if provider == "brave" else "query"])


def key(provider: str, seen: up.Seen) -> str | None:
    """The key, from where the endpoint reads it."""
    return (
        seen.header("x-subscription-token")
        if provider == "brave"
        else (seen.header("authorization") or "").removeprefix("Bearer ")
    )


def results(provider: str, *found: dict[str, Any]) -> up.Reply:
    """An answer with pages of ``title``, ``url``, ``text`` and ``age``."""
    text, age = FIELDS[provider]
    pages = [{"title": one["title"], "url": one["url"], text: one.get("text"), age: one.get("age")} for one in found]
    body = {"query": {"original": "q"}, "web": {"results": pages}} if provider == "brave" else {"query": "q", "results": pages}
    return up.Reply(headers={"content-type": "application/json"}, body=json.dumps(body).encode())


def results_read(seen: up.Seen) -> list[str]:
    """The results of tools that a model has in its conversation, in either format."""
    turns = seen.json["messages"]
    read = [str(turn["content"]) for turn in turns if turn["role"] == "tool"]
    blocks = [block for turn in turns if isinstance(turn["content"], list) for block in turn["content"]]
    return read + [str(block["content"]) for block in blocks if block["type"] == "tool_result"]


def tools_offered(seen: up.Seen) -> set[str]:
    """The names of the tools that a model may call, in either format."""
    return {tool.get("name") or tool["function"]["name"] for tool in seen.json.get("tools", ())}


def model(*queries: Any, beside: tuple[dict[str, Any], ...] = ()) -> Callable[[up.Seen], list[dict[str, Any]]]:
    """A model that searches for each of these, one after the other, and then says what it has read."""

    def answer(seen: up.Seen) -> list[dict[str, Any]]:
        read = results_read(seen)
        if len(read) < len(queries) and "web_search" in tools_offered(seen):
            return [up.text("looking"), up.tool("web_search", {"query": queries[len(read)]}), *beside]
        return [up.text(f"read: {read}" if read else "nothing read")]

    return answer
