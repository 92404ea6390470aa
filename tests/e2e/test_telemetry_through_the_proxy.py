"""Claude Code's telemetry reaches the operator's collector with the identified user, and the proxy sends its own if told to."""

import gzip
import json
import threading
from collections.abc import Iterator

import httpx
import pytest
import upstream as up
from claude_code import ClaudeCode
from conftest import CONFIG, by_provider, proxy_environment
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import STATIC_TOKEN, Proxy, question

ANNA = "sk-made-up-anna-0123456789"
KEY = "made-up-collector-key-0123"
SECTION = """
claude_proxy:
  users:
    anna: {{groups: [team-a]}}
  telemetry:
    collector: "{url}/collector"
    headers: {{authorization: os.environ/COLLECTOR_KEY}}
    own: true
"""
MESSAGES = {
    "metrics": ExportMetricsServiceRequest, "logs": ExportLogsServiceRequest, "traces": ExportTraceServiceRequest,
}  # fmt: skip


class Collector:
    """What the upstream got under ``/collector``, and a model's responses beside it."""

    def __init__(self, upstream: up.Upstream, path: str = "/collector") -> None:
        self.upstream, self.path, self.status = upstream, path, 200
        models = by_provider()
        upstream.answer = lambda seen: up.Reply(self.status) if seen.path.startswith("/collector") else models(seen)

    @property
    def got(self) -> list[up.Seen]:
        return [seen for seen in [*self.upstream.seen] if seen.path.startswith(f"{self.path}/")]

    def wait_for(self, signal: str, words: bytes) -> up.Seen:
        """Wait for a message of a signal with these words in it."""
        poll = threading.Event()
        for _ in range(1500):
            for seen in self.got:
                if seen.path == f"{self.path}/v1/{signal}" and words in content(seen):
                    return seen
            poll.wait(0.02)
        raise AssertionError(f"no {signal} with {words!r}: {[(seen.path, content(seen)) for seen in self.got]}")


def content(seen: up.Seen) -> bytes:
    return gzip.decompress(seen.body) if seen.header("content-encoding") == "gzip" else seen.body


@pytest.fixture(scope="module")
def proxy(shared_upstream, tmp_path_factory) -> Iterator[Proxy]:
    url = shared_upstream.other_url
    variables = {"PROXY_USER_TOKENS": f"anna={ANNA}", "COLLECTOR_KEY": f"Bearer {KEY}"}
    config = (CONFIG + SECTION).format(url=url)
    started = Proxy(tmp_path_factory.mktemp("telemetry"), config, **proxy_environment(shared_upstream), **variables)
    yield started.wait_ready()
    started.stop()


@pytest.fixture
def collector(upstream) -> Collector:
    return Collector(upstream)


def send(proxy: Proxy, signal: str, body: bytes, media_type: str, token: str | None = ANNA, **headers: str) -> httpx.Response:
    named = {"content-type": media_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(f"{proxy.url}/v1/{signal}", content=body, headers=named)


def claimed(signal: str, words: str) -> bytes:
    """A message whose client says that it is somebody else."""
    message = MESSAGES[signal]()
    resource = (
        message.resource_metrics
        if signal == "metrics"
        else message.resource_logs
        if signal == "logs"
        else message.resource_spans
    ).add()
    for key, value in (("user.id", "the-boss"), ("user.email", "boss@example.org"), ("words", words)):
        resource.resource.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


@pytest.mark.parametrize("signal", [*MESSAGES])
def test_the_collector_gets_the_identified_user(proxy, collector, signal):
    """User and groups are those of the token, whatever the message says; the collector gets its own key, not the client's."""
    words = f"protobuf {signal}"
    body = gzip.compress(claimed(signal, words))
    answer = send(proxy, signal, body, "application/x-protobuf", content_encoding="gzip")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    seen = collector.wait_for(signal, words.encode())
    assert seen.header("authorization") == f"Bearer {KEY}"
    assert ANNA not in seen.everything
    found = str(MESSAGES[signal].FromString(content(seen)))
    assert "boss" not in found
    assert found.count('string_value: "anna"') == found.count('string_value: "team-a"') == 1


def test_json(proxy, collector):
    """JSON passes as JSON."""
    attributes = [{"key": "user.id", "value": {"stringValue": "the-boss"}}]
    body = {"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"scope": {"name": "as JSON"}}]}]}
    answer = send(proxy, "logs", json.dumps(body).encode(), "application/json; charset=utf-8")
    assert (answer.status_code, answer.json()) == (200, {})
    seen = collector.wait_for("logs", b"as JSON")
    assert seen.header("content-type") == "application/json"
    assert b"boss" not in content(seen)
    assert b'"stringValue": "anna"' in content(seen)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("sk-made-up-nobody-0123456789", 401)])
