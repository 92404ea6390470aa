"""What each provider understands of what Claude Code sends, and a request made to fit. Plain values, no I/O.

Claude at Anthropic is not in here: it gets what the client sent. Everybody else has a row in ``ROWS``; who has none is
``STRICT``. What is done for a request, in this order:

  1. a system turn inside the history becomes a reminder of the user's, results come before other words, neighbours of one
     role become one turn, and empty ones go;
  2. thinking stays only where it is the provider's own (see ``Thinking``);
  3. blocks of tools that Anthropic runs become text, in pairs; what is unknown goes;
  4. every call has one result in the next turn, and every result has its call; ids stay 1:1;
  5. fields of blocks, tools and the request that the provider does not know go, among them everything that names a person;
  6. where LiteLLM makes the provider's request, addresses that it would fetch become a sentence (``fetching.py``), and
     references in tools' schemas are replaced within bounds (``schemas.py``).

Nothing is modified in place; where there is nothing to change, the very same object comes back.
"""

import base64
import binascii
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from operator import itemgetter
from typing import Any

from claude_proxy.anthropic.messages import ID_PREFIX, THINKING_TYPES, Messages, mark, original_mark, short_id
from claude_proxy.providers import bounds, fetching, schemas
from claude_proxy.providers.bounds import TooLarge
from claude_proxy.providers.endpoints import Origin
from claude_proxy.providers.fetching import NO_HOSTS, FetchHosts

Block = dict[str, Any]

# The fields of the Messages API that are made to fit. A request's other fields are the same everywhere.
FIELDS = frozenset(
    {
        "system", "messages", "tools", "tool_choice", "metadata", "thinking", "output_config", "context_management",
        "container", "mcp_servers",
    }
)  # fmt: skip


