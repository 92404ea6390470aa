"""Adapts a request's fields to a provider: history, system prompt, tools and thinking. Plain values, no I/O.

Fields that the provider does not accept are removed, including everything that identifies a user. ``history.py`` adapts the
history. If LiteLLM makes the provider's request, ``schemas.py`` expands references in tools' schemas, within limits.

Inputs are not modified; what needs no change is returned as the same object.
"""

from collections.abc import Mapping
from typing import Any

from claude_proxy.anthropic.messages import THINKING_TYPES, Messages
from claude_proxy.providers import bounds, schemas, tool_changes
from claude_proxy.providers.blocks import blocks_of, results_of, text_block, with_cache_mark
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.compatibility import Dialect, Thinking
from claude_proxy.providers.fetching import NO_HOSTS, FetchHosts
from claude_proxy.providers.history import fitted_messages
from claude_proxy.providers.search_tool import NO_SEARCH, lacks_search

# The fields of the Messages API that are adapted. A request's other fields are the same for every provider.
FIELDS = frozenset(
    {
        "system", "messages", "tools", "tool_choice", "metadata", "thinking", "output_config", "context_management",
        "container", "mcp_servers",
    }
)  # fmt: skip
# Differs between conversations and versions; at the start of the prompt it would prevent hits in a provider's prompt cache.
BILLING = "x-anthropic-billing-header:"
SMALLEST_BUDGET = 1024
# The values of `display` that Claude accepts on every platform. Claude Code 2.1.332 also sends "updates", which needs a beta.
DISPLAYS = ("summarized", "omitted")
TOOL_FIELDS = ("name", "description", "input_schema", "type")


def translated(
    request: Mapping[str, Any], row: Dialect, *, relayed: bool = False, hosts: FetchHosts = NO_HOSTS
) -> dict[str, Any]:
    """Return the fields of a Messages request that the provider accepts, in the provider's form.

    ``relayed`` says that LiteLLM forwards the fields unchanged; ``hosts`` are the hosts from which it may fetch otherwise.
    Raises ``TooLarge`` for a request that exceeds a limit.
    """
    bounds.check(request)
    messages = request.get("messages")
    history = fitted_messages(messages, row, relayed=relayed, hosts=hosts) if isinstance(messages, list) else messages
    made: dict[str, Any] = {"messages": history}
    system = fitted_system(request.get("system"), row)
    if lacks_search(request.get("tools"), row):
        system = (
            [*system, text_block(NO_SEARCH)] if isinstance(system, list) else "\n\n".join(filter(None, (system, NO_SEARCH)))
        )
    if system:
        made["system"] = system
    searches = any(kind.startswith(tool_changes.SERVER_SEARCH) for kind in row.server_tools)
    offered = tool_changes.offered_tools(request.get("tools"), messages, searches=searches)
    if offered is not request.get("tools"):
        bounds.check({"tools": offered})  # turns may define more tools
    tools = fitted_tools(offered, row, relayed=relayed)
    if tools:
        made["tools"] = tools
        choice = request.get("tool_choice")
        if isinstance(choice, dict) and (choice.get("type") != "tool" or choice.get("name") in _names(tools)):
            made["tool_choice"] = choice
    bounds.check(made)  # again, because joined turns may exceed a limit
    made |= thinking_parameters(request, history, row)
    if not relayed and row.json_schema and (wanted := _format(request)):
        made["output_config"] = made.get("output_config", {}) | {"format": wanted}
    return made


