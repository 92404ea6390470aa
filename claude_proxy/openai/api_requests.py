"""Requests of clients with OpenAI's API: the fields that pass, and what is refused. Values in, values out, no I/O.

Four rules:
  1. Only fields of OpenAI's public API pass, by name. LiteLLM acts on many others, such as ``api_base`` and ``fallbacks``.
  2. Nothing that a provider has stored can be named, because it may belong to another user: responses, conversations, files.
  3. A URL in a request is fetched only if ``fetch_hosts`` in config.yaml allows it.
  4. A tool is one that the client runs itself, or a web search; a provider runs no other one with the operator's key.
"""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.messages import is_deeper_than, parsed_object
from claude_proxy.anthropic.request_view import MAX_DEPTH
from claude_proxy.providers.fetching import FetchHosts, is_safe
from claude_proxy.providers.model_names import is_name


class Format(NamedTuple):
    """One kind of request: its route, the field with the conversation, and the other fields that pass."""

    route: str
    content: str
    fields: frozenset[str]


class Api(Enum):
    """The formats of OpenAI's API that are served."""

    CHAT = Format(
        "/v1/chat/completions",
        "messages",
        frozenset(
            {
                "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
                "max_tokens", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
                "reasoning_effort", "response_format", "seed", "service_tier", "stop", "stream", "temperature", "tool_choice",
                "tools", "top_logprobs", "top_p", "verbosity", "web_search_options",
            }
        ),
    )  # fmt: skip
    RESPONSES = Format(
        "/v1/responses",
        "input",
        frozenset(
            {
                "include", "instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls", "prompt_cache_key",
                "reasoning", "service_tier", "stream", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
                "truncation",
            }
        ),
    )  # fmt: skip
    EMBEDDINGS = Format("/v1/embeddings", "input", frozenset({"dimensions", "encoding_format"}))


ROUTES = {api.value.route: api for api in Api}
# Fields with which a request refers to what is stored, and why they are refused.
STORED = {
    "previous_response_id": "this proxy stores no responses; send the whole conversation as input",
    "conversation": "this proxy stores no conversations; send the whole conversation as input",
    "background": "this proxy stores no responses, so none can be made in the background",
    "prompt": "prompts that are stored at a provider are not served",
}
# Tools that the client runs itself, and searches of the web; by the start of their type, because some have a date in it.
TOOLS = ("function", "custom", "local_shell", "apply_patch", "namespace", "tool_search", "web_search")
# Parts of a conversation that hold a URL, as a text or as an object with ``url``.
URLS = frozenset({"audio_url", "file_url", "image_url", "video_url"})
STORED_PARTS = frozenset({"container_id", "file_id", "vector_store_id", "vector_store_ids"})
# What an item of a conversation refers to; its own text is elsewhere.
ITEM_REFERENCE = "item_reference"
# How much of a content is searched for a URL in its place, in characters.
LONGEST_START = 200
# URLs that a provider of embeddings reads with the operator's account.
BUCKETS = ("gs://", "s3://")


def parsed(raw: bytes, api: Api) -> dict[str, Any]:
    """Parse a request; raise ``Refused`` if it is not a JSON object with a model and a conversation."""
    body = parsed_object(raw)
    if not isinstance(body.get("model"), str) or not is_name(body["model"]) or not body["model"]:
        raise Refused(400, "model: should be the name of a model.")
    content = api.value.content
    if not body.get(content) or not isinstance(body[content], list if api is Api.CHAT else (list, str)):
        raise Refused(400, f"{content}: should hold a list{'' if api is Api.CHAT else ' or a text'}, and should not be empty.")
    if is_deeper_than(body, MAX_DEPTH):
        raise Refused(400, f"The body has more than {MAX_DEPTH} nested lists and objects.")
    return body


