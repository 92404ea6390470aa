"""Telemetry of clients in OTLP: replaces what it says about its sender with the user whom the proxy has identified. No I/O.

Source of the formats: opentelemetry-proto. Claude Code (2.1.332) sends protobuf or JSON, with attributes such as ``user.id``,
``user.email``, ``user.account_uuid`` and ``organization.id`` in its resources, data points and log records.
"""

import gzip
import importlib
import json
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

PROTOBUF, JSON = "application/x-protobuf", "application/json"
# The maximum size of a decompressed body, in bytes, and the maximum depth of JSON. Claude Code sends a few kilobytes.
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
# The maximum number of objects and lists in a body, of its resources, and of the attributes in one place. An empty object has
# two bytes in a body and far more in memory, and each resource gets the sender's attributes.
MAX_OBJECTS, MAX_RESOURCES, MAX_ATTRIBUTES = 200_000, 1000, 10_000
# A client's attributes with these beginnings are not believed.
IDENTITY_PREFIXES = ("user.", "enduser.", "organization.", "claude_proxy.")
# The only one of them that keeps its place, with the user's name: dashboards group by it.
USER_ID = "user.id"
GROUPS = "claude_proxy.groups"
# The fields of attributes, in protobuf and in JSON.
_ATTRIBUTES = frozenset({"attributes", "filtered_attributes", "filteredAttributes"})
_RESOURCES = {"metrics": "resource_metrics", "logs": "resource_logs", "traces": "resource_spans"}
_MESSAGES = {
    "metrics": ("metrics", "ExportMetricsServiceRequest"),
    "logs": ("logs", "ExportLogsServiceRequest"),
    "traces": ("trace", "ExportTraceServiceRequest"),
}
TOO_MANY = "it has too many parts"


class Sender(NamedTuple):
    """Whom the proxy has identified as the sender of telemetry."""

    user: str
    groups: tuple[str, ...] = ()


class UnreadableTelemetry(ValueError):
    """A body that is not OTLP. The message contains nothing of it."""


def identified(signal: str, body: bytes, media_type: str, sender: Sender) -> bytes:
    """Return a body, ``signal`` being metrics, logs or traces, with this sender in place of every other identity in it.

    Raises ``UnreadableTelemetry``.
    """
    try:
        if media_type == JSON:
            return _identified_json(signal, body, sender)
        if media_type == PROTOBUF:
            return _identified_protobuf(signal, body, sender)
    except UnreadableTelemetry:
        raise
    except Exception as error:  # the parser raises errors of its own, and others
        raise UnreadableTelemetry("the body is not OTLP") from error
    raise UnreadableTelemetry("the content type is neither protobuf nor JSON")


def decompressed(body: bytes, coding: str) -> bytes:
    """Return a body without its coding: gzip, deflate or none. Raises ``UnreadableTelemetry``, also for a large body."""
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "deflate"):
        raise UnreadableTelemetry("the content coding is not known")
    reader = zlib.decompressobj(31 if coding == "gzip" else 15)
    try:
        found = reader.decompress(body, MAX_BYTES)
    except zlib.error:
        raise UnreadableTelemetry("the body is not in its coding") from None
    if reader.unconsumed_tail or not reader.eof:
        raise UnreadableTelemetry("the body is too large, or it is cut off")
    return found


def compressed(body: bytes) -> bytes:
    """Return a body in gzip."""
    return gzip.compress(body, compresslevel=1)


# --- JSON --------------------------------------------------------------------------------------------------------------------


def _identified_json(signal: str, body: bytes, sender: Sender) -> bytes:
    if body.count(b"{") + body.count(b"[") > MAX_OBJECTS:
        raise UnreadableTelemetry(TOO_MANY)
    parsed = json.loads(body)
    name = "".join(word.capitalize() if place else word for place, word in enumerate(_RESOURCES[signal].split("_")))
    resources = parsed.get(name, [])
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        raise UnreadableTelemetry("the body is not OTLP")
    if len(resources) > MAX_RESOURCES:
        raise UnreadableTelemetry(TOO_MANY)
    for holder in _holders(parsed):
        for field in _ATTRIBUTES & holder.keys():
            holder[field] = [one for one in map(_believed_json(sender.user), holder[field]) if one is not None]
    for one in resources:
        resource = one.setdefault("resource", {})
        resource["attributes"] = [
            *(each for each in resource.get("attributes", []) if each.get("key") != USER_ID),
            {"key": USER_ID, "value": {"stringValue": sender.user}},
            {"key": GROUPS, "value": {"arrayValue": {"values": [{"stringValue": group} for group in sender.groups]}}},
        ]
    # Nothing else: a collector may know the resources by another name, too, and these would have no sender.
    return json.dumps({name: resources}).encode()


def _believed_json(user: str) -> Any:
    def believed(attribute: dict[str, Any]) -> dict[str, Any] | None:
        if attribute["key"] == USER_ID:
            return {"key": USER_ID, "value": {"stringValue": user}}
        return None if attribute["key"].startswith(IDENTITY_PREFIXES) else attribute

    return believed


def _holders(parsed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every object of a body, without recursion, because the client decides how deep it is nested."""
    waiting: list[tuple[Any, int]] = [(parsed, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise UnreadableTelemetry("the body is nested too deeply")
        if isinstance(value, dict):
            yield value
        children = value.values() if isinstance(value, dict) else value
        waiting += [(child, depth + 1) for child in children if isinstance(child, dict | list)]


# --- Protobuf ----------------------------------------------------------------------------------------------------------------


def _identified_protobuf(signal: str, body: bytes, sender: Sender) -> bytes:
    folder, name = _MESSAGES[signal]
    # Imported for the first message, because most proxies pass no telemetry on.
    module = importlib.import_module(f"opentelemetry.proto.collector.{folder}.v1.{folder}_service_pb2")
    message = getattr(module, name)()
    message.ParseFromString(body)
    if len(getattr(message, _RESOURCES[signal])) > MAX_RESOURCES:
        raise UnreadableTelemetry(TOO_MANY)
    for holder in _messages(message):
        for field in _ATTRIBUTES & {descriptor.name for descriptor, _ in holder.ListFields()}:
            _believe(getattr(holder, field), sender.user)
    for one in getattr(message, _RESOURCES[signal]):
        attributes = one.resource.attributes
        for place in reversed([place for place, each in enumerate(attributes) if each.key == USER_ID]):
            del attributes[place]
        attributes.add(key=USER_ID).value.string_value = sender.user
        values = attributes.add(key=GROUPS).value.array_value
        values.SetInParent()
        for group in sender.groups:
            values.values.add().string_value = group
    return bytes(message.SerializeToString())


def _believe(attributes: Any, user: str) -> None:
    """Remove the identity from attributes, in place."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise UnreadableTelemetry(TOO_MANY)
    for place in reversed(range(len(attributes))):
        attribute = attributes[place]
        if attribute.key == USER_ID:
            attribute.value.Clear()
            attribute.value.string_value = user
        elif attribute.key.startswith(IDENTITY_PREFIXES):
            del attributes[place]


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message and every message in it that may have attributes."""
    waiting, found = [message], 0
    while waiting:
        one = waiting.pop()
        yield one
        for descriptor, value in one.ListFields():
            if descriptor.message_type is None or descriptor.name in _ATTRIBUTES:
                continue
            found += len(value) if descriptor.is_repeated else 1
            if found > MAX_OBJECTS:
                raise UnreadableTelemetry(TOO_MANY)
            waiting += value if descriptor.is_repeated else [value]