class Thinking(Enum):
    """Whose thinking a provider is sent."""

    NONE = "nobody's: neither blocks nor parameters"
    OWN = "its own comes back to it, because it works better with it"
    OWN_OR_OFF = "its own; when a turn with calls has none, thinking is switched off, for it answers 400 otherwise"
    CLAUDE = "Claude's, which is signed: the provider runs Claude, and a signature holds on every platform"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A row of the table. The defaults are the strictest: what a provider is not known to understand is not sent."""

    name: str
    # LiteLLM's provider, the part of a model before the first "/"; of several rows with one prefix the first that fits.
    prefix: str = ""
    # Hosts of an Anthropic-format endpoint, which is LiteLLM's prefix "anthropic" with an api_base.
    hosts: tuple[str, ...] = ()
    # Whose model it has to be on a cloud that has several, by the parts of the model's id.
    vendor: str = ""
    # Marks of the plain form, {"type": "ephemeral"}, stay; `ttl` and `scope` never do.
    cache_control: bool = False
    thinking: Thinking = Thinking.NONE
    effort: bool = False
    # Values of `anthropic-beta` that may go, in the place where the provider reads them.
    betas: frozenset[str] = frozenset()
    # Types of server tools that the provider runs itself.
    server_tools: tuple[str, ...] = ()
    images: bool = True
    # The format has a key for its prompt cache, and gets a digest of the session in it.
    prompt_cache_key: bool = False
    # The provider signs its calls, and wants the signature back; it travels in the call's id.
    signs_calls: bool = False
    # The provider fetches an image's address itself, and LiteLLM passes it on as it is.
    addresses: bool = False
    # LiteLLM passes the references in a tool's schema on as they are.
    references: bool = False


STRICT = Dialect("unknown")

# One row a provider, the more specific one first. A row needs a source: what the provider documents or answers.
ROWS = (
    # Prompt caching and thinking are documented for both; a beta goes into the body. Server tools run at Anthropic only,
    # except the web search on Vertex. AWS refuses `context_management`, `scope` and betas that it does not know with 400.
    Dialect(
        "bedrock", prefix="bedrock", vendor="anthropic", cache_control=True, thinking=Thinking.CLAUDE, effort=True,
        references=True,
        betas=frozenset({"context-1m-2025-08-07", "effort-2025-11-24", "interleaved-thinking-2025-05-14"}),
    ),
    Dialect(
        "vertex", prefix="vertex_ai", vendor="claude", cache_control=True, thinking=Thinking.CLAUDE, effort=True,
        references=True,
        betas=frozenset({"context-1m-2025-08-07", "interleaved-thinking-2025-05-14", "web-search-2025-03-05"}),
        server_tools=("web_search_20250305",),
    ),
    # Both take no `user` of more than 64 characters.
    Dialect("openai", prefix="openai", hosts=("api.openai.com",), prompt_cache_key=True, addresses=True, references=True),
    Dialect("azure", prefix="azure", prompt_cache_key=True, addresses=True, references=True),
    Dialect("openai-compatible", prefix="openai", addresses=True, references=True),
    # Works better with its thought signatures; where one is missing, LiteLLM puts a word there that makes up for it.
    Dialect("gemini", prefix="gemini", signs_calls=True),
    Dialect("gemini-on-vertex", prefix="vertex_ai", signs_calls=True),
    # The chat-completions endpoint and the Anthropic-format one understand cache marks.
    Dialect("openrouter-chat", prefix="openrouter", cache_control=True, addresses=True, references=True),
    Dialect("openrouter", hosts=("openrouter.ai",), cache_control=True),
    # Answers 400 to a `metadata.user_id` of more than 128 characters.
    Dialect("zai", hosts=("api.z.ai", "open.bigmodel.cn"), cache_control=True),
    # 400 "thinking is enabled but reasoning_content is missing in assistant tool call message at index 7".
    Dialect(
        "kimi", hosts=("api.kimi.com", "api.moonshot.ai", "api.moonshot.cn"), cache_control=True,
        thinking=Thinking.OWN_OR_OFF,
    ),
    # 400 "The `content[].thinking` in the thinking mode must be passed back to the API"; thinks unless it is told not to.
    # Its compatibility page lists images, documents and server tools as not supported.
    Dialect("deepseek", hosts=("api.deepseek.com",), thinking=Thinking.OWN_OR_OFF, images=False),
    # Wants the whole content of its answers back, thinking included, and says so; without it, it answers all the same.
    Dialect("minimax", hosts=("api.minimax.io", "api.minimaxi.com"), cache_control=True, thinking=Thinking.OWN),
)  # fmt: skip


def dialect(model: str, custom_llm_provider: str | None, api_base: str | None) -> Dialect:
    """Return the row of a deployment, told by LiteLLM's provider, the parsed host and, for clouds, the model's vendor."""
    prefix = custom_llm_provider or model.split("/", 1)[0]
    origin = Origin.of(api_base) if api_base else None
    host = origin.host if origin else ""
    for row in ROWS:
        if row.prefix and row.prefix != prefix:
            continue
        if row.hosts and host not in row.hosts and not (row.prefix and api_base is None):
            continue
        if (row.prefix or prefix == "anthropic") and (not row.vendor or _is_of(row.vendor, model)):
            return row
    return STRICT


def _is_of(vendor: str, model: str) -> bool:
    """Whether a cloud's model id names this vendor: ``us.anthropic.claude-x``, ``claude-x@date``; an ARN does not say."""
    last = model.rsplit("/", 1)[-1]
    return vendor in last.split(".") or last.split("-", 1)[0] == vendor


def allowed_betas(header: str | None, row: Dialect) -> list[str]:
    """Return the values of an ``anthropic-beta`` header that the provider may be sent, each once, in their order."""
    values = [value.strip() for value in (header or "").split(",")]
    return [value for value in dict.fromkeys(values) if value in row.betas]


