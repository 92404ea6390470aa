"""The tools and the effort at the end of a conversation, for a provider that gets both as fields of the request.

Anthropic lets a conversation change tools and effort in its turns, so that its start is unchanged and the prompt cache works
(Claude Code 2.1.332). Another provider gets the result of these changes:

  1. a tool with ``defer_loading`` is offered once the conversation has loaded it: a result or a search refers to it, a
     system turn adds it, or the model has called it. The placeholder that keeps the feature enabled is never offered;
  2. a tool that a system turn adds or defines is offered after the others, which keeps most of the provider's prompt cache;
  3. a tool that a system turn removes is not offered until it is added again;
  4. if the request has Anthropic's tool search and the provider does not run it, every deferred tool is offered, because the
     model could find none;
  5. the effort of a system turn applies from the next user turn with new content, or to the user turn directly before it.

Plain values, no I/O. Inputs are not modified; what needs no change is returned as the same object.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from claude_proxy.providers.blocks import Block

SERVER_SEARCH = "tool_search_tool_"
# Claude Code's own tool, which keeps tool search enabled while no tool is loaded. The model cannot call it.
PLACEHOLDER = "DeferredToolPlaceholder"


class _Change(NamedTuple):
    """A change that a turn makes to a tool. A removed tool is offered again only after an addition."""

    name: str
    is_removal: bool = False
    is_addition: bool = False
    definition: Block | None = None


def offered_tools(tools: object, messages: object, *, searches: bool = False) -> Any:
    """Return the tools that are offered at the end of the conversation.

    ``searches`` says that the provider itself runs Anthropic's tool search. Anything but a list of tools is returned unchanged.
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
    """Return the effort for the next response: the request's, or that of the last system turn that sets one."""
    waiting: object = None
    has_new_text = False
    for turn in _turns(messages):
        match turn.get("role"):
            case "system":
                config = turn.get("output_config")
                wanted = config.get("effort") if isinstance(config, dict) else None
                if isinstance(wanted, str):
                    effort, waiting = (wanted, None) if has_new_text else (effort, wanted)
                continue
            case "user":
                has_new_text = _has_new_text(turn)
            case _:
                has_new_text = False
        if has_new_text and waiting is not None:
            effort, waiting = waiting, None
    return effort


def _changes(messages: object) -> Iterator[_Change]:
    """Yield the changes that the turns make to tools, in order."""
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
    """Yield the change of a block. References to tools of an MCP server are ignored, because Anthropic runs those."""
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


def _has_new_text(turn: Mapping[str, Any]) -> bool:
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