def test_strangers(proxy, collector, token, status):
    """Telemetry needs a token, and what has none is not passed on."""
    assert send(proxy, "metrics", claimed("metrics", "of a stranger"), "application/x-protobuf", token).status_code == status
    send(proxy, "metrics", claimed("metrics", "of anna"), "application/x-protobuf")
    collector.wait_for("metrics", b"of anna")
    assert not [seen for seen in collector.got if b"of a stranger" in content(seen)]


@pytest.mark.parametrize(
    ("body", "media_type", "coding", "status"),
    [
        (b"\xff\xff", "application/x-protobuf", "", 400),
        (b"{", "application/json", "", 400),
        (b"[" * 50_000, "application/json", "", 400),
        (b"hello", "application/json", "gzip", 400),
        (gzip.compress(bytes(40_000_000)), "application/x-protobuf", "gzip", 400),
        (bytes(5_000_000), "application/x-protobuf", "", 413),
        (b"", "application/x-protobuf", "", 200),
        (b"x", "text/html", "", 400),
    ],
    ids=["protobuf", "json", "deep", "coding", "bomb", "large", "empty", "type"],
)
def test_what_cannot_be_read(proxy, collector, body, media_type, coding, status):
    """What is not telemetry is refused in words, without being repeated."""
    answer = send(proxy, "traces", body, media_type, content_encoding=coding)
    assert answer.status_code == status
    if status == 400:
        assert "telemetry cannot be read" in answer.json()["error"]["message"]


def test_a_collector_that_fails(proxy, collector):
    """Clients do not notice a collector that fails; the log says it once, and when it is over."""
    collector.status = 503
    for _ in range(3):
        assert send(proxy, "metrics", claimed("metrics", "lost"), "application/x-protobuf").status_code == 200
    assert "is dropped: HTTP 503" in proxy.logged("telemetry for the collector 127.0.0.1")[0]
    collector.status = 200
    assert send(proxy, "metrics", claimed("metrics", "found"), "application/x-protobuf").status_code == 200
    proxy.logged("the telemetry collector 127.0.0.1 responds again")
    assert len(proxy.logged("telemetry for the collector")) == 1
    assert KEY not in proxy.output


def test_claude_code_s_own(proxy, collector, tmp_path):
    """The real client's metrics and events arrive under the name of the token's owner, and under no other."""
    user = ClaudeCode(tmp_path, proxy.url, ANNA)
    variables = {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": proxy.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {ANNA}", "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }  # fmt: skip
    assert user.run("Hello", model="glm", **variables).result == "from glm"
    metrics = str(ExportMetricsServiceRequest.FromString(content(collector.wait_for("metrics", b"claude_code.token.usage"))))
    logs = str(ExportLogsServiceRequest.FromString(content(collector.wait_for("logs", b"claude_code"))))
    for found in (metrics, logs):
        values = found.split('key: "user.id"')[1:]
        assert values
        assert all('string_value: "anna"' in value[:80] for value in values)
        assert "user.email" not in found
        assert "account_uuid" not in found


def test_the_proxy_s_own(shared_upstream, upstream, tmp_path):
    """With ``own``, each request is a span, and counts are sent at the latest when the proxy stops; else nothing is sent."""
    collector = Collector(upstream, "/collector-of-its-own")
    config = (CONFIG + SECTION).format(url=shared_upstream.other_url).replace("/collector", collector.path)
    started = Proxy(tmp_path / "own", config, **proxy_environment(upstream), COLLECTOR_KEY=f"Bearer {KEY}").wait_ready()
    assert started.ask(question("glm")).status_code == 200
    started.stop()
    spans = ExportTraceServiceRequest.FromString(content(collector.wait_for("traces", b"gen_ai.response.model")))
    (span,) = [span for one in spans.resource_spans for scope in one.scope_spans for span in scope.spans]
    found = {attribute.key: attribute.value for attribute in span.attributes}
    assert found["gen_ai.response.model"].string_value == "glm-5"
    assert found["gen_ai.request.model"].string_value == "glm"
    assert found["user.id"].string_value == "static"
    assert found["http.response.status_code"].int_value == 200
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    metrics = str(ExportMetricsServiceRequest.FromString(content(collector.wait_for("metrics", b"gen_ai.client.token.usage"))))
    assert '"claude-proxy"' in metrics
    assert {seen.header("authorization") for seen in collector.got} == {f"Bearer {KEY}"}
    assert STATIC_TOKEN not in "".join(seen.everything for seen in collector.got)

    upstream.seen.clear()
    silent = Proxy(tmp_path / "silent", config.replace("    own: true\n", ""), **proxy_environment(upstream), COLLECTOR_KEY=KEY)
    assert silent.wait_ready().ask(question("glm")).status_code == 200
    silent.stop()
    assert collector.got == []


def test_without_a_collector(pooled, upstream):
    """Where no collector is configured, telemetry is taken and dropped: an error would be in the client's log at each flush."""
    answer = send(pooled, "metrics", claimed("metrics", "x"), "application/x-protobuf", STATIC_TOKEN)
    assert (answer.status_code, answer.content) == (200, b"")