def translated(
    request: Mapping[str, Any], row: Dialect, *, relayed: bool = False, hosts: FetchHosts = NO_HOSTS
) -> dict[str, Any]:
    """Return the fields of a Messages request as the provider understands them; those that it does not know are not there.

    ``relayed`` says that LiteLLM sends on what it gets, ``hosts`` what it may fetch where it does not. Raises ``TooLarge``
    for a request that is over a bound.
    """
    bounds.check(request)
    messages = request.get("messages")
    history = fitted_messages(messages, row, relayed=relayed, hosts=hosts) if isinstance(messages, list) else messages
    made: dict[str, Any] = {"messages": history}
    system = fitted_system(request.get("system"), row)
    if system:
        made["system"] = system
    tools = fitted_tools(request.get("tools"), row, relayed=relayed)
    if tools:
        made["tools"] = tools
        choice = request.get("tool_choice")
        if isinstance(choice, dict) and (choice.get("type") != "tool" or choice.get("name") in _names(tools)):
            made["tool_choice"] = choice
    bounds.check(made)  # once more: turns of one role have become one
    return made | _thinking_parameters(request, history, row)


# --- the history -------------------------------------------------------------------------------------------------------------

NO_RESULT = "There is no result: the call was interrupted."
NO_BEGINNING = "(The beginning of this conversation is not here.)"
NO_IMAGE = "(An image or a document stood here. This model cannot see it.)"
NOT_FETCHED = "(An image or a document stood here. Its address is not fetched by this proxy.)"
# Fields of blocks that every provider understands; a block of another type is text, or it goes.
BLOCK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("type", "text"),
    "image": ("type", "source"),
    "document": ("type", "source", "title", "context"),
    "tool_use": ("type", "id", "name", "input"),
    "tool_result": ("type", "tool_use_id", "content", "is_error"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
ROLES = {"tool_use": "assistant", "tool_result": "user"}
EPHEMERAL = {"type": "ephemeral"}


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the blocks of one history are made to fit."""

    row: Dialect
    relayed: bool
    hosts: FetchHosts
    # The ids of the server tools' calls that have a result.
    pairs: frozenset[str]

    def has_source(self, block: Block) -> bool:
        """Whether an image or a document may go on with what it holds, which is not for LiteLLM to fetch."""
        passes = self.row.addresses and block.get("type") == "image"
        return self.relayed or fetching.is_safe(block.get("source"), self.hosts, passes=passes)


def fitted_messages(messages: Messages, row: Dialect, *, relayed: bool = False, hosts: FetchHosts = NO_HOSTS) -> Messages:
    """Return the history as the provider understands it; the same object when it was all right."""
    fit = _Fit(row, relayed, hosts, _server_pairs(messages))
    turns = [turn for message in messages if (turn := _fitted_turn(message, fit)) is not None]
    paired = _joined(_paired(_joined(turns)))
    if messages and (not paired or paired[0]["role"] == "assistant"):
        paired.insert(0, {"role": "user", "content": NO_BEGINNING})
    return messages if paired == messages else paired


def _fitted_turn(message: object, fit: _Fit) -> dict[str, Any] | None:
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
        return None
    role, content = message["role"], message.get("content")
    if role == "system":
        words = _plain_text(content)
        return {"role": "user", "content": [_text(f"<system-reminder>\n{words}\n</system-reminder>")]} if words else None
    if isinstance(content, str):
        return {"role": role, "content": content} if content.strip() else None
    if not isinstance(content, list):
        return None
    blocks = [made for block in content if isinstance(block, dict) for made in _fitted_block(block, role, fit)]
    return {"role": role, "content": blocks} if blocks else None


def _fitted_block(block: Block, role: str, fit: _Fit) -> Iterator[Block]:
    kind, row = str(block.get("type")), fit.row
    if kind in THINKING_TYPES:
        if role == "assistant" and (own := own_thinking(block, row)) is not None:
            yield own
    elif kind in ("image", "document") and not (row.images and fit.has_source(block)):
        yield _text(NOT_FETCHED if row.images and fetching.is_elsewhere(block.get("source")) else NO_IMAGE)
    elif kind in BLOCK_FIELDS:
        is_empty = kind == "text" and not str(block.get("text") or "").strip()
        if not is_empty and ROLES.get(kind, role) == role:
            yield _with_mark(_fitted_fields(block, kind, fit), block, row)
    elif words := _server_words(block, fit.pairs):
        # A line of its own: where the format has one string for a turn, LiteLLM puts texts together as they are.
        yield _with_mark(_text(f"{words}\n"), block, row)


def _fitted_fields(block: Block, kind: str, fit: _Fit) -> Block:
    made = {name: block[name] for name in BLOCK_FIELDS[kind] if name in block}
    row = fit.row
    if kind == "tool_use":
        made["id"] = fitted_id(str(block.get("id", "")), row)
        made["input"] = block["input"] if isinstance(block.get("input"), dict) else {}
        signature = original_id(str(block.get("id", ""))).partition(THOUGHT)[2] if row.signs_calls else ""
        if signature:
            made["provider_specific_fields"] = {"signature": signature}  # where LiteLLM 1.106.2 looks for it
    elif kind == "tool_result":
        made["tool_use_id"] = fitted_id(str(block.get("tool_use_id", "")), row)
        if isinstance(block.get("content"), list):
            made["content"] = [each for part in block["content"] for each in _fitted_part(part, fit)]
    return made


def _fitted_part(part: object, fit: _Fit) -> Iterator[Block]:
    """Yield a part of a result: text and images stay, a tool that was found becomes a sentence."""
    if not isinstance(part, dict):
        return
    match part.get("type"):
        case "tool_reference":
            yield _text(f"The tool {part.get('tool_name')} is loaded.")
        case "text" | "image" | "document":
            yield from _fitted_block(part, "user", fit)
        case _:
            if words := _plain_text([part]) or _public_json(part):
                yield _text(words)


def _with_mark(made: Block, block: Block, row: Dialect) -> Block:
    return made | {"cache_control": EPHEMERAL} if row.cache_control and block.get("cache_control") else made


def own_thinking(block: Block, row: Dialect) -> Block | None:
    """Return a block of thinking as the provider that made it knows it; None for one that it did not make."""
    field = "signature" if block.get("type") == "thinking" else "data"
    value = block.get(field)
    value = value if isinstance(value, str) else ""
    marked = original_mark(value)
    if row.thinking is Thinking.CLAUDE:
        return {name: block[name] for name in BLOCK_FIELDS[block["type"]] if name in block} if value and not marked else None
    if row.thinking is Thinking.NONE or marked is None or marked[0] != row.name:
        return None
    made = {name: block[name] for name in BLOCK_FIELDS[block["type"]] if name in block}
    return made | {field: marked[1]}


def _server_pairs(messages: Messages) -> frozenset[str]:
    """Return the ids of the server tools' calls that have a result."""
    blocks = [
        block
        for message in messages
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for block in message["content"]
        if isinstance(block, dict)
    ]
    calls = {str(block.get("id")) for block in blocks if str(block.get("type")) in SERVER_CALLS}
    results = {str(block.get("tool_use_id")) for block in blocks if _is_server_result(block)}
    return frozenset(calls & results)


SERVER_CALLS = ("server_tool_use", "mcp_tool_use")


def _is_server_result(block: Block) -> bool:
    kind = str(block.get("type"))
    return kind.endswith("_tool_result") and kind != "tool_result"


def _server_words(block: Block, pairs: frozenset[str]) -> str:
    """Return what a block of a tool that ran at Anthropic said, in words; nothing for half a pair and unknown blocks."""
    if str(block.get("type")) in SERVER_CALLS and str(block.get("id")) in pairs:
        return f"[{block.get('name')}: {json.dumps(block.get('input'), ensure_ascii=False)}]"
    if not _is_server_result(block) or str(block.get("tool_use_id")) not in pairs:
        return ""
    content = block.get("content")
    parts = content if isinstance(content, list) else [content]
    lines = [_found(part) for part in parts if isinstance(part, dict)]
    return "\n".join(line for line in lines if line) or "(no result)"


def _found(part: Block) -> str:
    if part.get("url"):
        return f"- {part.get('title') or part['url']}: {part['url']}"
    return _plain_text([part]) or _public_json(part)


def _public_json(part: Block) -> str:
    """Return a part as JSON, without what only Anthropic can read."""
    known = {name: value for name, value in part.items() if not name.startswith("encrypted") and name != "cache_control"}
    return json.dumps(known, ensure_ascii=False)


def _plain_text(content: object) -> str:
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, dict) and part.get("text")).strip()