def _format(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the response format that the client requests; None without one."""
    config = request.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    return wanted if isinstance(wanted, dict) and isinstance(wanted.get("schema"), dict) else None


def fitted_system(system: object, row: Dialect) -> Any:
    """Return the system prompt without Anthropic's billing line; None or empty if nothing is left."""
    if isinstance(system, str):
        return "" if system.startswith(BILLING) and "\n" not in system else system
    if not isinstance(system, list):
        return None
    made = [
        with_cache_mark(text_block(block["text"]), block, row)
        for block in system
        if isinstance(block, dict) and isinstance(block.get("text"), str) and block["text"].strip()
        if not block["text"].startswith(BILLING)
    ]
    return system if made == system else made


def fitted_tools(tools: object, row: Dialect, *, relayed: bool = False) -> list[dict[str, Any]]:
    """Return the tools that the provider accepts: the client's own, and server tools that it runs itself.

    Raises ``TooLarge`` for a schema that becomes too large when it is expanded.
    """
    if not isinstance(tools, list):
        return []
    budget = None if relayed or row.references else schemas.Budget()
    made = [fitted for tool in tools if isinstance(tool, dict) and (fitted := _fitted_tool(tool, row, budget)) is not None]
    return tools if made == tools else made


def _fitted_tool(tool: dict[str, Any], row: Dialect, budget: schemas.Budget | None) -> dict[str, Any] | None:
    kind = tool.get("type") or "custom"
    if kind in row.server_tools:
        return {name: value for name, value in tool.items() if name not in ("cache_control", "defer_loading")}
    if kind != "custom" or "name" not in tool:
        return None
    made = {name: tool[name] for name in TOOL_FIELDS if name in tool}
    if budget is not None and isinstance(tool.get("input_schema"), dict):
        try:
            made["input_schema"] = schemas.expanded(tool["input_schema"], budget)
        except TooLarge as error:
            raise TooLarge(f"tools: {str(tool['name'])[:100]}: {error}") from None
    return with_cache_mark(made, tool, row)


def _names(tools: list[dict[str, Any]]) -> list[Any]:
    return [tool.get("name") for tool in tools]


def thinking_parameters(request: Mapping[str, Any], history: object, row: Dialect) -> dict[str, Any]:
    """Return the thinking and effort parameters that fit the provider and the adapted history."""
    wanted = request.get("thinking")
    wanted = wanted if isinstance(wanted, dict) else None
    made: dict[str, Any] = {}
    match row.thinking:
        case Thinking.NONE:
            return made
        case Thinking.OWN_OR_OFF if not all(map(_thought, _calling(history))):
            return {"thinking": {"type": "disabled"}}
        case Thinking.CLAUDE if not all(map(_thought, _calling(_loop(history)))):
            return made  # inside a tool loop without thinking blocks, Claude responds 400 to enabled thinking
    if wanted is not None:
        shown = _shown(wanted, row)
        made["thinking"] = shown if row.thinking is Thinking.CLAUDE else _with_budget(shown, request.get("max_tokens"))
    config = request.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    if row.effort and isinstance(effort := tool_changes.last_effort(request.get("messages"), effort), str):
        made["output_config"] = {"effort": effort}
    return made


def _shown(wanted: dict[str, Any], row: Dialect) -> dict[str, Any]:
    """Return the parameter without a ``display`` value that the provider does not accept."""
    known = DISPLAYS if row.thinking is Thinking.CLAUDE else ()
    return wanted if wanted.get("display") in (None, *known) else {name: wanted[name] for name in wanted if name != "display"}


def _with_budget(wanted: dict[str, Any], max_tokens: object) -> dict[str, Any]:
    """Return ``adaptive``, which only Claude has, as ``enabled`` with Claude Code's budget: all tokens but one."""
    if wanted.get("type") != "adaptive" or not isinstance(max_tokens, int) or max_tokens <= SMALLEST_BUDGET:
        return wanted
    return {"type": "enabled", "budget_tokens": max_tokens - 1}


def _calling(history: object) -> list[dict[str, Any]]:
    """Return the assistant's turns that call tools."""
    turns = history if isinstance(history, list) else []
    return [turn for turn in turns if turn["role"] == "assistant" and any(b["type"] == "tool_use" for b in blocks_of(turn))]


def _loop(history: object) -> Messages:
    """Return the turns since the user's last message, which are the current tool loop."""
    turns = history if isinstance(history, list) else []
    begin = max(
        (place for place, turn in enumerate(turns) if turn["role"] == "user" and not results_of(blocks_of(turn))), default=0
    )
    return turns[begin:]


def _thought(turn: Mapping[str, Any]) -> bool:
    return any(block["type"] in THINKING_TYPES for block in blocks_of(turn))
