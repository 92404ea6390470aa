"""Token counts of a response in the Messages format."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from claude_proxy.anthropic.sse import (
    LONGEST_END,
    error_kind,
    event_object,
    first_event_end,
    last_event_end,
    whole_events,
)


class Usage(msgspec.Struct, frozen=True):
    """The token counts of a response, and what else decides its price, as its provider reported them."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    # The part of ``cache_write`` that is kept for an hour.
    cache_write_1h: int = 0
    web_searches: int = 0
    # Such as "standard", "priority" or "batch"; "fast"; and "us". Empty if the provider did not report them.
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    # The price that the provider itself reported, in micro-USD.
    cost: int | None = None
    # What the response used besides these counts, each with its model; the name is empty for the response's own model.
    further: "tuple[tuple[str, Usage], ...]" = ()

    def __add__(self, other: "Usage") -> "Usage":
        """Return the usage of both; how it is billed is that of the later one."""
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.cache_write_1h + other.cache_write_1h,
            self.web_searches + other.web_searches,
            other.service_tier or self.service_tier,
            other.speed or self.speed,
            other.region or self.region,
            other.cost if self.cost is None else self.cost + (other.cost or 0),
            self.further + other.further,
        )


# Parts of a response that its counts do not include, by their name in ``iterations``, and how many of them are read.
FURTHER = frozenset({"compaction", "advisor_message"})
MAX_FURTHER = 64
# A longer name of a tier, speed or region is no name; a higher price of one response is an error of its provider.
MAX_NAME = 40
MAX_USD = 1_000_000
MICRO_USD = 1_000_000
# Names of terms, and numbers inside of an object.
NAMES = ("service_tier", "speed", "inference_geo")
NO_COUNTS = frozenset({*NAMES, "cost", "iterations"})
PARTS = (("cache_creation", "ephemeral_1h_input_tokens"), ("server_tool_use", "web_search_requests"))
# A larger response is not parsed for its usage. The usage object itself is smaller than MAX_USAGE.
MAX_READ_RESPONSE = 4 * 1024 * 1024
MAX_USAGE = 64 * 1024


class _CacheWrites(msgspec.Struct):
    ephemeral_1h_input_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


class _ServerTools(msgspec.Struct):
    web_search_requests: Annotated[int, msgspec.Meta(ge=0)] = 0


_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


class _Counts(msgspec.Struct):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]
    output_tokens: Annotated[int, msgspec.Meta(ge=0)]
    cache_read_input_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    cache_creation_input_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    cache_creation: _CacheWrites | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: _Name | None = None
    speed: _Name | None = None
    inference_geo: _Name | None = None
    cost: Annotated[float, msgspec.Meta(ge=0, lt=MAX_USD)] | None = None
    iterations: Any = None


class _Message(msgspec.Struct):
    usage: _Counts


_COUNTS = msgspec.json.Decoder(_Message)
# A larger event is not searched for counts and errors.
MAX_READ_EVENT = 1024 * 1024


class StreamSummary:
    """Collects a passing stream's size, token counts and first error. Holds one event at most.

    ``feed`` every chunk, then ``finish`` once. The last value of a count applies. An event larger than ``MAX_READ_EVENT`` is
    not read; events with counts and errors are small.
    """

    def __init__(self) -> None:
        self.size = 0
        self.error = ""
        # Whether the counts of the whole response were reported, which the last event but one does.
        self.is_final = False
        self._counts: dict[str, Any] = {}
        self._held = b""
        self._skips = False

    @property
    def usage(self) -> Usage:
        return usage_from(self._counts)

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if not (self._held or self._skips or _may_matter(chunk)) and chunk.endswith(b"\n\n"):
            return  # whole events without a count
        held = self._held + chunk
        end = last_event_end(held)
        if end:
            begin = first_event_end(held) if self._skips else 0
            for raw in _relevant_events(held, begin, end):
                self._read(event_object(raw))
            self._skips = False
            held = held[end:]
        if len(held) > MAX_READ_EVENT:
            held = held[-LONGEST_END:]
            self._skips = True
        self._held = held

    def finish(self) -> None:
        """Read the last event, even if it was cut off."""
        if not self._skips and _may_matter(self._held):
            self._read(event_object(self._held))
        self._held = b""

    def _read(self, event: dict[str, Any] | None) -> None:
        if event is None:
            return
        counts = token_counts(event)
        self._counts |= counts
        self.is_final = self.is_final or ("output_tokens" in counts and event.get("type") == "message_delta")
        self.error = self.error or error_kind(event)