def _text(words: str) -> Block:
    return {"type": "text", "text": words}


def _joined(turns: Iterable[dict[str, Any]]) -> Messages:
    """Join neighbours of one role; in a user's turn the results come first, as every endpoint wants them."""
    runs = (list(run) for _, run in groupby(turns, key=itemgetter("role")))
    joined = (run[0] if len(run) == 1 else {"role": run[0]["role"], "content": [*_all_blocks(run)]} for run in runs)
    return [_results_first(turn) for turn in joined]


def _all_blocks(turns: Iterable[dict[str, Any]]) -> Iterator[Block]:
    for turn in turns:
        yield from _blocks(turn)


def _results_first(turn: dict[str, Any]) -> dict[str, Any]:
    if turn["role"] != "user" or isinstance(turn["content"], str):
        return turn
    return {"role": "user", "content": sorted(turn["content"], key=lambda block: block["type"] != "tool_result")}


def _blocks(turn: Mapping[str, Any]) -> list[Block]:
    content = turn["content"]
    return [_text(content)] if isinstance(content, str) else content


def _results(blocks: list[Block]) -> list[Block]:
    return [block for block in blocks if block["type"] == "tool_result"]


def _paired(turns: Messages) -> Messages:
    """Give every call one result in the next turn, and take out results without a call."""
    paired: Messages = []
    calls: dict[str, None] = {}
    for turn in turns:
        if turn["role"] == "user" or calls:
            answers = turn if turn["role"] == "user" else {"role": "user", "content": []}
            if blocks := _answered(_blocks(answers), calls):
                paired.append(answers if blocks == _blocks(answers) else {"role": "user", "content": blocks})
        calls = {}
        if turn["role"] == "assistant":
            blocks = [block for block in _blocks(turn) if block["type"] != "tool_use" or _first_of(block["id"], calls)]
            paired.append(turn if blocks == _blocks(turn) else turn | {"content": blocks})
    return [*paired, {"role": "user", "content": _answered([], calls)}] if calls else paired


