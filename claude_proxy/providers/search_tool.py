"""Anthropic's web search tool, for a model whose provider has no such tool. Plain values, no I/O.

With a search endpoint in ``config.yaml`` the model gets a tool of the same name, and the proxy makes the searches. Without an
endpoint the system prompt says that there is no search.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from claude_proxy.anthropic.search_blocks import NAME
from claude_proxy.providers.compatibility import Dialect

KIND = re.compile(r"web_search_\d{8}")
NO_SEARCH = (
    "There is no web search in this conversation: the tool web_search is not available to you. If a search is requested, say "
    "that you cannot search the web."
)
# The maximum number of searches for one response: the default, and the largest value that a client may set.
DEFAULT_USES = 8
MOST_USES = 20
MAX_DOMAINS = 100
INPUT_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for."}},
    "required": ["query"],
}
DESCRIPTION = "Searches the web. The result is a list of pages: the title, the address and an excerpt of each."


@dataclass(frozen=True)
class SearchTool:
    """The search tool of one request: how many searches, and on which domains."""

    uses: int = DEFAULT_USES
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def allows(self, url: str) -> bool:
        """Whether a page may be in the results. A domain includes its subdomains; a path includes all paths below it."""
        parts = urlsplit(url)
        host, path = (parts.hostname or "").lower(), parts.path or "/"
        if any(_covers(domain, host, path) for domain in self.blocked):
            return False
        return not self.allowed or any(_covers(domain, host, path) for domain in self.allowed)


def is_search(tool: object, row: Dialect) -> bool:
    """Whether a tool is a web search that the provider does not run itself."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and KIND.fullmatch(kind) is not None and kind not in row.server_tools


def lacks_search(tools: object, row: Dialect) -> bool:
    """Whether a request has a web search tool that the provider does not run."""
    return isinstance(tools, list) and any(is_search(tool, row) for tool in tools)


def with_search_tool(fields: Mapping[str, Any], row: Dialect) -> tuple[dict[str, Any], SearchTool] | None:
    """Return a request with the proxy's search tool instead of Anthropic's, and the tool's settings.

    None if the request has no search tool, or if the client has its own tool with that name.
    """
    tools = fields.get("tools")
    if not isinstance(tools, list) or not lacks_search(tools, row):
        return None
    others = [tool for tool in tools if not is_search(tool, row)]
    if any(isinstance(tool, dict) and tool.get("name") == NAME for tool in others):
        return None
    wanted = next(tool for tool in tools if is_search(tool, row))
    uses = wanted.get("max_uses")
    known = isinstance(uses, int) and not isinstance(uses, bool) and uses > 0
    found = SearchTool(
        min(uses, MOST_USES) if known else DEFAULT_USES,
        _domains(wanted.get("allowed_domains")),
        _domains(wanted.get("blocked_domains")),
    )
    tool = {"name": NAME, "description": _description(found), "input_schema": INPUT_SCHEMA}
    return {**fields, "tools": [*others, tool]}, found


def with_search_turns(fields: dict[str, Any], turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the request with the turns of its searches; a forced tool choice becomes ``auto``, since the call is made."""
    if not turns:
        return fields
    messages = fields.get("messages")
    made = {**fields, "messages": [*(messages if isinstance(messages, list) else ()), *turns]}
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        made["tool_choice"] = {name: value for name, value in choice.items() if name != "name"} | {"type": "auto"}
    return made


def _description(tool: SearchTool) -> str:
    text = DESCRIPTION
    if tool.allowed:
        text += f" Only pages of these domains are found: {', '.join(tool.allowed)}."
    if tool.blocked:
        text += f" Pages of these domains are not found: {', '.join(tool.blocked)}."
    return text


def _domains(value: object) -> tuple[str, ...]:
    given = value if isinstance(value, list) else []
    named = (entry.strip().lower() for entry in given if isinstance(entry, str) and entry.isprintable())
    return tuple(entry for entry in named if entry and not {*' \t"'} & {*entry})[:MAX_DOMAINS]


def _covers(domain: str, host: str, path: str) -> bool:
    named, _, inside = domain.partition("://")[2 if "://" in domain else 0].partition("/")
    return (host == named or host.endswith(f".{named}")) and path.lstrip("/").lower().startswith(inside)
