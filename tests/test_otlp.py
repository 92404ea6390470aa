"""usage/otlp.py: telemetry of a client gets the identity that the proxy knows, and loses every other one."""

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from claude_proxy.usage.otlp import JSON, MAX_BYTES, PROTOBUF, Sender, UnreadableTelemetry, compressed, decompressed, identified

ANNA = Sender("anna", ("team-a", "team-b"))
CLAIMED = {
    "user.id": "c0ffee", "user.email": "boss@example.org", "user.account_uuid": "made-up-uuid",
    "organization.id": "made-up-org", "enduser.id": "boss", "claude_proxy.groups": "admins",
}  # fmt: skip


def claim(attributes):
    for key, value in {**CLAIMED, "model": "claude-opus-4-8"}.items():
        attributes.add(key=key).value.string_value = value


def metrics():
    message = ExportMetricsServiceRequest()
    resource = message.resource_metrics.add()
    claim(resource.resource.attributes)
    scope = resource.scope_metrics.add()
    claim(scope.scope.attributes)
    metric = scope.metrics.add(name="claude_code.cost.usage")
    point = metric.sum.data_points.add(as_double=1.5)
    claim(point.attributes)
    claim(point.exemplars.add().filtered_attributes)
    claim(scope.metrics.add(name="h").histogram.data_points.add().attributes)
    return message


def logs():
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "claude_code.api_request"
    claim(record.attributes)
    return message


def traces():
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add(name="x", trace_id=b"a" * 16, span_id=b"b" * 8)
    for holder in (span, span.events.add(), span.links.add()):
        claim(holder.attributes)
    return message


@pytest.mark.parametrize(("signal", "made"), [("metrics", metrics), ("logs", logs), ("traces", traces)])
def test_protobuf(signal, made):
    """Nothing that the client says of its user arrives; the user's name is in every resource, and wherever ``user.id`` was."""
    before = made()
    body = identified(signal, before.SerializeToString(), PROTOBUF, ANNA)
    for claimed in CLAIMED.values():
        assert claimed.encode() not in body
    after = type(before).FromString(body)
    words = str(after)
    assert words.count('key: "user.id"') == str(before).count('key: "user.id"') + (signal != "metrics")
    assert words.count('string_value: "anna"') == words.count('key: "user.id"')
    assert words.count('string_value: "team-a"') == words.count('string_value: "team-b"') == 1
    assert words.count("claude-opus-4-8") == str(before).count("claude-opus-4-8")


def test_json():
    """JSON loses and gets the same; what is no identity stays."""
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in {**CLAIMED, "model": "opus"}.items()]
    point = {"attributes": attributes, "asDouble": 1.5, "exemplars": [{"filteredAttributes": attributes}]}
    metric = {"name": "m", "sum": {"dataPoints": [point]}}
    body = {"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [metric]}]}, {}]}
    after = json.loads(identified("metrics", json.dumps(body).encode(), JSON, ANNA))
    for claimed in CLAIMED.values():
        assert claimed not in json.dumps(after)
    name = {"key": "user.id", "value": {"stringValue": "anna"}}
    model = {"key": "model", "value": {"stringValue": "opus"}}
    groups = {"arrayValue": {"values": [{"stringValue": "team-a"}, {"stringValue": "team-b"}]}}
    first, second = (one["resource"]["attributes"] for one in after["resourceMetrics"])
    assert first == [model, name, {"key": "claude_proxy.groups", "value": groups}]
    assert second == first[1:]
    found = after["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["sum"]["dataPoints"][0]
    assert found == {"attributes": [name, model], "asDouble": 1.5, "exemplars": [{"filteredAttributes": [name, model]}]}


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"{", JSON),
        (b"[]", JSON),
        (b'{"resourceMetrics": {}}', JSON),
        (b'{"resourceMetrics": [1]}', JSON),
        (b'{"resourceMetrics": [{"resource": []}]}', JSON),
        (b'{"resourceMetrics": [{"attributes": [{}]}]}', JSON),
        (b'{"a":' * 100 + b"1" + b"}" * 100, JSON),
        (b"[" * 100_000, JSON),
        (b"\xff\xff\xff", PROTOBUF),
        (b"{}", "text/plain"),
        (b"{}", ""),
    ],
)
def test_what_is_not_otlp(body, media_type):
    """A body that cannot be read is refused, without a word of it."""
    with pytest.raises(UnreadableTelemetry) as raised:
        identified("metrics", body, media_type, ANNA)
    assert "resource" not in str(raised.value)


@given(st.sampled_from(["metrics", "logs", "traces"]), st.binary(max_size=200), st.sampled_from([JSON, PROTOBUF]))
def test_any_bytes(signal, body, media_type):
    """Any bytes are refused, or become telemetry with one identity."""
    try:
        after = identified(signal, body, media_type, ANNA)
    except UnreadableTelemetry:
        return
    assert identified(signal, after, media_type, ANNA) == after


def field(tag, content):
    """One field of a protobuf message, whose content has a length."""
    size, length = len(content), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([tag]) + length + bytes([size]) + content


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"resourceMetrics":[' + b"{}," * 1000 + b"{}]}", JSON),
        (b'{"resourceMetrics":[{"x":[' + b"[]," * 200_000 + b"[]]}]}", JSON),
        (field(0x0A, b"") * 1001, PROTOBUF),
        (field(0x0A, field(0x12, field(0x12, b"") * 200_001)), PROTOBUF),
        (field(0x0A, field(0x0A, field(0x0A, field(0x0A, b"user.x")) * 10_001)), PROTOBUF),
    ],
    ids=["resources in JSON", "lists in JSON", "resources", "metrics", "attributes"],
)
def test_many_small_parts(body, media_type):
    """A body of many small parts, which would take far more memory than its bytes, is refused."""
    with pytest.raises(UnreadableTelemetry, match="too many parts"):
        identified("metrics", body, media_type, ANNA)


def test_another_name_of_the_resources():
    """Nothing is passed on beside the resources that have the sender's identity."""
    resources = [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]}}]
    body = json.dumps({"resource_metrics": resources, "resourceMetrics": [], "more": resources}).encode()
    assert json.loads(identified("metrics", body, JSON, ANNA)) == {"resourceMetrics": []}


def test_codings():
    """Gzip and deflate are read, and no body larger than the limit."""
    for coding, made in (("", bytes), ("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress)):
        assert decompressed(made(b"hello"), coding) == b"hello"
    assert decompressed(compressed(b"hello"), "gzip") == b"hello"
    for body, coding in (
        (b"hello", "gzip"), (b"hello", "br"), (gzip.compress(b"hello")[:-4], "gzip"),
        (gzip.compress(bytes(MAX_BYTES + 1)), "gzip"),
    ):  # fmt: skip
        with pytest.raises(UnreadableTelemetry):
            decompressed(body, coding)