def reduced(body: Mapping[str, Any], api: Api, hosts: FetchHosts) -> dict[str, Any]:
    """Return a request without fields that do not pass; raise ``Refused`` for one that needs what is not served."""
    for name, why in STORED.items():
        if api is Api.RESPONSES and body.get(name):
            raise Refused(400, f"{name}: {why}.")
    kinds = api.value
    kept = {name: value for name, value in body.items() if name in kinds.fields and value is not None}
    content = body[kinds.content]
    if api is Api.EMBEDDINGS:
        for text in [content] if isinstance(content, str) else content:
            if str(text)[:LONGEST_START].lstrip().lower().startswith(BUCKETS) and not hosts.allow(str(text)):
                raise Refused(400, f"{kinds.content}: should hold the content itself, and not its address.")
    else:
        for problem in _problems_of_tools(kept.get("tools")):
            raise Refused(400, problem)
        for problem in _problems_of_content(content, hosts):
            raise Refused(400, f"{kinds.content}: {problem}")
    if api is Api.CHAT and kept.get("stream") is True:
        kept["stream_options"] = {"include_usage": True}
    return {"model": body["model"], kinds.content: content, **kept}


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Whether the client of a streamed chat completion asks for its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def as_messages(body: Mapping[str, Any], api: Api) -> dict[str, Any]:
    """Return what a request asks as a Messages request, for estimates of its tokens alone."""
    texts = [text for value in (body.get("instructions"), body[api.value.content]) for text in _texts(value)]
    tools = body.get("tools")
    return {
        "model": body["model"],
        "messages": [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}],
        **({"tools": tools} if isinstance(tools, list) else {}),
    }


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a conversation, without roles, types, ids and contents of files."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            if one and isinstance(one[0], int):  # tokens
                yield "    " * len(one)
            else:
                waiting += reversed(one)
        elif isinstance(one, dict):
            calls = one.get("tool_calls")
            waiting += [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
            waiting += [one[name] for name in ("output", "arguments", "input", "content", "text") if name in one]


def _problems_of_tools(tools: Any) -> Iterator[str]:
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or not kind.startswith(TOOLS):
            yield f"tools: {str(kind)[:40]!r} is not served; the tools of this proxy are functions and web searches."
        else:
            yield from _problems_of_tools(tool.get("tools"))


def _problems_of_content(content: Any, hosts: FetchHosts) -> Iterator[str]:
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            yield from _problems_of_part(one, hosts)
            waiting += [value for value in one.values() if isinstance(value, list | dict)]


def _problems_of_part(part: Mapping[str, Any], hosts: FetchHosts) -> Iterator[str]:
    if part.get("type") == ITEM_REFERENCE:
        yield "this proxy stores no items; send the item itself."
    if any(part.get(name) for name in STORED_PARTS):
        yield "files and containers that are stored at a provider are not served; send the content itself."
    yield from _problems_of_tools(part.get("tools"))
    for name in URLS:
        value = part.get(name)
        address = value.get("url") if isinstance(value, dict) else value
        if address is not None and not _may_be_fetched(address, hosts):
            yield f"{name}: should be a data: URL, or a URL of a host in fetch_hosts of config.yaml."
    for name in ("data", "file_data"):
        if "://" in str(part.get(name) or "")[:LONGEST_START]:
            yield f"{name}: should hold the content itself."
    source = part.get("source")
    if isinstance(source, dict) and not is_safe(source, hosts, passes=False):
        yield "source: should hold the content itself, or a URL of a host in fetch_hosts of config.yaml."


def _may_be_fetched(address: Any, hosts: FetchHosts) -> bool:
    if not isinstance(address, str):
        return False
    # LiteLLM (1.106.2) looks for a URL anywhere in a data URL.
    return hosts.allow(address) or (address.startswith("data:") and "://" not in address)


def written(body: Mapping[str, Any]) -> bytes:
    """Return a request as JSON. An unpaired surrogate becomes a question mark, because LiteLLM (1.106.2) rejects it."""
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