def _answered(blocks: list[Block], calls: Iterable[str]) -> list[Block]:
    """Return a user's blocks with one result for each of the calls and none for others."""
    results = {block["tool_use_id"]: block for block in reversed(_results(blocks))}
    missing = [_no_result(call) for call in calls if call not in results]
    known = {id(results[call]) for call in calls if call in results}
    return missing + [block for block in blocks if block["type"] != "tool_result" or id(block) in known]


def _first_of(call: str, seen: dict[str, None]) -> bool:
    if call in seen:
        return False
    seen[call] = None
    return True


def _no_result(call: str) -> Block:
    return {"type": "tool_result", "tool_use_id": call, "content": NO_RESULT, "is_error": True}


# --- everything else ---------------------------------------------------------------------------------------------------------

# Changes with every conversation and every version; in front of the prompt it would cost others their prompt cache.
BILLING = "x-anthropic-billing-header:"
SMALLEST_BUDGET = 1024
TOOL_FIELDS = ("name", "description", "input_schema", "type")


def fitted_system(system: object, row: Dialect) -> Any:
    """Return the system prompt without Anthropic's billing line; None when nothing of it is left."""
    if isinstance(system, str):
        return "" if system.startswith(BILLING) and "\n" not in system else system
    if not isinstance(system, list):
        return None
    made = [
        _with_mark(_text(block["text"]), block, row)
        for block in system
        if isinstance(block, dict) and isinstance(block.get("text"), str) and block["text"].strip()
        if not block["text"].startswith(BILLING)
    ]
    return system if made == system else made