def _may_matter(stream: bytes) -> bool:
    """Whether the bytes may contain a count or an error."""
    return b'"usage"' in stream or b'"error"' in stream


def _relevant_events(stream: bytes, begin: int, end: int) -> Iterator[bytes]:
    """Yield the events between two event boundaries that may contain a count or an error."""
    if b"\r" in stream:
        yield from filter(_may_matter, whole_events(stream[begin:end]))
        return
    ends = {}
    for word in (b'"usage"', b'"error"'):
        after = begin
        while (place := stream.find(word, after, end)) >= 0:
            before = stream.rfind(b"\n\n", after, place)
            start = after if before < 0 else before + 2
            after = ends[start] = stream.find(b"\n\n", place, end) + 2
    for start in sorted(ends):
        yield stream[start : ends[start]]


def token_counts(event: object) -> dict[str, Any]:
    """Return the counts in ``usage`` of a message or of an event with a message, and with them what decides their price.

    All have the provider's names, those of ``cache_creation`` and ``server_tool_use`` too. Invalid values are left out.
    """
    counts: dict[str, Any] = {}
    for holder in (event, event.get("message")) if isinstance(event, dict) else ():
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            found = {name: value for name, value in usage.items() if _is_count(value) and name not in NO_COUNTS}
            counts |= found | (_terms(usage) if found else {})
    return counts


def _terms(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the price of tokens besides their number."""
    found: dict[str, Any] = {
        name: value for name in NAMES if isinstance(value := usage.get(name), str) and len(value) <= MAX_NAME
    }
    for part, name in PARTS:
        inner = usage.get(part)
        if isinstance(inner, dict) and _is_count(inner.get(name)):
            found[name] = inner[name]
    cost = usage.get("cost")
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 <= cost < MAX_USD:
        found["cost"] = cost
    if isinstance(usage.get("iterations"), list):
        found["iterations"] = usage["iterations"]
    return found


def usage_from(counts: Mapping[str, Any]) -> Usage:
    """Return the values of ``token_counts`` as a ``Usage``."""
    cost = counts.get("cost")
    return Usage(
        counts.get("input_tokens", 0),
        counts.get("output_tokens", 0),
        counts.get("cache_read_input_tokens", 0),
        counts.get("cache_creation_input_tokens", 0),
        counts.get("ephemeral_1h_input_tokens", 0),
        counts.get("web_search_requests", 0),
        counts.get("service_tier", ""),
        counts.get("speed", ""),
        counts.get("inference_geo", ""),
        None if cost is None else round(cost * MICRO_USD),
        _further(counts.get("iterations")),
    )


def _further(iterations: Any) -> tuple[tuple[str, Usage], ...]:
    """Return the usage of the parts of a response that its counts do not include."""
    found = []
    for one in iterations[:MAX_FURTHER] if isinstance(iterations, list) else ():
        if isinstance(one, dict) and one.get("type") in FURTHER:
            model = one.get("model")
            found.append((model if isinstance(model, str) else "", usage_from(token_counts({"usage": one}))))
    return tuple(found)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def usage_of(response: bytes) -> Usage:
    """Return the token counts of a response, whole or as events; the last value of a count applies."""
    if response.lstrip()[:1] != b"{":
        summary = StreamSummary()
        summary.feed(response)
        summary.finish()
        return summary.usage
    try:
        counts = _COUNTS.decode(response).usage
        return Usage(
            counts.input_tokens,
            counts.output_tokens,
            counts.cache_read_input_tokens,
            counts.cache_creation_input_tokens,
            counts.cache_creation.ephemeral_1h_input_tokens if counts.cache_creation else 0,
            counts.server_tool_use.web_search_requests if counts.server_tool_use else 0,
            counts.service_tier or "",
            counts.speed or "",
            counts.inference_geo or "",
            None if counts.cost is None else round(counts.cost * MICRO_USD),
            _further(counts.iterations),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # an invalid count, or no message: read the valid counts below
    try:
        # Parsing a large message would delay other requests. Its usage is at the end, after the content.
        event = json.loads(response) if len(response) <= MAX_READ_RESPONSE else {"usage": _last_usage(response)}
    except (ValueError, RecursionError):
        return Usage()
    return usage_from(token_counts(event))


def _last_usage(response: bytes) -> Any:
    """Return the last object named ``usage``. Inside a string, such as a model's text, the quotes would be escaped."""
    found = response.rpartition(b'"usage"')[2][:MAX_USAGE].decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
    return json.JSONDecoder().raw_decode(found)[0]
