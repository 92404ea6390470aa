"""The tools and the effort that are in force at the end of a conversation, for a provider that is told once a request.

Anthropic lets a conversation change both on its way, so that its beginning stays the same and is found in the prompt cache
(Claude Code 2.1.332). A provider that does not know these changes gets their outcome:

  1. a tool with ``defer_loading`` is offered once the conversation has loaded it: a result or a search refers to it, a
     system turn adds it, or the model has called it; the placeholder that keeps the feature on never is;
  2. a tool that a system turn adds or defines is offered after the others, where it spoils the provider's cache least;
  3. a tool that a system turn removes is not offered, until it is added again;
  4. where the request has a search of Anthropic's, which the provider does not run, nothing could be found: every deferred
     tool is offered;
  5. an effort of a system turn applies from the next user turn that says something new, or to the one right before it.

Plain values, no I/O. Nothing is modified in place; where nothing changes, the very same object comes back.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from claude_proxy.providers.blocks import Block

SERVER_SEARCH = "tool_search_tool_"
# Claude Code's own, which keeps tool search switched on while nothing is loaded; it is no tool.
PLACEHOLDER = "DeferredToolPlaceholder"


class _Change(NamedTuple):
    """Something that a turn does to a tool. A tool that was removed is only offered again when it is added again."""

    name: str
    is_removal: bool = False
    is_addition: bool = False
    definition: Block | None = None


def offered_tools(tools: object, messages: object, *, searches: bool = False) -> Any:
    """Return the tools that are offered at the end of the conversation.

    ``searches`` says that the provider runs Anthropic's search by itself. What is no list of tools comes back as it is.
    """
    declared = tools if isinstance(tools, list) else []
    changes = [*_changes(messages)]
    if not changes and not any(map(_is_deferred, declared)):
        return tools
    found = {name: tool for tool in declared if (name := _name(tool)) is not None}
    open_search = not searches and any(_kind(tool).startswith(SERVER_SEARCH) for tool in declared)
    offered = {name: None for name, tool in found.items() if not _is_deferred(tool) or (open_search and name != PLACEHOLDER)}
    removed: set[str] = set()
    for change in changes:
        if change.is_removal:
            removed.add(change.name)
            offered.pop(change.name, None)
            continue
        if change.is_addition:
            removed.discard(change.name)
        if change.definition is not None:
            found[change.name] = change.definition
        if change.name in found and change.name not in removed:
            offered[change.name] = None
    kept = [tool for tool in declared if (name := _name(tool)) is None or (name in offered and found[name] is tool)]
    here = {id(tool) for tool in kept}
    made = [*kept, *(found[name] for name in offered if id(found[name]) not in here)]
    return tools if made == declared else made


def last_effort(messages: object, effort: object) -> object:
    """Return the effort that applies to the next response: the request's, or that of the last system turn that sets one."""
    waiting: object = None
    says = False
    for turn in _turns(messages):
        match turn.get("role"):
            case "system":
                config = turn.get("output_config")
                asked = config.get("effort") if isinstance(config, dict) else None
                if isinstance(asked, str):
                    effort, waiting = (asked, None) if says else (effort, asked)
                continue
            case "user":
                says = _says_something(turn)
            case _:
                says = False
        if says and waiting is not None:
            effort, waiting = waiting, None
    return effort


def _changes(messages: object) -> Iterator[_Change]:
    """Yield what the turns do to tools, in their order."""
    for turn in _turns(messages):
        role = turn.get("role")
        for block in _blocks(turn.get("content")):
            kind = block.get("type")
            if role == "system" and kind in ("tool_addition", "tool_removal"):
                yield from _change(block.get("tool"), is_removal=kind == "tool_removal")
            elif kind == "tool_result":
                yield from _references(block.get("content"))
            elif kind == "tool_search_tool_result":
                content = block.get("content")
                yield from _references(content.get("tool_references") if isinstance(content, dict) else None)
            elif kind == "tool_use" and isinstance(block.get("name"), str):
                yield _Change(block["name"])


def _change(tool: object, *, is_removal: bool) -> Iterator[_Change]:
    """Yield the change of a block; a reference to an MCP server's tool is about one that Anthropic runs."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or kind not in ("tool_reference", "tool_definition"):
        return
    definition = tool.get("definition") if kind == "tool_definition" else None
    if (name := _name(tool if kind == "tool_reference" else definition)) is not None:
        yield _Change(name, is_removal, not is_removal, None if is_removal else definition)


def _references(content: object) -> Iterator[_Change]:
    for part in _blocks(content):
        if part.get("type") == "tool_reference" and isinstance(part.get("tool_name"), str):
            yield _Change(part["tool_name"])


def _says_something(turn: Mapping[str, Any]) -> bool:
    content = turn.get("content")
    return isinstance(content, str) or any(block.get("type") != "tool_result" for block in _blocks(content))


def _turns(messages: object) -> Iterator[dict[str, Any]]:
    return (turn for turn in (messages if isinstance(messages, list) else ()) if isinstance(turn, dict))


def _blocks(content: object) -> Iterator[Block]:
    return (block for block in (content if isinstance(content, list) else ()) if isinstance(block, dict))


def _is_deferred(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("defer_loading") is True


def _name(tool: object) -> str | None:
    name = tool.get("name") if isinstance(tool, dict) else None
    return name if isinstance(name, str) else None


def _kind(tool: object) -> str:
    return str(tool.get("type") or "") if isinstance(tool, dict) else ""