def fitted_tools(tools: object, row: Dialect, *, relayed: bool = False) -> list[dict[str, Any]]:
    """Return the tools that the provider can offer: the client's own, and server tools that it runs itself.

    Raises ``TooLarge`` for a schema that has to be expanded and becomes too large by that.
    """
    if not isinstance(tools, list):
        return []
    budget = None if relayed or row.references else schemas.Budget()
    made = [fitted for tool in tools if isinstance(tool, dict) and (fitted := _fitted_tool(tool, row, budget)) is not None]
    return tools if made == tools else made


def _fitted_tool(tool: dict[str, Any], row: Dialect, budget: schemas.Budget | None) -> dict[str, Any] | None:
    kind = tool.get("type") or "custom"
    if kind in row.server_tools:
        return {name: value for name, value in tool.items() if name != "cache_control"}
    if kind != "custom" or "name" not in tool:
        return None
    made = {name: tool[name] for name in TOOL_FIELDS if name in tool}
    if budget is not None and isinstance(tool.get("input_schema"), dict):
        try:
            made["input_schema"] = schemas.expanded(tool["input_schema"], budget)
        except TooLarge as error:
            raise TooLarge(f"tools: {str(tool['name'])[:100]}: {error}") from None
    return _with_mark(made, tool, row)


def _names(tools: list[dict[str, Any]]) -> list[Any]:
    return [tool.get("name") for tool in tools]


def _thinking_parameters(request: Mapping[str, Any], history: object, row: Dialect) -> dict[str, Any]:
    """Return the parameters about thinking and effort that fit the provider and the history that it gets."""
    asked = request.get("thinking")
    asked = asked if isinstance(asked, dict) else None
    made: dict[str, Any] = {}
    match row.thinking:
        case Thinking.NONE:
            return made
        case Thinking.OWN_OR_OFF if not all(map(_thought, _calling(history))):
            return {"thinking": {"type": "disabled"}}
        case Thinking.CLAUDE if not all(map(_thought, _calling(_loop(history)))):
            return made  # inside a tool loop Claude answers 400 to thinking that begins in its middle
    if asked is not None:
        made["thinking"] = asked if row.thinking is Thinking.CLAUDE else _with_budget(asked, request.get("max_tokens"))
    config = request.get("output_config")
    if row.effort and isinstance(config, dict) and isinstance(config.get("effort"), str):
        made["output_config"] = {"effort": config["effort"]}
    return made


def _with_budget(asked: dict[str, Any], max_tokens: object) -> dict[str, Any]:
    """Return ``adaptive``, which only Claude has, as ``enabled`` with the budget that Claude Code gives: all but one."""
    if asked.get("type") != "adaptive" or not isinstance(max_tokens, int) or max_tokens <= SMALLEST_BUDGET:
        return asked
    return {"type": "enabled", "budget_tokens": max_tokens - 1}


def _calling(history: object) -> list[dict[str, Any]]:
    """Return the assistant's turns that call tools."""
    turns = history if isinstance(history, list) else []
    return [turn for turn in turns if turn["role"] == "assistant" and any(b["type"] == "tool_use" for b in _blocks(turn))]


def _loop(history: object) -> Messages:
    """Return the turns since the user spoke last, which are the current tool loop."""
    turns = history if isinstance(history, list) else []
    begin = max(
        (place for place, turn in enumerate(turns) if turn["role"] == "user" and not _results(_blocks(turn))), default=0
    )
    return turns[begin:]


def _thought(turn: Mapping[str, Any]) -> bool:
    return any(block["type"] in THINKING_TYPES for block in _blocks(turn))


# --- ids ---------------------------------------------------------------------------------------------------------------------

# Claude takes no other ids than these, and Claude Code sends on what another provider made ("functions.Read:0").
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")
# Between a call's id and Gemini's thought signature, for which Claude Code has no other place.
THOUGHT = "__thought__"


def new_id() -> str:
    """Return an id for a call that came without one."""
    return f"toolu_{uuid.uuid4().hex}"


def safe_id(call: str) -> str:
    """Return an id of a call that every provider takes: the same one where it is plain, else the whole of it, spelled so."""
    if _PLAIN_ID.fullmatch(call) and not call.startswith(ID_PREFIX):
        return call
    return ID_PREFIX + base64.urlsafe_b64encode(call.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def original_id(call: str) -> str:
    """Return the id that ``safe_id`` spelled; any other one as it is."""
    if not call.startswith(ID_PREFIX):
        return call
    encoded = call.removeprefix(ID_PREFIX)
    try:
        found = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return call
    return found if safe_id(found) == call else call


def fitted_id(call: str, row: Dialect) -> str:
    """Return an id as the provider takes it: spelled plainly, whole where it fits, else a digest. Two stay two."""
    if row.signs_calls and call.startswith(ID_PREFIX):
        return original_id(call).partition(THOUGHT)[0]
    return short_id(call if _PLAIN_ID.fullmatch(call) else safe_id(call))


# --- what comes back ---------------------------------------------------------------------------------------------------------

STOP_REASONS = (
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
)  # fmt: skip
# With calls in the answer these say that it was cut or refused, so the calls are not to be run.
CUT_SHORT = ("max_tokens", "refusal", "model_context_window_exceeded")


def returned_block(block: Block, row: Dialect) -> Block | None:
    """Return a block of an answer as the client may have it; None for thinking that nobody could use again.

    The provider's own thinking is signed with its name, so that Claude Code keeps it for this model and drops it for
    others. A call without an id gets one, and one that not every provider takes is spelled so that it is.
    """
    kind = block.get("type")
    if kind in THINKING_TYPES:
        if row.thinking in (Thinking.NONE, Thinking.CLAUDE):
            return block if row.thinking is Thinking.CLAUDE else None
        field = "signature" if kind == "thinking" else "data"
        return block | {field: mark(row.name, str(block.get(field) or ""))}
    if kind == "tool_use":
        return _returned_call(block, row)
    return block


def _returned_call(block: Block, row: Dialect) -> Block:
    given = block.get("id")
    call = given if isinstance(given, str) and given else new_id()
    extra = block.get("provider_specific_fields")
    signature = extra.get("signature") if isinstance(extra, dict) else None
    if row.signs_calls and isinstance(signature, str):
        call = f"{call}{THOUGHT}{signature}"
    made = {name: value for name, value in block.items() if name != "provider_specific_fields"} | {"id": safe_id(call)}
    return block if made == block else made


def stop_reason(reason: object, *, calls: bool) -> str:
    """Return the reason as Anthropic names it: LiteLLM tells ``end_turn`` or nothing of some answers that call a tool."""
    known = reason if isinstance(reason, str) and reason in STOP_REASONS else "end_turn"
    if calls:
        return known if known in CUT_SHORT else "tool_use"
    return "end_turn" if known == "tool_use" else known


def returned_response(response: dict[str, Any], row: Dialect) -> dict[str, Any]:
    """Return a whole answer as the client may have it; the same object when there was nothing to change."""
    content = response.get("content")
    if not isinstance(content, list):
        return response
    blocks = [
        made for block in content if (made := returned_block(block, row) if isinstance(block, dict) else block) is not None
    ]
    calls = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
    made = response | {"content": blocks, "stop_reason": stop_reason(response.get("stop_reason"), calls=calls)}
    return response if made == response else made
